use std::cmp::Reverse;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use meshlake_traceql::{Spanset, Trace, Value, View as TraceView};
use opentelemetry_proto::tonic::common::v1::AnyValue;

use super::super::value::any_value;
use super::super::whole::WholeTraces;
use super::super::{FoundSpan, FoundSpanset, FoundTrace, TraceQlSearch};
use super::{ALL, SECOND, START_MICROS, asked, holds, pipeline, query, store};
use crate::Engine;
use crate::testing::{START, SpanRow, TestSource, batch, tenant};
use crate::types::TimeRange;

/// A trace and its spansets, as text.
type Told = (u128, Vec<String>);

/// Queries of which any span may be in an answer, and of what kind one has to start in the range, too; attributes are the same, in their order.
const FOUND_BY: [(&str, &str); 2] = [
    ("{ span.retries = 2 } && {} | select(name, .retries)", "{ span.retries = 2 }"),
    ("{ nestedSetParent < 0 && .ok } ~ {}", "{ nestedSetParent < 0 && .ok }"),
];

/// What is found of all traces, each evaluated as it stands.
fn naive(rows: &RecordBatch, search: &TraceQlSearch) -> Vec<Told> {
    let also = FOUND_BY.iter().find(|(of, _)| query(of) == search.query).map(|(_, found_by)| query(found_by));
    let mut found = Vec::new();
    for trace in WholeTraces::new([rows].into_iter(), &search.query, &search.query.conditions()).unwrap().traces() {
        let view = TraceView::new(&trace);
        let spansets = view.pipeline(pipeline(&search.query)).unwrap();
        let in_range = |span: usize| holds(search.range, &trace, span);
        let start_there =
            |spansets: &[Spanset<'_>]| spansets.iter().flat_map(|spanset| &spanset.spans).any(|span| in_range(*span as usize));
        if !start_there(&spansets) || also.as_ref().is_some_and(|also| !start_there(&view.pipeline(pipeline(also)).unwrap())) {
            continue;
        }
        let facts = || (0..trace.len()).map(|span| trace.facts(span));
        let start = facts().map(|facts| facts.start).min().unwrap();
        let end = facts().map(|facts| facts.start as i64 + facts.duration.max(0)).max().unwrap();
        let duration = Duration::from_nanos(end as u64 - start);
        let is_long = search.min_duration.is_none_or(|least| duration >= least);
        if !is_long || search.max_duration.is_some_and(|most| duration > most) {
            continue;
        }
        let shown = pipeline(&search.query).shown();
        let span = |span: &u32| {
            let mut attributes: Vec<(String, AnyValue)> = Vec::new();
            for shown in &shown {
                let (key, value) = (shown.attribute.key(), shown.value(&view, *span as usize));
                if value != Value::Nil && attributes.iter().all(|(known, _)| known != key) {
                    attributes.push((key.to_owned(), any_value(&value)));
                }
            }
            format!("{:?} {} {attributes:?}", trace.facts(*span as usize).id, trace.name(*span as usize))
        };
        let told = |spanset: &Spanset<'_>| {
            let attributes: Vec<_> = spanset.attributes.iter().map(|(name, value)| (name.clone(), any_value(value))).collect();
            let spans: Vec<String> = spanset.spans.iter().take(search.spans_per_spanset).map(span).collect();
            format!("{} {attributes:?} {spans:?}", spanset.spans.len())
        };
        found.push((Reverse(start), u128::from_be_bytes(trace.id()), spansets.iter().map(told).collect()));
    }
    found.sort();
    found.into_iter().take(search.limit).map(|(_, id, told)| (id, told)).collect()
}

fn told(spanset: &FoundSpanset) -> String {
    let span = |span: &FoundSpan| format!("{:?} {} {:?}", span.id, span.name, span.attributes);
    let spans: Vec<String> = spanset.spans.iter().map(span).collect();
    format!("{} {:?} {spans:?}", spanset.matched, spanset.attributes)
}

async fn found(engine: &Engine, search: &TraceQlSearch) -> Vec<Told> {
    let found = engine.traceql_search(&tenant("a"), search).await.unwrap_or_else(|error| panic!("{}: {error}", search.query));
    let trace = |trace: &FoundTrace| (u128::from_be_bytes(trace.summary.trace_id.0), trace.spansets.iter().map(told).collect());
    found.traces.iter().map(trace).collect()
}

