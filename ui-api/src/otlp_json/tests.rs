use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
use serde_json::{Value as JsonValue, json};

use super::*;

fn json_of(value: Option<Value>) -> JsonValue {
    serde_json::to_value(Json(&AnyValue { value }, Form::Otlp)).unwrap()
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

#[test]
fn every_kind_of_value_has_its_own_form() {
    let array =
        ArrayValue { values: vec![any(Value::IntValue(1)), AnyValue::default(), any(Value::ArrayValue(ArrayValue::default()))] };
    let list = KeyValueList {
        values: vec![
            KeyValue { key: "k".into(), value: Some(any(Value::BoolValue(false))), key_strindex: 0 },
            KeyValue { key: "none".into(), ..Default::default() },
        ],
    };
    for (value, expected) in [
        (None, json!({})),
        (Some(Value::StringValue("é\n".into())), json!({"stringValue": "é\n"})),
        (Some(Value::StringValue(String::new())), json!({"stringValue": ""})),
        (Some(Value::BoolValue(true)), json!({"boolValue": true})),
        (Some(Value::IntValue(i64::MIN)), json!({"intValue": "-9223372036854775808"})),
        (Some(Value::IntValue(0)), json!({"intValue": "0"})),
        (Some(Value::DoubleValue(1.5)), json!({"doubleValue": 1.5})),
        (Some(Value::DoubleValue(0.0)), json!({"doubleValue": 0.0})),
        (Some(Value::DoubleValue(f64::NAN)), json!({"doubleValue": "NaN"})),
        (Some(Value::DoubleValue(f64::INFINITY)), json!({"doubleValue": "Infinity"})),
        (Some(Value::DoubleValue(f64::NEG_INFINITY)), json!({"doubleValue": "-Infinity"})),
        (
            Some(Value::ArrayValue(array)),
            json!({"arrayValue": {"values": [{"intValue": "1"}, {}, {"arrayValue": {"values": []}}]}}),
        ),
        (
            Some(Value::KvlistValue(list)),
            json!({"kvlistValue": {"values": [{"key": "k", "value": {"boolValue": false}}, {"key": "none"}]}}),
        ),
        (Some(Value::BytesValue(vec![])), json!({"bytesValue": ""})),
        (Some(Value::BytesValue(vec![0xff])), json!({"bytesValue": "/w=="})),
        (Some(Value::BytesValue(vec![0xfb, 0xef])), json!({"bytesValue": "++8="})),
        (Some(Value::BytesValue(b"Meshlake".to_vec())), json!({"bytesValue": "TWVzaGxha2U="})),
    ] {
        assert_eq!(json_of(value.clone()), expected, "{value:?}");
    }
}

fn full_span() -> Span {
    let attributes = vec![KeyValue { key: "a".into(), value: Some(any(Value::BytesValue(vec![1, 2, 3]))), key_strindex: 0 }];
    Span {
        trace_id: (0..16).collect(),
        span_id: vec![0xab; 8],
        trace_state: "ot=th:8".into(),
        parent_span_id: vec![0xcd; 8],
        flags: 0x301,
        name: "GET /".into(),
        kind: 2,
        start_time_unix_nano: u64::MAX,
        end_time_unix_nano: 1,
        attributes: attributes.clone(),
        dropped_attributes_count: 1,
        events: vec![Event { time_unix_nano: 5, name: "e".into(), attributes: attributes.clone(), dropped_attributes_count: 2 }],
        dropped_events_count: 3,
        links: vec![Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            trace_state: "x=y".into(),
            attributes,
            dropped_attributes_count: 4,
            flags: 5,
        }],
        dropped_links_count: 6,
        status: Some(Status { message: "broken".into(), code: 2 }),
    }
}

fn traces(span: Span) -> TracesData {
    let entity = EntityRef {
        schema_url: "s".into(),
        r#type: "service".into(),
        id_keys: vec!["service.name".into()],
        description_keys: vec!["d".into()],
    };
    let resource = Resource { attributes: Vec::new(), dropped_attributes_count: 9, entity_refs: vec![entity] };
    let scope = InstrumentationScope { name: "n".into(), version: "v".into(), attributes: Vec::new(), dropped_attributes_count: 8 };
    let scope_spans = ScopeSpans { scope: Some(scope), spans: vec![span], schema_url: "u".into() };
    TracesData {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], schema_url: "w".into() }],
    }
}

