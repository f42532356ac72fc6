//! The messages of an `ExportTraceServiceRequest`, as tables: JSON name, protobuf field number, kind.

use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

/// A message; the fields of a `one_of` exclude each other.
pub(super) struct Message {
    pub(super) fields: &'static [Field],
    pub(super) one_of: bool,
}

pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

pub(super) enum Kind {
    Text,
    /// Bytes that OTLP writes in hex, where proto3 JSON would write base64.
    Id,
    Bytes,
    Bool,
    Int32,
    Int64,
    Uint32,
    Fixed32,
    Fixed64,
    Double,
    Enum(fn(&str) -> Option<i32>),
    Message(&'static Message),
}

impl Kind {
    pub(super) fn expected(&self) -> &'static str {
        match self {
            Kind::Text => "a string",
            Kind::Id => "a string of hex digits, two a byte",
            Kind::Bytes => "a string in base64",
            Kind::Bool => "true or false",
            Kind::Int32 => "a 32-bit integer",
            Kind::Int64 => "a 64-bit integer or a string that holds one",
            Kind::Uint32 | Kind::Fixed32 => "an unsigned 32-bit integer",
            Kind::Fixed64 => "an unsigned 64-bit integer or a string that holds one",
            Kind::Double => "a 64-bit float, \"NaN\", \"Infinity\" or \"-Infinity\"",
            Kind::Enum(_) => "the number of an enum value",
            Kind::Message(_) => "an object",
        }
    }
}

/// The most fields a message has.
pub(super) const FIELDS_MAX: usize = 16;

const fn message(fields: &'static [Field]) -> Message {
    assert!(fields.len() <= FIELDS_MAX);
    Message { fields, one_of: false }
}

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind, repeated: false }
}

const fn many(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind, repeated: true }
}

pub(super) static REQUEST: Message = message(&[many("resourceSpans", 1, Kind::Message(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Message = message(&[
    one("resource", 1, Kind::Message(&RESOURCE)),
    many("scopeSpans", 2, Kind::Message(&SCOPE_SPANS)),
    one("schemaUrl", 3, Kind::Text),
]);

static RESOURCE: Message = message(&[
    many("attributes", 1, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 2, Kind::Uint32),
    many("entityRefs", 3, Kind::Message(&ENTITY_REF)),
]);

static ENTITY_REF: Message = message(&[
    one("schemaUrl", 1, Kind::Text),
    one("type", 2, Kind::Text),
    many("idKeys", 3, Kind::Text),
    many("descriptionKeys", 4, Kind::Text),
]);

static SCOPE_SPANS: Message =
    message(&[one("scope", 1, Kind::Message(&SCOPE)), many("spans", 2, Kind::Message(&SPAN)), one("schemaUrl", 3, Kind::Text)]);

static SCOPE: Message = message(&[
    one("name", 1, Kind::Text),
    one("version", 2, Kind::Text),
    many("attributes", 3, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 4, Kind::Uint32),
]);

static SPAN: Message = message(&[
    one("traceId", 1, Kind::Id),
    one("spanId", 2, Kind::Id),
    one("traceState", 3, Kind::Text),
    one("parentSpanId", 4, Kind::Id),
    one("name", 5, Kind::Text),
    one("kind", 6, Kind::Enum(|name| SpanKind::from_str_name(name).map(i32::from))),
    one("startTimeUnixNano", 7, Kind::Fixed64),
    one("endTimeUnixNano", 8, Kind::Fixed64),
    many("attributes", 9, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 10, Kind::Uint32),
    many("events", 11, Kind::Message(&EVENT)),
    one("droppedEventsCount", 12, Kind::Uint32),
    many("links", 13, Kind::Message(&LINK)),
    one("droppedLinksCount", 14, Kind::Uint32),
    one("status", 15, Kind::Message(&STATUS)),
    one("flags", 16, Kind::Fixed32),
]);

static EVENT: Message = message(&[
    one("timeUnixNano", 1, Kind::Fixed64),
    one("name", 2, Kind::Text),
    many("attributes", 3, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 4, Kind::Uint32),
]);

static LINK: Message = message(&[
    one("traceId", 1, Kind::Id),
    one("spanId", 2, Kind::Id),
    one("traceState", 3, Kind::Text),
    many("attributes", 4, Kind::Message(&KEY_VALUE)),
    one("droppedAttributesCount", 5, Kind::Uint32),
    one("flags", 6, Kind::Fixed32),
]);

static STATUS: Message =
    message(&[one("message", 2, Kind::Text), one("code", 3, Kind::Enum(|name| StatusCode::from_str_name(name).map(i32::from)))]);

static KEY_VALUE: Message =
    message(&[one("key", 1, Kind::Text), one("value", 2, Kind::Message(&ANY_VALUE)), one("keyStrindex", 3, Kind::Int32)]);

static ANY_VALUE: Message = Message {
    fields: &[
        one("stringValue", 1, Kind::Text),
        one("boolValue", 2, Kind::Bool),
        one("intValue", 3, Kind::Int64),
        one("doubleValue", 4, Kind::Double),
        one("arrayValue", 5, Kind::Message(&ARRAY_VALUE)),
        one("kvlistValue", 6, Kind::Message(&KEY_VALUE_LIST)),
        one("bytesValue", 7, Kind::Bytes),
        one("stringValueStrindex", 8, Kind::Int32),
    ],
    one_of: true,
};

static ARRAY_VALUE: Message = message(&[many("values", 1, Kind::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = message(&[many("values", 1, Kind::Message(&KEY_VALUE))]);
