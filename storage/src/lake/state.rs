//! The lake as this process knows it: files, how far each writer's windows are merged, what waits to be deleted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::delta::{Action, Add, MetaData, Remove, Tags, Txn, partition};
use crate::ingest::now;
use crate::promoted::{PromotedColumns, Promotions};
use crate::snapshot::SpanFile;

/// A file of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LakeFile {
    pub file: Arc<SpanFile>,
    /// How often its spans were written before, at most.
    pub rewrites: u32,
    /// Whether its traces went on in fresh files that waited when it was written: the next merge of the window takes it.
    pub carried: bool,
    /// When the merge that wrote it began, microseconds.
    pub written: i64,
}

/// The table at a version.
#[derive(Clone, Debug, Default)]
pub(crate) struct LakeState {
    /// The next version.
    pub next: u64,
    /// By path in the object store.
    pub files: BTreeMap<String, LakeFile>,
    /// The last generation of each [`watermark`] that is in the lake, and how far each [`deletion`] reaches.
    pub watermarks: HashMap<String, u64>,
    /// Files that were taken out, and when (microseconds).
    pub removed: BTreeMap<String, i64>,
    /// The table's own description.
    pub meta_data: Option<MetaData>,
    /// The attributes with columns of their own, as the description lists them, and whose they are.
    pub promotions: Promotions,
    /// What queries do not know of yet.
    pub news: News,
}

/// Files that came and went since the snapshot was last changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct News {
    /// By path in the object store.
    pub added: BTreeMap<String, Arc<SpanFile>>,
    pub removed: Vec<Arc<SpanFile>>,
}

/// Names a writer's fresh files of a window: the `appId` of `txn`.
pub(crate) fn watermark(writer: &str, window: Option<i64>) -> String {
    match window {
        Some(window) => format!("{writer}/{window}"),
        None => format!("{writer}/unplaced"),
    }
}

/// Begins the `appId` of a deletion, whose `version` is the last time of writing that it covers.
const DELETION: &str = "deletion/";

/// Names a deletion in the log.
pub(crate) fn deletion(id: &str) -> String {
    format!("{DELETION}{id}")
}

impl LakeState {
    /// Whether a fresh file's spans are in the lake.
    pub(crate) fn covers(&self, writer: &str, generation: u64, window: Option<i64>) -> bool {
        self.watermarks.get(&watermark(writer, window)).is_some_and(|merged| generation <= *merged)
    }

    /// The last generation of a writer that the lake knows of.
    pub(crate) fn last_generation(&self, writer: &str) -> Option<u64> {
        let own = self.watermarks.iter().filter(|(name, _)| name.rsplit_once('/').is_some_and(|(of, _)| of == writer));
        own.map(|(_, generation)| *generation).max()
    }

    /// A deletion that has begun: it covers the files that were written up to this time.
    pub(crate) fn deletion(&self, id: &str) -> Option<i64> {
        self.watermarks.get(&deletion(id)).map(|last| *last as i64)
    }

    /// All deletions that have begun, by id.
    pub(crate) fn deletions(&self) -> impl Iterator<Item = (&str, i64)> {
        let begun = self.watermarks.iter().filter_map(|(name, last)| Some((name.strip_prefix(DELETION)?, *last as i64)));
        begun.collect::<BTreeMap<_, _>>().into_iter()
    }

    /// When the newest file was written.
    pub(crate) fn last_written(&self) -> i64 {
        self.files.values().map(|file| file.written).max().unwrap_or(0)
    }

    /// The time of writing of a file that is planned now: whatever the clocks, no deletion that has begun covers it. Whole
    /// milliseconds, as the log has them.
    pub(crate) fn next_written(&self) -> i64 {
        let begun = self.deletions().map(|(_, last)| last).max().unwrap_or(0);
        now().max(begun + 1_000) / 1_000 * 1_000
    }

    /// Puts a file into the table, or one that is known better in its place.
    pub(crate) fn put(&mut self, file: LakeFile) {
        self.promotions.note(&file.file);
        self.news.added.insert(file.file.path.clone(), file.file.clone());
        self.files.insert(file.file.path.clone(), file);
    }

    /// Takes in the actions of the next version.
    pub(crate) fn apply(&mut self, actions: &[Action]) {
        for action in actions {
            if let Some(Txn { app_id, version, .. }) = &action.txn {
                self.watermarks.insert(app_id.clone(), u64::try_from(*version).unwrap_or_default());
            }
            if let Some(meta_data) = &action.meta_data {
                self.promotions.list = Arc::new(meta_data.promoted());
                self.meta_data = Some(meta_data.clone());
            }
            if let Some(remove) = &action.remove {
                let path = object_path(&remove.path);
                self.news.added.remove(&path);
                self.news.removed.extend(self.files.remove(&path).map(|file| file.file));
                self.removed.insert(path, remove.deletion_timestamp.unwrap_or_default().saturating_mul(1_000));
            }
            if let Some(file) = action.add.as_ref().and_then(LakeFile::from_add) {
                self.put(file);
            }
        }
        self.next += 1;
    }
}

fn object_path(delta_path: &str) -> String {
    format!("{}/{delta_path}", super::delta::ROOT)
}

