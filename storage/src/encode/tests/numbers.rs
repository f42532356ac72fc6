//! Files of random numbers, times and ids, beside those of Parquet's own writer.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int16Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
};
use arrow::compute::{cast, concat_batches, max, min};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BoundaryOrder, Compression, Encoding};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;

use super::super::columns_with_values;
use super::{compressions, file, read};
use crate::schema::time_type;

/// Rows of a page, rows of a row group, bytes of a dictionary, bytes of a page.
const LIMITS: (usize, usize, usize, usize) = (50, 170, 400, 300);

const PLAIN: [&str; 3] = ["time", "parent", "id"];
const BOUNDED: [(&str, EnabledStatistics); 6] = [
    ("delta", EnabledStatistics::Chunk),
    ("number", EnabledStatistics::Page),
    ("code", EnabledStatistics::Chunk),
    ("time", EnabledStatistics::Page),
    ("parent", EnabledStatistics::Page),
    ("id", EnabledStatistics::Page),
];

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("short", DataType::Int16, false),
        Field::new("int", DataType::Int32, true),
        Field::new("number", DataType::Int64, true),
        Field::new("code", DataType::Int64, true),
        Field::new("none", DataType::Int64, true),
        Field::new("time", time_type(), false),
        Field::new("delta", DataType::Int64, true),
        Field::new("parent", DataType::FixedSizeBinary(8), true),
        Field::new("id", DataType::FixedSizeBinary(16), false),
    ]))
}

fn layout(compression: Compression) -> WriterProperties {
    let (page, group, dictionary, bytes) = LIMITS;
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(compression)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_row_count_limit(page)
        // So that Parquet's own writer looks at the limits after each row.
        .set_write_batch_size(1)
        .set_dictionary_page_size_limit(dictionary)
        .set_max_row_group_row_count(Some(group));
    for name in PLAIN {
        let column = ColumnPath::from(name);
        properties = properties.set_column_dictionary_enabled(column.clone(), false).set_column_data_page_size_limit(column, bytes);
    }
    let delta = ColumnPath::from("delta");
    properties =
        properties.set_column_dictionary_enabled(delta.clone(), false).set_column_encoding(delta, Encoding::DELTA_BINARY_PACKED);
    for (name, statistics) in BOUNDED {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(name), statistics);
    }
    properties.build()
}

/// Rows of numbers below `distinct`, from `from` on, and null where told.
fn batch(rows: &[(u32, bool)], distinct: u32, from: i64) -> RecordBatch {
    let values = || rows.iter().map(|(number, is_null)| (from + i64::from(number % distinct), *is_null));
    let some = || values().map(|(value, is_null)| (!is_null).then_some(value));
    let parents = some().map(|value| value.map(i64::to_be_bytes));
    let ids = values().map(|(value, _)| i128::from(value).to_be_bytes());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(values().map(|(value, _)| value as i16).collect::<Int16Array>()),
        Arc::new(some().map(|value| value.map(|value| value as i32)).collect::<Int32Array>()),
        Arc::new(some().collect::<Int64Array>()),
        Arc::new(some().collect::<Int64Array>()),
        Arc::new(Int64Array::new_null(rows.len())),
        Arc::new(TimestampMicrosecondArray::from_iter_values(values().map(|(value, _)| value)).with_timezone("UTC")),
        Arc::new(some().map(|value| value.map(|value| value.wrapping_mul(i64::MAX / 3))).collect::<Int64Array>()),
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(parents, 8).unwrap()),
        Arc::new(FixedSizeBinaryArray::try_from_iter(ids).unwrap()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Least and greatest value, as bytes in the order of values.
type Bounds = Option<(Vec<u8>, Vec<u8>)>;

fn ordered(number: i64) -> Vec<u8> {
    (number ^ i64::MIN).to_be_bytes().to_vec()
}

/// The bounds of rows.
fn bounds(rows: &ArrayRef) -> Bounds {
    if let Some(ids) = rows.as_fixed_size_binary_opt() {
        return Some((ids.iter().flatten().min()?.to_vec(), ids.iter().flatten().max()?.to_vec()));
    }
    let numbers = cast(rows, &DataType::Int64).unwrap();
    Some((ordered(min(numbers.as_primitive::<Int64Type>())?), ordered(max(numbers.as_primitive::<Int64Type>())?)))
}

/// The bounds of a page, as they are told.
fn told(index: &ColumnIndexMetaData, page: usize) -> Bounds {
    match index {
        ColumnIndexMetaData::INT64(index) => Some((ordered(*index.min_value(page)?), ordered(*index.max_value(page)?))),
        ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) => {
            Some((index.min_value(page)?.to_vec(), index.max_value(page)?.to_vec()))
        }
        other => panic!("{other:?}"),
    }
}

fn order(pages: &[Bounds]) -> BoundaryOrder {
    let pages: Vec<_> = pages.iter().flatten().collect();
    match (pages.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), pages.is_sorted_by(|a, b| a.0 >= b.0 && a.1 >= b.1)) {
        (true, _) => BoundaryOrder::ASCENDING,
        (false, true) => BoundaryOrder::DESCENDING,
        (false, false) => BoundaryOrder::UNORDERED,
    }
}

