//! OTLP's JSON mapping of trace data (OTLP 1.11, "JSON Protobuf encoding"): ids in hex, enums as integers, 64-bit integers as
//! strings, bytes in base64, `NaN` and the infinities as strings.
//!
//! [`ProtobufSpans`] writes protobuf's own mapping, which differs in ids and enums: Tempo's API has it.
//!
//! An own writer because the `serde` implementation of `opentelemetry-proto` writes `null` for a double that is not finite, which
//! reads back as an empty value (P5). Fields with their default value are left out, as the protobuf JSON mapping says, except
//! those by which people read a span. A message of which only the presence is known is `{}`.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Room that is made for a span beforehand: most take somewhat less.
const SPAN_BYTES: usize = 2 << 10;
/// Room that is made beforehand at most.
const ROOM_MAX: usize = 1 << 20;

/// The JSON document of `traces`: `{"resourceSpans":[…]}`.
pub(crate) fn to_json(traces: &TracesData) -> Result<Vec<u8>, serde_json::Error> {
    let scopes = traces.resource_spans.iter().flat_map(|of_resource| &of_resource.scope_spans);
    let spans: usize = scopes.map(|of_scope| of_scope.spans.len()).sum();
    let mut json = Vec::with_capacity((spans * SPAN_BYTES).min(ROOM_MAX));
    serde_json::to_writer(&mut json, &Json(traces, Form::Otlp))?;
    Ok(json)
}

/// The list of spans by their resources in protobuf's own JSON mapping.
pub(crate) struct ProtobufSpans<'a>(pub(crate) &'a [ResourceSpans]);

impl Serialize for ProtobufSpans<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        List(self.0, Form::Protobuf).serialize(serializer)
    }
}

/// A list of attributes, which are the same in both mappings; for `serialize_with`.
pub(crate) fn attributes<S: Serializer>(attributes: &[KeyValue], serializer: S) -> Result<S::Ok, S::Error> {
    List(attributes, Form::Protobuf).serialize(serializer)
}

/// Which mapping: they differ in ids and enums.
#[derive(Clone, Copy)]
enum Form {
    /// Ids in hex, enums as integers.
    Otlp,
    /// Ids in base64 as all bytes are, enums by name.
    Protobuf,
}

/// A message in a JSON mapping.
struct Json<'a, T>(&'a T, Form);

/// A list of messages.
struct List<'a, T>(&'a [T], Form);

/// An id.
struct Id<'a>(&'a [u8], Form);

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Form::Otlp => Hex(self.0).serialize(serializer),
            Form::Protobuf => Base64(self.0).serialize(serializer),
        }
    }
}

/// The value of an enum: its number and its name. A number without a name stands for itself.
struct Enum(i32, Option<&'static str>, Form);

impl Serialize for Enum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.1, self.2) {
            (Some(name), Form::Protobuf) => serializer.serialize_str(name),
            _ => serializer.serialize_i32(self.0),
        }
    }
}

struct Hex<'a>(&'a [u8]);

struct Base64<'a>(&'a [u8]);

/// A number in quotes.
struct Quoted<T>(T);

impl<'a, T> Serialize for List<'a, T>
where
    Json<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|value| Json(value, self.1)))
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
fn list<'a, M: SerializeMap, T>(map: &mut M, name: &'static str, values: &'a [T], form: Form) -> Result<(), M::Error>
where
    Json<'a, T>: Serialize,
{
    if values.is_empty() { Ok(()) } else { map.serialize_entry(name, &List(values, form)) }
}

/// Writes a message that is there.
fn message<'a, M: SerializeMap, T>(map: &mut M, name: &'static str, value: &'a Option<T>, form: Form) -> Result<(), M::Error>
where
    Json<'a, T>: Serialize,
{
    value.as_ref().map_or(Ok(()), |value| map.serialize_entry(name, &Json(value, form)))
}

impl Serialize for Json<'_, TracesData> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("resourceSpans", &List(&self.0.resource_spans, self.1))?;
        map.end()
    }
}

impl Serialize for Json<'_, ResourceSpans> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        message(&mut map, "resource", &self.0.resource, self.1)?;
        map.serialize_entry("scopeSpans", &List(&self.0.scope_spans, self.1))?;
        field(&mut map, "schemaUrl", &self.0.schema_url)?;
        map.end()
    }
}

impl Serialize for Json<'_, Resource> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        list(&mut map, "attributes", &self.0.attributes, self.1)?;
        field(&mut map, "droppedAttributesCount", &self.0.dropped_attributes_count)?;
        list(&mut map, "entityRefs", &self.0.entity_refs, self.1)?;
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
        message(&mut map, "scope", &self.0.scope, self.1)?;
        map.serialize_entry("spans", &List(&self.0.spans, self.1))?;
        field(&mut map, "schemaUrl", &self.0.schema_url)?;
        map.end()
    }
}

