//! TraceQL of a whole store, beside an interpreter that looks at every trace that was sent (P2, P3, P4).
//!
//! The oracle, the traces and the queries are those of `traceql/tests/common`: small traces, trees and chaos, and queries that often meet them.
//! What the service graph makes of the spans says the oracle of its rules, `hops/tests/common/oracle.rs`. The store gets the spans as OTLP, in any order, with copies, late, and between flushes, merges, restarts and deletions.
//!
//! `MESHLAKE_TRACEQL_ROUNDS` sets the number of stores, `MESHLAKE_TRACEQL_SEED` the first seed, `MESHLAKE_TRACEQL_QUERIES` how many searches and how
//! many metrics queries are asked after each step:
//! `MESHLAKE_TRACEQL_ROUNDS=50 MESHLAKE_TRACEQL_QUERIES=100 cargo test --release --test traceql_oracle` is the long form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

#[path = "../../traceql/tests/common/mod.rs"]
mod common;
#[path = "../../hops/tests/common/mod.rs"]
mod hop_cases;
mod metrics;
mod otlp;
mod placed;
mod search;
#[path = "../store/mod.rs"]
mod store;
mod traffic;

use common::{Span, Spans};
use meshlake_traceql::Reach;
use store::{Chance, TraceId};
use traffic::Traffic;

type World = store::World<Span>;

/// Stores in the normal run, and queries after each step.
const ROUNDS: u64 = 2;
const QUERIES: u64 = 6;
const TRACES: u64 = 60;
/// Times that the larger requests hold all spans.
const STEPS: usize = 6;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Sends some of what is to be sent, at times with `copies` of spans that were sent before, or with requests that were.
async fn send(chance: &mut Chance, world: &mut World, left: &mut Vec<(TraceId, Span)>, most: usize, copies: bool) {
    let count = chance.below(most as u64) as usize + 1;
    let mut spans = left.split_off(left.len().saturating_sub(count));
    if copies && chance.one_in(3) {
        let sent = world.present.iter().flat_map(|(trace, spans)| spans.iter().map(|span| (*trace, span.clone())));
        spans.extend(sent.filter(|_| chance.one_in(20)));
    }
    world.send(&spans).await;
    if chance.one_in(3) {
        world.send_again(chance).await;
    }
    if chance.one_in(4) {
        world.send_as_another(chance).await;
    }
}

/// One of the things that happen to a store; what it was.
async fn step(chance: &mut Chance, world: &mut World, left: &mut Vec<(TraceId, Span)>, most: usize, copies: bool) -> &'static str {
    if let Some(what) = world.happen(chance).await {
        return what;
    }
    send(chance, world, left, most, copies).await;
    "sent"
}

/// Guarantee: every answer is what the oracle says. (Where spans are asked each on its own, `copies` count until they are merged.)
async fn check(chance: &mut Chance, world: &World, traffic: &mut Traffic, copies: bool, context: &str) {
    let known: Vec<Spans> = world.present.iter().map(|(id, spans)| Spans { id: *id, spans: placed::placed(id, spans) }).collect();
    for _ in 0..setting("MESHLAKE_TRACEQL_QUERIES", QUERIES) {
        search::check(chance, world.engine(), &known, &traffic.search(), context).await;
        let series = traffic.series();
        if !copies || common::query(&series).conditions().reach == Reach::Trace {
            metrics::check(chance, world.engine(), &known, &series, context).await;
        }
    }
}

async fn round(seed: u64) {
    let mut chance = Chance(seed);
    let mut traffic = Traffic::new(&mut chance);
    let mut left = traffic.spans(&mut chance, TRACES);
    let mut world = World::new(&mut chance).await;
    let (most, copies) = (left.len() / STEPS + 1, chance.one_in(2));
    let mut steps = 0;
    while !left.is_empty() {
        let what = step(&mut chance, &mut world, &mut left, most, copies).await;
        steps += 1;
        check(&mut chance, &world, &mut traffic, copies, &format!("seed {seed}, step {steps}: {what}")).await;
    }
    world.settle().await;
    check(&mut chance, &world, &mut traffic, copies, &format!("seed {seed}, all is in the lake")).await;
    world.close().await;
}

/// Scenario: stores that get random traces in random order, batches, copies and delays, and are flushed, compacted, paused, restarted and made to
/// forget traces and parts of them in between. Guarantee: after each step searches and metrics in TraceQL have the answer that the oracle has of the spans
/// that were sent, wherever they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_the_oracle() {
    let first = setting("MESHLAKE_TRACEQL_SEED", 1);
    for seed in first..first + setting("MESHLAKE_TRACEQL_ROUNDS", ROUNDS) {
        round(seed).await;
    }
}
