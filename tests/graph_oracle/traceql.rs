//! What TraceQL makes of the graph's attributes, beside the oracle's hops.

use std::collections::BTreeMap;

use meshlake_hops::{Direction, Hop};
use meshlake_query::{Engine, GraphQuery, TimeRange, TraceQlMetrics, TraceQlSearch};
use meshlake_traceql::{Series, Value};

use crate::hop_cases::service_id;
use crate::known::Known;
use crate::store::{Chance, TraceId};

const ENTRIES: &str = "{ span.meshlake.entry } | count_over_time() by(span.meshlake.node)";
const ENDS: &str = "{ span.meshlake.callee != nil } | count_over_time() by(span.meshlake.caller, span.meshlake.callee)";

/// Spans by what they are counted by; empty is missing.
type Counts = BTreeMap<Vec<String>, u64>;

/// The answer to one of the queries, of which these are the labels.
async fn counted(engine: &Engine, query: &str, labels: &[&str], range: TimeRange) -> Counts {
    let (start, end) = (range.start as u64 * 1_000, range.end as u64 * 1_000);
    let query = query.parse().unwrap();
    let asked = TraceQlMetrics { query, start, end, step: 0, instant: true, exemplars: 0, max_series: 10_000 };
    let answer = engine.traceql_metrics(&Default::default(), &asked).await.unwrap();
    let count = |series: &Series| {
        let value = |label: &&str| match series.labels.iter().find(|(name, _)| name == label) {
            Some((_, Value::Text(text))) => text.to_string(),
            _ => String::new(),
        };
        (labels.iter().map(value).collect(), series.values[0] as u64)
    };
    answer.series.iter().map(count).collect()
}

fn count(keys: impl Iterator<Item = Vec<Option<String>>>) -> Counts {
    let mut counts = Counts::new();
    keys.for_each(|key| *counts.entry(key.into_iter().map(Option::unwrap_or_default).collect()).or_default() += 1);
    counts
}

/// Of two hops of one span that of its request, and all others.
fn told(known: &Known) -> Vec<&(TraceId, Hop<'static>)> {
    let key = |(trace, hop): &&(TraceId, Hop<'static>)| (*trace, hop.key.span_id, hop.key.side, hop.key.direction);
    let mut hops: Vec<_> = known.hops.iter().collect();
    hops.sort_by_key(key);
    hops.dedup_by_key(|hop| (hop.0, hop.1.key.span_id, hop.1.key.side));
    hops
}

/// Guarantee: entries are the requests of nodes that observed them, the graph's requests but for those that nobody answered; hops are known by
/// their key spans (P3).
pub async fn check(chance: &mut Chance, engine: &Engine, known: &Known, range: TimeRange, context: &str) {
    let entries = counted(engine, ENTRIES, &["span.meshlake.node"], range).await;
    let of_way = |way| known.within(range).filter(move |(_, hop)| hop.key.direction == way);
    let callees = |way| count(of_way(way).map(|(_, hop)| vec![service_id(&hop.callee)]));
    assert_eq!(entries, callees(Direction::In), "{ENTRIES}: {context}, {range:?}");
    let unanswered = callees(Direction::Out);
    for node in engine.graph(&Default::default(), &GraphQuery::whole(range, 100_000)).await.unwrap().nodes {
        let of = |counts: &Counts| counts.get(&vec![node.id.clone()]).copied().unwrap_or(0);
        assert_eq!(node.requests, of(&entries) + of(&unanswered), "{node:?}: {context}, {range:?}");
    }
    let told = told(known);
    let within: Vec<_> = known.within(range).map(|(trace, hop)| (*trace, hop.key)).collect();
    let in_range = told.iter().filter(|(trace, hop)| within.contains(&(*trace, hop.key)));
    let expected = count(in_range.map(|(_, hop)| vec![service_id(&hop.caller), service_id(&hop.callee)]));
    let ends = counted(engine, ENDS, &["span.meshlake.caller", "span.meshlake.callee"], range).await;
    assert_eq!(ends, expected, "{ENDS}: {context}, {range:?}");
    if !told.is_empty() {
        let (_, hop) = told[chance.below(told.len() as u64) as usize];
        search(engine, &told, hop, context).await;
    }
}

/// Guarantee: the traces with hops of an edge, and in each as many spans as it has of these.
async fn search(engine: &Engine, told: &[&(TraceId, Hop<'static>)], of: &Hop<'static>, context: &str) {
    let ends = |hop: &Hop<'_>| [service_id(&hop.caller), service_id(&hop.callee)];
    let [caller, callee] = ends(of).map(|id| id.map_or("nil".to_owned(), |id| format!("{id:?}")));
    let text = format!("{{ span.meshlake.caller = {caller} && span.meshlake.callee = {callee} }}");
    let search = TraceQlSearch {
        query: text.parse().unwrap(),
        range: crate::everything(),
        limit: 10_000,
        spans_per_spanset: 0,
        min_duration: None,
        max_duration: None,
        cursor: None,
    };
    let mut expected = BTreeMap::<TraceId, usize>::new();
    for (trace, _) in told.iter().filter(|(_, hop)| ends(hop) == ends(of)) {
        *expected.entry(*trace).or_default() += 1;
    }
    let found = engine.traceql_search(&Default::default(), &search).await.unwrap();
    let found: BTreeMap<TraceId, usize> =
        found.traces.iter().map(|trace| (trace.summary.trace_id.0, trace.spansets[0].matched)).collect();
    assert_eq!(found, expected, "{text}: {context}");
}
