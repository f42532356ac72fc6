//! Lake files being written: sorted rows in, files of whole traces out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use tracing::warn;

use super::filter::{TraceFilter, key};
use super::log::put_filter;
use super::rollup::{FileRollup, RollupError, Rollups};
use super::state::{LakeFile, date};
use super::summary::Summarizer;
use super::{LakeError, delta};
use crate::counter::{AttributeCounter, AttributeCounts, Counted};
use crate::layout;
use crate::promoted::{Promoted, PromotedColumns, lake_schema, promote};
use crate::schema::spans_schema;
use crate::snapshot::SpanFile;
use crate::sorted::{SortedRows, Window};

/// Rows that are gathered at once.
const ROWS: usize = 16_384;
/// How far apart spans of one trace start at most, microseconds: hops of spans further apart are summed as those of two traces.
pub const TRACE_MAX: i64 = 24 * 3_600_000_000;

/// The files of one merge.
pub(crate) struct Output<'a> {
    pub store: &'a Arc<dyn ObjectStore>,
    /// The beginning of their names, which no other merge has.
    pub name: String,
    pub window: Option<i64>,
    pub rewrites: u32,
    /// When the merge began, microseconds: of what was asked to be deleted later, the files are not free.
    pub written: i64,
    /// Bytes at which a file ends, at the next trace.
    pub file_size: usize,
    /// Bytes that are put at once, and held till then.
    pub part: usize,
    /// The attributes that get columns of their own.
    pub promoted: Arc<Vec<Promoted>>,
    pub rollups: Arc<dyn Rollups>,
    /// The files of the lake that are not merged.
    pub others: Vec<Arc<SpanFile>>,
    pub open: Option<OpenFile>,
    pub done: Vec<Finished>,
}

/// A file that is in the object store, with all that is kept beside it, and not committed.
pub(crate) struct Finished {
    pub file: LakeFile,
    /// What its spans carry, and whether in the residual maps.
    pub attributes: AttributeCounts,
    /// The keys of its traces.
    pub traces: Vec<u64>,
}

/// A file that is being written.
pub(crate) struct OpenFile {
    writer: AsyncArrowWriter<BufWriter>,
    tenant: String,
    file: SpanFile,
    promoted: Arc<Vec<Promoted>>,
    traces: Vec<u64>,
    last_trace: [u8; 16],
    summary: Summarizer,
    attributes: AttributeCounter,
    /// None if it could not be made.
    rollup: Option<Box<dyn FileRollup>>,
}

impl OpenFile {
    fn new(output: &Output<'_>, path: &Path, tenant: &str) -> Result<OpenFile, LakeError> {
        let parts = BufWriter::with_capacity(output.store.clone(), path.clone(), output.part).with_max_concurrency(1);
        let writer = AsyncArrowWriter::try_new(parts, lake_schema(&output.promoted), Some(layout::lake()?))?;
        let file = SpanFile {
            path: path.to_string(),
            tenants: vec![tenant.to_owned()],
            window: output.window,
            promoted: PromotedColumns::new(&output.promoted),
            start_min: i64::MAX,
            start_max: i64::MIN,
            end_max: i64::MIN,
            ..SpanFile::default()
        };
        Ok(OpenFile {
            writer,
            tenant: tenant.to_owned(),
            file,
            promoted: output.promoted.clone(),
            traces: Vec::new(),
            last_trace: [0; 16],
            summary: Summarizer::default(),
            attributes: AttributeCounter::new(Counted::All),
            rollup: Some(output.rollups.begin(&output.promoted)),
        })
    }

    fn is_full(&self, file_size: usize) -> bool {
        self.writer.bytes_written() + self.writer.in_progress_size() >= file_size
    }

    async fn write(&mut self, rows: &SortedRows<'_>, range: Range<usize>) -> Result<(), LakeError> {
        let bounds: Window = rows.bounds(range.clone())?;
        self.file.start_min = self.file.start_min.min(bounds.start_min);
        self.file.start_max = self.file.start_max.max(bounds.start_max);
        self.file.end_max = self.file.end_max.max(bounds.end_max);
        self.file.rows += range.len() as u64;
        for trace in rows.traces(range.clone()) {
            if self.traces.is_empty() || trace != self.last_trace {
                self.traces.push(key(&trace));
                self.last_trace = trace;
            }
        }
        let places = rows.places(range);
        let columns = (0..spans_schema().fields().len()).map(|index| rows.column(index, &places));
        let batch = RecordBatch::try_new(spans_schema(), columns.collect::<Result<_, _>>()?)?;
        self.summary.add(&batch)?;
        self.attributes.add(&batch)?;
        if let Some(Err(error)) = self.rollup.as_mut().map(|rollup| rollup.add(&batch)) {
            warn!(path = self.file.path, %error, "can't sum the hops of a file; it is read when they are asked for");
            self.rollup = None;
        }
        let batch = promote(&batch, &self.promoted)?;
        self.file.promoted.note(&batch);
        Ok(self.writer.write(&batch).await?)
    }
}

