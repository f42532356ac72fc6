//! How rows of [`crate::spans_schema`] are laid out in Parquet.

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::schema::column_index;

/// Rows of a row group of a lake file. A lookup reads the footer's part of each, of a hundred columns, and then the places of the
/// pages of one: many small ones make the first slow, few large ones the second.
pub(crate) const LAKE_ROWS: usize = 524_288;
/// Bytes of a row group of a lake file, which a merge holds until it is written.
const LAKE_BYTES: usize = 64 << 20;
/// Of a file of carried traces, which is written beside another one.
const CARRIED_BYTES: usize = 8 << 20;
/// Of a fresh file. A merge holds a row group of each file, its dictionaries as they are read.
pub(crate) const FRESH_ROWS: usize = 32_768;
/// Rows of a page: what a lookup of one trace has to decode of each column.
const PAGE_ROWS: usize = 4_096;
/// Bytes of a page of values that differ from row to row, about. A lookup decompresses a page for the few rows of a trace.
const BULK_PAGE: usize = 16 << 10;
/// Bytes of the dictionary of such a column, which a lookup decompresses whole. Past it, values stand in the pages.
const BULK_DICTIONARY: usize = 128 << 10;
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

/// In lake files the spans of a trace, which share one, stand together; a dictionary of so many rows would be decoded whole by a
/// lookup.
const REQUEST_ID: (&str, Encoding) = ("request_id", Encoding::PLAIN);
/// Columns of lake files whose values differ from row to row: the bulk of a file. They are compressed with zstd, the others with
/// LZ4: to open a column costs zstd more than to read a page of it, and of those others a page is a few hundred bytes.
const BULK: [&str; 10] = [
    "trace_id",
    "parent_span_id",
    "start_time",
    "duration",
    "http_url",
    "request_id",
    "upstream_address",
    "peer_address",
    "span_attributes.key_value.value.string",
    "events.list.item.attributes.key_value.value.string",
];

/// How fresh files are written. LZ4, because each column that is read or written with zstd holds a context of about 100 KiB, and a
/// merge reads a hundred columns of dozens of files.
pub(crate) fn fresh() -> WriterProperties {
    properties(FRESH_ROWS).build()
}

/// How lake files are written.
pub(crate) fn lake() -> Result<WriterProperties, ParquetError> {
    lake_of(LAKE_BYTES)
}

/// How lake files of carried traces are written.
pub(crate) fn carried() -> Result<WriterProperties, ParquetError> {
    lake_of(CARRIED_BYTES)
}

fn lake_of(row_group: usize) -> Result<WriterProperties, ParquetError> {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let properties = encoded(properties(LAKE_ROWS), REQUEST_ID).set_max_row_group_bytes(Some(row_group));
    // Random bytes.
    let properties = properties.set_column_compression(ColumnPath::from("span_id"), Compression::UNCOMPRESSED);
    let column = |name: &str| ColumnPath::new(name.split('.').map(str::to_owned).collect());
    let bulk = |properties: WriterPropertiesBuilder, name: &&str| {
        properties
            .set_column_compression(column(name), zstd)
            .set_column_data_page_size_limit(column(name), BULK_PAGE)
            .set_column_dictionary_page_size_limit(column(name), BULK_DICTIONARY)
    };
    Ok(BULK.iter().fold(properties, bulk).build())
}

fn properties(row_group: usize) -> WriterPropertiesBuilder {
    let sorted_by = ["tenant", "trace_id", "start_time"].into_iter().filter_map(column_index);
    let sorting = sorted_by.map(|column| SortingColumn { column_idx: column as i32, descending: false, nulls_first: true });
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("meshlake ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(row_group))
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(Compression::LZ4_RAW)
        // Where a dictionary becomes too large: not DELTA_BYTE_ARRAY, which pyarrow does not read into the dictionary that it was.
        .set_encoding(Encoding::PLAIN)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_sorting_columns(Some(sorting.collect()));
    for (names, statistics) in [(&SORTED_BY[..], EnabledStatistics::Page), (&BOUNDED[..], EnabledStatistics::Chunk)] {
        for name in names {
            properties = properties.set_column_statistics_enabled(ColumnPath::from(*name), statistics);
        }
    }
    RANDOM.into_iter().fold(properties, encoded)
}

/// With a column encoded like this instead of by a dictionary.
fn encoded(properties: WriterPropertiesBuilder, (name, encoding): (&str, Encoding)) -> WriterPropertiesBuilder {
    let column = ColumnPath::from(name);
    properties.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Row, SpanBuilder};
    use crate::encode::Encoder;
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

    /// Scenario: text of which no two values are equal, more than a dictionary takes. Guarantee: no page has an encoding that
    /// pyarrow or Polars can't read (P9).
    #[test]
    fn every_reader_knows_the_encodings() {
        let rows = 60_000;
        let mut builder = SpanBuilder::default();
        for number in 0..rows {
            let text = format!("{number:032}");
            builder.workload.push(number, text.as_bytes());
            builder.end_row(&Row {
                span_id: (number as u64).to_be_bytes(),
                start: number as u64,
                end: number as u64,
                name: text.as_bytes(),
                ..Row::default()
            });
        }
        let batch = builder.finish().unwrap().unwrap().batch;
        for properties in [fresh(), lake().unwrap()] {
            let (mut file, encoder) = Encoder::begin(Vec::new(), spans_schema(), properties).unwrap();
            let columns = encoder.columns(&file).unwrap();
            let mut group = file.next_row_group().unwrap();
            for (mut column, rows) in columns.into_iter().zip(batch.columns()) {
                column.write(rows).unwrap();
                column.append_to(&mut group).unwrap();
            }
            group.close().unwrap();
            let footer = file.finish().unwrap();
            let encodings = |name: &str| {
                let columns = footer.row_groups()[0].columns();
                columns.iter().find(|column| column.column_path().string() == name).unwrap().encodings().collect::<Vec<_>>()
            };
            assert!(encodings("workload").contains(&Encoding::RLE_DICTIONARY) && encodings("workload").contains(&Encoding::PLAIN));
            for column in footer.row_groups().iter().flat_map(|group| group.columns()) {
                assert!(!column.encodings().any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY), "{}", column.column_path());
            }
        }
    }
}