const START_MIN: &str = "meshlake.start_min";
const START_MAX: &str = "meshlake.start_max";
const END_MAX: &str = "meshlake.end_max";
const ROWS: &str = "meshlake.rows";
const WINDOW: &str = "meshlake.window";
const VERSION: &str = "meshlake.version";
const ROLLUP: &str = "meshlake.rollup";
const REWRITES: &str = "meshlake.rewrites";
const CARRIED: &str = "meshlake.carried";
const PROMOTED: &str = "meshlake.promoted";
const PROMOTED_FILLED: &str = "meshlake.promoted_filled";

impl LakeFile {
    /// The file as this version of the log adds it.
    pub(crate) fn at(&self, version: u64) -> LakeFile {
        LakeFile { file: Arc::new(SpanFile { version: Some(version), ..(*self.file).clone() }), ..*self }
    }

    /// The action that puts the file into the table.
    pub(crate) fn to_add(&self, date: Option<String>) -> Add {
        let file = &self.file;
        let bounds = |start: i64| serde_json::json!({ "start_time": iso(start) });
        let stats = serde_json::json!({
            "numRecords": file.rows,
            "minValues": bounds(file.start_min),
            "maxValues": bounds(file.start_max),
            "nullCount": {"start_time": 0, "trace_id": 0, "span_id": 0},
        });
        let mut tags: Tags = [
            (START_MIN, file.start_min.to_string()),
            (START_MAX, file.start_max.to_string()),
            (END_MAX, file.end_max.to_string()),
            (ROWS, file.rows.to_string()),
            (REWRITES, self.rewrites.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), Some(value)))
        .into();
        if let Some(window) = file.window {
            tags.insert(WINDOW.to_owned(), Some(window.to_string()));
        }
        if let Some(version) = file.version {
            tags.insert(VERSION.to_owned(), Some(version.to_string()));
        }
        if let Some([first, last]) = file.rollup {
            tags.insert(ROLLUP.to_owned(), Some(format!("{first},{last}")));
        }
        if self.carried {
            tags.insert(CARRIED.to_owned(), Some("true".to_owned()));
        }
        if file.promoted.count > 0 {
            let filled: Vec<String> = file.promoted.filled.iter().map(usize::to_string).collect();
            tags.insert(PROMOTED.to_owned(), Some(file.promoted.count.to_string()));
            tags.insert(PROMOTED_FILLED.to_owned(), Some(filled.join(",")));
        }
        Add {
            path: file.path.strip_prefix("lake/").unwrap_or(&file.path).to_owned(),
            partition_values: partition(file.tenants.first().map_or("", String::as_str), date),
            size: file.size as i64,
            modification_time: self.written / 1_000,
            data_change: true,
            stats: Some(stats.to_string()),
            tags: Some(tags),
        }
    }

    /// The action that takes the file out of the table.
    pub(crate) fn to_remove(&self, now: i64, data_change: bool) -> Remove {
        Remove {
            path: self.file.path.strip_prefix("lake/").unwrap_or(&self.file.path).to_owned(),
            deletion_timestamp: Some(now / 1_000),
            data_change,
        }
    }

    /// A file of ours; none for one that another writer put into the table.
    fn from_add(add: &Add) -> Option<LakeFile> {
        let text = |name: &str| add.tags.as_ref()?.get(name)?.as_deref();
        let tag = |name: &str| text(name)?.parse::<i64>().ok();
        let filled = text(PROMOTED_FILLED).unwrap_or_default().split(',').filter(|position| !position.is_empty());
        let promoted = PromotedColumns {
            count: tag(PROMOTED).map_or(Some(0), |count| usize::try_from(count).ok())?,
            filled: filled.map(str::parse).collect::<Result<_, _>>().ok()?,
        };
        let rollup = text(ROLLUP).and_then(|bounds| {
            let (first, last) = bounds.split_once(',')?;
            Some([first.parse().ok()?, last.parse().ok()?])
        });
        let file = SpanFile {
            path: object_path(&add.path),
            size: u64::try_from(add.size).ok()?,
            rows: u64::try_from(tag(ROWS)?).ok()?,
            start_min: tag(START_MIN)?,
            start_max: tag(START_MAX)?,
            end_max: tag(END_MAX)?,
            tenants: vec![add.partition_values.get("tenant")?.clone()?],
            window: tag(WINDOW),
            traces: None,
            version: Some(tag(VERSION).and_then(|version| u64::try_from(version).ok()).unwrap_or(0)),
            rollup,
            promoted,
        };
        let rewrites = tag(REWRITES).and_then(|rewrites| u32::try_from(rewrites).ok())?;
        let (carried, written) = (text(CARRIED) == Some("true"), add.modification_time.saturating_mul(1_000));
        Some(LakeFile { file: Arc::new(file), rewrites, carried, written })
    }
}

/// A moment in the log's form. Statistics are of milliseconds at most: the lower bound is rounded down, and readers know
/// that upper bounds are.
fn iso(micros: i64) -> String {
    arrow::array::temporal_conversions::timestamp_us_to_datetime(micros)
        .map_or_else(String::new, |time| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

/// The day of a moment, as partitions are named.
pub(crate) fn date(micros: i64) -> Option<String> {
    arrow::array::temporal_conversions::timestamp_us_to_datetime(micros).map(|time| time.format("%Y-%m-%d").to_string())
}