impl Output<'_> {
    /// Of the file that is written now, or next.
    fn path(&self) -> Path {
        let folder = self.window.and_then(date).unwrap_or_else(|| "unplaced".to_owned());
        Path::from(format!("{}/data/{folder}/{}-{:03}.parquet", delta::ROOT, self.name, self.done.len()))
    }

    /// Writes sorted rows. A file ends where a tenant does, and when it is full, but not within a trace.
    pub(crate) async fn write(&mut self, rows: &SortedRows<'_>) -> Result<(), LakeError> {
        let mut from = 0;
        while from < rows.len() {
            let tenant = rows.tenant(from);
            let ends = match &self.open {
                Some(open) if open.tenant != tenant => true,
                Some(open) => open.is_full(self.file_size) && open.last_trace != rows.trace(from),
                None => false,
            };
            if ends {
                self.finish().await?;
            }
            let mut open = match self.open.take() {
                Some(open) => open,
                None => OpenFile::new(self, &self.path(), tenant)?,
            };
            // A full file takes the rest of its last trace.
            let same_trace = open.is_full(self.file_size).then_some(open.last_trace);
            let belongs = |row: &usize| rows.same_tenant(*row, from) && same_trace.is_none_or(|trace| rows.trace(*row) == trace);
            let most = rows.len().min(from + ROWS);
            let until = (from..most).find(|row| !belongs(row)).unwrap_or(most);
            let written = open.write(rows, from..until).await;
            self.open = Some(open);
            written?;
            from = until;
        }
        Ok(())
    }

    /// Ends the open file: it is in the object store, with all that is kept beside it, and nobody reads it until it is committed.
    pub(crate) async fn finish(&mut self) -> Result<(), LakeError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.writer.finish().await?;
        open.file.size = open.writer.bytes_written() as u64;
        if let Some(filter) = TraceFilter::new(open.traces.clone()) {
            put_filter(self.store.as_ref(), &open.file.path, &filter).await?;
            open.file.traces = Some(Arc::new(filter));
        }
        open.summary.put(self.store.as_ref(), &open.file.path).await?;
        let mut file = Arc::new(open.file);
        if let Some(rollup) = open.rollup {
            file = self.put_rollup(rollup, file).await;
        }
        let file = LakeFile { file, rewrites: self.rewrites, written: self.written };
        let finished = Finished { file, attributes: open.attributes.finish(), traces: open.traces };
        finished.attributes.put(self.store.as_ref(), &finished.file.file.path).await?;
        self.done.push(finished);
        Ok(())
    }

    /// The file with its rollup, if there can be one: without, who asks for hops reads the spans, which is slower and as right.
    async fn put_rollup(&self, rollup: Box<dyn FileRollup>, file: Arc<SpanFile>) -> Arc<SpanFile> {
        let near = |other: &&Arc<SpanFile>| {
            other.tenants == file.tenants
                && other.start_min <= file.start_max.saturating_add(TRACE_MAX)
                && other.start_max >= file.start_min.saturating_sub(TRACE_MAX)
        };
        let before = self.others.iter().filter(near).cloned().collect();
        let put = async {
            let rollup = rollup.finish(&file, before).await?;
            rollup.put(self.store.as_ref(), &file.path).await?;
            Ok::<_, RollupError>(rollup.bounds)
        };
        match put.await {
            Ok(bounds) => Arc::new(SpanFile { rollup: Some(bounds), ..(*file).clone() }),
            Err(error) => {
                warn!(path = file.path, %error, "can't sum the hops of a file; it is read when they are asked for");
                file
            }
        }
    }

    /// Gives the open file up.
    pub(crate) async fn abort(&mut self) {
        if let Some(open) = self.open.take()
            && let Err(error) = open.writer.into_inner().abort().await
        {
            warn!(path = open.file.path, %error, "can't give up a file: its parts stay until the object store clears them");
        }
    }
}