/// Rows of each page of a column.
fn pages(footer: &ParquetMetaData, group: usize, column: usize) -> Vec<usize> {
    let pages = &footer.offset_index().unwrap()[group][column].page_locations;
    let firsts = pages.iter().map(|page| page.first_row_index).chain([footer.row_group(group).num_rows()]);
    firsts.collect::<Vec<i64>>().windows(2).map(|rows| (rows[1] - rows[0]) as usize).collect()
}

/// Checks what `footer` tells of these rows of a column against the rows and against what `expected` tells.
fn check(footer: &ParquetMetaData, expected: &ParquetMetaData, (group, column): (usize, usize), rows: &ArrayRef) {
    let (chunk, other) = (footer.row_group(group).column(column), expected.row_group(group).column(column));
    assert_eq!(chunk.statistics().unwrap().null_count_opt(), Some(rows.null_count() as u64));
    assert!(other.statistics().is_none() || chunk.statistics() == other.statistics());
    assert_eq!(chunk.definition_level_histogram(), other.definition_level_histogram());
    assert_eq!(chunk.num_values(), rows.len() as i64);

    let lengths = pages(footer, group, column);
    let mut from = 0;
    let page = |length: &usize| {
        from += length;
        rows.slice(from - length, *length)
    };
    let page_rows: Vec<ArrayRef> = lengths.iter().map(page).collect();
    assert!(page_rows.iter().all(|page| page.null_count() == page.len() || page.len() <= LIMITS.0));
    let (index, other) = (&footer.column_index().unwrap()[group][column], &expected.column_index().unwrap()[group][column]);
    assert_eq!(index.get_boundary_order().is_some(), other.get_boundary_order().is_some());
    if let Some(told_order) = index.get_boundary_order() {
        let expected: Vec<Bounds> = page_rows.iter().map(bounds).collect();
        assert_eq!((0..page_rows.len()).map(|page| told(index, page)).collect::<Vec<_>>(), expected);
        assert_eq!(told_order, order(&expected));
        for (number, page) in page_rows.iter().enumerate() {
            let nulls = page.null_count() as i64;
            assert_eq!((index.null_count(number), index.is_null_page(number)), (Some(nulls), nulls == page.len() as i64));
            let levels = [nulls, page.len() as i64 - nulls];
            assert!(index.definition_level_histogram(number).is_none_or(|told| told == levels));
        }
    }
    // Of nulls Parquet's own writer takes as many as come in one batch, and of a dictionary one value more or less.
    let schema = schema();
    if PLAIN.contains(&schema.field(column).name().as_str()) && !schema.field(column).is_nullable() {
        assert_eq!((index, lengths), (other, pages(expected, group, column)));
    }
}

proptest! {
    /// Scenario: batches of few and many numbers, rising or not, nulls among them, with limits that they pass. Guarantee: they read
    /// back; what is told of each column and of each page is true, and what Parquet's own writer tells.
    #[test]
    fn are_as_parquet_has_them(
        batches in proptest::collection::vec(
            (proptest::collection::vec((any::<u32>(), any::<bool>()), 1..200), 1..120u32, -3..3i64, 0..3usize),
            1..6,
        ),
        codec in 0..3usize,
    ) {
        let of = |(rows, distinct, from, nulls): &(Vec<(u32, bool)>, u32, i64, usize)| {
            let rows: Vec<_> = rows.iter().map(|(number, is_null)| (*number, [false, true, *is_null][*nulls])).collect();
            batch(&rows, *distinct, from * 100)
        };
        let batches: Vec<RecordBatch> = batches.iter().map(of).collect();
        let layout = layout(compressions()[codec]);
        let mut oracle = ArrowWriter::try_new(Vec::new(), schema(), Some(layout.clone())).unwrap();
        batches.iter().for_each(|batch| oracle.write(batch).unwrap());
        let (expected, _) = read(oracle.into_inner().unwrap().into());
        let (footer, rows) = read(file(schema(), layout, &batches));
        let rows = concat_batches(&schema(), &rows).unwrap();
        prop_assert_eq!(&rows, &concat_batches(&schema(), &batches).unwrap());
        let valued: Vec<bool> = rows.columns().iter().map(|column| column.null_count() < column.len()).collect();
        prop_assert_eq!(columns_with_values(&footer), valued);

        let lengths = |footer: &ParquetMetaData| footer.row_groups().iter().map(|group| group.num_rows()).collect::<Vec<_>>();
        prop_assert_eq!(lengths(&footer), lengths(&expected));
        let mut before = 0;
        for (group, length) in lengths(&footer).into_iter().enumerate() {
            for (column, rows) in rows.columns().iter().enumerate() {
                check(&footer, &expected, (group, column), &rows.slice(before, length as usize));
            }
            before += length as usize;
        }
    }
}
