use opentelemetry_proto::tonic::common::v1::{ArrayValue, EntityRef};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

use super::*;
use crate::testing::{Chance, SpanRow, TestSource, int, key_value, tenant, text};
use crate::{Engine, TraceId};

const TRACE: u128 = 0xabc;

fn any_attribute(chance: &mut Chance) -> KeyValue {
    let list = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(1)) }, AnyValue::default()] };
    match chance.below(12) {
        0 => text("http.method", "GET"),
        1 => text("http.request.method", "PUT"),
        2 => int("http.status_code", 200),
        3 => text("http.status_code", "200"),
        4 => text("http.status_code", "0200"),
        5 => key_value("d", Value::DoubleValue(chance.below(9) as f64 / 2.0)),
        6 => key_value("b", Value::BoolValue(chance.below(2) == 0)),
        7 => key_value("raw", Value::BytesValue(vec![chance.below(256) as u8; 3])),
        8 => key_value("list", Value::ArrayValue(list)),
        9 => KeyValue { key: "empty".to_owned(), value: Some(AnyValue::default()), ..KeyValue::default() },
        10 => text("istio.canonical_service", chance.pick(&["reviews", "other"])),
        _ => text("service.name", chance.pick(&["reviews", "details"])),
    }
}

fn any_attributes(chance: &mut Chance) -> Vec<KeyValue> {
    let mut attributes: Vec<KeyValue> = Vec::new();
    for _ in 0..chance.below(6) {
        let attribute = any_attribute(chance);
        if attributes.iter().all(|known| known.key != attribute.key) {
            attributes.push(attribute);
        }
    }
    attributes
}

