use meshlake_hops::{Rate, rates_differ};

use super::{Change, ChangeCounts, EdgeDiff, GraphDiff, GraphDiffQuery};
use crate::graph::tests::{asked, pair};
use crate::testing::{Chance, START, SpanRow, TestSource, mesh_rows, scatter, tenant};
use crate::types::TimeRange;
use crate::{Engine, QueryError};

const START_MICROS: i64 = (START / 1000) as i64;
/// 1,000 seconds, and the 500 that follow them.
const BEFORE: TimeRange = TimeRange { start: START_MICROS, end: START_MICROS + 1_000_000_000 };
const AFTER: TimeRange = TimeRange { start: BEFORE.end, end: BEFORE.end + 500_000_000 };

fn question(range: TimeRange, baseline: TimeRange) -> GraphDiffQuery {
    GraphDiffQuery { graph: asked(range), baseline, q: 0.05 }
}

/// Requests from one service to another, spread over a range.
struct Calls {
    ends: (&'static str, &'static str),
    count: u64,
    failed: u64,
    millis: i64,
}

fn calls(caller: &'static str, callee: &'static str, count: u64, failed: u64, millis: i64) -> Calls {
    Calls { ends: (caller, callee), count, failed, millis }
}

/// The spans of all of them, each request a trace of its own.
fn rows(range: TimeRange, trace_state: Option<&str>, calls: &[Calls], rows: &mut Vec<SpanRow>) {
    for Calls { ends: (caller, callee), count, failed, millis } in calls {
        for number in 0..*count {
            let place = (range.end - range.start) as u64 * 1000 * (number + 1) / (count + 1);
            let trace = (rows.len() as u128 + 1) | (1 << 55);
            rows.extend(pair(1, caller, callee).map(|row| SpanRow {
                trace,
                start: range.start as u64 * 1000 + place,
                duration: millis * 1_000_000,
                error: number < *failed,
                trace_state: trace_state.map(str::to_owned),
                ..row
            }));
        }
    }
}

fn engine(before: &[Calls], after: &[Calls], states: [Option<&str>; 2]) -> Engine {
    let (mut all, mut source) = (Vec::new(), TestSource::new());
    rows(BEFORE, states[0], before, &mut all);
    rows(AFTER, states[1], after, &mut all);
    source.add_live(&all);
    source.engine()
}

fn mesh() -> Engine {
    let before = [
        calls("a", "b", 200, 2, 10),
        calls("b", "c", 100, 0, 10),
        calls("y", "z", 100, 3, 10),
        calls("s", "t", 100, 0, 10),
        calls("x", "d", 3, 0, 10),
    ];
    let after = [
        calls("a", "b", 100, 30, 10),
        calls("b", "c", 100, 0, 10),
        calls("y", "z", 50, 1, 10),
        calls("s", "t", 50, 0, 20),
        calls("a", "e", 5, 0, 10),
    ];
    engine(&before, &after, [None, None])
}

fn edge<'d>(diff: &'d GraphDiff, source: &str, target: &str) -> &'d EdgeDiff {
    let is = |id: &str, name: &str| id.rsplit('/').next() == Some(name);
    diff.edges.iter().find(|edge| is(&edge.source, source) && is(&edge.target, target)).unwrap()
}

