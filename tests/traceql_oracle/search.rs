use std::cmp::Reverse;

use meshlake_config::Tenant;
use meshlake_query::{Engine, FoundSpanset, FoundTrace, QueryError, TimeRange, TraceQlSearch};
use meshlake_traceql::Query;

use crate::common::{Spans, oracle, pipeline, query, wide};
use crate::otlp::any_value;
use crate::store::{Chance, TraceId};
use crate::traffic::{MINUTE, START};

/// One of so many searches is read page by page, too, in about so many pages.
const PAGED: u64 = 6;
const PAGES_MAX: usize = 6;

/// A trace that is found, and its spansets as text.
type Found = (TraceId, Vec<String>);

/// Guarantee: a search finds the newest traces of those that match, with the oracle's spansets.
pub async fn check(chance: &mut Chance, engine: &Engine, known: &[Spans], text: &str, context: &str) {
    let search = question(chance, query(text));
    let expected = expected(&search, known);
    let got = engine.traceql_search(&Tenant::default(), &search).await;
    let (got, expected) = match (got, expected) {
        (Ok(got), Some(expected)) => (got, expected),
        // Whether a search sees what it fails on, hangs on what it has to look at.
        (Ok(_), None) => return,
        (Err(error), None) => return refused(&error, text, context),
        (Err(error), Some(_)) => panic!("{text}: {error}; {context}"),
    };
    let got: Vec<Found> = got
        .traces
        .iter()
        .map(|trace| {
            let of_trace = known.iter().find(|known| known.id == trace.summary.trace_id.0).unwrap();
            assert_eq!(trace.summary.spans, of_trace.spans.len() as u64, "{text}: {context}");
            (trace.summary.trace_id.0, trace.spansets.iter().map(told).collect())
        })
        .collect();
    assert_eq!(got, expected, "{text}: {search:?}; {context}");
    if chance.below(PAGED) == 0 {
        pages(chance, engine, search, context).await;
    }
}

/// Guarantee: page by page a search finds what it finds at once.
async fn pages(chance: &mut Chance, engine: &Engine, mut search: TraceQlSearch, context: &str) {
    let find = async |search: &TraceQlSearch| engine.traceql_search(&Tenant::default(), search).await.unwrap();
    // As text: not every number equals itself.
    let texts = |traces: &[FoundTrace]| traces.iter().map(|trace| format!("{trace:?}")).collect::<Vec<_>>();
    search.limit = 10_000;
    let whole = texts(&find(&search).await.traces);
    search.limit = chance.pick(&[1, 3, 10]).max(whole.len() / PAGES_MAX + 1);
    let mut pages = Vec::new();
    loop {
        let page = find(&search).await;
        pages.extend(texts(&page.traces));
        search.cursor = page.next;
        if search.cursor.is_none() || pages.len() > whole.len() {
            break;
        }
    }
    assert_eq!(pages, whole, "{search:?}; {context}");
}

fn question(chance: &mut Chance, query: Query) -> TraceQlSearch {
    let minutes = |minutes: u64| ((START + minutes * MINUTE) / 1_000) as i64;
    let first = chance.below(190);
    let range = match chance.below(3) {
        0 => TimeRange { start: minutes(0), end: minutes(24 * 60) },
        _ => TimeRange { start: minutes(first), end: minutes(first + 1 + chance.below(60)) },
    };
    let (limit, spans_per_spanset) = (chance.pick(&[1, 3, 10, 1_000]), chance.pick(&[0, 1, 3]));
    TraceQlSearch { query, range, limit, spans_per_spanset, min_duration: None, max_duration: None, cursor: None }
}

/// Matched spans, attributes, and the spans that are shown.
fn told(spanset: &FoundSpanset) -> String {
    let spans: Vec<_> = spanset.spans.iter().map(|span| (span.id, span.start, span.duration, &span.name)).collect();
    format!("{} {:?} {spans:?}", spanset.matched, spanset.attributes)
}

/// What is found; nothing if the query fails on any trace.
fn expected(search: &TraceQlSearch, known: &[Spans]) -> Option<Vec<Found>> {
    let pipeline = pipeline(&search.query);
    let mut found = Vec::new();
    for trace in known {
        let Ok(spansets) = oracle::search(pipeline, trace) else { return None };
        let in_range = |span: usize| {
            let start = (trace.spans[span].start / 1_000) as i64;
            search.range.start <= start && start < search.range.end
        };
        if oracle::found::is_found(pipeline, trace, in_range).unwrap() {
            let start = trace.spans.iter().map(|span| span.start).min();
            let told = |(spans, attributes): &oracle::Found| expected_spanset(search, trace, spans, attributes);
            found.push((Reverse(start), (trace.id, spansets.iter().map(told).collect())));
        }
    }
    found.sort();
    found.truncate(search.limit);
    Some(found.into_iter().map(|(_, found)| found).collect())
}

fn expected_spanset(
    search: &TraceQlSearch,
    trace: &Spans,
    spans: &[usize],
    attributes: &[(String, meshlake_traceql::Value<'static>)],
) -> String {
    let most = if search.spans_per_spanset == 0 { spans.len() } else { search.spans_per_spanset };
    let shown = spans.iter().take(most).map(|span| &trace.spans[*span]);
    let shown: Vec<_> = shown.map(|span| (wide(span.id), span.start as i64, span.duration, &span.name)).collect();
    let attributes: Vec<_> = attributes.iter().map(|(name, value)| (name.clone(), any_value(value))).collect();
    format!("{} {attributes:?} {shown:?}", spans.len())
}

/// Why an answer is none; a server's fault fails the test.
pub fn refused(error: &QueryError, text: &str, context: &str) {
    assert!(matches!(error, QueryError::Invalid { .. }), "{text}: {error}; {context}");
}