/// Filters of every kind of column, and of what no column tells.
const FILTERS: &[&str] = &[
    "true",
    "false",
    "span.http.status_code = 200",
    "span.http.status_code = \"200\"",
    "span.http.status_code != \"200\"",
    "span.http.status_code > \"1\"",
    "span.http.status_code =~ \"0?200\"",
    "span.http.status_code >= 200 && span.http.status_code < 500.5",
    "span.http.status_code != nil",
    "span.http.response.status_code = 503 || span.http.method = \"GET\"",
    ".http.method = \"GET\"",
    ".http.method != \"GET\"",
    ".http.request.method < \"H\"",
    "span.http.method = 7",
    "resource.http.method = \"GET\"",
    "resource.service.name = \"shop\"",
    ".service.name = \"shop\"",
    "resource.service.name != \"shop\"",
    "resource.host.name =~ \"h.\" && name = \"db\"",
    "span.retries = 1",
    "span.retries != 1",
    "span.retries = \"1\"",
    ".retries > 0.5 && .retries < 100ns",
    "span.x = \"red\" || span.x = 1",
    "resource.x != \"green\"",
    ".x = nil",
    "!(span.x = \"red\")",
    "span.ok",
    ".ok = false || .ok != true",
    "span.d = 0.0",
    "span.d >= 0",
    "span.d != 0.5",
    "span.d < 1",
    "span.mixed = \"a\"",
    "instrumentation.x = \"red\" || instrumentation.retries = 1",
    "event.x = \"red\" && event:name = \"retry\"",
    "event:timeSinceStart > 2ns",
    "link.http.method = \"GET\" || link:spanID = \"0808080808080808\"",
    "instrumentation:name = \"lib\"",
    "statusMessage != \"boom\"",
    "status = error",
    "status != unset",
    "status = unset && kind = unspecified",
    "kind != client",
    "kind = server || kind = consumer",
    "duration > 1s && duration <= 1500ms",
    "name >= \"db\" && name < \"e\"",
    "name =~ \".*9080.*\"",
    "nestedSetParent < 0 && status = error",
    "nestedSetParent >= 0",
    "rootName = \"db\" && status = ok",
    "traceDuration > 3s",
    "childCount = 2",
    "!(span:parentID != nil)",
    "trace:id = \"zz\" || span:id = \"0\"",
    "span.retries + 1 = 2",
    "resource.service.name = .service.name",
    "span.meshlake.entry",
    "!span.meshlake.entry && span.meshlake.node =~ \"workload.*\"",
    "span.meshlake.caller != nil || span.x = \"red\"",
    "span.meshlake.callee = span.meshlake.node && status = error",
];

pub(in super::super) const SEARCHES: &[&str] = &[
    "{ status = error } >> { kind = client }",
    "{ .x = \"red\" } !> { status = ok }",
    "{ status = error } && { kind = client } | select(.x, resource.service.name, status)",
    "{ span.retries = 2 } && {} | select(name, .retries)",
    "{ span.retries = 2 } &>> { kind = server }",
    "{ .x = \"red\" } || { .x = \"green\" } | by(.x) | count() > 1",
    "{ kind = server } | avg(duration) > 900ms | by(status)",
    "{ nestedSetParent < 0 && .ok } ~ {}",
    "{} | by(resource.service.name) | coalesce() | sum(.retries) >= 2",
];

/// Scenario: filters of every kind, and operators over them, in ranges and with limits, over spans that are scattered. Guarantee: the newest
/// traces of those that match (row 22 of the notes), each with what the evaluation of the whole trace says (P2, P3, P8).
#[tokio::test]
async fn searches_find_what_the_traces_say() {
    let (own, engine) = store(21).await;
    let rows = batch(&own);
    let filters = FILTERS.iter().map(|filter| format!("{{ {filter} }}"));
    let mut hits = 0;
    for text in filters.chain(SEARCHES.iter().map(|text| (*text).to_owned())) {
        for (range, limit) in
            [(ALL, 1_000), (ALL, 3), (TimeRange { start: START_MICROS + 300 * SECOND, end: START_MICROS + 500 * SECOND }, 5)]
        {
            let search = asked(&text, range, limit);
            let expected = naive(&rows, &search);
            hits += expected.len();
            assert_eq!(found(&engine, &search).await, expected, "{text} {range:?} {limit}");
        }
    }
    assert!(hits > 1_000, "{hits}");
}

