//! How rows of [`crate::spans_schema`] are laid out in Parquet.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::schema::column_index;

/// Rows of a row group of a lake file: enough for the dictionaries to pay, few enough for two cores to share a file.
const LAKE_ROWS: usize = 131_072;
/// Of a fresh file. A merge holds a row group of each file, its dictionaries as they are read.
pub(crate) const FRESH_ROWS: usize = 32_768;
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
    // Not DELTA_BYTE_ARRAY, which Polars does not read at a fixed length (P9).
    ("trace_id", Encoding::PLAIN),
    ("span_id", Encoding::PLAIN),
    ("parent_span_id", Encoding::PLAIN),
    ("start_time", Encoding::DELTA_BINARY_PACKED),
    ("duration", Encoding::PLAIN),
];

/// How fresh files are written. LZ4, because each column that is read or written with zstd holds a context of about 100 KiB, and a merge
/// reads a hundred columns of dozens of files.
pub(crate) fn fresh() -> Result<WriterProperties, ParquetError> {
    properties(FRESH_ROWS, Compression::LZ4_RAW)
}

/// How lake files are written.
pub(crate) fn lake() -> Result<WriterProperties, ParquetError> {
    properties(LAKE_ROWS, Compression::ZSTD(ZstdLevel::try_new(1)?))
}

fn properties(row_group: usize, compression: Compression) -> Result<WriterProperties, ParquetError> {
    let sorted_by = ["tenant", "trace_id", "start_time"].into_iter().filter_map(column_index);
    let sorting = sorted_by.map(|column| SortingColumn { column_idx: column as i32, descending: false, nulls_first: true });
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("meshlake ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(row_group))
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(compression)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::spans_schema;
    use parquet::arrow::ArrowSchemaConverter;
    use parquet::arrow::ArrowWriter;
    use parquet::schema::printer::print_schema;

    /// Scenario: the Parquet schema of a file as this version writes it. Guarantee: names and types that other readers
    /// see stay.
    #[test]
    fn golden_schema() {
        let bytes = ArrowWriter::try_new(Vec::new(), spans_schema(), Some(lake().unwrap())).unwrap().into_inner().unwrap();
        let file = parquet::file::reader::SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let schema = parquet::file::reader::FileReader::metadata(&file).file_metadata().schema_descr().clone();
        assert_eq!(schema.root_schema(), ArrowSchemaConverter::new().convert(&spans_schema()).unwrap().root_schema());
        let mut text = Vec::new();
        print_schema(&mut text, schema.root_schema());
        assert_eq!(String::from_utf8(text).unwrap(), include_str!("../tests/golden/spans-v1.parquet-schema"));
    }
}