impl Serialize for Json<'_, InstrumentationScope> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        field(&mut map, "name", &self.0.name)?;
        field(&mut map, "version", &self.0.version)?;
        list(&mut map, "attributes", &self.0.attributes, self.1)?;
        field(&mut map, "droppedAttributesCount", &self.0.dropped_attributes_count)?;
        map.end()
    }
}

impl Serialize for Json<'_, Span> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let span = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceId", &Id(&span.trace_id, self.1))?;
        map.serialize_entry("spanId", &Id(&span.span_id, self.1))?;
        field(&mut map, "traceState", &span.trace_state)?;
        if !span.parent_span_id.is_empty() {
            map.serialize_entry("parentSpanId", &Id(&span.parent_span_id, self.1))?;
        }
        field(&mut map, "flags", &span.flags)?;
        map.serialize_entry("name", &span.name)?;
        map.serialize_entry("kind", &Enum(span.kind, SpanKind::try_from(span.kind).ok().map(|kind| kind.as_str_name()), self.1))?;
        map.serialize_entry("startTimeUnixNano", &Quoted(span.start_time_unix_nano))?;
        map.serialize_entry("endTimeUnixNano", &Quoted(span.end_time_unix_nano))?;
        list(&mut map, "attributes", &span.attributes, self.1)?;
        field(&mut map, "droppedAttributesCount", &span.dropped_attributes_count)?;
        list(&mut map, "events", &span.events, self.1)?;
        field(&mut map, "droppedEventsCount", &span.dropped_events_count)?;
        list(&mut map, "links", &span.links, self.1)?;
        field(&mut map, "droppedLinksCount", &span.dropped_links_count)?;
        message(&mut map, "status", &span.status, self.1)?;
        map.end()
    }
}

impl Serialize for Json<'_, Event> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("timeUnixNano", &Quoted(self.0.time_unix_nano))?;
        map.serialize_entry("name", &self.0.name)?;
        list(&mut map, "attributes", &self.0.attributes, self.1)?;
        field(&mut map, "droppedAttributesCount", &self.0.dropped_attributes_count)?;
        map.end()
    }
}

impl Serialize for Json<'_, Link> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("traceId", &Id(&self.0.trace_id, self.1))?;
        map.serialize_entry("spanId", &Id(&self.0.span_id, self.1))?;
        field(&mut map, "traceState", &self.0.trace_state)?;
        list(&mut map, "attributes", &self.0.attributes, self.1)?;
        field(&mut map, "droppedAttributesCount", &self.0.dropped_attributes_count)?;
        field(&mut map, "flags", &self.0.flags)?;
        map.end()
    }
}

impl Serialize for Json<'_, Status> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        field(&mut map, "message", &self.0.message)?;
        if self.0.code != 0 {
            let name = StatusCode::try_from(self.0.code).ok().map(|code| code.as_str_name());
            map.serialize_entry("code", &Enum(self.0.code, name, self.1))?;
        }
        map.end()
    }
}

impl Serialize for Json<'_, KeyValue> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &self.0.key)?;
        message(&mut map, "value", &self.0.value, self.1)?;
        field(&mut map, "keyStrindex", &self.0.key_strindex)?;
        map.end()
    }
}

/// The field `values` of `ArrayValue` and `KeyValueList`.
struct Values<'a, T>(&'a [T], Form);

impl<'a, T> Serialize for Values<'a, T>
where
    Json<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("values", &List(self.0, self.1))?;
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
            Some(Value::DoubleValue(value)) => map.serialize_entry("doubleValue", &Double(*value))?,
            Some(Value::ArrayValue(array)) => map.serialize_entry("arrayValue", &Values(&array.values, self.1))?,
            Some(Value::KvlistValue(list)) => map.serialize_entry("kvlistValue", &Values(&list.values, self.1))?,
            Some(Value::BytesValue(bytes)) => map.serialize_entry("bytesValue", &Base64(bytes))?,
            Some(Value::StringValueStrindex(index)) => map.serialize_entry("stringValueStrindex", index)?,
        }
        map.end()
    }
}

struct Double(f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        double(&self.0, serializer)
    }
}

/// A number, which JSON may have to write as a text; for `serialize_with`.
pub(crate) fn double<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        value if value.is_finite() => serializer.serialize_f64(*value),
        value if value.is_nan() => serializer.serialize_str("NaN"),
        value if *value > 0.0 => serializer.serialize_str("Infinity"),
        _ => serializer.serialize_str("-Infinity"),
    }
}

#[cfg(test)]
mod tests;
