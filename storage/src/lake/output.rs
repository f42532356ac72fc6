//! Lake files being written: sorted rows in, files of whole traces out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::file::properties::WriterProperties;
use tracing::warn;

use super::beside::{self, Made, Making};
use super::rollup::Rollups;
use super::state::{LakeFile, date};
use super::{LakeError, delta};
use crate::counter::AttributeCounts;
use crate::encode::FileWriter;
use crate::layout;
use crate::promoted::{Promoted, PromotedColumns, lake_schema, promote};
use crate::schema::spans_schema;
use crate::snapshot::SpanFile;
use crate::sorted::{SortedRows, Window};

/// Rows that are gathered at once.
const ROWS: usize = 16_384;
/// How far apart spans of one trace start at most, microseconds: hops of spans further apart are summed as those of two traces.
pub const TRACE_MAX: i64 = 24 * 3_600_000_000;

/// What the files of one merge have in common.
pub(crate) struct Target<'a> {
    pub store: &'a Arc<dyn ObjectStore>,
    /// The beginning of their names, which no other merge has.
    pub name: String,
    pub window: Option<i64>,
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
}

/// Files of a merge, one after the other.
pub(crate) struct Output<'a> {
    target: &'a Target<'a>,
    /// Whether they are of carried traces.
    carried: bool,
    open: Option<OpenFile>,
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
struct OpenFile {
    writer: FileWriter,
    tenant: String,
    file: SpanFile,
    /// How often its spans were written before, at most.
    rewrites: u32,
    promoted: Arc<Vec<Promoted>>,
    last_trace: [u8; 16],
    beside: Making,
}

impl OpenFile {
    fn new(target: &Target<'_>, layout: WriterProperties, path: &Path, tenant: &str) -> Result<OpenFile, LakeError> {
        let schema = lake_schema(&target.promoted);
        let writer = FileWriter::new(target.store.clone(), path.clone(), target.part, schema, layout)?;
        let file = SpanFile {
            path: path.to_string(),
            tenants: vec![tenant.to_owned()],
            window: target.window,
            promoted: PromotedColumns::new(&target.promoted),
            start_min: i64::MAX,
            start_max: i64::MIN,
            end_max: i64::MIN,
            ..SpanFile::default()
        };
        Ok(OpenFile {
            writer,
            tenant: tenant.to_owned(),
            file,
            rewrites: 0,
            promoted: target.promoted.clone(),
            last_trace: [0; 16],
            beside: Making::new(Some(target.rollups.begin(&target.promoted))),
        })
    }

    fn is_full(&self, file_size: usize) -> bool {
        self.writer.size() >= file_size
    }

    async fn write(&mut self, rows: &SortedRows<'_>, range: Range<usize>, rewrites: &[u32]) -> Result<(), LakeError> {
        let bounds: Window = rows.bounds(range.clone())?;
        self.file.start_min = self.file.start_min.min(bounds.start_min);
        self.file.start_max = self.file.start_max.max(bounds.start_max);
        self.file.end_max = self.file.end_max.max(bounds.end_max);
        self.file.rows += range.len() as u64;
        self.rewrites = range.clone().map(|row| rewrites[rows.batch(row)]).fold(self.rewrites, u32::max);
        self.last_trace = range.clone().next_back().map_or(self.last_trace, |last| rows.trace(last));
        let places = rows.places(range);
        let columns = (0..spans_schema().fields().len()).map(|index| rows.column(index, &places));
        let batch = RecordBatch::try_new(spans_schema(), columns.collect::<Result<_, _>>()?)?;
        self.beside.add(&self.file.path, &batch)?;
        let batch = promote(&batch, &self.promoted)?;
        self.file.promoted.note(&batch);
        Ok(self.writer.write(&batch).await?)
    }
}

impl<'a> Output<'a> {
    pub(crate) fn new(target: &'a Target<'a>, carried: bool) -> Output<'a> {
        Output { target, carried, open: None, done: Vec::new() }
    }

    /// The file that is written next.
    fn begin(&self, tenant: &str) -> Result<OpenFile, LakeError> {
        let target = self.target;
        let folder = target.window.and_then(date).unwrap_or_else(|| "unplaced".to_owned());
        let (kind, layout) = if self.carried { ("carried-", layout::carried()?) } else { ("", layout::lake()?) };
        let path = Path::from(format!("{}/data/{folder}/{}-{kind}{:03}.parquet", delta::ROOT, target.name, self.done.len()));
        OpenFile::new(target, layout, &path, tenant)
    }

    /// Writes sorted rows. A file ends where a tenant does, and when it is full, but not within a trace. `rewrites` says of each
    /// batch how often its spans were written before, at most.
    pub(crate) async fn write(&mut self, rows: &SortedRows<'_>, rewrites: &[u32]) -> Result<(), LakeError> {
        let file_size = self.target.file_size;
        let mut from = 0;
        while from < rows.len() {
            let tenant = rows.tenant(from);
            let ends = match &self.open {
                Some(open) if open.tenant != tenant => true,
                Some(open) => open.is_full(file_size) && open.last_trace != rows.trace(from),
                None => false,
            };
            if ends {
                self.finish().await?;
            }
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.begin(tenant)?,
            };
            // A full file takes the rest of its last trace.
            let same_trace = open.is_full(file_size).then_some(open.last_trace);
            let belongs = |row: &usize| rows.same_tenant(*row, from) && same_trace.is_none_or(|trace| rows.trace(*row) == trace);
            let most = rows.len().min(from + ROWS);
            let until = (from..most).find(|row| !belongs(row)).unwrap_or(most);
            let written = open.write(rows, from..until, rewrites).await;
            self.open = Some(open);
            written?;
            from = until;
        }
        Ok(())
    }

    /// Ends the open file: it is in the object store, with all that is kept beside it, and nobody reads it until it is committed.
    pub(crate) async fn finish(&mut self) -> Result<(), LakeError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        open.file.size = open.writer.finish().await?;
        let before = beside::near(&open.file, &self.target.others);
        let Made { file, attributes, traces } = open.beside.put(self.target.store.as_ref(), open.file, before).await?;
        let file = LakeFile { file, rewrites: open.rewrites, carried: self.carried, written: self.target.written };
        self.done.push(Finished { file, attributes, traces });
        Ok(())
    }

    /// Gives the open file up.
    pub(crate) async fn abort(&mut self) {
        if let Some(open) = self.open.take()
            && let Err(error) = open.writer.into_store().abort().await
        {
            warn!(path = open.file.path, %error, "can't give up a file: its parts stay until the object store clears them");
        }
    }
}
