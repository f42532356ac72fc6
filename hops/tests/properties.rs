//! Random traces: any order, any copies, any nonsense; and the rules once more as an oracle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{TRACE, oracle, run};
use meshlake_hops::{Direction, End, Flags, Hop, Link, NodeKind, Resource, Role, Span, SpanKind, TraceHops};
use proptest::prelude::*;
use proptest::sample::select;

/// Workloads, each of the service before its dash.
const WORKLOADS: [&str; 4] = ["a-v1", "b-v1", "b-v2", "c-v1"];
const HOSTS: [&str; 7] = ["a", "b", "c", "b.shop.svc.cluster.local", "api.example.com", "10.0.0.1", "localhost"];
const KINDS: [SpanKind; 6] =
    [SpanKind::Client, SpanKind::Server, SpanKind::Internal, SpanKind::Producer, SpanKind::Consumer, SpanKind::Unspecified];
const LINKS: [&[Link]; 3] = [
    &[],
    &[Link { trace_id: TRACE, span_id: [1; 8] }, Link { trace_id: TRACE, span_id: [3; 8] }],
    &[Link { trace_id: [1; 16], span_id: [2; 8] }],
];

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Mostly nothing, else one of these.
fn rarely(of: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => select(of)]
}

fn identity(role: Role, workload: &'static str, span: &mut Span<'static>) {
    let (service, version) = workload.split_once('-').unwrap();
    let kind = match role {
        Role::Application | Role::Proxy => {
            span.service = leak(format!("{service}.shop"));
            span.resource.service_name = span.service;
            return;
        }
        Role::Sidecar => "sidecar",
        Role::Gateway => "router",
        Role::Waypoint => "waypoint",
    };
    (span.cluster, span.namespace, span.workload, span.service, span.version) = ("c1", "shop", workload, service, version);
    (span.tagged, span.pod, span.zone) = (true, leak(format!("{workload}-pod")), "z");
    span.node_id = leak(format!("{kind}~10.1.{}.{}~{workload}-pod.shop~local", service.as_bytes()[0], version.as_bytes()[1]));
    span.resource.service_name = leak(format!("{service}.shop"));
}

prop_compose! {
    fn who()(
        role in select(&[Role::Application, Role::Application, Role::Sidecar, Role::Sidecar, Role::Gateway, Role::Waypoint, Role::Proxy][..]),
        workload in select(&WORKLOADS[..]),
        sdk in rarely(&["sdk", "other-sdk"]),
        detail in 0..20u8,
        cluster in rarely(&["c1", "c2"]),
        source_principal in rarely(&["spiffe://mesh/ns/shop/sa/a", "-"]),
    ) -> Span<'static> {
        let mut span = Span { role, source_principal, ..Span::default() };
        identity(role, workload, &mut span);
        if role == Role::Application {
            if sdk != "" {
                (span.service, span.resource.service_name) = (sdk, sdk);
            }
            let pod = leak(format!("{workload}-pod"));
            match detail {
                0 => span.resource.host_name = pod,
                1 => span.resource.service_instance_id = pod,
                2 => span.resource.service_instance_id = leak(format!("shop.{pod}.main")),
                3 => span.resource.k8s_pod_ip = "10.1.97.49",
                4 => (span.pod, span.workload, span.namespace, span.resource.k8s_namespace_name) = (pod, workload, "shop", "shop"),
                5 => (span.workload, span.cluster) = (workload, cluster),
                6 => span.namespace = "elsewhere",
                7 => (span.pod, span.resource.k8s_namespace_name) = (pod, "elsewhere"),
                _ => {}
            }
        } else {
            match detail {
                0 => span.cluster = cluster,
                1 => span.pod = "another-pod",
                2 if role == Role::Proxy => (span.tagged, span.service) = (true, "b"),
                3 => (span.service, span.workload, span.node_id) = ("", "", ""),
                _ => {}
            }
        }
        span
    }
}

