use std::cmp::Reverse;
use std::collections::BTreeMap;

use meshlake_traceql::{Attribute, Query, Stage, Value, View as TraceView};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::trace::v1::span::Event;

use super::super::whole::WholeTraces;
use super::{ALL, SECOND, START_MICROS, holds, pipeline, query, store};
use crate::testing::{START, SpanRow, TestSource, batch, int, key_value, tenant, text};
use crate::types::TimeRange;

/// The attribute that a query selects.
fn selected(query: &Query) -> Attribute {
    let selected = pipeline(query).stages.iter().find_map(|stage| match stage {
        Stage::Select(attributes) => attributes.first().cloned(),
        _ => None,
    });
    selected.unwrap()
}

fn attribute(text: &str) -> Attribute {
    selected(&query(&format!("{{}} | select({text})")))
}

/// Values and counts as text, by value.
fn listed(values: &[(Value<'static>, u64)]) -> BTreeMap<String, u64> {
    values.iter().map(|(value, count)| (value.to_string(), *count)).collect()
}

/// Scenario: attributes and intrinsics of spans that a filter leaves. Guarantee: each value with the number of spans that have it.
#[tokio::test]
async fn values_are_those_of_the_spans_left() {
    let (own, engine) = store(24).await;
    let rows = batch(&own);
    let range = TimeRange { start: START_MICROS, end: START_MICROS + 600 * SECOND };
    let attributes = [
        "resource.service.name",
        ".x",
        "span.retries",
        "name",
        "status",
        "kind",
        "rootName",
        "instrumentation:name",
        ".http.status_code",
        "span.meshlake.node",
        "span.meshlake.entry",
    ];
    let filters =
        ["{}", "{ status = error }", "{ nestedSetParent < 0 }", "{ status = error } >> { .x != nil }", "{ span.meshlake.entry }"];
    for (of, filter) in attributes.iter().flat_map(|of| filters.map(|filter| (of, filter))) {
        let named = format!("{filter} | select({of})");
        let (query, attribute) = (query(&named), attribute(of));
        let mut expected = BTreeMap::<String, u64>::new();
        let of_query = selected(&query);
        for trace in WholeTraces::new([&rows].into_iter(), &query, &query.conditions()).unwrap().traces() {
            let view = TraceView::new(&trace);
            let spans = view.pipeline(pipeline(&query)).unwrap().into_iter().flat_map(|spanset| spanset.spans);
            for span in spans.map(|span| span as usize).filter(|span| holds(range, &trace, *span)) {
                match view.attribute(span, &of_query) {
                    Value::Nil => {}
                    Value::Array(array) => {
                        array.iter().for_each(|element| *expected.entry(element.to_string()).or_default() += 1);
                    }
                    value => *expected.entry(value.to_string()).or_default() += 1,
                }
            }
        }
        let filter = filter.parse::<Query>().unwrap();
        let got = engine.traceql_values(&tenant("a"), &attribute, Some(&filter), range, 100).await.unwrap();
        assert!(got.is_sorted_by_key(|(_, count)| Reverse(*count)));
        assert_eq!(listed(&got), expected, "{of} of {filter}");
    }
}

/// Scenario: values of all spans, without a filter; of which files tell them, and of roots and events. Guarantee: typed values, and no more than
/// asked for.
#[tokio::test]
async fn values_without_a_filter_are_of_all_spans() {
    let mut source = TestSource::new();
    let span = |index: u64, attribute: KeyValue| SpanRow {
        tenant: "a".to_owned(),
        trace: u128::from(index / 2) + 1,
        span: index + 1,
        parent: (!index.is_multiple_of(2)).then_some(index),
        start: START + index,
        name: if index.is_multiple_of(2) { "root".to_owned() } else { "child".to_owned() },
        attributes: vec![attribute],
        events: vec![Event { name: "e".to_owned(), ..Event::default() }, Event { name: "f".to_owned(), ..Event::default() }],
        ..SpanRow::default()
    };
    let values =
        [int("v", 1), text("v", "1"), key_value("v", Otlp::BoolValue(true)), key_value("v", Otlp::DoubleValue(1.0)), int("v", 1)];
    let rows: Vec<SpanRow> = (0..).zip(values).map(|(index, value)| span(index, value)).collect();
    source.add_file(&rows[..3]).await;
    source.add_live(&rows[3..]);
    let engine = source.engine();
    let of = async |text: &str, limit| {
        let values = engine.traceql_values(&tenant("a"), &attribute(text), None, ALL, limit).await.unwrap();
        values.into_iter().map(|(value, count)| format!("{value} {count}")).collect::<Vec<_>>()
    };
    let all = ["1 2", "true 1", "1.0 1", "\"1\" 1"];
    assert_eq!(of("span.v", 10).await, all);
    assert_eq!(of(".v", 1).await, all[..1]);
    assert_eq!(of("rootName", 10).await, ["\"root\" 3"]);
    assert_eq!(of("name", 10).await, ["\"root\" 3", "\"child\" 2"]);
    assert_eq!(of("event:name", 10).await, ["\"e\" 5", "\"f\" 5"]);
    assert_eq!(of("resource.v", 10).await, [""; 0]);
}
