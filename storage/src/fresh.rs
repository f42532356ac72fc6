//! Fresh files: one Parquet file per time window of a flush.

use std::sync::Arc;

use arrow::error::ArrowError;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};
use parquet::errors::ParquetError;
use thiserror::Error;

use crate::commit::{Commit, CommitError};
use crate::encode::Encoder;
use crate::lake::{TraceFilter, key};
use crate::layout;
use crate::live::Generation;
use crate::schema::spans_schema;
use crate::snapshot::SpanFile;
use crate::sorted::{SortedRows, Window};

/// Why a flush failed. Whatever it was, the spans stay live and in the journal.
#[derive(Debug, Error)]
pub enum FlushError {
    /// The rows do not make a batch: a defect of this crate.
    #[error("sort live spans: {0}")]
    Arrow(#[from] ArrowError),
    /// The rows do not make a file: a defect of this crate.
    #[error("encode a fresh file: {0}")]
    Parquet(#[from] ParquetError),
    /// The file could not be put.
    #[error("put a fresh file: {0}")]
    Store(#[from] object_store::Error),
    /// The commit record could not be put.
    #[error("commit: {0}")]
    Commit(#[from] CommitError),
}

/// Room for a row of a fresh file.
const ROW_BYTES: usize = 48;

/// The file of a window. A column after the other, because its source then stays in the processor's caches.
fn encode(rows: &SortedRows<'_>, window: &Window) -> Result<Vec<u8>, FlushError> {
    let (mut file, encoder) = Encoder::begin(Vec::with_capacity(window.rows.len() * ROW_BYTES), spans_schema(), layout::fresh())?;
    for from in window.rows.clone().step_by(layout::FRESH_ROWS) {
        let places = rows.places(from..(from + layout::FRESH_ROWS).min(window.rows.end));
        let columns = encoder.columns(&file)?;
        let mut row_group = file.next_row_group()?;
        for (index, mut column) in columns.into_iter().enumerate() {
            match rows.texts(index, &places) {
                Some(texts) => column.write_texts(texts)?,
                None => column.write(&rows.column(index, &places)?)?,
            }
            column.append_to(&mut row_group)?;
        }
        row_group.close()?;
    }
    Ok(file.into_inner()?)
}

/// Writes the files of a complete generation and commits them. When this returns, they are in the object store, and the
/// commit says so. `start` keeps the files of this process apart from those of one that died while it flushed the same
/// generation. `settled` is the last generation up to which all are then committed.
///
/// # Errors
/// Any failure; the generation can be flushed again. As that gives the same files, a commit whose answer was lost is known.
pub(crate) async fn flush(
    store: &Arc<dyn ObjectStore>,
    writer: &str,
    generation: &Generation,
    start: &str,
    window: i64,
    settled: u64,
) -> Result<Commit, FlushError> {
    let batches: Vec<_> = generation.batches()?.into_iter().map(|live| live.batch).collect();
    let rows = SortedRows::new(&batches, window)?;
    let mut files = Vec::new();
    for (index, window) in rows.windows()?.into_iter().enumerate() {
        let path = Path::from(format!("fresh/{writer}/{:010}-{start}-{index:02}.parquet", generation.number));
        let bytes = encode(&rows, &window)?;
        let size = bytes.len() as u64;
        let traces = rows.traces(window.rows.clone()).map(|trace| key(&trace)).collect();
        store.put_opts(&path, bytes.into(), PutMode::Overwrite.into()).await?;
        files.push(SpanFile {
            path: path.to_string(),
            size,
            rows: window.rows.len() as u64,
            start_min: window.start_min,
            start_max: window.start_max,
            end_max: window.end_max,
            tenants: window.tenants,
            window: window.start,
            // In this process only: who else reads the file looks into it, until it is in the lake a few minutes later.
            traces: TraceFilter::new(traces).map(Arc::new),
            ..SpanFile::default()
        });
    }
    let commit = Commit::new(writer, generation.number, generation.journal_bytes(), files);
    let commit = Commit { settled: Some(settled), ..commit };
    commit.create(store).await?;
    Ok(commit)
}
