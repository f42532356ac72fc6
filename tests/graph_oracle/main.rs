//! Graph, latencies, SQL tables, and the graph's attributes in TraceQL, of a whole store, beside hops that are computed from what was sent, one whole trace at a time (P3, P4).
//!
//! The oracle is `hops/tests/common/oracle.rs`: the rules once more, without the code of H. It gets the spans as the test made them; the store gets
//! them as OTLP, in any order, with copies, late, and between flushes, merges, restarts, deletions and the end of retention.
//!
//! `MESHLAKE_GRAPH_ROUNDS` sets the number of stores, `MESHLAKE_GRAPH_SEED` the first seed:
//! `MESHLAKE_GRAPH_ROUNDS=200 cargo test --release --test graph_oracle` is the long form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

mod estimate;
mod graph;
#[path = "../../hops/tests/common/mod.rs"]
mod hop_cases;
mod known;
mod latency;
mod mesh;
mod otlp;
mod sql;
#[path = "../store/mod.rs"]
mod store;
mod traceql;

use std::collections::VecDeque;
use std::sync::Arc;

use known::Known;
use mesh::{MINUTE, START};
use meshlake_hops::Span;
use meshlake_query::{GraphEdge, GraphQuery, TimeRange};
use store::{Chance, TraceId};

type World = store::World<Span<'static>>;

/// Stores in the normal run.
const ROUNDS: u64 = 1;
const TRACES: u64 = 50;
/// Times that the larger requests hold all spans.
const STEPS: usize = 8;
const MINUTE_MICROS: i64 = 60_000_000;
const START_MICROS: i64 = (START / 1_000) as i64;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn minutes(first: u64, last: u64) -> TimeRange {
    TimeRange { start: START_MICROS + first as i64 * MINUTE_MICROS, end: START_MICROS + last as i64 * MINUTE_MICROS }
}

/// All hops are in this day.
fn everything() -> TimeRange {
    minutes(0, 24 * 60)
}

