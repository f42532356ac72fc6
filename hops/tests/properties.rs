//! Random traces: any order, any copies, any nonsense; and the rules once more as an oracle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::random::{cases, trace};
use common::{TRACE, oracle, run};
use meshlake_hops::{Direction, Flags, Hop, NodeKind, Role, Span, SpanKind, TraceHops};
use proptest::prelude::*;

fn check(spans: &[Span<'static>]) -> Result<Vec<Hop<'static>>, TestCaseError> {
    let (hops, unnamed) = run(spans);
    let (expected, expected_unnamed) = oracle::hops(&TRACE, spans);
    prop_assert_eq!(&hops, &expected);
    prop_assert_eq!(unnamed, expected_unnamed);
    Ok(hops)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Scenario: any trace. Guarantee: what the rules say, computed another way.
    #[test]
    fn the_rules_say_the_same(spans in trace()) {
        check(&spans)?;
    }

    /// Scenario: the same spans in another order, some of them more than once (P4). Guarantee: the same hops.
    #[test]
    fn order_and_copies_do_not_matter(spans in trace(), seed in any::<u64>(), copies in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let (expected, _) = run(&spans);
        let mut other = spans.clone();
        other.extend(copies.iter().filter(|_| !spans.is_empty()).map(|copy| spans[copy.index(spans.len())]));
        other.sort_by_cached_key(|span| (span.start ^ seed, span.end.wrapping_mul(seed), span.name));
        prop_assert_eq!(&run(&other).0, &expected);
        other.reverse();
        prop_assert_eq!(&run(&other).0, &expected);
    }

    /// Scenario: the spans of a trace come one by one, and each takes out H of what was there and puts in H of what is (R9).
    /// Guarantee: keys find every hop to take out, none is in the way, and in the end there is H of all.
    #[test]
    fn late_spans_replace_hops(spans in trace()) {
        let mut kept: BTreeMap<_, _> = BTreeMap::new();
        for known in 1..=spans.len() {
            for hop in run(&spans[..known - 1]).0 {
                prop_assert_eq!(kept.remove(&hop.key), Some(hop));
            }
            prop_assert!(kept.is_empty());
            for hop in run(&spans[..known]).0 {
                prop_assert!(kept.insert(hop.key, hop).is_none());
            }
        }
        prop_assert!(run(&spans).0.iter().all(|hop| kept.get(&hop.key) == Some(hop)));
    }

    /// Scenario: any trace. Guarantee: each span that counts once, with the node that the rules say; the hops are the same, of these nodes.
    #[test]
    fn nodes_are_those_of_the_rules(spans in trace()) {
        let (mut hops, mut nodes, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        let summary = TraceHops::new().append_with_nodes(&TRACE, &spans, &mut hops, &mut nodes);
        prop_assert_eq!(TraceHops::new().append(&TRACE, &spans, &mut alone), summary);
        prop_assert_eq!(&hops, &alone);
        let found: Vec<_> = nodes.iter().map(|(place, node)| (spans[*place as usize], *node)).collect();
        prop_assert_eq!(found, oracle::nodes(&TRACE, &spans));
        for hop in hops {
            let (_, node) = nodes.iter().find(|(place, _)| *place == hop.span).unwrap();
            prop_assert_eq!(*node, if hop.key.direction == Direction::In { hop.callee } else { hop.caller });
        }
    }

    /// Scenario: any trace. Guarantee: one key a hop; calls and attempts add up; no side is invented.
    #[test]
    fn invariants(spans in trace()) {
        let (hops, _) = run(&spans);
        let keys: BTreeSet<_> = hops.iter().map(|hop| hop.key).collect();
        prop_assert_eq!(keys.len(), hops.len());
        prop_assert!(hops.is_sorted_by_key(|hop| (hop.time, hop.key.span_id, hop.key.side, hop.key.direction)));
        for hop in &hops {
            prop_assert_eq!(hop.callee_report.is_some(), hop.key.direction == Direction::In);
            prop_assert!(hop.key.direction == Direction::In || hop.caller_report.is_some());
            prop_assert!(hop.calls <= 1 && hop.attempt >= 1);
            prop_assert!(hop.caller.kind != NodeKind::Missing || hop.flags.contains(Flags::UNRESOLVED));
            prop_assert!(hop.network.is_none() || (hop.caller_report.is_some() && hop.callee_report.is_some()));
            prop_assert!(!matches!(hop.callee.kind, NodeKind::Outside | NodeKind::Unknown | NodeKind::Missing));
        }
    }

    /// Scenario: one worker for many traces. Guarantee: nothing of a trace is left in the next.
    #[test]
    fn workers_forget(traces in prop::collection::vec(trace(), 1..6)) {
        let mut worker = TraceHops::new();
        for spans in &traces {
            let (mut hops, mut fresh) = (Vec::new(), Vec::new());
            worker.append(&TRACE, spans, &mut hops);
            TraceHops::new().append(&TRACE, spans, &mut fresh);
            prop_assert_eq!(hops.len(), fresh.len());
            prop_assert!(hops.iter().zip(&fresh).all(|(a, b)| (a.key, a.caller, a.callee) == (b.key, b.caller, b.callee)));
        }
    }
}

/// Scenario: spans of a huge trace in shapes that tempt to look at all pairs. Guarantee: an answer in time.
#[test]
fn huge_traces_are_answered() {
    let id = |n: usize| (n as u64 + 1).to_be_bytes();
    let base = |n: usize| Span { span_id: id(n), start: n as u64, end: 1_000_000 - n as u64, ..Span::default() };
    /// The number of its parent, and what the span is.
    type Shape = fn(usize) -> (usize, SpanKind, Role);
    let shapes: [Shape; 4] = [
        |n| (n.saturating_sub(1), SpanKind::Client, Role::Application),
        |n| (n.saturating_sub(1), if n % 2 == 0 { SpanKind::Client } else { SpanKind::Server }, Role::Sidecar),
        |n| (0, SpanKind::Server, if n % 2 == 0 { Role::Sidecar } else { Role::Application }),
        |n| (n / 2, SpanKind::Internal, Role::Application),
    ];
    for shape in shapes {
        let spans: Vec<_> = (0..100_000)
            .map(|n| {
                let (parent, kind, role) = shape(n);
                let parent_span_id = if n == 0 { [0; 8] } else { id(parent) };
                Span { parent_span_id, kind, role, service: if n % 3 == 0 { "a" } else { "b" }, ..base(n) }
            })
            .collect();
        let start = std::time::Instant::now();
        let mut hops = Vec::new();
        TraceHops::new().append(&TRACE, &spans, &mut hops);
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