/// Scenario: searches that find many traces, page by page. Guarantee: the pages are what one search finds, in its order, and the last
/// says that it is.
#[tokio::test]
async fn pages_are_one_search() {
    let (_, engine) = store(29).await;
    for (text, limit) in
        [("{}", 7), ("{ status = error }", 2), ("{ status = error } >> { kind = client }", 1), ("{ duration > 1s }", 3)]
    {
        let whole = found(&engine, &asked(text, ALL, 1_000)).await;
        assert!(whole.len() > 3 * limit, "{text}: {}", whole.len());
        let (mut pages, mut search) = (Vec::new(), asked(text, ALL, limit));
        loop {
            let page = engine.traceql_search(&tenant("a"), &search).await.unwrap();
            pages.extend(page.traces.iter().map(|trace| u128::from_be_bytes(trace.summary.trace_id.0)));
            search.cursor = page.next;
            if page.next.is_none() || pages.len() > whole.len() {
                break;
            }
            assert_eq!(page.traces.len(), limit, "{text}");
        }
        assert_eq!(pages, whole.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), "{text} {limit}");
    }
}

/// Scenario: traces of some length. Guarantee: the whole trace is as long as asked for, and its summary is of all its spans.
#[tokio::test]
async fn traces_are_as_long_as_asked_for() {
    let (own, engine) = store(22).await;
    let rows = batch(&own);
    let (least, most) = (Duration::from_millis(1_500), Duration::from_secs(4));
    let search = TraceQlSearch { min_duration: Some(least), max_duration: Some(most), ..asked("{ status = error }", ALL, 1_000) };
    let expected = naive(&rows, &search);
    assert!(expected.len() > 5 && expected.len() < naive(&rows, &asked("{ status = error }", ALL, 1_000)).len());
    assert_eq!(found(&engine, &search).await, expected);
    let answer = engine.traceql_search(&tenant("a"), &search).await.unwrap();
    assert!(answer.inspected_traces as usize >= expected.len() && answer.inspected_bytes > 0);
    for trace in answer.traces {
        let id = u128::from_be_bytes(trace.summary.trace_id.0);
        assert_eq!(trace.summary.spans, own.iter().filter(|row| row.trace == id).count() as u64);
        assert!((least.as_nanos()..=most.as_nanos()).contains(&(trace.summary.duration as u128)));
    }
}

/// A server span of tenant a; those of a later trace start later.
fn server(trace: u128, span: u64, parent: Option<u64>, name: &str, status: &'static str) -> SpanRow {
    SpanRow {
        tenant: "a".to_owned(),
        trace,
        span,
        parent,
        start: START + 1_000_000 * trace as u64 + span,
        duration: 10,
        name: name.to_owned(),
        kind: Some("server"),
        status: Some(status),
        ..SpanRow::default()
    }
}

/// Scenario: traces of a file that says how long each takes, with live spans of one, and copies in two. Guarantee: those as long as asked for
/// are found; of the others in that file no span is read.
#[tokio::test]
async fn traces_of_another_length_are_not_opened() {
    let long = |row: SpanRow| SpanRow { duration: 2_000_000_000, ..row };
    let root = |trace: u128| server(trace, 1, None, "root", "ok");
    let mut rows: Vec<SpanRow> = (1..=900).map(|trace| if trace % 50 == 0 { long(root(trace)) } else { root(trace) }).collect();
    // The copy that ends last counts: with it one trace is long, and another short, although from the first to the last it is long.
    let later = |row: SpanRow| SpanRow { start: row.start + 3_000_000_000, ..row };
    rows.extend([long(root(3)), later(root(7))]);
    let live = SpanRow { parent: Some(1), span: 2, ..long(root(11)) };
    let mut source = TestSource::new();
    source.add_summed_file(&rows).await;
    source.add_live(std::slice::from_ref(&live));
    let (engine, rows) = (source.engine(), batch(&[rows, vec![live]].concat()));
    let read = async |search: &TraceQlSearch| engine.traceql_search(&tenant("a"), search).await.unwrap().inspected_bytes;
    let all = asked("{ status = ok }", ALL, 1_000);
    let second = Some(Duration::from_secs(1));
    let at_least = TraceQlSearch { min_duration: second, ..all.clone() };
    let at_most = TraceQlSearch { max_duration: second, ..all.clone() };
    for (search, count) in [(&at_least, 20), (&at_most, 880)] {
        let expected = naive(&rows, search);
        assert_eq!(expected.len(), count);
        assert_eq!(found(&engine, search).await, expected);
    }
    let (some, all) = (read(&at_least).await, read(&all).await);
    assert!(2 * some < all, "{some} of {all}");
}