fn any_span(chance: &mut Chance) -> SpanRow {
    let event = |chance: &mut Chance| Event {
        time_unix_nano: chance.next() >> 1,
        name: "e".to_owned(),
        attributes: any_attributes(chance),
        dropped_attributes_count: chance.below(2) as u32,
    };
    let link = |chance: &mut Chance| Link {
        trace_id: vec![1; chance.below(17) as usize],
        span_id: vec![2; 8],
        trace_state: "s=1".to_owned(),
        attributes: any_attributes(chance),
        dropped_attributes_count: 3,
        flags: u32::MAX,
    };
    let entity = EntityRef { r#type: "service".to_owned(), id_keys: vec!["service.name".to_owned()], ..EntityRef::default() };
    SpanRow {
        tenant: "a".to_owned(),
        trace: TRACE,
        span: chance.next(),
        parent: (chance.below(2) == 0).then(|| chance.next()),
        start: chance.pick(&[0, 1, 1_767_225_600_123_456_789, u64::MAX]),
        duration: chance.pick(&[0, -5, 77, i64::MAX]),
        name: "op".to_owned(),
        kind: Some(chance.pick(&["unspecified", "server", "consumer", "9"])),
        status: Some(chance.pick(&["unset", "error", "7"])),
        status_message: chance.pick(&[None, Some("boom".to_owned())]),
        service: Some("reviews".to_owned()),
        flags: Some(chance.pick(&[0, 0x301, i64::from(u32::MAX)])),
        trace_state: Some("k=v".to_owned()),
        attributes: any_attributes(chance),
        resource: Resource {
            attributes: any_attributes(chance),
            dropped_attributes_count: chance.below(2) as u32,
            entity_refs: chance.pick(&[vec![], vec![entity]]),
        },
        resource_schema_url: Some(chance.pick(&["", "https://a/1"]).to_owned()),
        scope_name: Some(chance.pick(&["", "lib"]).to_owned()),
        scope_attributes: chance.pick(&[vec![], vec![int("i", 1), text("t", "x")]]),
        events: (0..chance.below(3)).map(|_| event(chance)).collect(),
        links: (0..chance.below(3)).map(|_| link(chance)).collect(),
        dropped_events: Some(4),
        ..SpanRow::default()
    }
}

fn sorted(mut attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    attributes.sort_by_key(|attribute| attribute.key.clone());
    attributes
}

/// What the span says, with its resource and scope, in one comparable value.
fn expected(row: &SpanRow) -> (Resource, String, InstrumentationScope, Span) {
    let named = |names: &[&str], text: &str| {
        names.iter().position(|name| *name == text).map_or_else(|| text.parse().unwrap(), |at| at as i32)
    };
    let status = Status { code: named(&STATUSES, row.status.unwrap()), message: row.status_message.clone().unwrap_or_default() };
    let scope = InstrumentationScope {
        name: row.scope_name.clone().unwrap(),
        attributes: sorted(row.scope_attributes.clone()),
        ..InstrumentationScope::default()
    };
    let span = Span {
        trace_id: row.trace.to_be_bytes().to_vec(),
        span_id: row.span.to_be_bytes().to_vec(),
        parent_span_id: row.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        trace_state: "k=v".to_owned(),
        flags: row.flags.unwrap() as u32,
        name: "op".to_owned(),
        kind: named(&KINDS, row.kind.unwrap()),
        start_time_unix_nano: row.start,
        end_time_unix_nano: row.start.wrapping_add(row.duration as u64),
        attributes: sorted(row.attributes.clone()),
        events: row.events.clone(),
        links: row.links.clone(),
        dropped_events_count: 4,
        status: (status != Status::default()).then_some(status),
        ..Span::default()
    };
    let resource = Resource { attributes: sorted(row.resource.attributes.clone()), ..row.resource.clone() };
    (resource, row.resource_schema_url.clone().unwrap(), scope, span)
}

fn flat(data: &TracesData) -> Vec<(Resource, String, InstrumentationScope, Span)> {
    let mut all = Vec::new();
    for of_resource in &data.resource_spans {
        let mut resource = of_resource.resource.clone().unwrap_or_default();
        resource.attributes = sorted(resource.attributes);
        for of_scope in &of_resource.scope_spans {
            let mut scope = of_scope.scope.clone().unwrap_or_default();
            scope.attributes = sorted(scope.attributes);
            for span in &of_scope.spans {
                let span = Span { attributes: sorted(span.attributes.clone()), ..span.clone() };
                all.push((resource.clone(), of_resource.schema_url.clone(), scope.clone(), span));
            }
        }
    }
    all
}

async fn trace(engine: &Engine, name: &str, id: u128) -> Option<TracesData> {
    engine.trace(&tenant(name), TraceId(id.to_be_bytes())).await.unwrap()
}

fn by_span(mut all: Vec<(Resource, String, InstrumentationScope, Span)>) -> Vec<(Resource, String, InstrumentationScope, Span)> {
    all.sort_by_key(|(_, _, _, span)| (span.span_id.clone(), span.encode_to_vec()));
    all
}

/// Scenario: a trace of arbitrary spans over two files, one shared with another tenant that has the same trace id, and
/// live batches, among other traces. Guarantee: all its spans read back as they were, each once, nothing of others (P5, P8).
#[tokio::test]
async fn a_trace_reads_back_as_it_came() {
    for seed in 0..20 {
        let mut chance = Chance(seed);
        let rows: Vec<SpanRow> = (0..40).map(|_| any_span(&mut chance)).collect();
        let noise = crate::testing::random_rows(&mut chance, "a", 200);
        let foreign = SpanRow { tenant: "b".to_owned(), ..any_span(&mut chance) };
        let mut source = TestSource::new();
        source.add_file(&[&rows[..15], &noise[..300]].concat()).await;
        source.add_file(&[&rows[15..30], &noise[300..400], std::slice::from_ref(&foreign)].concat()).await;
        source.add_live(&[&rows[30..], &noise[400..], &[foreign]].concat());
        let engine = source.engine();
        let data = trace(&engine, "a", TRACE).await.unwrap();
        assert_eq!(by_span(flat(&data)), by_span(rows.iter().map(expected).collect()), "seed {seed}");
        assert_eq!(flat(&trace(&engine, "b", TRACE).await.unwrap()).len(), 2);
        assert!(trace(&engine, "a", 1).await.is_none());
        assert!(trace(&engine, "c", TRACE).await.is_none());
    }
}

/// Scenario: the same spans in other batches and files, in another order. Guarantee: the answer is the same message (P4).
#[tokio::test]
async fn a_trace_is_the_same_wherever_its_spans_stand() {
    let mut chance = Chance(77);
    let mut rows: Vec<SpanRow> = (0..30).map(|_| any_span(&mut chance)).collect();
    rows.push(rows[3].clone());
    let mut one = TestSource::new();
    one.add_live(&rows);
    rows.reverse();
    let mut other = TestSource::new();
    other.add_file(&rows[..11]).await;
    other.add_live(&rows[11..]);
    let (one, other) = (trace(&one.engine(), "a", TRACE).await, trace(&other.engine(), "a", TRACE).await);
    assert_eq!(one.as_ref().map(|data| flat(data).len()), Some(31));
    assert_eq!(one, other);
}

/// Scenario: resources that differ in a zero's sign and in types, and more of them than rows are compared
/// with. Guarantee: each is one of its own, with its spans.
#[tokio::test]
async fn resources_that_are_almost_equal_stay_apart() {
    let double = |value: f64| key_value("d", Value::DoubleValue(value));
    let mut resources = vec![vec![double(0.0)], vec![double(-0.0)], vec![int("d", 0)], vec![text("d", "0")], vec![]];
    resources.extend((0..2 * ORIGINS_MAX as i64).map(|number| vec![int("n", number)]));
    let row = |span: usize| SpanRow {
        tenant: "a".to_owned(),
        trace: TRACE,
        span: span as u64,
        resource: Resource { attributes: resources[span % resources.len()].clone(), ..Resource::default() },
        ..any_span(&mut Chance(1))
    };
    let rows: Vec<SpanRow> = (0..3 * resources.len()).map(row).collect();
    let mut source = TestSource::new();
    source.add_live(&rows);
    let data = trace(&source.engine(), "a", TRACE).await.unwrap();
    assert_eq!(data.resource_spans.len(), resources.len());
    assert_eq!(by_span(flat(&data)), by_span(rows.iter().map(expected).collect()));
}