/// Scenario: an edge that fails more often, one with twice the rate, one twice as slow, one as it was, a new one and one that is gone; the range is half
/// as long as its baseline. Guarantee: each is what it is, with the size of the change; by the test that is meant and no other; what did not change is
/// counted alone.
#[tokio::test]
async fn changes_are_found() {
    let diff = mesh().graph_diff(&tenant("a"), &question(AFTER, BEFORE)).await.unwrap();
    assert_eq!(diff.edge_counts, ChangeCounts { new: 1, gone: 1, changed: 3, same: 1 });
    assert_eq!((diff.edges.len(), diff.truncated, diff.before.requests, diff.after.requests), (5, false, 503, 305));

    let failing = edge(&diff, "a", "b");
    let errors = failing.errors.unwrap();
    assert_eq!((failing.change, failing.rate.ratio, failing.rate.test.significant), (Change::Changed, Some(1.0), false));
    assert!(errors.test.significant && (errors.difference - 0.29).abs() < 1e-12, "{errors:?}");
    assert_eq!((failing.before.errors, failing.after.errors, failing.after.rate), (2, 30, 0.2));

    let busier = edge(&diff, "b", "c");
    let p = rates_differ(Rate { events: 100, exposure: 1_000.0 }, Rate { events: 100, exposure: 500.0 });
    assert_eq!((busier.change, busier.rate.ratio, busier.rate.test.p), (Change::Changed, Some(2.0), p));
    assert!(busier.rate.test.significant && busier.rate.test.adjusted > p && !busier.errors.unwrap().test.significant);

    let slower = edge(&diff, "s", "t");
    let latency = slower.latency.as_ref().unwrap();
    assert_eq!((slower.change, slower.rate.test.significant, latency.side), (Change::Changed, false, "callee"));
    // 50 latencies are too few for more.
    assert_eq!(latency.quantiles.iter().map(|quantile| quantile.name).collect::<Vec<_>>(), ["p50", "p90"]);
    for quantile in &latency.quantiles {
        let shift = quantile.shift;
        assert!(quantile.test.significant && shift.low > 9_000_000 && shift.high < 11_000_000, "{quantile:?}");
        assert!(shift.low <= 10_000_000 && 10_000_000 <= shift.high, "{quantile:?}");
    }

    let new = edge(&diff, "a", "e");
    assert_eq!(
        (new.change, new.before.requests, new.rate.ratio, new.errors, new.latency.is_none()),
        (Change::New, 0, None, None, true)
    );
    let gone = edge(&diff, "x", "d");
    assert_eq!((gone.change, gone.after.requests, gone.rate.ratio, gone.errors), (Change::Gone, 0, Some(0.0), None));

    let node = |name: &str| diff.nodes.iter().find(|node| node.node.service.as_deref() == Some(name)).map(|node| node.change);
    assert_eq!((node("e"), node("d"), node("x")), (Some(Change::New), Some(Change::Gone), Some(Change::Gone)));
    assert_eq!(
        (node("b"), node("c"), node("t"), node("y")),
        (Some(Change::Changed), Some(Change::Changed), Some(Change::Same), None)
    );
    assert_eq!(diff.node_counts, ChangeCounts { new: 1, gone: 2, changed: 2, same: 5 });
}

/// Scenario: the same, range and baseline exchanged; fewer edges than there are; edges with few requests, and those of one service alone. Guarantee: what
/// was new is gone, with the same p-values; the surest edges are kept, all are counted.
#[tokio::test]
async fn exchanged_limited_and_filtered() {
    let engine = mesh();
    let there = engine.graph_diff(&tenant("a"), &question(AFTER, BEFORE)).await.unwrap();
    let back = engine.graph_diff(&tenant("a"), &question(BEFORE, AFTER)).await.unwrap();
    assert_eq!(back.edge_counts, there.edge_counts);
    assert_eq!((edge(&back, "a", "e").change, edge(&back, "x", "d").change), (Change::Gone, Change::New));
    for edge in &there.edges {
        let other = back.edges.iter().find(|other| (&other.source, &other.target) == (&edge.source, &edge.target)).unwrap();
        assert!((edge.rate.test.p - other.rate.test.p).abs() < 1e-9, "{edge:?} {other:?}");
        assert_eq!((edge.before, edge.after), (other.after, other.before));
    }

    let mut query = question(AFTER, BEFORE);
    query.graph.limit = 1;
    let first = engine.graph_diff(&tenant("a"), &query).await.unwrap();
    assert_eq!((first.edges.len(), first.truncated, first.edge_counts), (1, true, there.edge_counts));
    assert_eq!(first.edges[0], there.edges[0]);

    let mut query = question(AFTER, BEFORE);
    query.graph.min_requests = 5;
    let busy = engine.graph_diff(&tenant("a"), &query).await.unwrap();
    assert_eq!(busy.edge_counts, ChangeCounts { gone: 0, ..there.edge_counts });

    query.graph.service = Some("y".to_owned());
    let one = engine.graph_diff(&tenant("a"), &query).await.unwrap();
    assert_eq!((one.edges.len(), one.edge_counts), (0, ChangeCounts { same: 1, ..ChangeCounts::default() }));
}

/// Scenario: half of the traces kept before, all of them after, at the same rate of requests; and the same without saying so. Guarantee: the rate did not
/// change, for kept requests stand for others; where sampling is not known that is said, and the counts are compared.
#[tokio::test]
async fn sampling_that_changes_is_no_change() {
    let (before, after) = ([calls("a", "b", 400, 0, 10)], [calls("a", "b", 400, 0, 10)]);
    let kept = engine(&before, &after, [Some("ot=th:8"), Some("ot=th:0")]);
    let diff = kept.graph_diff(&tenant("a"), &question(AFTER, BEFORE)).await.unwrap();
    assert_eq!(diff.edge_counts, ChangeCounts { same: 1, ..ChangeCounts::default() });

    let unknown = engine(&before, &after, [None, Some("ot=th:0")]);
    let diff = unknown.graph_diff(&tenant("a"), &question(AFTER, BEFORE)).await.unwrap();
    let rate = edge(&diff, "a", "b").rate;
    assert_eq!((rate.ratio, rate.sampling_known, rate.test.significant), (Some(2.0), false, true));
}

