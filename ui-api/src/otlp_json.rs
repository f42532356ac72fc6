//! OTLP's JSON mapping of trace data (OTLP 1.11, "JSON Protobuf encoding"): ids in hex, enums as integers, 64-bit integers as
//! strings, bytes in base64, `NaN` and the infinities as strings.
//!
//! An own writer because the `serde` implementation of `opentelemetry-proto` writes `null` for a double that is not finite, which
//! reads back as an empty value (P5). Fields with their default value are left out, as the protobuf JSON mapping says, except
//! those by which people read a span. A message of which only the presence is known is `{}`.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The JSON document of `traces`: `{"resourceSpans":[…]}`.
pub(crate) fn to_json(traces: &TracesData) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Json(traces))
}

/// A message in OTLP's JSON mapping.
struct Json<'a, T>(&'a T);

/// A list of messages.
struct List<'a, T>(&'a [T]);

struct Hex<'a>(&'a [u8]);

struct Base64<'a>(&'a [u8]);

/// A number in quotes.
struct Quoted<T>(T);

impl<'a, T> Serialize for List<'a, T>
where
    Json<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Json))
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        serializer.serialize_str(&digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect::<String>())
    }
}

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(self.0.len().div_ceil(3) * 4);
        for group in self.0.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for at in 0..4 {
                let digit = (bits >> (18 - 6 * at) & 63) as usize;
                text.push(if at > group.len() { '=' } else { char::from(DIGITS[digit]) });
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<T: std::fmt::Display> Serialize for Quoted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Writes a field unless it has its default value.
fn field<M: SerializeMap, T: Serialize + Default + PartialEq>(map: &mut M, name: &'static str, value: &T) -> Result<(), M::Error> {
    if *value == T::default() { Ok(()) } else { map.serialize_entry(name, value) }
}

/// Writes a list of messages unless it is empty.
fn list<'a, M: SerializeMap, T>(map: &mut M, name: &'static str, values: &'a [T]) -> Result<(), M::Error>
where
    Json<'a, T>: Serialize,
{
    if values.is_empty() { Ok(()) } else { map.serialize_entry(name, &List(values)) }
}

/// Writes a message that is there.
fn message<'a, M: SerializeMap, T>(map: &mut M, name: &'static str, value: &'a Option<T>) -> Result<(), M::Error>
where
    Json<'a, T>: Serialize,
{
    value.as_ref().map_or(Ok(()), |value| map.serialize_entry(name, &Json(value)))
}

impl Serialize for Json<'_, TracesData> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("resourceSpans", &List(&self.0.resource_spans))?;
        map.end()
    }
}

impl Serialize for Json<'_, ResourceSpans> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        message(&mut map, "resource", &self.0.resource)?;
        map.serialize_entry("scopeSpans", &List(&self.0.scope_spans))?;
        field(&mut map, "schemaUrl", &self.0.schema_url)?;
        map.end()
    }
}

impl Serialize for Json<'_, Resource> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        list(&mut map, "attributes", &self.0.attributes)?;
        field(&mut map, "droppedAttributesCount", &self.0.dropped_attributes_count)?;
        list(&mut map, "entityRefs", &self.0.entity_refs)?;
        map.end()
    }
}

impl Serialize for Json<'_, EntityRef> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        field(&mut map, "schemaUrl", &self.0.schema_url)?;
        field(&mut map, "type", &self.0.r#type)?;
        field(&mut map, "idKeys", &self.0.id_keys)?;
        field(&mut map, "descriptionKeys", &self.0.description_keys)?;
        map.end()
    }
}

impl Serialize for Json<'_, ScopeSpans> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        message(&mut map, "scope", &self.0.scope)?;
        map.serialize_entry("spans", &List(&self.0.spans))?;
        field(&mut map, "schemaUrl", &self.0.schema_url)?;
        map.end()
    }
}

impl Serialize for Json<'_, InstrumentationScope> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        field(&mut map, "name", &self.0.name)?;
        field(&mut map, "version", &self.0.version)?;
        list(&mut map, "attributes", &self.0.attributes)?;
        field(&mut map, "droppedAttributesCount", &self.0.dropped_attributes_count)?;
        map.end()
    }
}

