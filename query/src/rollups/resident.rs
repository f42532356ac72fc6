//! The sums of files, in memory: those that are kept beside files, and those that are not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use datafusion::error::Result;
use meshlake_config::Tenant;
use meshlake_hops::rollup::{Outline, Rollup, RollupBuilder};
use meshlake_hops::span_rollup::SpanRollup;
use meshlake_storage::{Files, RollupSections, Snapshot, SpanFile};
use object_store::ObjectStore;
use tokio::sync::{Mutex, OnceCell};

use super::correct::Places;
use super::kept::KeptSums;
use super::sections::Sections;
use super::writer::{TraceSums, shared};
use crate::file_summaries::{Beside, FileSummaries};
use crate::hops::SPAN_COLUMNS;
use crate::trace_id::TraceId;

/// A rollup that is kept beside a file: its parts, and where the rest is.
pub(crate) struct Opened {
    pub(crate) outline: Outline,
    pub(crate) sections: RollupSections,
}

impl Beside for Opened {
    async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Self> {
        let (sections, outline) = RollupSections::open(store, file).await?;
        Some(Opened { outline: Outline::decode(&outline).ok()?, sections })
    }

    fn size(&self) -> usize {
        self.outline.bytes() + self.sections.bytes()
    }
}

/// What sums are made of: a file of a tenant, and the part of its rollup that does not hold any more, if that is what is made.
type Of = (Tenant, String, Option<usize>);

/// The sums of a file's spans, made once.
pub(crate) type MadeSpans = Arc<OnceCell<Arc<SpanRollup>>>;

/// The sums of files.
pub(crate) struct FileRollups {
    pub(crate) opened: FileSummaries<Opened>,
    pub(crate) sections: Sections,
    pub(crate) kept: KeptSums,
    made: Mutex<HashMap<Of, Arc<Mutex<Made>>>>,
    spans: Mutex<HashMap<(Tenant, String), MadeSpans>>,
    paths: parking_lot::Mutex<(Arc<Files>, Arc<HashSet<String>>)>,
}

/// Sums that were made of spans.
#[derive(Default)]
pub(crate) struct Made {
    /// Of the file alone; none of a part of a rollup.
    alone: Option<Arc<Rollup>>,
    /// The traces that are corrected if a file before has spans of them.
    ids: Vec<TraceId>,
    /// The files before that were asked for these.
    asked: HashSet<String>,
    /// Those that may hold some.
    shared: BTreeMap<String, Vec<TraceId>>,
    /// The corrections, and for which files before they are.
    corrections: Option<(Vec<String>, Arc<Rollup>)>,
}

impl FileRollups {
    /// With at most so many bytes for what is kept beside files, and for sums of it.
    pub(crate) fn new(store: &Arc<dyn ObjectStore>, limit: usize) -> FileRollups {
        let eighth = limit / 8;
        FileRollups {
            opened: FileSummaries::new(store.clone(), eighth),
            sections: Sections::new(store.clone(), 5 * eighth),
            kept: KeptSums::new(2 * eighth),
            made: Mutex::default(),
            spans: Mutex::default(),
            paths: parking_lot::Mutex::default(),
        }
    }

    /// The paths of all files of a snapshot.
    pub(crate) fn paths(&self, files: &Arc<Files>) -> Arc<HashSet<String>> {
        let mut known = self.paths.lock();
        if !Arc::ptr_eq(&known.0, files) {
            *known = (files.clone(), Arc::new(files.iter().map(|file| file.path.clone()).collect()));
        }
        known.1.clone()
    }

    /// The sums of a file without a rollup, with its minutes, and what corrects them where the files `before` have spans of the same traces.
    pub(crate) async fn of_file(
        &self,
        places: &Places,
        file: &Arc<SpanFile>,
        before: &[Arc<SpanFile>],
    ) -> Result<[Arc<Rollup>; 2]> {
        let made = self.made((places.tenant.clone(), file.path.clone(), None)).await;
        let mut made = made.lock().await;
        let alone = match &made.alone {
            Some(alone) => alone.clone(),
            None => {
                let sums = sums(places, file).await?;
                made.ids = sums.ids;
                made.alone.insert(Arc::new(sums.builder.finish())).clone()
            }
        };
        let own = places.files([file.clone()]);
        Ok([alone, made.corrections(places, &own, before).await?])
    }

    /// What takes the place of a part of a file's rollup that does not hold any more.
    pub(crate) async fn of_part(
        &self,
        places: &Places,
        file: &Arc<SpanFile>,
        (number, traces): (usize, &[[u8; 16]]),
        before: &[Arc<SpanFile>],
    ) -> Result<Arc<Rollup>> {
        let made = self.made((places.tenant.clone(), file.path.clone(), Some(number))).await;
        let mut made = made.lock().await;
        made.ids = traces.iter().map(|id| TraceId(*id)).collect();
        made.corrections(places, &places.files([file.clone()]), before).await
    }

    async fn made(&self, of: Of) -> Arc<Mutex<Made>> {
        self.made.lock().await.entry(of).or_default().clone()
    }

    /// Where the sums of a file's spans are, or come, that has none beside it.
    pub(crate) async fn made_spans(&self, tenant: &Tenant, file: &SpanFile) -> MadeSpans {
        self.spans.lock().await.entry((tenant.clone(), file.path.clone())).or_default().clone()
    }

    /// Forgets what was made of files that are not there any more.
    pub(crate) async fn forget(&self, paths: &HashSet<String>) {
        self.made.lock().await.retain(|(_, path, _), _| paths.contains(path));
        self.spans.lock().await.retain(|(_, path), _| paths.contains(path));
    }
}

/// The sums of a file's spans of the tenant.
async fn sums(places: &Places, file: &Arc<SpanFile>) -> Result<TraceSums> {
    let mut sums = TraceSums::default();
    places.lookups.scan(file, &places.tenant, &places.promotions, SPAN_COLUMNS, |rows| sums.add(&rows)).await?;
    sums.sum()?;
    Ok(sums)
}

impl Made {
    /// The corrections for the files `before`. Those of earlier calls are kept where the same files may hold the traces.
    async fn corrections(&mut self, places: &Places, own: &Snapshot, before: &[Arc<SpanFile>]) -> Result<Arc<Rollup>> {
        let there: HashSet<&str> = before.iter().map(|file| file.path.as_str()).collect();
        self.asked.retain(|path| there.contains(path.as_str()));
        self.shared.retain(|path, _| there.contains(path.as_str()));
        for file in before.iter().filter(|file| !self.asked.contains(&file.path)) {
            let (_, ids) = shared(&self.ids, std::slice::from_ref(file));
            if !ids.is_empty() {
                self.shared.insert(file.path.clone(), ids);
            }
        }
        self.asked = there.into_iter().map(str::to_owned).collect();
        let of: Vec<String> = self.shared.keys().cloned().collect();
        if let Some((known, corrections)) = &self.corrections
            && *known == of
        {
            return Ok(corrections.clone());
        }
        let mut ids: Vec<TraceId> = self.shared.values().flatten().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut builder = RollupBuilder::new();
        let earlier = places.files(before.iter().filter(|file| self.shared.contains_key(&file.path)).cloned());
        places.correct(&mut builder, &earlier, own, &ids).await?;
        let corrections = Arc::new(builder.finish());
        self.corrections = Some((of, corrections.clone()));
        Ok(corrections)
    }
}
