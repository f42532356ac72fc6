use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Map, Value as Json, json};

use super::tests::read;
use super::*;

// Scenario: arbitrary requests in OTLP/JSON, with the freedoms that writers have. Guarantee: what is read is what was written.
#[test]
fn any_request_reads_back() {
    proptest!(|(request in request(), freedom in any::<u64>())| {
        let json = Writer(freedom).request(&request).to_string();
        prop_assert_eq!(read(&json), request);
    });
}

// Scenario: arbitrary bytes, and valid requests with some bytes changed. Guarantee: no panic, and what is written is protobuf.
#[test]
fn no_bytes_panic() {
    let check = |json: &[u8]| {
        if let Ok(protobuf) = to_protobuf(json) {
            ExportTraceServiceRequest::decode(&*protobuf).unwrap();
        }
    };
    proptest!(|(noise in vec(any::<u8>(), 0..64), request in request(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4))| {
        check(&noise);
        let mut json = Writer(0).request(&request).to_string().into_bytes();
        for (index, byte) in changes {
            let index = index.index(json.len());
            json[index] = byte;
        }
        check(&json);
    });
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        any::<String>().prop_map(|text| Some(Any::StringValue(text))),
        any::<bool>().prop_map(|value| Some(Any::BoolValue(value))),
        any::<i64>().prop_map(|value| Some(Any::IntValue(value))),
        prop_oneof![any::<f64>(), Just(f64::INFINITY), Just(-0.0)].prop_map(|value| Some(Any::DoubleValue(value))),
        vec(any::<u8>(), 0..9).prop_map(|value| Some(Any::BytesValue(value))),
        Just(None),
    ];
    let leaf = leaf.prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 12, 3, |inner| {
        let entry =
            (".{0,3}", proptest::option::of(inner.clone())).prop_map(|(key, value)| KeyValue { key, value, key_strindex: 0 });
        let nested = prop_oneof![
            vec(inner, 0..3).prop_map(|values| Any::ArrayValue(ArrayValue { values })),
            vec(entry, 0..3).prop_map(|values| Any::KvlistValue(KeyValueList { values })),
        ];
        nested.prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let attribute = (any::<String>(), proptest::option::of(any_value()));
    vec(attribute.prop_map(|(key, value)| KeyValue { key, value, key_strindex: 0 }), 0..3)
}