/// The spans of some traces in the order in which they are sent; and how many of them come late: when all others are in the lake.
fn traffic(chance: &mut Chance) -> (VecDeque<(TraceId, Span<'static>)>, usize) {
    let mut spans = Vec::new();
    for _ in 0..TRACES {
        let at = START + MINUTE + chance.below(180 * MINUTE);
        // Some begin where a minute ends, which belongs to it.
        let at = if chance.one_in(5) { at.next_multiple_of(MINUTE) } else { at };
        let (trace, of_trace) = mesh::trace(chance, at);
        spans.extend(of_trace.into_iter().map(|span| (chance.one_in(8), chance.next(), (trace, span))));
    }
    spans.sort_by_key(|(late, place, _)| (*late, *place));
    let late = spans.iter().filter(|(late, ..)| *late).count();
    (spans.into_iter().map(|(.., span)| span).collect(), late)
}

/// Sends some of what is to be sent, at times with spans that were sent before, or with requests that were.
async fn send(chance: &mut Chance, world: &mut World, left: &mut VecDeque<(TraceId, Span<'static>)>, most: usize) {
    for _ in 0..=chance.below(3) {
        let count = chance.below(most as u64 + 1) as usize;
        let mut spans: Vec<_> = left.drain(..count.min(left.len())).collect();
        if chance.one_in(3) {
            let sent = world.present.iter().flat_map(|(trace, spans)| spans.iter().map(|span| (*trace, *span)));
            spans.extend(sent.filter(|_| chance.one_in(20)));
        }
        if !spans.is_empty() {
            world.send(&spans).await;
        }
        if chance.one_in(3) {
            world.send_again(chance).await;
        }
        if chance.one_in(4) {
            world.send_as_another(chance).await;
        }
    }
}

/// One of the things that happen to a store; what it was.
async fn step(chance: &mut Chance, world: &mut World, left: &mut VecDeque<(TraceId, Span<'static>)>, most: usize) -> &'static str {
    if let Some(what) = world.happen(chance).await {
        return what;
    }
    send(chance, world, left, most).await;
    "sent"
}

/// A range that is asked for again and again, one of other minutes, and one that begins and ends within minutes, or in a moment of a hop.
fn ranges(chance: &mut Chance, known: &Known, seed: u64) -> Vec<TimeRange> {
    let random = |chance: &mut Chance| {
        let first = chance.below(190);
        minutes(first, first + 1 + chance.below(60))
    };
    let mut ranges = vec![everything(), random(&mut Chance(seed)), random(chance)];
    if !known.hops.is_empty() {
        let mut moment = || {
            let time = known.hops[chance.below(known.hops.len() as u64) as usize].1.time;
            (time / 1_000 + chance.below(3)) as i64 - 1
        };
        let (one, other) = (moment(), moment());
        ranges.push(TimeRange { start: one.min(other), end: one.max(other) + 1 });
    }
    ranges
}

/// Guarantee: every answer is what the oracle says.
async fn check(chance: &mut Chance, world: &World, seed: u64, context: &str) {
    let known = Known::of(&world.present);
    let (engine, known) = (world.engine(), &known);
    for range in ranges(chance, known, seed) {
        for filtered in [false, true] {
            graph::check(engine, known, &graph::question(chance, range, filtered), context).await;
        }
        latency::check(engine, known, &latency::question(chance, range), context).await;
        sql::check_hops(engine, known, range, context).await;
        traceql::check(chance, engine, known, range, context).await;
        if range.start % MINUTE_MICROS == 0 && range.end % MINUTE_MICROS == 0 {
            let step = chance.pick(&[("1m", 1), ("1m", 1), ("1h", 60), ("1d", 1_440)]);
            let table = chance.pick(&[sql::Table::Edges, sql::Table::Operations]);
            sql::check_sums(engine, known, table, step, range, context).await;
            sql::check_spans(engine, step, range, context).await;
        }
    }
}

async fn round(seed: u64) {
    let mut chance = Chance(seed);
    let (mut left, late) = traffic(&mut chance);
    let mut world = World::new(&mut chance).await;
    let most = left.len() / STEPS + 1;
    let mut steps = 0;
    while left.len() > late {
        let mut early: VecDeque<_> = left.drain(..left.len() - late).collect();
        let what = step(&mut chance, &mut world, &mut early, most).await;
        early.append(&mut left);
        left = early;
        steps += 1;
        check(&mut chance, &world, seed, &format!("seed {seed}, step {steps}: {what}")).await;
    }
    // The windows of all traces are compacted; now comes what is late.
    world.settle().await;
    check(&mut chance, &world, seed, &format!("seed {seed}, before late spans")).await;
    world.retain(&mut chance).await;
    check(&mut chance, &world, seed, &format!("seed {seed}, the oldest windows are gone")).await;
    while !left.is_empty() {
        let what = step(&mut chance, &mut world, &mut left, late / 2 + 1).await;
        steps += 1;
        check(&mut chance, &world, seed, &format!("seed {seed}, step {steps}, late spans: {what}")).await;
    }
    world.settle().await;
    check(&mut chance, &world, seed, &format!("seed {seed}, all is in the lake")).await;
    assert!(!Known::of(&world.present).hops.is_empty() && world.lake_files() > 1, "seed {seed}");
    world.restart(&mut chance).await;
    check(&mut chance, &world, seed, &format!("seed {seed}, all is in the lake, and the store is another")).await;
    world.close().await;
}

/// Scenario: stores that get random traces of a mesh in random order, batches, copies and delays, and are flushed, compacted, paused, restarted and
/// made to forget traces, parts of traces, and the oldest windows in between. Guarantee: after each step graph, latencies, and the tables `hops`, `edges_*` and `operations_*` are what the oracle
/// says of the spans that were sent: to the last request, and in the bucket of each quantile (P3, P4, P10).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_the_oracle() {
    let first = setting("MESHLAKE_GRAPH_SEED", 1);
    for seed in first..first + setting("MESHLAKE_GRAPH_ROUNDS", ROUNDS) {
        round(seed).await;
    }
}

/// The edges frontend -> details.
async fn edges(world: &World, range: TimeRange) -> Vec<Arc<GraphEdge>> {
    let query = GraphQuery::whole(range, 10);
    let graph = world.engine().graph(&Default::default(), &query).await.unwrap();
    let ends = |service: &str| {
        let of_service = graph.nodes.iter().filter(|node| node.service.as_deref() == Some(service));
        of_service.map(|node| node.id.clone()).collect::<Vec<_>>()
    };
    let (callers, callees) = (ends("frontend"), ends("details"));
    graph.edges.into_iter().filter(|edge| callers.contains(&edge.source) && callees.contains(&edge.target)).collect()
}

/// Requests, unresolved ones and the callee's reports of frontend -> details.
async fn called(world: &World, range: TimeRange) -> (u64, u64, u64) {
    let edges = edges(world, range).await;
    edges.iter().fold((0, 0, 0), |sums, edge| (sums.0 + edge.requests, sums.1 + edge.unresolved, sums.2 + edge.callee.reports))
}

/// Scenario: calls that take longer or shorter, of which some fail, each trace in a request. Guarantee: the slowest and the latest that failed are shown
/// of their edge, whether they are live, in fresh files, in the lake, or what is left when one was deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exemplars_are_the_slowest_and_the_latest_that_failed() {
    let mut chance = Chance(8);
    let mut world = World::new(&mut chance).await;
    for (trace, minute, seconds, failed) in [(1, 10, 3, true), (4, 20, 5, false), (3, 30, 5, true), (2, 40, 4, false)] {
        let [call, answer] = mesh::pair([trace; 16], START + minute * MINUTE + 1_000, 2_000);
        let (http_status, end) = (Some(if failed { 503 } else { 200 }), answer.start + seconds * 1_000_000_000);
        let answer = Span { end, http_status, grpc_status: None, response_flags: "-", error: failed, ..answer };
        world.send(&[call, answer].map(|span| ([trace; 16], span))).await;
    }
    let shown = async |world: &World| {
        let edges = edges(world, everything()).await;
        assert_eq!(edges.len(), 1);
        [edges[0].slowest, edges[0].latest_error].map(|exemplar| exemplar.map(|exemplar| (exemplar.trace_id.0, exemplar.value)))
    };
    let failed_at = |minute: u64| START + minute * MINUTE + 3_000;
    let expected = [Some(([3; 16], 5_000_000_000)), Some(([3; 16], failed_at(30)))];
    assert_eq!(shown(&world).await, expected, "at once");
    world.flush().await;
    assert_eq!(shown(&world).await, expected, "flushed");
    world.settle().await;
    assert_eq!(shown(&world).await, expected, "in the lake");
    world.delete([3; 16]).await;
    let expected = [Some(([4; 16], 5_000_000_000)), Some(([1; 16], failed_at(10)))];
    assert_eq!(shown(&world).await, expected, "one is deleted");
    world.close().await;
}

/// Scenario: calls whose windows were compacted; then the spans that answer come, which start at once, and more than an hour later. Guarantee: they are in
/// the graph at the next query, where no request is twice; and after a flush, a merge and a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_span_is_in_the_graph_at_the_next_query() {
    let mut chance = Chance(7);
    let mut world = World::new(&mut chance).await;
    let start = START + 30 * MINUTE + 1_000;
    let pairs = [([1; 16], 2_000), ([2; 16], 61 * MINUTE)].map(|(trace, delay)| (trace, mesh::pair(trace, start, delay)));
    let of_side = |side: usize| pairs.map(|(trace, spans)| (trace, spans[side]));
    world.send(&of_side(0)).await;
    world.settle().await;
    assert_eq!(called(&world, everything()).await, (2, 2, 0));
    world.send(&of_side(1)).await;
    assert_eq!(called(&world, everything()).await, (2, 0, 2), "at once");
    check(&mut chance, &world, 7, "late spans, at once").await;
    world.flush().await;
    assert_eq!(called(&world, everything()).await, (2, 0, 2), "flushed");
    world.settle().await;
    assert_eq!(called(&world, everything()).await, (2, 0, 2), "in the lake");
    check(&mut chance, &world, 7, "late spans, in the lake").await;
    world.restart(&mut chance).await;
    assert_eq!(called(&world, everything()).await, (2, 0, 2), "after a restart");
    world.close().await;
}

/// Scenario: a call, its copy and what answers it, which starts much later, are in three lake files; that of the call is written anew without another
/// trace, which was deleted, and so stands behind the copy's. Guarantee: the request is known in its minute, of which the copy's file says
/// nothing as long as the call's is before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_speaks_for_a_file_that_is_written_anew() {
    let mut chance = Chance(9);
    let mut world = World::with_files_of(20_000, &mut chance).await;
    let start = START + 30 * MINUTE + 1_000;
    let (trace, other) = ([1; 16], [2; 16]);
    let [call, answer] = mesh::pair(trace, start, 40 * MINUTE);
    let [of_other, _] = mesh::pair(other, start, 1_000);
    world.send(&[(trace, answer)]).await;
    world.settle().await;
    world.send(&[(trace, call), (other, of_other)]).await;
    world.settle().await;
    world.send(&[(trace, call)]).await;
    world.settle().await;
    assert_eq!(world.lake_files(), 3);
    assert_eq!(called(&world, minutes(70, 71)).await, (1, 0, 1));
    world.delete(other).await;
    assert_eq!(called(&world, everything()).await, (1, 0, 1));
    assert_eq!(called(&world, minutes(70, 71)).await, (1, 0, 1), "in the minute of the answer");
    check(&mut chance, &world, 9, "the other trace is deleted").await;
    world.close().await;
}
