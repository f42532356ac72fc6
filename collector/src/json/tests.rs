use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use super::*;

pub(super) fn read(json: &str) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(&*to_protobuf(json.as_bytes()).unwrap()).unwrap()
}

fn in_span(fields: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#)
}

fn span(fields: &str) -> Span {
    read(&in_span(fields)).resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

fn value(json: &str) -> Option<Any> {
    span(&format!(r#""attributes":[{{"key":"k","value":{json}}}]"#)).attributes.remove(0).value.and_then(|value| value.value)
}

fn error(json: &str) -> String {
    to_protobuf(json.as_bytes()).unwrap_err().to_string()
}

fn attribute(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Any::StringValue(text.into())) });
    KeyValue { key: key.into(), value, key_strindex: 0 }
}

// Scenario: the canonical example of the OTLP project. Guarantee: every field of it is read.
#[test]
fn canonical_example() {
    let expected = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![attribute("service.name", "my.service")], ..Default::default() }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "my.library".into(),
                    version: "1.0.0".into(),
                    attributes: vec![attribute("my.scope.attribute", "some scope attribute")],
                    dropped_attributes_count: 0,
                }),
                spans: vec![Span {
                    trace_id: 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes().into(),
                    span_id: 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes().into(),
                    parent_span_id: 0xeee1_9b7e_c3c1_b173_u64.to_be_bytes().into(),
                    name: "I'm a server span".into(),
                    kind: SpanKind::Server.into(),
                    start_time_unix_nano: 1_544_712_660_000_000_000,
                    end_time_unix_nano: 1_544_712_661_000_000_000,
                    attributes: vec![attribute("my.span.attr", "some value")],
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    assert_eq!(read(include_str!("../../../tests/data/otlp-examples/trace.json")), expected);
}

// Scenario: integers in every way that JSON has for them. Guarantee: exact, at both ends of 64 bits too.
#[test]
fn integers() {
    for (json, expected) in [
        ("7", 7),
        (r#""7""#, 7),
        ("7.0", 7),
        ("0.7e1", 7),
        (r#""7e0""#, 7),
        ("700E-2", 7),
        ("-1e3", -1000),
        ("9223372036854775807", i64::MAX),
        (r#""-9223372036854775808""#, i64::MIN),
        ("1544712660000000001.0", 1_544_712_660_000_000_001),
    ] {
        assert_eq!(value(&format!(r#"{{"intValue":{json}}}"#)), Some(Any::IntValue(expected)), "{json}");
    }
    assert_eq!(span(r#""startTimeUnixNano":18446744073709551615,"flags":"4294967295""#).start_time_unix_nano, u64::MAX);
    for json in ["9223372036854775808", "1.5", r#""""#, r#"" 7""#, r#""0x7""#, "true", "[7]", "1e400", r#""1e""#] {
        assert!(
            to_protobuf(in_span(&format!(r#""attributes":[{{"value":{{"intValue":{json}}}}}]"#)).as_bytes()).is_err(),
            "{json}"
        );
    }
    assert!(error(&in_span(r#""endTimeUnixNano":-1"#)).contains("endTimeUnixNano: expected an unsigned 64-bit integer"));
    assert!(error(&in_span(r#""flags":4294967296"#)).contains("expected an unsigned 32-bit integer"));
}

// Scenario: doubles in every way. Guarantee: the nearest float, the sign of zero and the three names; no number past the range.
#[test]
fn doubles() {
    let double = |json: &str| match value(&format!(r#"{{"doubleValue":{json}}}"#)) {
        Some(Any::DoubleValue(double)) => double,
        other => panic!("{other:?}"),
    };
    assert!(double(r#""NaN""#).is_nan());
    assert_eq!(double(r#""-Infinity""#), f64::NEG_INFINITY);
    assert_eq!(double(r#""Infinity""#), f64::INFINITY);
    assert_eq!(double(r#""0.1""#), 0.1);
    assert_eq!(double("5"), 5.0);
    assert_eq!(double("-0").to_bits(), (-0.0_f64).to_bits());
    assert_eq!(double("2.2250738585072011e-308"), 2.225_073_858_507_201e-308);
    for json in ["1e400", r#""nan""#, r#""inf""#, r#""""#, "true"] {
        assert!(
            to_protobuf(in_span(&format!(r#""attributes":[{{"value":{{"doubleValue":{json}}}}}]"#)).as_bytes()).is_err(),
            "{json}"
        );
    }
}

// Scenario: enums as numbers, as numbers in strings, by name; numbers that have no name yet. Guarantee: all are kept.
#[test]
fn enums() {
    for (json, expected) in [("3", 3), (r#""3""#, 3), (r#""SPAN_KIND_CLIENT""#, 3), ("77", 77), ("-1", -1), ("null", 0)] {
        assert_eq!(span(&format!(r#""kind":{json}"#)).kind, expected, "{json}");
    }
    assert_eq!(span(r#""status":{"code":"STATUS_CODE_ERROR"}"#).status.unwrap().code(), StatusCode::Error);
    assert!(error(&in_span(r#""kind":"CLIENT""#)).contains(r#"expected the number of an enum value, found "CLIENT""#));
}

// Scenario: ids in both cases and of wrong lengths. Guarantee: read as they are; only what is not hex is an error.
#[test]
fn ids() {
    assert_eq!(span(r#""traceId":"aBcD""#).trace_id, [0xab, 0xcd]);
    assert_eq!(span(r#""traceId":"","spanId":null"#).trace_id, [0; 0]);
    for json in [r#""abc""#, r#""xy""#, r#""+1""#, "12", r#""é""#] {
        assert!(error(&in_span(&format!(r#""parentSpanId":{json}"#))).contains("parentSpanId: expected a string of hex digits"));
    }
}

// Scenario: base64 of both alphabets, padded or not. Guarantee: the same bytes.
#[test]
fn bytes() {
    for json in ["-_8=", "-_8", "+/8=", "+/8"] {
        assert_eq!(value(&format!(r#"{{"bytesValue":"{json}"}}"#)), Some(Any::BytesValue(vec![0xfb, 0xff])));
    }
    assert_eq!(value(r#"{"bytesValue":""}"#), Some(Any::BytesValue(vec![])));
    assert!(error(&in_span(r#""attributes":[{"value":{"bytesValue":"+_"}}]"#)).contains("expected a string in base64"));
}

// Scenario: escapes of every sort, half a surrogate pair among them. Guarantee: unescaped; the half pair costs no span.
#[test]
fn strings() {
    assert_eq!(span(r#""name":"a\"\\\n\u00e9\ud83d\ude00é""#).name, "a\"\\\né😀é");
    assert!(span(r#""name":"cut \ud83d""#).name.starts_with("cut \u{fffd}"));
    assert_eq!(span(r#""\u006eame":"key""#).name, "key");
    assert!(error(&in_span(r#""name":7"#)).contains("name: expected a string, found 7"));
    assert!(to_protobuf(b"{\"resourceSpans\":[{\"schemaUrl\":\"\xff\"}]}").is_err());
}

// Scenario: nulls, unknown fields, snake_case, fields given twice. Guarantee: absent, passed over, passed over, the last counts.
#[test]
fn lenient_fields() {
    assert_eq!(read("{}"), ExportTraceServiceRequest::default());
    assert_eq!(read(r#"{"resourceSpans":null,"more":[{"a":1e999}]}"#), ExportTraceServiceRequest::default());
    assert_eq!(span(r#""start_time_unix_nano":7,"status":null,"attributes":null,"name":null"#), Span::default());
    assert_eq!(
        value(r#"{"arrayValue":{"values":[null,{}]}}"#),
        Some(Any::ArrayValue(ArrayValue { values: vec![AnyValue::default(); 2] }))
    );
    let twice = r#""events":[{"name":"a"},{"name":"b"}],"name":"a","links":[{"flags":1}],"name":"b","events":[{"name":"c"}],
        "links":[],"status":{"message":"a"},"name":null,"status":{"code":1}"#;
    let expected = Span {
        name: "b".into(),
        events: vec![Event { name: "c".into(), ..Default::default() }],
        status: Some(Status { code: 1, ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(span(twice), expected);
    let of_two = r#"{"arrayValue":{"values":[{}]},"stringValue":"a","intValue":null}"#;
    assert_eq!(value(of_two), Some(Any::StringValue("a".into())));
    assert_eq!(value("{}"), None);
}

// Scenario: wrong types and broken JSON. Guarantee: the message says where, what was expected and what was found, and is short.
#[test]
fn errors_name_the_place() {
    let json = r#"{"resourceSpans":[{"scopeSpans":[{},{"spans":[{},{},{"startTimeUnixNano":"soon"}]}]}]}"#;
    assert_eq!(
        error(json),
        "cannot read the OTLP/JSON request: resourceSpans[0].scopeSpans[1].spans[2].startTimeUnixNano: \
         expected an unsigned 64-bit integer or a string that holds one, found \"soon\" at line 1 column 80"
    );
    for (json, expected) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{} {}", "trailing characters at line 1 column 4"),
        ("[]", "the request: expected an object, found an array"),
        ("null", "the request: expected an object, found null"),
        (r#"{"resourceSpans":{}}"#, "resourceSpans: expected an array, found an object"),
        (r#"{"resourceSpans":[7]}"#, "resourceSpans[0]: expected an object, found a number"),
        (r#"{"resourceSpans":[{"resource":[]}]}"#, "resourceSpans[0].resource: expected an object, found an array"),
        (
            r#"{"resourceSpans":[{"resource":{"entityRefs":[{"idKeys":["a",{}]}]}}]}"#,
            "entityRefs[0].idKeys[1]: expected a string, found {}",
        ),
        (r#"{"resourceSpans":[{"schemaUrl":"a"#, "EOF while parsing a string"),
    ] {
        assert!(error(json).contains(expected), "{json}: {}", error(json));
    }
    let long = "é".repeat(10_000);
    assert!(error(&in_span(&format!(r#""traceId":"{long}""#))).len() < 1000);
}

// Scenario: the deepest nesting allowed, of lists and of maps, and one level more. Guarantee: prost reads the first; the second
// is refused by name, and so is any depth of brackets.
#[test]
fn nesting_is_bounded() {
    let in_attribute = |value: &str| in_span(&format!(r#""events":[{{"attributes":[{{"value":{value}}}]}}]"#));
    let nested =
        |levels: usize, open: &str, close: &str| in_attribute(&[&open.repeat(levels), "{}", &close.repeat(levels)].concat());
    let lists = |levels| nested(levels, r#"{"arrayValue":{"values":["#, "]}}");
    let maps = |levels| nested(levels, r#"{"kvlistValue":{"values":[{"value":"#, "}]}}");
    // The request, resource spans, scope spans, span, event, attribute and its value are 7.
    let allowed = DEPTH_MAX as usize - 7;
    read(&lists(allowed / 2));
    read(&maps(allowed / 3));
    for json in [lists(allowed / 2 + 1), maps(allowed / 3 + 1), lists(100_000), maps(100_000)] {
        assert!(error(&json).contains("expected at most 80 messages in each other, found one more"));
        assert!(error(&json).len() < 1000);
    }
    let unknown = ["{\"unknown\":", &"[".repeat(100_000), &"]".repeat(100_000), "}"].concat();
    assert_eq!(read(&unknown), ExportTraceServiceRequest::default());
}

// Scenario: the smallest values, by the hundred thousand. Guarantee: the output is no larger than the input.
#[test]
fn output_is_in_proportion() {
    for item in ["{}", "null"] {
        let json = in_span(&format!(r#""events":[{}]"#, vec![item; 100_000].join(",")));
        assert!(to_protobuf(json.as_bytes()).unwrap().len() < json.len());
    }
}