/// Scenario: random traces of a mesh in two ranges. Guarantee: all edges of both graphs are compared once, with the numbers that the graphs have (P3), and
/// p-values are probabilities that adjusting does not lessen.
#[tokio::test]
async fn numbers_are_those_of_the_graphs() {
    let engine = scatter(&mut Chance(31), &mesh_rows(&mut Chance(32), "a", 200)).await.engine();
    let (before, after) = (
        TimeRange { start: START_MICROS - 1, end: START_MICROS + 300_000_000 },
        TimeRange { start: START_MICROS + 300_000_000, end: START_MICROS + 2_000_000_000 },
    );
    let diff = engine.graph_diff(&tenant("a"), &GraphDiffQuery { q: 0.999, ..question(after, before) }).await.unwrap();
    let graphs =
        [engine.graph(&tenant("a"), &asked(before)).await.unwrap(), engine.graph(&tenant("a"), &asked(after)).await.unwrap()];
    assert_eq!([diff.before, diff.after], [graphs[0].counts, graphs[1].counts]);
    let mut ends: Vec<_> = graphs.iter().flat_map(|graph| &graph.edges).map(|edge| (&edge.source, &edge.target)).collect();
    ends.sort();
    ends.dedup();
    let ChangeCounts { new, gone, changed, same } = diff.edge_counts;
    assert_eq!((new + gone + changed + same) as usize, ends.len());
    assert_eq!((new + gone + changed) as usize, diff.edges.len());
    for edge in &diff.edges {
        for (traffic, graph) in [edge.before, edge.after].iter().zip(&graphs) {
            let found = graph.edges.iter().find(|found| (&found.source, &found.target) == (&edge.source, &edge.target));
            let numbers = found.map_or((0, 0, 0.0), |found| (found.requests, found.errors, found.rate));
            assert_eq!((traffic.requests, traffic.errors, traffic.rate), numbers, "{edge:?}");
        }
        let quantiles = edge.latency.iter().flat_map(|latency| &latency.quantiles).map(|quantile| quantile.test);
        for test in quantiles.chain([edge.rate.test]).chain(edge.errors.map(|errors| errors.test)) {
            assert!(0.0 <= test.p && test.p <= test.adjusted && test.adjusted <= 1.0, "{edge:?}");
        }
    }
    assert!(diff.edges.windows(2).all(|pair| least(&pair[0]) <= least(&pair[1])));
}

fn least(edge: &EdgeDiff) -> f64 {
    let quantiles = edge.latency.iter().flat_map(|latency| &latency.quantiles).map(|quantile| quantile.test);
    let tests = quantiles.chain([edge.rate.test]).chain(edge.errors.map(|errors| errors.test));
    tests.map(|test| test.adjusted).fold(1.0, f64::min)
}

/// Scenario: ranges that overlap or are empty, shares that are none. Guarantee: refused, with what is wrong; ranges that touch are not.
#[tokio::test]
async fn ranges_and_shares_are_checked() {
    let engine = TestSource::new().engine();
    let ask = async |query: GraphDiffQuery| engine.graph_diff(&tenant("a"), &query).await;
    let touching = TimeRange { start: BEFORE.start, end: AFTER.start };
    assert_eq!(ask(question(AFTER, touching)).await.unwrap(), GraphDiff::default());
    let overlapping = TimeRange { end: AFTER.start + 1, ..BEFORE };
    let empty = TimeRange { start: 5, end: 5 };
    for (query, expected) in [
        (question(AFTER, overlapping), "overlap"),
        (question(overlapping, AFTER), "overlap"),
        (question(AFTER, AFTER), "overlap"),
        (question(AFTER, empty), "empty"),
        (question(empty, AFTER), "empty"),
        (GraphDiffQuery { q: 0.0, ..question(AFTER, BEFORE) }, "q is 0"),
        (GraphDiffQuery { q: 1.0, ..question(AFTER, BEFORE) }, "q is 1"),
        (GraphDiffQuery { q: f64::NAN, ..question(AFTER, BEFORE) }, "q is NaN"),
    ] {
        let Err(QueryError::Invalid { message }) = ask(query).await else { panic!("{expected}") };
        assert!(message.contains(expected), "{message}");
    }
}