/// Scenario: every field is set. Guarantee: a reader that follows the specification gets the same message (P5).
#[test]
fn a_full_span_reads_back_equal() {
    for data in [
        traces(full_span()),
        traces(Span { trace_id: vec![7; 16], span_id: vec![8; 8], ..Default::default() }),
        TracesData::default(),
    ] {
        let read: TracesData = serde_json::from_slice(&to_json(&data).unwrap()).unwrap();
        assert_eq!(read, data);
    }
}

#[test]
fn ids_are_hex_enums_integers_and_times_strings() {
    let document: JsonValue = serde_json::from_slice(&to_json(&traces(full_span())).unwrap()).unwrap();
    let span = &document["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    assert_eq!(span["traceId"], "000102030405060708090a0b0c0d0e0f");
    assert_eq!(span["parentSpanId"], "cdcdcdcdcdcdcdcd");
    assert_eq!(span["kind"], 2);
    assert_eq!(span["status"], json!({"message": "broken", "code": 2}));
    assert_eq!(span["startTimeUnixNano"], "18446744073709551615");
    assert_eq!(span["flags"], 0x301);
    assert_eq!(span["links"][0]["spanId"], "0202020202020202");
    assert_eq!(document["resourceSpans"][0]["resource"]["entityRefs"][0]["idKeys"], json!(["service.name"]));
}

#[test]
fn empty_fields_are_left_out() {
    let document: JsonValue = serde_json::from_slice(
        &to_json(&TracesData {
            resource_spans: vec![ResourceSpans {
                resource: None,
                scope_spans: vec![ScopeSpans { scope: None, spans: vec![Span::default()], schema_url: String::new() }],
                schema_url: String::new(),
            }],
        })
        .unwrap(),
    )
    .unwrap();
    assert_eq!(
        document,
        json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "", "spanId": "", "name": "", "kind": 0, "startTimeUnixNano": "0", "endTimeUnixNano": "0"}]}]}]})
    );
}

/// Scenario: the same span in protobuf's own mapping. Guarantee: ids are base64, enums names, and all else is as before.
#[test]
fn protobuf_has_ids_in_base64_and_enums_by_name() {
    let data = traces(full_span());
    let mut document = serde_json::to_value(ProtobufSpans(&data.resource_spans)).unwrap();
    let span = document.pointer_mut("/0/scopeSpans/0/spans/0").unwrap();
    assert_eq!(span["traceId"], "AAECAwQFBgcICQoLDA0ODw==");
    assert_eq!((&span["spanId"], &span["parentSpanId"]), (&json!("q6urq6urq6s="), &json!("zc3Nzc3Nzc0=")));
    assert_eq!(
        (&span["kind"], &span["status"]),
        (&json!("SPAN_KIND_SERVER"), &json!({"message": "broken", "code": "STATUS_CODE_ERROR"}))
    );
    assert_eq!(span["links"][0]["spanId"], "AgICAgICAgI=");
    let mut of_otlp: JsonValue = serde_json::from_slice(&to_json(&data).unwrap()).unwrap();
    let other = of_otlp.pointer_mut("/resourceSpans/0/scopeSpans/0/spans/0").unwrap();
    for key in ["traceId", "spanId", "parentSpanId", "kind", "status", "links"] {
        span[key] = JsonValue::Null;
        other[key] = JsonValue::Null;
    }
    assert_eq!(document, of_otlp["resourceSpans"]);
    // A kind that has no name is its number; a status that is not set has no code.
    let odd = traces(Span { kind: 77, status: Some(Status::default()), ..Default::default() });
    let odd = serde_json::to_value(ProtobufSpans(&odd.resource_spans)).unwrap();
    assert_eq!(
        (&odd[0]["scopeSpans"][0]["spans"][0]["kind"], &odd[0]["scopeSpans"][0]["spans"][0]["status"]),
        (&json!(77), &json!({}))
    );
}