fn id() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..17)
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), any::<String>(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (id(), id(), any::<String>(), attributes(), any::<u32>(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn any_span() -> impl Strategy<Value = Span> {
    let status = (any::<String>(), 0..4_i32).prop_map(|(message, code)| Status { message, code });
    let ids = (id(), id(), id(), any::<String>(), any::<String>());
    let numbers = (any::<i32>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<[u32; 3]>());
    let parts = (attributes(), vec(event(), 0..3), vec(link(), 0..3), proptest::option::of(status));
    (ids, numbers, parts).prop_map(|(ids, numbers, (attributes, events, links, status))| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: ids.3,
        name: ids.4,
        kind: numbers.0,
        start_time_unix_nano: numbers.1,
        end_time_unix_nano: numbers.2,
        flags: numbers.3,
        dropped_attributes_count: numbers.4[0],
        dropped_events_count: numbers.4[1],
        dropped_links_count: numbers.4[2],
        attributes,
        events,
        links,
        status,
    })
}

fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope = (any::<String>(), any::<String>(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    let scope_spans = (proptest::option::of(scope), vec(any_span(), 0..3), any::<String>())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    let entity = (any::<String>(), any::<String>(), any::<Vec<String>>(), any::<Vec<String>>())
        .prop_map(|(schema_url, r#type, id_keys, description_keys)| EntityRef { schema_url, r#type, id_keys, description_keys });
    let resource =
        (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(|(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        });
    let resource_spans = (proptest::option::of(resource), vec(scope_spans, 0..3), any::<String>())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// Writes OTLP/JSON; the bits say which freedoms it takes.
struct Writer(u64);

impl Writer {
    fn takes(&self, freedom: u32) -> bool {
        self.0 >> freedom & 1 == 1
    }

    fn object<const N: usize>(&self, fields: [(&str, Json); N]) -> Json {
        let mut map = Map::new();
        if self.takes(0) {
            map.insert("aFutureField".into(), json!([{ "name": 7 }, null]));
        }
        for (name, value) in fields {
            let is_default = [json!(""), json!(0), json!([])].contains(&value);
            let left_out = self.takes(1) && is_default || self.takes(2) && value.is_null();
            if !left_out {
                map.insert(name.into(), value);
            }
        }
        Json::Object(map)
    }

    fn int<T: serde::Serialize + ToString>(&self, value: T) -> Json {
        if self.takes(3) { json!(value) } else { json!(value.to_string()) }
    }

    fn id(&self, bytes: &[u8]) -> Json {
        let lower: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        json!(if self.takes(4) { lower.to_uppercase() } else { lower })
    }

    fn bytes(&self, bytes: &[u8]) -> Json {
        let engine = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD][(self.0 >> 5 & 3) as usize].clone();
        json!(engine.encode(bytes))
    }

    fn double(&self, value: f64) -> Json {
        match value {
            _ if value.is_nan() => json!("NaN"),
            f64::INFINITY => json!("Infinity"),
            f64::NEG_INFINITY => json!("-Infinity"),
            _ if self.takes(7) => json!(value.to_string()),
            _ => json!(value),
        }
    }

    fn any(&self, value: &AnyValue) -> Json {
        match &value.value {
            None => self.object([]),
            Some(Any::StringValue(text)) => json!({ "stringValue": text }),
            Some(Any::BoolValue(value)) => json!({ "boolValue": value }),
            Some(Any::IntValue(value)) => json!({ "intValue": self.int(value) }),
            Some(Any::DoubleValue(value)) => json!({ "doubleValue": self.double(*value) }),
            Some(Any::BytesValue(value)) => json!({ "bytesValue": self.bytes(value) }),
            Some(Any::ArrayValue(list)) => {
                json!({ "arrayValue": self.object([("values", list.values.iter().map(|value| self.any(value)).collect())]) })
            }
            Some(Any::KvlistValue(list)) => json!({ "kvlistValue": self.object([("values", self.attributes(&list.values))]) }),
            Some(Any::StringValueStrindex(_)) => unreachable!("not in traces"),
        }
    }

    fn attributes(&self, attributes: &[KeyValue]) -> Json {
        let attribute = |attribute: &KeyValue| {
            let value = attribute.value.as_ref().map_or(Json::Null, |value| self.any(value));
            self.object([("key", json!(attribute.key)), ("value", value)])
        };
        attributes.iter().map(attribute).collect()
    }

    fn event(&self, event: &Event) -> Json {
        self.object([
            ("timeUnixNano", self.int(event.time_unix_nano)),
            ("name", json!(event.name)),
            ("attributes", self.attributes(&event.attributes)),
            ("droppedAttributesCount", json!(event.dropped_attributes_count)),
        ])
    }

    fn link(&self, link: &Link) -> Json {
        self.object([
            ("traceId", self.id(&link.trace_id)),
            ("spanId", self.id(&link.span_id)),
            ("traceState", json!(link.trace_state)),
            ("attributes", self.attributes(&link.attributes)),
            ("droppedAttributesCount", self.int(link.dropped_attributes_count)),
            ("flags", json!(link.flags)),
        ])
    }

    fn span(&self, span: &Span) -> Json {
        let status = span
            .status
            .as_ref()
            .map_or(Json::Null, |status| self.object([("message", json!(status.message)), ("code", json!(status.code))]));
        let kind = match SpanKind::try_from(span.kind) {
            Ok(kind) if self.takes(8) => json!(kind.as_str_name()),
            _ => json!(span.kind),
        };
        self.object([
            ("traceId", self.id(&span.trace_id)),
            ("spanId", self.id(&span.span_id)),
            ("parentSpanId", self.id(&span.parent_span_id)),
            ("traceState", json!(span.trace_state)),
            ("flags", json!(span.flags)),
            ("name", json!(span.name)),
            ("kind", kind),
            ("startTimeUnixNano", self.int(span.start_time_unix_nano)),
            ("endTimeUnixNano", self.int(span.end_time_unix_nano)),
            ("attributes", self.attributes(&span.attributes)),
            ("droppedAttributesCount", json!(span.dropped_attributes_count)),
            ("events", span.events.iter().map(|event| self.event(event)).collect()),
            ("droppedEventsCount", json!(span.dropped_events_count)),
            ("links", span.links.iter().map(|link| self.link(link)).collect()),
            ("droppedLinksCount", json!(span.dropped_links_count)),
            ("status", status),
        ])
    }

    fn scope_spans(&self, spans: &ScopeSpans) -> Json {
        let scope = spans.scope.as_ref().map_or(Json::Null, |scope| {
            self.object([
                ("name", json!(scope.name)),
                ("version", json!(scope.version)),
                ("attributes", self.attributes(&scope.attributes)),
                ("droppedAttributesCount", json!(scope.dropped_attributes_count)),
            ])
        });
        let list = spans.spans.iter().map(|span| self.span(span)).collect();
        self.object([("scope", scope), ("spans", list), ("schemaUrl", json!(spans.schema_url))])
    }

    fn resource_spans(&self, spans: &ResourceSpans) -> Json {
        let entity = |entity: &EntityRef| {
            self.object([
                ("schemaUrl", json!(entity.schema_url)),
                ("type", json!(entity.r#type)),
                ("idKeys", json!(entity.id_keys)),
                ("descriptionKeys", json!(entity.description_keys)),
            ])
        };
        let resource = spans.resource.as_ref().map_or(Json::Null, |resource| {
            self.object([
                ("attributes", self.attributes(&resource.attributes)),
                ("droppedAttributesCount", json!(resource.dropped_attributes_count)),
                ("entityRefs", resource.entity_refs.iter().map(entity).collect()),
            ])
        });
        let list = spans.scope_spans.iter().map(|spans| self.scope_spans(spans)).collect();
        self.object([("resource", resource), ("scopeSpans", list), ("schemaUrl", json!(spans.schema_url))])
    }

    fn request(&self, request: &ExportTraceServiceRequest) -> Json {
        self.object([("resourceSpans", request.resource_spans.iter().map(|spans| self.resource_spans(spans)).collect())])
    }
}
