//! The critical path: cases with their spans written out, and random traces against the oracle, nanosecond by nanosecond.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

mod common;

use std::time::Instant;

use common::oracle::path::{self as oracle, Owner};
use common::random::{cases, scattered, trace};
use common::{Build, TRACE, app, bare, gateway, label, pair, sidecar, waypoint};
use meshlake_hops::{Class, CriticalPath, Hop, Role, Span, SpanKind, SpanKind::*, TraceHops};
use proptest::prelude::*;

fn path<'a>(spans: &[Span<'a>]) -> CriticalPath<'a> {
    TraceHops::new().critical_path(&TRACE, spans)
}

/// A path in words: where each segment ends, its class, the id of its span and whose it is.
fn words(path: &CriticalPath<'_>, spans: &[Span<'_>]) -> Vec<String> {
    let id = |span: u32| spans[span as usize].span_id[0].to_string();
    let segments = path.segments.iter().map(|segment| {
        let id = segment.span.map_or_else(|| "-".to_owned(), id);
        format!("{} {} {id} {}", segment.to, segment.class.as_str(), label(&segment.node))
    });
    segments.collect()
}

/// The path of a trace in words, checked against the oracle.
fn walked(spans: &[Span<'static>]) -> Vec<String> {
    check(spans).unwrap();
    words(&path(spans), spans)
}

fn check(spans: &[Span<'static>]) -> Result<CriticalPath<'static>, TestCaseError> {
    let path = path(spans);
    let (start, end, owners) = oracle::path(&TRACE, spans);
    prop_assert_eq!((path.start, path.end), (start, end));
    let found = path.segments.iter().flat_map(|segment| {
        let span = segment.span.map(|span| &spans[span as usize]);
        let owner: Owner<'_> = (span.map(|span| (span.span_id, span.kind.side())), segment.class, segment.node);
        (segment.from..segment.to).map(move |_| owner)
    });
    prop_assert_eq!(found.collect::<Vec<_>>(), owners);
    Ok(path)
}

/// Asserts that segments partition the time of the path.
fn check_partition(path: &CriticalPath<'_>) -> Result<(), TestCaseError> {
    prop_assert!(path.start <= path.end);
    prop_assert!(path.segments.iter().all(|segment| segment.from < segment.to));
    let ends = std::iter::once(path.start).chain(path.segments.iter().map(|segment| segment.to));
    let begins = path.segments.iter().map(|segment| segment.from).chain([path.end]);
    prop_assert!(ends.eq(begins), "{:?}", path);
    let sum: u64 = path.segments.iter().map(|segment| segment.to - segment.from).sum();
    prop_assert_eq!(sum, path.end - path.start);
    Ok(())
}

/// Scenario: a request between two sidecars; the callee's application writes no span. Guarantee: the work is the callee's, the
/// rest of the call is network, there and back.
#[test]
fn a_pair() {
    assert_eq!(walked(&pair()), ["1020 network 1 a", "8980 application 2 b", "8990 network 1 a"]);
    // Nobody answers: it cannot be told what is the network's.
    assert_eq!(walked(&pair()[..1]), ["8990 unknown 1 b"]);
}

/// Scenario: a gateway's pair of spans, sidecars and SDKs on the way to a database. Guarantee: each moment is of one class: the
/// gateway and what sidecars add is proxy time, the SDK's spans are work, what the database takes is unknown and the database's.
#[test]
fn every_class() {
    let server = gateway(1, Server).lasting(0, 1000).with(|s| s.http_url = "http://shop.example.com/x");
    let router = bare(2, "router outbound|9080||b.shop.svc.cluster.local; egress", &server)
        .under(1)
        .lasting(50, 950)
        .with(|s| s.upstream_cluster = "outbound|9080||b.shop.svc.cluster.local");
    let spans = [
        server,
        router,
        sidecar(3, Server, "b-v1").under(2).from("b", "gw").lasting(100, 900).with(|s| s.http_url = server.http_url),
        app(4, Server, "b").under(3).lasting(150, 850),
        app(5, Client, "b").under(4).lasting(200, 500).with(|s| (s.db_system, s.server_address) = ("mysql", "db-0")),
        app(6, Client, "b").under(4).lasting(500, 800).with(|s| s.http_url = "http://c:9080/x"),
        sidecar(7, Client, "b-v1").under(6).to("c").lasting(510, 790),
        sidecar(8, Server, "c-v1").under(7).from("c", "b-v1").lasting(600, 700),
    ];
    let expected = [
        "50 proxy 1 gw",
        "100 network 2 gw",
        "150 proxy 3 b",
        "200 application 4 b",
        "500 unknown 5 database:db-0",
        "510 application 6 b",
        "600 network 7 b",
        "700 application 8 c",
        "790 network 7 b",
        "800 application 6 b",
        "850 application 4 b",
        "900 proxy 3 b",
        "950 network 2 gw",
        "1000 proxy 1 gw",
    ];
    assert_eq!(walked(&spans), expected);
}

/// Scenario: waypoints, with a sidecar, an application, or nothing below. Guarantee: the waypoint's time is proxy time where a
/// span tells of whom it sends the request to, and else the destination's.
#[test]
fn waypoints() {
    let gw = gateway(1, Client).to("b").lasting(0, 100);
    let way = waypoint(2, "b").under(1).lasting(10, 90);
    assert_eq!(walked(&[gw, way]), ["10 network 1 gw", "90 application 2 b", "100 network 1 gw"]);
    let expected = ["10 network 1 gw", "20 proxy 2 b", "80 application 3 b", "90 proxy 2 b", "100 network 1 gw"];
    for served in [app(3, Server, "b"), sidecar(3, Server, "b-v1").from("b", "gw")] {
        assert_eq!(walked(&[gw, way, served.under(2).lasting(20, 80)]), expected);
    }
}

/// Scenario: an application that writes no span but forwards the headers. Guarantee: what is not told is unknown, and its own.
#[test]
fn silent_application() {
    let gw = gateway(1, Client).to("b").lasting(0, 100);
    let spans = [gw, waypoint(2, "c").under(1).lasting(20, 40), waypoint(3, "d").under(1).lasting(50, 80)];
    let expected = ["20 unknown 1 b", "40 application 2 c", "50 unknown 1 b", "80 application 3 d", "100 unknown 1 b"];
    assert_eq!(walked(&spans), expected);
}

/// Scenario: calls one after the other, side by side, equally long, of no length, and one that ends just as another begins.
/// Guarantee: the one that finished last is on the path, then who finished before it began; who was concurrent is not.
#[test]
fn who_finished_last() {
    let root = app(1, Server, "a").lasting(0, 100);
    let inner = |id, from, to| app(id, Internal, "a").under(1).lasting(from, to);
    let path = |spans: &[Span<'static>]| walked(&[&[root], spans].concat());
    let expected = ["10 application 1 a", "40 application 2 a", "50 application 1 a", "90 application 3 a", "100 application 1 a"];
    assert_eq!(path(&[inner(2, 10, 40), inner(3, 50, 90)]), expected);
    // 2 is concurrent with 3 and ended before it; 4 takes no time.
    let expected = ["20 application 1 a", "90 application 3 a", "100 application 1 a"];
    assert_eq!(path(&[inner(2, 10, 80), inner(3, 20, 90), inner(4, 95, 95)]), expected);
    // Both end at once: the one that began first. One ends as the other begins: both.
    let expected = ["10 application 1 a", "60 application 2 a", "90 application 4 a", "100 application 1 a"];
    assert_eq!(path(&[inner(2, 10, 60), inner(3, 70, 90), inner(4, 60, 90)]), expected);
}

/// Scenario: work that outlives its parent, begins before it or is not during it at all. Guarantee: what is during the parent counts.
#[test]
fn only_what_is_during_the_parent_counts() {
    let root = app(1, Server, "a").lasting(100, 200);
    let inner = |from, to| [root, app(2, Internal, "a").under(1).lasting(from, to)];
    assert_eq!(walked(&inner(150, 400)), ["150 application 1 a", "200 application 2 a"]);
    assert_eq!(walked(&inner(50, 150)), ["150 application 2 a", "200 application 1 a"]);
    for outside in [inner(250, 300), inner(0, 100), inner(180, 170)] {
        assert_eq!(walked(&outside), ["200 application 1 a"]);
    }
}

/// Scenario: a callee whose clock is behind or ahead, with work below it; a callee that took longer than its caller waited; a
/// caller that failed before the callee was done. Guarantee: the first are moved to within the call, by the least that it takes
/// and with all below; the others are clipped.
#[test]
fn clocks_that_differ() {
    let [client, server] = <[_; 2]>::try_from(pair()).unwrap();
    let client = client.lasting(1000, 1100);
    let at = |from: u64, to: u64| {
        let work = app(3, Server, "b").under(2).lasting(from + 10, to - 10);
        [client, server.lasting(from, to), work]
    };
    let behind = at(400, 440);
    let expected = ["1010 proxy 2 b", "1030 application 3 b", "1040 proxy 2 b", "1100 network 1 a"];
    assert_eq!(walked(&behind), expected);
    assert_eq!(path(&behind).moved, 1);
    let expected = ["1060 network 1 a", "1070 proxy 2 b", "1090 application 3 b", "1100 proxy 2 b"];
    assert_eq!(walked(&at(5000, 5040)), expected);
    assert_eq!(path(&at(1050, 1090)).moved, 0);
    // Its own callee's clock differs from both.
    let call = sidecar(3, Client, "b-v1").under(2).to("c").lasting(405, 435);
    let far = sidecar(4, Server, "c-v1").under(3).from("c", "b-v1").lasting(9000, 9010);
    let nested = [client, server.lasting(400, 440), call, far.with(|s| s.error = true)];
    let expected = ["1005 application 2 b", "1025 network 3 b", "1035 application 4 c", "1040 application 2 b", "1100 network 1 a"];
    assert_eq!(walked(&nested), expected);
    assert_eq!(path(&nested).moved, 2);
    let longer = at(1020, 1200);
    assert_eq!(walked(&longer), ["1020 network 1 a", "1030 proxy 2 b", "1100 application 3 b"]);
    let failed = [client.with(|s| s.error = true), server.lasting(1050, 1140)];
    assert_eq!(walked(&failed), ["1050 network 1 a", "1100 application 2 b"]);
    assert_eq!(walked(&[client, failed[1]]), ["1010 network 1 a", "1100 application 2 b"]);
}

/// Scenario: attempts of one call; a mirrored request; a message and who takes it. Guarantee: attempts are all on the path, with
/// the network between them; nobody waits for a copy, or for who takes a message.
#[test]
fn who_is_waited_for() {
    let call = sidecar(1, Client, "a-v1").to("b").lasting(0, 100);
    let attempt = |id, from, to| sidecar(id, Server, "b-v1").under(1).from("b", "a-v1").lasting(from, to);
    let expected = ["10 network 1 a", "30 application 2 b", "50 network 1 a", "90 application 3 b", "100 network 1 a"];
    assert_eq!(walked(&[call, attempt(2, 10, 30), attempt(3, 50, 90)]), expected);
    let mirror =
        bare(4, "mirror", &call).under(1).lasting(60, 99).with(|s| s.upstream_cluster = "outbound|9080||x.shop.svc.cluster.local");
    assert_eq!(walked(&[call, attempt(2, 10, 30), attempt(3, 50, 90), mirror]), expected);
    let queue = |span: Span<'static>| span.with(|s| s.messaging_destination = "orders");
    let sent = queue(app(2, Producer, "a")).under(1).lasting(10, 60);
    let spans = [app(1, Server, "a").lasting(0, 100), sent, queue(app(3, Consumer, "c")).under(2).lasting(20, 50)];
    assert_eq!(walked(&spans), ["10 application 1 a", "60 unknown 2 queue:orders", "100 application 1 a"]);
    // What carries it there is the queue's, too, but for what somebody answers.
    let http = app(4, Client, "a").under(2).lasting(20, 50).with(|s| s.http_url = "http://b:9080/x");
    let broker = sidecar(5, Server, "b-v1").under(4).from("b", "a-v1").lasting(30, 40);
    let queue = |until| format!("{until} unknown 2 queue:orders");
    let of = |inside: &[&str]| {
        let inside: Vec<String> = inside.iter().map(|&segment| segment.to_owned()).collect();
        [vec!["10 application 1 a".to_owned(), queue(20)], inside, vec![queue(60), "100 application 1 a".to_owned()]].concat()
    };
    assert_eq!(walked(&[spans[0], spans[1], http]), of(&["50 unknown 4 queue:orders"]));
    let answered = of(&["30 network 4 a", "40 application 5 b", "50 network 4 a"]);
    assert_eq!(walked(&[spans[0], spans[1], http, broker]), answered);
}

/// Scenario: proxies that propagate no context, so that the request stands beside the call that it answers. Guarantee: it is
/// waited for by that call.
#[test]
fn requests_beside_their_calls() {
    let spans = [
        app(1, Client, "a").lasting(0, 100).with(|s| s.http_url = "http://b:9080/x"),
        sidecar(2, Client, "a-v1").under(1).to("b").lasting(10, 90),
        sidecar(3, Server, "b-v1").under(1).from("b", "a-v1").lasting(20, 80),
    ];
    let expected = ["10 application 1 a", "20 network 2 a", "80 application 3 b", "90 network 2 a", "100 application 1 a"];
    assert_eq!(walked(&spans), expected);
}

/// Scenario: several roots; none, and several spans whose parents are missing; both. Guarantee: the whole is from the first root
/// to the last, and what is between them unknown; what hangs on a missing span is detached where there is a root.
#[test]
fn several_roots_and_none() {
    let work = |id, from, to| app(id, Server, "a").lasting(from, to);
    let roots = [work(1, 0, 10), work(2, 30, 50)];
    assert_eq!(walked(&roots), ["10 application 1 a", "30 unknown - unknown", "50 application 2 a"]);
    assert_eq!(path(&roots).tops, 2);
    let lost = roots.map(|span| span.under(99));
    assert_eq!(walked(&lost), ["10 application 1 a", "30 unknown - missing", "50 application 2 a"]);
    let both = [roots[0], lost[1], app(3, Internal, "a").under(2).lasting(35, 40)];
    assert_eq!(walked(&both), ["10 application 1 a"]);
    assert_eq!((path(&both).tops, path(&both).detached), (1, 2));
    assert_eq!(path(&[]), CriticalPath::default());
}

/// Scenario: the paths of requests to one service, which is asked twice, the second time within the first, and once more beside.
/// Guarantee: each is from start to end of its entry; what is within a wanted request is part of it.
#[test]
fn paths_of_requests() {
    let spans = [
        sidecar(1, Client, "a-v1").to("b").lasting(0, 100),
        sidecar(2, Server, "b-v1").under(1).from("b", "a-v1").lasting(10, 50),
        sidecar(3, Client, "b-v1").under(2).to("b").lasting(20, 40),
        sidecar(4, Server, "b-v1").under(3).from("b", "b-v1").lasting(25, 35),
        sidecar(5, Server, "b-v1").under(1).from("b", "a-v1").lasting(60, 90),
    ];
    let paths = |wanted: fn(&Hop<'_>) -> bool| TraceHops::new().critical_paths(&TRACE, &spans, wanted);
    let found: Vec<_> = paths(|hop| hop.callee.service == "b").iter().map(|path| words(path, &spans)).collect();
    let first = ["20 application 2 b", "25 network 3 b", "35 application 4 b", "40 network 3 b", "50 application 2 b"];
    assert_eq!(found, [first.map(str::to_owned).to_vec(), vec!["90 application 5 b".to_owned()]]);
    assert_eq!(paths(|hop| hop.caller.service == "b").len(), 1);
    assert_eq!(paths(|_| false), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Scenario: any trace, at times that fit parents and at times that do not: skew, concurrency, missing parents, several
    /// roots, copies, cycles. Guarantee: the owner of each nanosecond is the oracle's, and the segments partition the time.
    #[test]
    fn each_nanosecond_is_the_oracles(spans in prop_oneof![1 => trace(), 4 => scattered()]) {
        // Of chaos some spans end before the epoch, and so nearly at the end of time.
        let whole = path(&spans);
        check_partition(&whole)?;
        if whole.end - whole.start < 10_000 {
            check(&spans)?;
        }
    }

    /// Scenario: the same spans in another order, some more than once (P4). Guarantee: the same path.
    #[test]
    fn order_and_copies_do_not_matter(spans in scattered(), seed in any::<u64>(), copies in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let mut other = spans.clone();
        other.extend(copies.iter().filter(|_| !spans.is_empty()).map(|copy| spans[copy.index(spans.len())]));
        other.sort_by_cached_key(|span| (span.start ^ seed, span.end.wrapping_mul(seed), span.name));
        let without_positions = |mut path: CriticalPath<'static>, spans: &[Span<'static>]| {
            let ids: Vec<_> = path.segments.iter().map(|segment| segment.span.map(|span| spans[span as usize])).collect();
            path.segments.iter_mut().for_each(|segment| segment.span = None);
            (path, ids)
        };
        prop_assert_eq!(without_positions(path(&spans), &spans), without_positions(path(&other), &other));
    }

    /// Scenario: the paths of all requests of a trace, and of some. Guarantee: each is a partition of the time of one entry that
    /// is wanted; none is below another one's.
    #[test]
    fn paths_of_requests_are_partitions(spans in scattered(), service in prop::sample::select(&["a", "b", "c"][..])) {
        let mut hops = Vec::new();
        let mut worker = TraceHops::new();
        worker.append(&TRACE, &spans, &mut hops);
        let mut wanted: Vec<_> = hops.iter().filter(|hop| hop.callee.service == service && hop.callee_report.is_some()).map(|hop| hop.time).collect();
        let paths = worker.critical_paths(&TRACE, &spans, |hop| hop.callee.service == service);
        prop_assert!(paths.len() <= wanted.len() && paths.is_empty() == wanted.is_empty());
        for path in &paths {
            check_partition(path)?;
            let at = wanted.iter().position(|start| *start == path.start);
            prop_assert!(at.is_some());
            wanted.remove(at.unwrap());
        }
    }
}

/// Scenario: a huge trace: one long chain, one span with all others below it, and copies of one call in itself. Guarantee: a path
/// in time, and without a stack as deep as the chain.
#[test]
fn huge_traces_are_walked() {
    let id = |n: usize| (n as u64 + 1).to_be_bytes();
    for flat in [false, true] {
        let spans: Vec<_> = (0..100_000)
            .map(|n: usize| {
                let parent = if flat { 0 } else { n.saturating_sub(1) };
                let kind = if n.is_multiple_of(2) { SpanKind::Server } else { SpanKind::Client };
                let parent_span_id = if n == 0 { [0; 8] } else { id(parent) };
                let (start, end) =
                    if flat && n > 0 { (n as u64 * 10, n as u64 * 10 + 5) } else { (n as u64, 2_000_000 - n as u64) };
                Span { span_id: id(n), parent_span_id, start, end, kind, role: Role::Sidecar, service: "a", ..Span::default() }
            })
            .collect();
        let began = Instant::now();
        let path = path(&spans);
        check_partition(&path).unwrap();
        assert!(path.segments.len() > 100_000, "{}", path.segments.len());
        let paths = TraceHops::new().critical_paths(&TRACE, &spans, |_| true);
        assert!(!paths.is_empty());
        assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    }
    assert_eq!(Class::ALL.map(Class::as_str), ["application", "proxy", "network", "unknown"]);
}
