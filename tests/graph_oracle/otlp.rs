//! Spans as their senders write them.

use bytes::Bytes;
use meshlake_hops::{End, Role, Span, SpanKind};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ResourceSpans, ScopeSpans, Status};
use prost::Message;

use crate::store::{Sent, TraceId};

impl Sent for Span<'static> {
    fn request(spans: &[(TraceId, Span<'static>)]) -> Bytes {
        let group = |(trace, span): &(TraceId, Span<'static>)| ResourceSpans {
            resource: Some(Resource { attributes: resource(span), ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans: vec![message(trace, span)], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: spans.iter().map(group).collect() }.encode_to_vec().into()
    }

    fn name(&self) -> &str {
        self.name
    }

    fn start(&self) -> u64 {
        self.start
    }
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> Vec<KeyValue> {
    let said = pairs.into_iter().filter(|(_, text)| !text.is_empty());
    said.map(|(key, text)| key_value(key, Value::StringValue(text.to_owned()))).collect()
}

fn resource(span: &Span<'_>) -> Vec<KeyValue> {
    let of = &span.resource;
    let cluster = if span.role == Role::Application { span.cluster } else { "" };
    texts([
        ("service.name", of.service_name),
        ("service.namespace", of.service_namespace),
        ("service.instance.id", of.service_instance_id),
        ("k8s.namespace.name", of.k8s_namespace_name),
        ("k8s.pod.name", of.k8s_pod_name),
        ("k8s.pod.ip", of.k8s_pod_ip),
        ("host.name", of.host_name),
        ("k8s.cluster.name", cluster),
    ])
}

fn message(trace: &TraceId, span: &Span<'_>) -> otlp::Span {
    let id = |id: [u8; 8]| if id == [0; 8] { Vec::new() } else { id.to_vec() };
    let kind = match span.kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    // Proxies call a 4xx an error, too; it is none.
    let failed = span.error || span.http_status.is_some_and(|status| status >= 400);
    let link =
        |link: &meshlake_hops::Link| Link { trace_id: link.trace_id.to_vec(), span_id: link.span_id.to_vec(), ..Link::default() };
    otlp::Span {
        trace_id: trace.to_vec(),
        span_id: id(span.span_id),
        parent_span_id: id(span.parent_span_id),
        trace_state: span.trace_state.to_owned(),
        name: span.name.to_owned(),
        kind,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: attributes(span),
        links: span.links.iter().map(link).collect(),
        status: Some(Status { code: if failed { 2 } else { 0 }, ..Status::default() }),
        ..otlp::Span::default()
    }
}

fn attributes(span: &Span<'_>) -> Vec<KeyValue> {
    let is_app = span.role == Role::Application;
    let mut attributes = if is_app { of_app(span) } else { of_proxy(span) };
    attributes.extend(texts([
        ("upstream_cluster", span.upstream_cluster),
        (if is_app { "network.peer.address" } else { "peer.address" }, span.peer_address),
        ("peer.service", span.peer_service),
        ("server.address", span.server_address),
        ("http.url", span.http_url),
        ("http.method", span.http_method),
        ("http.protocol", span.http_protocol),
        ("response_flags", span.response_flags),
        ("rpc.system", span.rpc_system),
        ("rpc.service", span.rpc_service),
        ("rpc.method", span.rpc_method),
        ("db.system", span.db_system),
        ("db.namespace", span.db_namespace),
        ("messaging.system", span.messaging_system),
        ("messaging.destination.name", span.messaging_destination),
        ("messaging.operation.type", span.messaging_operation),
        ("source.principal", span.source_principal),
    ]));
    attributes.extend(span.server_port.map(|port| key_value("server.port", Value::IntValue(port))));
    attributes.extend(end("source", &span.source));
    attributes.extend(end("destination", &span.destination));
    attributes
}

/// SDKs write numbers.
fn of_app(span: &Span<'_>) -> Vec<KeyValue> {
    let numbers = [("http.response.status_code", span.http_status), ("rpc.grpc.status_code", span.grpc_status)];
    numbers.into_iter().filter_map(|(key, value)| Some(key_value(key, Value::IntValue(value?)))).collect()
}

/// Envoy writes texts only.
fn of_proxy(span: &Span<'_>) -> Vec<KeyValue> {
    let mut attributes = texts([("node_id", span.node_id), ("component", "proxy")]);
    if span.tagged {
        attributes.extend(texts([
            ("istio.mesh_id", "mesh"),
            ("istio.cluster_id", span.cluster),
            ("istio.namespace", span.namespace),
            ("istio.canonical_service", span.service),
            ("istio.canonical_revision", span.version),
            ("zone", span.zone),
        ]));
    }
    let numbers = [
        ("http.status_code", span.http_status),
        ("grpc.status_code", span.grpc_status),
        ("request_size", span.request_size),
        ("response_size", span.response_size),
        ("retry.count", span.retry_count),
    ];
    let text = |(key, value): (&str, Option<i64>)| Some(key_value(key, Value::StringValue(value?.to_string())));
    attributes.extend(numbers.into_iter().filter_map(text));
    attributes
}

fn end(which: &str, end: &End<'_>) -> Vec<KeyValue> {
    let parts = [
        ("cluster_id", end.cluster),
        ("namespace", end.namespace),
        ("workload", end.workload),
        ("canonical_service", end.service),
        ("app_version", end.version),
    ];
    parts.into_iter().flat_map(|(part, text)| texts([(format!("istio.{which}_{part}").as_str(), text)])).collect()
}
