use arrow::array::{
    BinaryArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, MapBuilder, StringArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use serde_json::Value;

use super::*;

fn batch() -> RecordBatch {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_value("a \"quoted\", value");
    map.append(true).unwrap();
    map.append(false).unwrap();
    let dictionary: DictionaryArray<Int32Type> = [Some("reviews"), None].into_iter().collect();
    let null_inside = DictionaryArray::new(Int32Array::from(vec![0, 1]), Arc::new(StringArray::from(vec![Some("x"), None])));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(FixedSizeBinaryArray::try_from_iter([[0xab, 0x01], [0, 0xff]].iter()).unwrap())),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x0f"), None]))),
        ("time", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_785_585_600_000_001), None]).with_timezone("UTC"))),
        ("berlin", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_785_585_600_000_000), None]).with_timezone("+02:00"))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![Some(1), None]))),
        ("big", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(9_007_199_254_740_993)]))),
        ("unsigned", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("float", Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN)]))),
        ("text", Arc::new(StringArray::from(vec![Some("a,\"b\"\nc"), Some("")]))),
        ("service", Arc::new(dictionary)),
        ("inside", Arc::new(null_inside)),
        ("map", Arc::new(map.finish())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn document(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
    let mut rows = Rows::new(format, batch().schema()).unwrap();
    let mut out = rows.begin().unwrap();
    for batch in batches {
        out.extend(rows.write(batch).unwrap());
    }
    out.extend(rows.finish().unwrap());
    out
}

#[test]
fn json_has_every_type_in_its_documented_form() {
    let text = String::from_utf8(document(Format::Json, &[batch()])).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["columns"][0], json!({"name": "id", "type": "binary"}));
    assert_eq!(value["columns"][9], json!({"name": "service", "type": "text"}));
    assert_eq!(
        value["rows"][0],
        json!([
            "ab01", "0f", "2026-08-01T12:00:00.000001Z", "2026-08-01T12:00:00.000000Z", "1970-01-01T00:00:00.000000001Z", i64::MIN, u64::MAX, 0.5, "a,\"b\"\nc", "reviews", "x",
            {"k": "a \"quoted\", value"}
        ])
    );
    assert_eq!(value["rows"][1], json!(["00ff", null, null, null, null, 9_007_199_254_740_993_i64, 0, null, "", null, null, null]));
    // 64-bit integers keep every digit: they are numbers, not floats.
    assert!(text.contains("9007199254740993"));
}

#[test]
fn batches_are_joined_into_one_document() {
    let empty = RecordBatch::new_empty(batch().schema());
    for (batches, rows) in
        [(vec![], 0), (vec![empty.clone()], 0), (vec![batch(), empty.clone(), batch()], 4), (vec![empty, batch()], 2)]
    {
        let value: Value = serde_json::from_slice(&document(Format::Json, &batches)).unwrap();
        assert_eq!(value["rows"].as_array().unwrap().len(), rows);
        assert_eq!(value["columns"].as_array().unwrap().len(), 12);
        let mut reader = arrow::csv::reader::Format::default().with_header(true);
        reader = reader.with_delimiter(b',');
        let csv = document(Format::Csv, &batches);
        let (_, lines) = reader.infer_schema(csv.as_slice(), None).unwrap();
        assert_eq!(lines, rows);
        let arrow = document(Format::Arrow, &batches);
        let read: Vec<_> =
            arrow::ipc::reader::StreamReader::try_new(arrow.as_slice(), None).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
    }
}

#[test]
fn csv_quotes_text_and_writes_nested_values_as_json() {
    let text = String::from_utf8(document(Format::Csv, &[batch()])).unwrap();
    let (header, rest) = text.split_once('\n').unwrap();
    assert_eq!(header.trim_end(), "id,bytes,time,berlin,nanos,big,unsigned,float,text,service,inside,map");
    assert!(rest.starts_with("ab01,0f,2026-08-01T12:00:00.000001Z,2026-08-01T12:00:00.000000Z,1970-01-01T00:00:00.000000001Z,-9223372036854775808,18446744073709551615,0.5,\"a,\"\"b\"\"\nc\",reviews,x,"), "{rest}");
    assert!(rest.contains(r#""{""k"":""a \""quoted\"", value""}""#), "{rest}");
    assert!(rest.contains("00ff,,,,,9007199254740993,0,NaN,,,,"), "{rest}");
}

#[test]
fn arrow_reads_back_equal() {
    let bytes = document(Format::Arrow, &[batch()]);
    let read: Vec<_> =
        arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].schema(), batch().schema());
}

#[test]
fn an_answer_without_columns_keeps_its_rows() {
    let schema = Arc::new(Schema::empty());
    let two =
        RecordBatch::try_new_with_options(schema.clone(), vec![], &arrow::array::RecordBatchOptions::new().with_row_count(Some(2)))
            .unwrap();
    let mut rows = Rows::new(Format::Json, schema).unwrap();
    let mut out = rows.begin().unwrap();
    out.extend(rows.write(&two).unwrap());
    out.extend(rows.finish().unwrap());
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), json!({"columns": [], "rows": [[], []]}));
}
