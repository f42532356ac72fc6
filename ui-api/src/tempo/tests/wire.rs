//! The messages as bytes. What is expected was written field by field after `pkg/tempopb/tempo.proto`, by a program of its own.

use std::collections::BTreeMap;
use std::fmt::Debug;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;

use crate::tempo::proto::*;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Fails unless the message is these bytes, and these bytes the message.
fn same<M: Message + Default + PartialEq + Debug>(message: &M, hex: &str) {
    assert_eq!(M::decode(bytes(hex).as_slice()).unwrap(), *message);
    assert_eq!(message.encode_to_vec(), bytes(hex));
}

fn label(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.into())) };
    KeyValue { key: key.into(), value: Some(value), key_strindex: 0 }
}

#[test]
fn requests() {
    same(
        &SearchRequest {
            tags: BTreeMap::from([("k".into(), "v".into())]),
            min_duration_ms: 1,
            max_duration_ms: 2,
            limit: 20,
            start: 1_785_582_000,
            end: 1_785_589_200,
            query: "{}".into(),
            spans_per_span_set: 3,
        },
        "0a060a016b12017610011802201428b0a3b7d30630d0dbb7d30642027b7d4803",
    );
    same(
        &QueryRangeRequest { query: "q".into(), start: 1, end: 2, step: 3, exemplars: 100, max_series: 5, instant: Some(true) },
        "0a0171100118022003800164880105900101",
    );
    same(&QueryInstantRequest { query: "q".into(), start: 1, end: 2 }, "0a017110011802");
    same(
        &SearchTagsRequest { scope: "span".into(), query: "{}".into(), start: 1, end: 2, max_tags_per_scope: 9 },
        "0a047370616e12027b7d180120022809",
    );
    same(
        &SearchTagValuesRequest { tag_name: "span.a".into(), query: "{}".into(), start: 1, end: 2, max_tag_values: 9 },
        "0a067370616e2e6112027b7d200128023009",
    );
}

#[test]
fn found_traces() {
    let span = Span {
        span_id: "563d623c76514f8e".into(),
        name: "GET /".into(),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        duration_nanos: 120_000_000,
        attributes: vec![label("a", "b")],
    };
    let set = SpanSet { spans: vec![span], matched: 7, attributes: vec![label("by(a)", "b")] };
    let trace = TraceSearchMetadata {
        trace_id: format!("{:032x}", 1),
        root_service_name: "shop".into(),
        root_trace_name: "GET /".into(),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        duration_ms: 120,
        span_set: Some(set.clone()),
        span_sets: vec![set],
        service_stats: BTreeMap::from([("shop".into(), ServiceStats { span_count: 3, error_count: 1 })]),
    };
    let metrics = SearchMetrics { inspected_traces: 1, inspected_bytes: 100, completed_jobs: 2, total_jobs: 3 };
    same(
        &SearchResponse { traces: vec![trace], metrics },
        "0ad5010a203030303030303030303030303030303030303030303030303030303030303031120473686f701a05474554202f208080a8b1e39fe7cb1728\
         7832440a320a10353633643632336337363531346638651205474554202f188080a8b1e39fe7cb1720809c9c392a080a016112030a016210071a0c0a05\
         627928612912030a01623a440a320a10353633643632336337363531346638651205474554202f188080a8b1e39fe7cb1720809c9c392a080a01611203\
         0a016210071a0c0a05627928612912030a0162420c0a0473686f7012040803100112080801106420022803",
    );
}

#[test]
fn numbers_and_names() {
    let exemplar = Exemplar { labels: vec![label("trace:id", "2f")], value: 0.2, timestamp_ms: 1_700_000_000_123 };
    let series = TimeSeries {
        labels: vec![label("a", "b")],
        samples: vec![Sample { value: 1.5, timestamp_ms: 1_700_000_000_000 }],
        exemplars: vec![exemplar],
    };
    let metrics = SearchMetrics { completed_jobs: 1, total_jobs: 1, ..Default::default() };
    same(
        &QueryRangeResponse { series: vec![series], metrics, status: PartialStatus::Partial as i32, message: "cut".into() },
        "0a400a080a016112030a0162121009000000000000f83f1080d095ffbc3122220a100a0874726163653a696412040a023266119a9999999999c93f18fb\
         d095ffbc3112042001280118012203637574",
    );
    let series = InstantSeries { labels: vec![label("a", "b")], value: 3.0 };
    same(&QueryInstantResponse { series: vec![series], ..Default::default() }, "0a130a080a016112030a01621100000000000008401200");
    let scopes = vec![SearchTagsV2Scope { name: "span".into(), tags: vec!["a".into(), "b".into()] }];
    same(&SearchTagsV2Response { scopes, metrics: MetadataMetrics {} }, "0a0c0a047370616e1201611201621200");
    let tag_values = vec![TagValue { r#type: "string".into(), value: "a".into() }];
    same(&SearchTagValuesV2Response { tag_values, metrics: MetadataMetrics {} }, "0a0b0a06737472696e671201611200");
}
