use std::collections::{BTreeMap, BTreeSet};

use meshlake_traceql::{Scope, Trace, View as TraceView};
use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::super::whole::WholeTraces;
use super::{ALL, SECOND, START_MICROS, holds, pipeline, query, store};
use crate::QueryError;
use crate::testing::{SpanRow, batch, tenant};
use crate::types::TimeRange;

/// The attributes of a span, by whose they are.
fn attributes(row: &SpanRow) -> Vec<(Scope, &Vec<KeyValue>)> {
    let events = row.events.iter().map(|event| (Scope::Event, &event.attributes));
    let links = row.links.iter().map(|link| (Scope::Link, &link.attributes));
    let own = [
        (Scope::Span, &row.attributes),
        (Scope::Resource, &row.resource.attributes),
        (Scope::Instrumentation, &row.scope_attributes),
    ];
    own.into_iter().chain(events).chain(links).collect()
}

/// Scenario: filters of spans on their own and of whole traces, in ranges of many spans and of a few; and metrics. Guarantee: the keys of the
/// spans that they leave, each where it stands, and no others; an error.
#[tokio::test]
async fn names_are_those_of_the_spans_left() {
    let (own, engine) = store(32).await;
    let rows = batch(&own);
    let from = |seconds: i64, length: i64| {
        let start = START_MICROS + seconds * SECOND;
        TimeRange { start, end: start + length * SECOND }
    };
    let ranges: Vec<TimeRange> = (0..10).map(|number| from(number * 90, 15)).chain([from(0, 600)]).collect();
    let filters = [
        "{ .x = \"red\" }",
        "{ kind = server && span.retries >= 1 }",
        "{ event:name = \"retry\" }",
        "{ rootName = \"db\" }",
        "{ status = error } >> { .x != nil }",
        "{ span.meshlake.entry }",
        "{ span.retries = 77 }",
    ];
    for (filter, range) in filters.iter().flat_map(|filter| ranges.iter().map(move |range| (filter, *range))) {
        let query = query(filter);
        let mut expected = BTreeMap::<Scope, BTreeSet<String>>::new();
        for trace in WholeTraces::new([&rows].into_iter(), &query, &query.conditions()).unwrap().traces() {
            let left = TraceView::new(&trace).pipeline(pipeline(&query)).unwrap();
            let spans = left.into_iter().flat_map(|spanset| spanset.spans).map(|span| span as usize);
            for span in spans.filter(|span| holds(range, &trace, *span)) {
                let id = u64::from_be_bytes(trace.facts(span).id);
                let row = own.iter().find(|row| row.trace.to_be_bytes() == trace.id() && row.span == id).unwrap();
                for (scope, attribute) in
                    attributes(row).into_iter().flat_map(|(scope, all)| all.iter().map(move |one| (scope, one)))
                {
                    expected.entry(scope).or_default().insert(attribute.key.clone());
                }
            }
        }
        let got = engine.traceql_names(&tenant("a"), &query, range).await.unwrap();
        assert_eq!(got, expected, "{filter} {range:?}");
    }
    let error = engine.traceql_names(&tenant("a"), &query("{} | rate()"), ALL).await.unwrap_err();
    assert!(matches!(&error, QueryError::Invalid { message } if message.contains("not of metrics")), "{error:?}");
}
