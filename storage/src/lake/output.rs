//! Lake files being written: sorted rows in, files of whole traces out.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};
use parquet::arrow::ArrowWriter;

use super::filter::{TraceFilter, key};
use super::log::put_filter;
use super::state::{LakeFile, date};
use super::{LakeError, delta};
use crate::ingest::now;
use crate::layout;
use crate::schema::spans_schema;
use crate::snapshot::SpanFile;
use crate::sorted::{SortedRows, Window};

/// The files of one merge.
pub(crate) struct Output<'a> {
    pub store: &'a dyn ObjectStore,
    /// The beginning of their names, which no other merge has.
    pub name: String,
    pub window: Option<i64>,
    pub rewrites: u32,
    /// Bytes at which a file ends, at the next trace.
    pub file_size: usize,
    pub open: Option<OpenFile>,
    pub done: Vec<LakeFile>,
}

/// A file that is being written.
pub(crate) struct OpenFile {
    writer: ArrowWriter<Vec<u8>>,
    tenant: String,
    file: SpanFile,
    traces: Vec<u64>,
    last_trace: [u8; 16],
}

impl OpenFile {
    fn new(tenant: &str, window: Option<i64>) -> Result<OpenFile, LakeError> {
        let writer = ArrowWriter::try_new(Vec::new(), spans_schema(), Some(layout::properties()?))?;
        let file = SpanFile {
            tenants: vec![tenant.to_owned()],
            window,
            start_min: i64::MAX,
            start_max: i64::MIN,
            end_max: i64::MIN,
            ..SpanFile::default()
        };
        Ok(OpenFile { writer, tenant: tenant.to_owned(), file, traces: Vec::new(), last_trace: [0; 16] })
    }

    fn is_full(&self, file_size: usize) -> bool {
        self.writer.bytes_written() + self.writer.in_progress_size() >= file_size
    }

    fn write(&mut self, rows: &SortedRows<'_>, range: Range<usize>) -> Result<(), LakeError> {
        let bounds: Window = rows.bounds(range.clone())?;
        self.file.start_min = self.file.start_min.min(bounds.start_min);
        self.file.start_max = self.file.start_max.max(bounds.start_max);
        self.file.end_max = self.file.end_max.max(bounds.end_max);
        self.file.rows += range.len() as u64;
        for row in range.clone() {
            let trace = rows.trace(row);
            if self.traces.is_empty() || trace != self.last_trace {
                self.traces.push(key(&trace));
                self.last_trace = trace;
            }
        }
        let places = rows.places(range);
        let columns = (0..spans_schema().fields().len()).map(|index| rows.column(index, &places));
        let batch = RecordBatch::try_new(spans_schema(), columns.collect::<Result<_, _>>()?)?;
        Ok(self.writer.write(&batch)?)
    }
}

impl Output<'_> {
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
            let open = match &mut self.open {
                Some(open) => open,
                none => none.insert(OpenFile::new(tenant, self.window)?),
            };
            // A full file takes the rest of its last trace.
            let same_trace = open.is_full(self.file_size).then_some(open.last_trace);
            let belongs = |row: &usize| rows.tenant(*row) == tenant && same_trace.is_none_or(|trace| rows.trace(*row) == trace);
            let until = (from..rows.len()).find(|row| !belongs(row)).unwrap_or(rows.len());
            open.write(rows, from..until)?;
            from = until;
        }
        Ok(())
    }

    /// Ends the open file: it is in the object store, with its filter, and nobody reads it until it is committed.
    pub(crate) async fn finish(&mut self) -> Result<(), LakeError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let folder = self.window.and_then(date).unwrap_or_else(|| "unplaced".to_owned());
        let path = Path::from(format!("{}/data/{folder}/{}-{:03}.parquet", delta::ROOT, self.name, self.done.len()));
        let bytes = open.writer.into_inner()?;
        open.file.path = path.to_string();
        open.file.size = bytes.len() as u64;
        if let Some(filter) = TraceFilter::new(open.traces) {
            put_filter(self.store, path.as_ref(), &filter).await?;
            open.file.traces = Some(Arc::new(filter));
        }
        self.store.put_opts(&path, bytes.into(), PutMode::Overwrite.into()).await?;
        self.done.push(LakeFile { file: Arc::new(open.file), rewrites: self.rewrites, written: now() });
        Ok(())
    }
}
