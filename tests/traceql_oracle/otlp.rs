//! Spans as their senders write them.

use bytes::Bytes;
use meshlake_traceql::{Array, Kind, Status, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ResourceSpans, ScopeSpans};
use prost::Message;

use crate::common::{Attributes, Span, wide};
use crate::store::{Sent, TraceId};

impl Sent for Span {
    fn request(spans: &[(TraceId, Span)]) -> Bytes {
        let group = |(trace, span): &(TraceId, Span)| ResourceSpans {
            resource: Some(Resource { attributes: attributes(&span.resource), ..Resource::default() }),
            scope_spans: vec![ScopeSpans {
                scope: Some(library(span)),
                spans: vec![message(trace, span)],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: spans.iter().map(group).collect() }.encode_to_vec().into()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn start(&self) -> u64 {
        self.start
    }
}

fn library(span: &Span) -> InstrumentationScope {
    let (name, version) = span.library.clone();
    InstrumentationScope { name, version, attributes: attributes(&span.instrumentation), ..InstrumentationScope::default() }
}

fn message(trace: &TraceId, span: &Span) -> otlp::Span {
    let kinds = [Kind::Unspecified, Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
    let codes = [Status::Unset, Status::Ok, Status::Error];
    let status = otlp::Status {
        message: span.message.clone(),
        code: codes.iter().position(|status| *status == span.status).unwrap() as i32,
    };
    let event = |(name, since, own): &(String, i64, Attributes)| Event {
        time_unix_nano: span.start.strict_add_signed(*since),
        name: name.clone(),
        attributes: attributes(own),
        ..Event::default()
    };
    // The oracle's links lead to one trace.
    let link = |(id, own): &(u8, Attributes)| Link {
        trace_id: vec![9; 16],
        span_id: wide(*id).to_vec(),
        attributes: attributes(own),
        ..Link::default()
    };
    otlp::Span {
        trace_id: trace.to_vec(),
        span_id: wide(span.id).to_vec(),
        parent_span_id: if span.parent == 0 { Vec::new() } else { wide(span.parent).to_vec() },
        name: span.name.clone(),
        kind: kinds.iter().position(|kind| *kind == span.kind).unwrap() as i32,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.start.strict_add_signed(span.duration),
        attributes: attributes(&span.span),
        events: span.events.iter().map(event).collect(),
        links: span.links.iter().map(link).collect(),
        status: Some(status),
        ..otlp::Span::default()
    }
}

fn attributes(attributes: &Attributes) -> Vec<KeyValue> {
    let key_value = |(key, value): &(String, Value<'static>)| KeyValue {
        key: key.clone(),
        value: Some(any_value(value)),
        ..KeyValue::default()
    };
    attributes.iter().map(key_value).collect()
}

/// A value in OTLP; what it has no type for is a text.
pub fn any_value(value: &Value<'_>) -> AnyValue {
    let value = match value {
        Value::Bool(value) => Otlp::BoolValue(*value),
        Value::Int(value) => Otlp::IntValue(*value),
        Value::Float(value) => Otlp::DoubleValue(*value),
        Value::Text(text) => Otlp::StringValue(text.to_string()),
        Value::Array(array) => Otlp::ArrayValue(ArrayValue { values: elements(array) }),
        other => Otlp::StringValue(other.to_string()),
    };
    AnyValue { value: Some(value) }
}

fn elements(array: &Array<'_>) -> Vec<AnyValue> {
    array.iter().map(|element| any_value(&element)).collect()
}
