//! Files of random texts.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;

use super::super::{Encoder, Texts, columns_with_values};
use super::{compressions, file, read};
use crate::schema::text_type;

/// Rows of a page, rows of a row group, bytes of a dictionary, bytes of a page.
const LIMITS: (usize, usize, usize, usize) = (50, 170, 400, 300);

/// Columns of texts, which come first.
const TEXTS: usize = 4;

fn layout(compression: Compression) -> WriterProperties {
    let (page, group, dictionary, bytes) = LIMITS;
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_row_count_limit(page)
        .set_data_page_size_limit(bytes)
        .set_dictionary_page_size_limit(dictionary)
        .set_max_row_group_row_count(Some(group))
        .set_column_dictionary_enabled(ColumnPath::from("plain"), false)
        .build()
}

fn schema() -> SchemaRef {
    let field = |name: &str, nullable| Field::new(name, text_type(), nullable);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let texts = [field("some", true), field("all", false), field("none", true), field("plain", true)];
    Arc::new(Schema::new([&texts[..], &[number("number"), number("no_number")]].concat()))
}

/// Rows whose texts are numbers below `distinct`, over a dictionary that has values which no row has, and null where told.
fn batch(rows: &[(u32, bool)], distinct: u32) -> RecordBatch {
    let values: ArrayRef = Arc::new(StringArray::from_iter_values((0..distinct.max(1)).map(|number| format!("text {number}"))));
    let keys = |null: &dyn Fn(bool) -> bool| {
        rows.iter().map(|(number, is_null)| (!null(*is_null)).then_some((number % distinct.max(1)) as i32)).collect::<Int32Array>()
    };
    let column = |null: &dyn Fn(bool) -> bool| Arc::new(DictionaryArray::new(keys(null), values.clone())) as ArrayRef;
    let mut columns = vec![column(&|null| null), column(&|_| false), column(&|_| true), column(&|null| null)];
    columns.push(Arc::new(rows.iter().map(|(number, is_null)| (!is_null).then_some(i64::from(*number))).collect::<Int64Array>()));
    columns.push(new_null_array(&DataType::Int64, rows.len()));
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// A column of all batches, as text.
fn texts(batches: &[RecordBatch], column: usize) -> Vec<Option<String>> {
    let of = |batch: &RecordBatch| {
        let text = cast(batch.column(column), &DataType::Utf8).unwrap();
        text.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(of).collect()
}

proptest! {
    /// Scenario: batches of texts over dictionaries of few and many values, nulls among them, with limits that they pass.
    /// Guarantee: they read back; no page of texts and no row group has more rows than it may; columns without a value are told.
    #[test]
    fn reads_back(
        batches in proptest::collection::vec((proptest::collection::vec((any::<u32>(), any::<bool>()), 1..200), 1..120u32), 0..6),
        codec in 0..3usize,
    ) {
        let batches: Vec<_> = batches.iter().map(|(rows, distinct)| batch(rows, *distinct)).collect();
        let (footer, read) = read(file(schema(), layout(compressions()[codec]), &batches));
        prop_assert!(footer.row_groups().iter().all(|group| group.num_rows() <= LIMITS.1 as i64));
        let mut before = 0;
        for (group, pages) in footer.row_groups().iter().zip(footer.offset_index().into_iter().flatten()) {
            // Of texts: Parquet's own writer looks at rows a thousand at a time.
            for (column, pages) in pages.iter().enumerate().take(TEXTS) {
                let texts = texts(&read, column);
                let firsts = pages.page_locations.iter().map(|page| page.first_row_index).chain([group.num_rows()]);
                for rows in firsts.collect::<Vec<i64>>().windows(2) {
                    let is_null = texts[before + rows[0] as usize..before + rows[1] as usize].iter().all(Option::is_none);
                    prop_assert!(is_null || rows[1] - rows[0] <= LIMITS.0 as i64);
                }
            }
            before += group.num_rows() as usize;
        }
        let valued = columns_with_values(&footer);
        for (column, valued) in valued.into_iter().enumerate() {
            let texts_read = texts(&read, column);
            prop_assert_eq!(&texts_read, &texts(&batches, column));
            prop_assert_eq!(valued, texts_read.iter().any(Option::is_some));
        }
    }
}

/// Scenario: rows over a dictionary of distinct texts, and more over others that share some with it. Guarantee: they read back, and each
/// text is in the dictionary once.
#[test]
fn texts_are_looked_up_once() {
    let dictionaries = [["a", "b", "c"], ["c", "d", "a"], ["d", "e", "b"]];
    let schema = Arc::new(Schema::new(vec![Field::new("text", text_type(), true)]));
    let (mut file, encoder) = Encoder::begin(
        Vec::new(),
        schema,
        WriterProperties::builder()
            .set_statistics_enabled(EnabledStatistics::None)
            .set_compression(Compression::UNCOMPRESSED)
            .build(),
    )
    .unwrap();
    let mut column = encoder.columns(&file).unwrap().remove(0);
    for values in dictionaries {
        let values: ArrayRef = Arc::new(StringArray::from_iter_values(values));
        column.write_texts(Texts { keys: Int32Array::from(vec![Some(2), None, Some(0), Some(2)]), values }).unwrap();
    }
    let mut group = file.next_row_group().unwrap();
    column.append_to(&mut group).unwrap();
    group.close().unwrap();
    let (footer, read) = read(file.into_inner().unwrap().into());
    let expected = dictionaries.iter().flat_map(|[first, _, last]| [Some(*last), None, Some(*first), Some(*last)]);
    assert_eq!(texts(&read, 0), expected.map(|text| text.map(str::to_owned)).collect::<Vec<_>>());
    let chunk = footer.row_group(0).column(0);
    let dictionary = chunk.data_page_offset() - chunk.dictionary_page_offset().unwrap();
    assert!(dictionary < 4 * 5 + 20, "{dictionary}");
}