prop_compose! {
    fn target()(
        cluster in 0..12u8,
        service in select(&["a", "b", "c"][..]),
        url in rarely(&HOSTS), server in rarely(&HOSTS), peer in rarely(&["10.1.97.49", "10.1.98.49:80", "mysql"]),
        peer_service in rarely(&["b", "payments"]), db in rarely(&["mysql"]), db_namespace in rarely(&["orders"]),
        destination in rarely(&["orders", "mails"]), operation in rarely(&["receive", "process", "settle"]),
        rpc in rarely(&["shop.Orders"]), name in select(&["x", "x", "y", "mirror", ""][..]),
        source in rarely(&WORKLOADS), tags in rarely(&WORKLOADS),
        port in proptest::option::of(-1..70_000i64),
    ) -> Span<'static> {
        let end = |workload: &'static str| {
            if workload.is_empty() { return End::default() }
            End { cluster: "c1", namespace: "shop", workload, service: workload.split_once('-').unwrap().0, version: "unknown" }
        };
        let upstream_cluster = match cluster {
            0..=3 => leak(format!("outbound|80||{service}.shop.svc.cluster.local")),
            4 => "inbound|80||",
            5 => leak(format!("inbound-vip|80|http|{service}.shop.svc.cluster.local")),
            6 => select_plain(service),
            7 => "outbound|443||api.example.com;",
            8 => "outbound_.80_.v1_.b.shop.svc.cluster.local",
            _ => "",
        };
        let http_url = if url.is_empty() { "" } else { leak(format!("http://{url}:80/x")) };
        Span {
            upstream_cluster, http_url, server_address: server, server_port: port, peer_address: peer, peer_service, name,
            db_system: db, db_namespace, messaging_destination: destination, messaging_operation: operation, rpc_service: rpc,
            source: end(source), destination: end(tags), ..Span::default()
        }
    }
}

fn select_plain(service: &str) -> &'static str {
    match service {
        "a" => "PassthroughCluster",
        "b" => "BlackHoleCluster",
        _ => "main_internal",
    }
}

prop_compose! {
    fn span()(
        who in who(), target in target(), kind in select(&KINDS[..]),
        id in 0..12u8, parent in 0..13u8, start in 0..40u64, length in -3..40i64,
        status in proptest::option::of(select(&[0i64, 200, 404, 503][..])), grpc in proptest::option::of(0..16i64), error: bool,
        flags in select(&["-", "", "NR", "UC,NR", "UF"][..]),
        sizes in proptest::option::of(-1..100i64), retries in proptest::option::of(0..3i64),
        links in select(&LINKS[..]), state in select(&["", "ot=th:0", "ot=th:8", "ot=th:4", "ot=th:c"][..]),
    ) -> Span<'static> {
        Span {
            span_id: [id; 8], parent_span_id: [parent; 8], start, end: start.wrapping_add_signed(length), kind,
            http_status: status, grpc_status: grpc, error, response_flags: flags, request_size: sizes, retry_count: retries, links,
            trace_state: state,
            role: who.role, tagged: who.tagged, cluster: who.cluster, namespace: who.namespace, workload: who.workload,
            service: who.service, version: who.version, zone: who.zone, pod: who.pod, node_id: who.node_id, resource: who.resource,
            source_principal: who.source_principal, ..target
        }
    }
}

/// Spans with no order between them.
fn chaos() -> impl Strategy<Value = Vec<Span<'static>>> {
    prop::collection::vec(span(), 0..14)
}

/// Spans that make a tree: each has an id of its own and, mostly, a parent among those before it, and lies within it. Some pick
/// up the node of their parent, as the spans of one request do.
fn tree() -> impl Strategy<Value = Vec<Span<'static>>> {
    let one = (span(), any::<prop::sample::Index>(), 0..10u8, any::<bool>());
    prop::collection::vec(one, 1..14).prop_map(|parts| {
        let mut spans: Vec<Span<'static>> = Vec::new();
        for (number, (mut span, parent, how, alike)) in parts.into_iter().enumerate() {
            span.span_id = [number as u8 + 1; 8];
            let parent = (number > 0).then(|| spans[parent.index(number)]);
            (span.parent_span_id, span.start, span.end) = match parent {
                Some(parent) if how > 0 => (parent.span_id, parent.start + 1, parent.end.saturating_sub(1)),
                _ => ([if how == 0 { 99 } else { 0 }; 8], 1_000, 2_000),
            };
            match (parent, how) {
                // Beside its parent, under the same span and within it.
                (Some(parent), 1) => span.parent_span_id = parent.parent_span_id,
                // A Zipkin twin.
                (Some(parent), 2) => span.span_id = parent.span_id,
                _ => {}
            }
            if let (Some(parent), true) = (parent, alike) {
                if span.role == parent.role && span.role != Role::Application {
                    let Span { cluster, namespace, workload, service, version, pod, node_id, resource, .. } = parent;
                    span = Span { cluster, namespace, workload, service, version, pod, node_id, resource, ..span };
                } else if span.role == Role::Application {
                    span.resource = Resource { service_name: span.service, ..Resource::default() };
                } else if span.role == Role::Proxy {
                    span.resource = parent.resource;
                }
            }
            spans.push(span);
        }
        spans
    })
}

fn trace() -> impl Strategy<Value = Vec<Span<'static>>> {
    prop_oneof![1 => chaos(), 3 => tree()]
}

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

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
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