/// Scenario: many newer traces have spans of the right side only; of two older ones, one matches by the copy of a span that counts, the one
/// that ends last, the other by a copy that does not. Guarantee: the first is found, although the first traces looked at say nothing, and
/// wherever its spans are; with its summary.
#[tokio::test]
async fn the_copy_that_counts_decides() {
    let span = |trace: u128, span: u64, parent: Option<u64>, status: &'static str| {
        server(trace, span, parent, if parent.is_some() { "below" } else { "root" }, status)
    };
    let later = |row: SpanRow| SpanRow { duration: 20, ..row };
    let mut source = TestSource::new();
    let newer: Vec<SpanRow> = (10..200).map(|trace| span(trace, 1, None, "error")).collect();
    source.add_lake_file(&newer, true).await;
    let below = |trace: u128, status: &'static str| span(trace, 2, Some(1), status);
    source.add_file(&[span(2, 1, None, "ok"), below(2, "ok"), span(3, 1, None, "ok"), below(3, "error")]).await;
    source.add_live(&[later(below(2, "error")), later(below(3, "ok"))]);
    let engine = source.engine();
    for (text, expected) in [
        ("{ name = \"root\" } >> { status = error }", vec![2]),
        ("{ name = \"root\" } >> { status = error && span.far = 1 }", vec![]),
        ("{ name = \"root\" } && { name = \"below\" && status = ok }", vec![3]),
    ] {
        let answer = engine.traceql_search(&tenant("a"), &asked(text, ALL, 2)).await.unwrap();
        let found: Vec<u128> = answer.traces.iter().map(|trace| u128::from_be_bytes(trace.summary.trace_id.0)).collect();
        assert_eq!(found, expected, "{text}");
        let roots = answer.traces.iter().map(|trace| trace.summary.root_operation.as_deref());
        assert!(roots.into_iter().all(|root| root == Some("root")), "{text}");
    }
}

/// Scenario: hundreds of traces that all have both kinds of spans, in files and live; in some the left one has a child, in few the right one is
/// that. Guarantee: the newest of these are found, however many are asked for, and most of those without a child are not looked at.
#[tokio::test]
async fn what_has_no_child_is_above_nothing() {
    let mut places = [Vec::new(), Vec::new(), Vec::new()];
    for trace in 1..=700 {
        let is_below = trace % 20 == 0;
        places[0].push(server(trace, 1, None, "root", "ok"));
        places[usize::from(trace % 11 == 0)].push(server(trace, 2, Some(1), "left", "ok"));
        let right = server(trace, 3, Some(if is_below { 2 } else { 1 }), "right", "error");
        places[if trace % 7 == 0 { 2 } else { 0 }].push(right);
        if trace % 3 == 0 {
            places[usize::from(trace % 2 == 0)].push(server(trace, 4, Some(2), "child", "ok"));
        }
    }
    let rows = batch(&places.concat());
    let mut source = TestSource::new();
    source.add_lake_file(&places[0], true).await;
    source.add_file(&places[1]).await;
    source.add_live(&places[2]);
    let engine = source.engine();
    for (text, limit, most) in [
        ("{ name = \"left\" } >> { status = error }", 1, 50),
        ("{ name = \"left\" } >> { status = error }", 50, 400),
        ("{ name = \"left\" } > { status = error }", 1_000, 700),
        ("{ name = \"left\" } &> { name = \"child\" }", 40, 400),
        ("{ name = \"left\" } !> { status = error }", 20, 100),
    ] {
        let search = asked(text, ALL, limit);
        let expected = naive(&rows, &search);
        assert!(!expected.is_empty());
        assert_eq!(found(&engine, &search).await, expected, "{text} {limit}");
        let answer = engine.traceql_search(&tenant("a"), &search).await.unwrap();
        assert!(answer.inspected_traces <= most, "{text} {limit}: {}", answer.inspected_traces);
    }
}
