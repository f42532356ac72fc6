//! Fresh files: one Parquet file per time window of a flush.

use std::sync::Arc;

use arrow::error::ArrowError;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::compute_leaves;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use thiserror::Error;

use crate::commit::{Commit, CommitError};
use crate::live::Generation;
use crate::schema::{column_index, spans_schema};
use crate::snapshot::FreshFile;
use crate::sorted::{SortedRows, Window};

/// Rows of a row group: enough for the dictionaries to pay, few enough for two cores to share a file.
const ROW_GROUP_ROWS: usize = 131_072;
/// Rows of a page: what a lookup of one trace has to decode of each column.
const PAGE_ROWS: usize = 4_096;
/// Bytes of a page of `trace_id`: the one page that a lookup decodes of a file that may hold the trace.
const TRACE_PAGE_BYTES: usize = 16 << 10;
/// Columns with statistics for each page: those that the file is sorted by. Of the others every page holds the same values.
const SORTED_BY: [&str; 2] = ["tenant", "trace_id"];
/// Columns with statistics for each row group. Text has none: a comparison a value, for bounds that are the same everywhere.
const BOUNDED: [&str; 4] = ["start_time", "duration", "http_status_code", "error"];
/// Columns whose values hardly repeat, and how they are encoded instead of by a dictionary.
const RANDOM: [(&str, Encoding); 5] = [
    ("trace_id", Encoding::DELTA_BYTE_ARRAY),
    ("span_id", Encoding::PLAIN),
    ("parent_span_id", Encoding::PLAIN),
    ("start_time", Encoding::DELTA_BINARY_PACKED),
    ("duration", Encoding::PLAIN),
];

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

fn properties() -> Result<WriterProperties, ParquetError> {
    let sorted_by = ["tenant", "trace_id", "start_time"].into_iter().filter_map(column_index);
    let sorting = sorted_by.map(|column| SortingColumn { column_idx: column as i32, descending: false, nulls_first: true });
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("meshlake ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_sorting_columns(Some(sorting.collect()));
    for (names, statistics) in [(&SORTED_BY[..], EnabledStatistics::Page), (&BOUNDED[..], EnabledStatistics::Chunk)] {
        for name in names {
            properties = properties.set_column_statistics_enabled(ColumnPath::from(*name), statistics);
        }
    }
    for (name, encoding) in RANDOM {
        let column = ColumnPath::from(name);
        properties = properties.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, encoding);
    }
    Ok(properties.set_column_data_page_size_limit(ColumnPath::from("trace_id"), TRACE_PAGE_BYTES).build())
}

/// The file of a window.
fn encode(rows: &SortedRows<'_>, window: &Window) -> Result<Vec<u8>, FlushError> {
    let schema = spans_schema();
    let (mut file, columns) = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties()?))?.into_serialized_writer()?;
    for (group, from) in window.rows.clone().step_by(ROW_GROUP_ROWS).enumerate() {
        let places = rows.places(from..(from + ROW_GROUP_ROWS).min(window.rows.end));
        let mut writers = columns.create_column_writers(group)?.into_iter();
        let mut row_group = file.next_row_group()?;
        for (index, field) in schema.fields().iter().enumerate() {
            let array = rows.column(index, &places)?;
            for (leaf, mut writer) in compute_leaves(field, &array)?.iter().zip(writers.by_ref()) {
                writer.write(leaf)?;
                writer.close()?.append_to_row_group(&mut row_group)?;
            }
        }
        row_group.close()?;
    }
    Ok(file.into_inner()?)
}

/// Writes the files of a complete generation and commits them. When this returns, they are in the object store, and the
/// commit says so. `start` keeps the files of this process apart from those of one that died while it flushed the same
/// generation.
///
/// # Errors
/// Any failure; the generation can be flushed again. As that gives the same files, a commit whose answer was lost is known.
pub(crate) async fn flush(
    store: &Arc<dyn ObjectStore>,
    writer: &str,
    generation: &Generation,
    start: &str,
    window: i64,
) -> Result<Vec<FreshFile>, FlushError> {
    let batches: Vec<_> = generation.batches()?.into_iter().map(|live| live.batch).collect();
    let rows = SortedRows::new(&batches, window)?;
    let mut files = Vec::new();
    for (index, window) in rows.windows()?.into_iter().enumerate() {
        let path = Path::from(format!("fresh/{writer}/{:010}-{start}-{index:02}.parquet", generation.number));
        let bytes = encode(&rows, &window)?;
        let size = bytes.len() as u64;
        store.put_opts(&path, bytes.into(), PutMode::Overwrite.into()).await?;
        files.push(FreshFile {
            path: path.to_string(),
            size,
            rows: window.rows.len() as u64,
            start_min: window.start_min,
            start_max: window.start_max,
            end_max: window.end_max,
            tenants: window.tenants,
        });
    }
    Commit::new(writer, generation.number, generation.journal_bytes(), files.clone()).create(store).await?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::arrow::ArrowSchemaConverter;
    use parquet::schema::printer::print_schema;

    /// Scenario: the Parquet schema of a fresh file as this version writes it. Guarantee: names and types that other readers
    /// see stay.
    #[test]
    fn golden_schema() {
        let bytes = ArrowWriter::try_new(Vec::new(), spans_schema(), Some(properties().unwrap())).unwrap().into_inner().unwrap();
        let file = parquet::file::reader::SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let schema = parquet::file::reader::FileReader::metadata(&file).file_metadata().schema_descr().clone();
        assert_eq!(schema.root_schema(), ArrowSchemaConverter::new().convert(&spans_schema()).unwrap().root_schema());
        let mut text = Vec::new();
        print_schema(&mut text, schema.root_schema());
        assert_eq!(String::from_utf8(text).unwrap(), include_str!("../tests/golden/spans-v1.parquet-schema"));
    }
}