impl Serialize for Json<'_, Span> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceId", &Hex(&span.trace_id))?;
        map.serialize_entry("spanId", &Hex(&span.span_id))?;
        field(&mut map, "traceState", &span.trace_state)?;
        if !span.parent_span_id.is_empty() {
            map.serialize_entry("parentSpanId", &Hex(&span.parent_span_id))?;
        }
        field(&mut map, "flags", &span.flags)?;
        map.serialize_entry("name", &span.name)?;
        map.serialize_entry("kind", &span.kind)?;
        map.serialize_entry("startTimeUnixNano", &Quoted(span.start_time_unix_nano))?;
        map.serialize_entry("endTimeUnixNano", &Quoted(span.end_time_unix_nano))?;
        list(&mut map, "attributes", &span.attributes)?;
        field(&mut map, "droppedAttributesCount", &span.dropped_attributes_count)?;
        list(&mut map, "events", &span.events)?;
        field(&mut map, "droppedEventsCount", &span.dropped_events_count)?;
        list(&mut map, "links", &span.links)?;
        field(&mut map, "droppedLinksCount", &span.dropped_links_count)?;
        message(&mut map, "status", &span.status)?;
        map.end()
    }
}

impl Serialize for Json<'_, Event> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timeUnixNano", &Quoted(self.0.time_unix_nano))?;
        map.serialize_entry("name", &self.0.name)?;
        list(&mut map, "attributes", &self.0.attributes)?;
        field(&mut map, "droppedAttributesCount", &self.0.dropped_attributes_count)?;
        map.end()
    }
}

impl Serialize for Json<'_, Link> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceId", &Hex(&self.0.trace_id))?;
        map.serialize_entry("spanId", &Hex(&self.0.span_id))?;
        field(&mut map, "traceState", &self.0.trace_state)?;
        list(&mut map, "attributes", &self.0.attributes)?;
        field(&mut map, "droppedAttributesCount", &self.0.dropped_attributes_count)?;
        field(&mut map, "flags", &self.0.flags)?;
        map.end()
    }
}

impl Serialize for Json<'_, Status> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        field(&mut map, "message", &self.0.message)?;
        field(&mut map, "code", &self.0.code)?;
        map.end()
    }
}

impl Serialize for Json<'_, KeyValue> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &self.0.key)?;
        message(&mut map, "value", &self.0.value)?;
        field(&mut map, "keyStrindex", &self.0.key_strindex)?;
        map.end()
    }
}

/// The field `values` of `ArrayValue` and `KeyValueList`.
struct Values<'a, T>(&'a [T]);

impl<'a, T> Serialize for Values<'a, T>
where
    Json<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("values", &List(self.0))?;
        map.end()
    }
}

impl Serialize for Json<'_, AnyValue> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0.value {
            None => {}
            Some(Value::StringValue(text)) => map.serialize_entry("stringValue", text)?,
            Some(Value::BoolValue(value)) => map.serialize_entry("boolValue", value)?,
            Some(Value::IntValue(value)) => map.serialize_entry("intValue", &Quoted(value))?,
            Some(Value::DoubleValue(value)) if value.is_finite() => map.serialize_entry("doubleValue", value)?,
            Some(Value::DoubleValue(value)) => map.serialize_entry("doubleValue", not_finite(*value))?,
            Some(Value::ArrayValue(array)) => map.serialize_entry("arrayValue", &Values(&array.values))?,
            Some(Value::KvlistValue(list)) => map.serialize_entry("kvlistValue", &Values(&list.values))?,
            Some(Value::BytesValue(bytes)) => map.serialize_entry("bytesValue", &Base64(bytes))?,
            Some(Value::StringValueStrindex(index)) => map.serialize_entry("stringValueStrindex", index)?,
        }
        map.end()
    }
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};
    use serde_json::{Value as JsonValue, json};

    use super::*;

    fn json_of(value: Option<Value>) -> JsonValue {
        serde_json::to_value(Json(&AnyValue { value })).unwrap()
    }

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    #[test]
    fn every_kind_of_value_has_its_own_form() {
        let array = ArrayValue {
            values: vec![any(Value::IntValue(1)), AnyValue::default(), any(Value::ArrayValue(ArrayValue::default()))],
        };
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
            events: vec![Event {
                time_unix_nano: 5,
                name: "e".into(),
                attributes: attributes.clone(),
                dropped_attributes_count: 2,
            }],
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
        let scope =
            InstrumentationScope { name: "n".into(), version: "v".into(), attributes: Vec::new(), dropped_attributes_count: 8 };
        let scope_spans = ScopeSpans { scope: Some(scope), spans: vec![span], schema_url: "u".into() };
        TracesData {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![scope_spans],
                schema_url: "w".into(),
            }],
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
}
