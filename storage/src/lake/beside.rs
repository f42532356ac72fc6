//! What is kept beside a lake file, in `lake/_index/`: made when the file is written, told whether it is whole, made again.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use tracing::warn;

use super::LakeError;
use super::attribute_summary::attributes_path;
use super::filter::{TraceFilter, key};
use super::keys::Keys;
use super::log::{filter_path, put_filter};
use super::output::TRACE_MAX;
use super::rollup::{FileRollup, RollupError, Rollups};
use super::sections::{Sections, SectionsKind};
use super::summary::{Summarizer, Summary, summary_path};
use crate::counter::{AttributeCounter, AttributeCounts, Counted};
use crate::promoted::{Promoted, demote};
use crate::reader::FileReader;
use crate::snapshot::SpanFile;

/// Where all is that is kept beside a file.
pub(crate) fn paths(file: &str) -> [Path; 5] {
    let [rollup, traces] = [SectionsKind::Rollup, SectionsKind::TraceSummaries].map(|kind| kind.path(file));
    [filter_path(file), summary_path(file), attributes_path(file), rollup, traces]
}

/// What is kept beside a file, in the making.
pub(super) struct Making {
    traces: Vec<u64>,
    summary: Summarizer,
    attributes: AttributeCounter,
    /// None if it could not be made.
    rollup: Option<Box<dyn FileRollup>>,
}

/// What was made, and is in the object store.
pub(super) struct Made {
    /// The file with its trace filter and the bounds of its rollup.
    pub file: Arc<SpanFile>,
    /// What its spans carry, and whether in the residual maps.
    pub attributes: AttributeCounts,
    /// The keys of its traces.
    pub traces: Vec<u64>,
}

fn warn_of_rollup(path: &str, error: &RollupError) {
    warn!(path, %error, "can't sum the hops of a file; it is read when they are asked for");
}

impl Making {
    pub(super) fn new(rollup: Option<Box<dyn FileRollup>>) -> Making {
        let (traces, attributes) = (Vec::new(), AttributeCounter::new(Counted::All));
        Making { traces, summary: Summarizer::default(), attributes, rollup }
    }

    /// Adds rows of [`crate::spans_schema`], in the order of the file at `path`.
    pub(super) fn add(&mut self, path: &str, rows: &RecordBatch) -> Result<(), ArrowError> {
        for key in Keys::new(rows)?.traces().map(key) {
            if self.traces.last() != Some(&key) {
                self.traces.push(key);
            }
        }
        self.summary.add(rows)?;
        self.attributes.add(rows)?;
        if let Some(Err(error)) = self.rollup.as_mut().map(|rollup| rollup.add(rows)) {
            warn_of_rollup(path, &error);
            self.rollup = None;
        }
        Ok(())
    }

    /// Puts all of it, but a summary that is too large and a rollup that can't be made: without, who asks reads the spans, which
    /// is slower and as right. The file can be read; of the lake's files, `before` are those that may hold spans of its traces.
    pub(super) async fn put(
        self,
        store: &dyn ObjectStore,
        mut file: SpanFile,
        before: Vec<Arc<SpanFile>>,
    ) -> Result<Made, LakeError> {
        if let Some(filter) = TraceFilter::new(self.traces.clone()) {
            put_filter(store, &file.path, &filter).await?;
            file.traces = Some(Arc::new(filter));
        }
        if let Some(summary) = self.summary.finish() {
            summary.put(store, &file.path).await?;
        }
        let attributes = self.attributes.finish();
        attributes.put(store, &file.path).await?;
        let mut file = Arc::new(file);
        if let Some(rollup) = self.rollup {
            let bounds = put_rollup(rollup, store, &file, before).await;
            if let Err(error) = &bounds {
                warn_of_rollup(&file.path, error);
            }
            file = Arc::new(SpanFile { rollup: bounds.ok(), ..(*file).clone() });
        }
        Ok(Made { file, attributes, traces: self.traces })
    }
}

async fn put_rollup(
    rollup: Box<dyn FileRollup>,
    store: &dyn ObjectStore,
    file: &Arc<SpanFile>,
    before: Vec<Arc<SpanFile>>,
) -> Result<[u64; 2], RollupError> {
    let rollup = rollup.finish(file, before).await?;
    rollup.put(store, &file.path).await?;
    Ok(rollup.bounds)
}

/// Of the files those that may have spans of the same traces, by tenant and time.
pub(super) fn near<'a>(file: &SpanFile, others: impl IntoIterator<Item = &'a Arc<SpanFile>>) -> Vec<Arc<SpanFile>> {
    let is_near = |other: &&Arc<SpanFile>| {
        other.tenants == file.tenants
            && other.start_min <= file.start_max.saturating_add(TRACE_MAX)
            && other.start_max >= file.start_min.saturating_sub(TRACE_MAX)
    };
    others.into_iter().filter(is_near).cloned().collect()
}

/// What is missing or damaged beside a file that was read to its end, whose spans make this summary, and why.
///
/// # Errors
/// If the object store fails, so that it is not known.
pub(crate) async fn broken(
    store: &dyn ObjectStore,
    file: &SpanFile,
    summary: Option<Summary>,
) -> object_store::Result<Vec<(Path, &'static str)>> {
    let mut broken = vec![
        damage(store, filter_path(&file.path), |bytes| TraceFilter::from_bytes(bytes).is_some()).await?,
        damage(store, attributes_path(&file.path), |bytes| AttributeCounts::from_bytes(bytes).is_some()).await?,
    ];
    if summary.is_some() {
        broken.push(damage(store, summary_path(&file.path), |bytes| Summary::from_bytes(bytes) == summary).await?);
    }
    if file.rollup.is_some() {
        for kind in [SectionsKind::Rollup, SectionsKind::TraceSummaries] {
            broken.push(damage(store, kind.path(&file.path), |bytes| Sections::are_whole(kind, bytes)).await?);
        }
    }
    Ok(broken.into_iter().flatten().collect())
}

/// What is wrong with an object, if anything is.
async fn damage(
    store: &dyn ObjectStore,
    path: Path,
    is_whole: impl FnOnce(&[u8]) -> bool,
) -> object_store::Result<Option<(Path, &'static str)>> {
    let bytes = match store.get(&path).await {
        Ok(found) => found.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(Some((path, "missing"))),
        Err(error) => return Err(error),
    };
    Ok((!is_whole(&bytes)).then_some((path, "damaged")))
}

/// Makes all that is kept beside a file again, of a lake with these promoted attributes and other files. False, with a warning, if
/// it should have a rollup and none can be made.
pub(crate) async fn remake(
    store: &Arc<dyn ObjectStore>,
    file: &SpanFile,
    promoted: &Arc<Vec<Promoted>>,
    others: &[Arc<SpanFile>],
    rollups: &dyn Rollups,
) -> Result<bool, LakeError> {
    let path = Path::parse(&file.path).map_err(object_store::Error::from)?;
    let reader = FileReader::new(store.clone(), path, file.size);
    let mut rows = ParquetRecordBatchStreamBuilder::new(reader).await?.build()?;
    let columns = promoted.get(..file.promoted.count).unwrap_or_default();
    let mut making = Making::new(file.rollup.map(|_| rollups.begin(promoted)));
    while let Some(batch) = rows.try_next().await? {
        making.add(&file.path, &demote(&batch, columns)?)?;
    }
    // Its rollup leaves to later files what these have of the same traces.
    let before = near(file, others.iter().filter(|other| other.version < file.version));
    let made = making.put(store.as_ref(), file.clone(), before).await?;
    Ok(made.file.rollup.is_some() == file.rollup.is_some())
}
