//! Arbitrary valid requests: every value type, nesting, repeated scopes, empty messages, ids that can't be kept.

#![allow(dead_code)] // Each test uses what it needs.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z]{1,8}", "\\PC{0,6}"]
}

/// Keys that have columns, keys that do not, and the same key twice.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "http.status_code",
        "http.response.status_code",
        "http.method",
        "http.request.method",
        "request_size",
        "node_id",
        "zone",
        "istio.canonical_service",
        "istio.canonical_revision",
        "istio.cluster_id",
        "istio.namespace",
        "upstream_cluster",
        "response_flags",
        "error",
        "service.name",
        "service.version",
        "k8s.pod.name",
        "k8s.cluster.name",
        "cloud.availability_zone",
        "peer.service",
        "istio.destination_canonical_service",
        "",
    ];
    prop_oneof![proptest::sample::select(known.to_vec()).prop_map(str::to_owned), "[a-c]{1,2}"]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let known = [
        "200",
        "0503",
        "0",
        "unknown",
        "true",
        "sidecar~10.0.0.1~reviews-v1-545db77b95-8mwkd.ns~d",
        "outbound|9080|v1|reviews.default.svc.cluster.local",
        "UC,DI",
    ];
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(Value::StringValue(text))),
        proptest::sample::select(known.to_vec()).prop_map(|text| Some(Value::StringValue(text.to_owned()))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        prop_oneof![any::<i64>(), 0..600i64].prop_map(|value| Some(Value::IntValue(value))),
        any::<f64>().prop_map(|value| Some(Value::DoubleValue(value))),
        vec(any::<u8>(), 0..5).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ];
    let leaf = leaf.prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 16, 4, |inner| {
        let list = vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values }));
        let pairs = vec((key(), proptest::option::of(inner)), 0..4);
        let map = pairs.prop_map(|pairs| {
            let values = pairs.into_iter().map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }).collect();
            Value::KvlistValue(KeyValueList { values })
        });
        prop_oneof![list, map].prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (key(), proptest::option::weighted(0.95, value()));
    vec(pair.prop_map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }), 0..6)
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => vec(0..3u8, length..=length),
        1 => vec(any::<u8>(), 0..20),
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), any::<u32>()]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![1_700_000_000_000_000_000u64..1_800_000_000_000_000_000, any::<u64>()]
}

fn event() -> impl Strategy<Value = Event> {
    (time(), text(), attributes(), count()).prop_map(|(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
        time_unix_nano,
        name,
        attributes,
        dropped_attributes_count,
    })
}

fn link() -> impl Strategy<Value = Link> {
    let fields = (id(16), id(8), text(), attributes(), count(), count());
    fields.prop_map(|(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
        trace_id,
        span_id,
        trace_state,
        attributes,
        dropped_attributes_count,
        flags,
    })
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), prop_oneof![Just(Vec::new()), id(8)]);
    let fields = (text(), prop_oneof![0..6i32, any::<i32>()], time(), time(), attributes(), text(), count());
    let lists = (vec(event(), 0..3), vec(link(), 0..3), [count(), count(), count()]);
    let status = proptest::option::of((prop_oneof![0..3i32, any::<i32>()], text()));
    (ids, fields, lists, status).prop_map(|(ids, fields, lists, status)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        name: fields.0,
        kind: fields.1,
        start_time_unix_nano: fields.2,
        end_time_unix_nano: fields.3,
        attributes: fields.4,
        trace_state: fields.5,
        flags: fields.6,
        events: lists.0,
        links: lists.1,
        dropped_attributes_count: lists.2[0],
        dropped_events_count: lists.2[1],
        dropped_links_count: lists.2[2],
        status: status.map(|(code, message)| Status { code, message }),
    })
}

fn scope_spans() -> impl Strategy<Value = ScopeSpans> {
    let scope = (text(), text(), attributes(), count()).prop_map(|(name, version, attributes, dropped_attributes_count)| {
        InstrumentationScope { name, version, attributes, dropped_attributes_count }
    });
    (proptest::option::of(scope), vec(span(), 0..4), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    })
}

fn entity() -> impl Strategy<Value = EntityRef> {
    (text(), text(), vec(text(), 0..3), vec(text(), 0..3)).prop_map(|(schema_url, r#type, id_keys, description_keys)| EntityRef {
        schema_url,
        r#type,
        id_keys,
        description_keys,
    })
}

/// An arbitrary valid request.
pub fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let resource = (attributes(), count(), vec(entity(), 0..3)).prop_map(|(attributes, dropped_attributes_count, entity_refs)| {
        Resource { attributes, dropped_attributes_count, entity_refs }
    });
    let resource_spans = (proptest::option::of(resource), vec(scope_spans(), 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}
