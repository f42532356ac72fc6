use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use meshlake_hops::{Direction, Flags, Histogram, Hop, Link, Node, Report, Span, Tally, TraceHops};
use meshlake_storage::{Promoted, Scope, ValueType};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::{GraphDirection, GraphNode, GraphQuery, Level, Proxies};
use crate::source::SpanSource;
use crate::testing::{Chance, START, SpanRow, TestSource, mesh_rows, promoted, scatter_over, span, sql, tenant, text, value};
use crate::types::TimeRange;
use crate::{Engine, Graph, QueryError};

const START_MICROS: i64 = (START / 1000) as i64;
const ALL: TimeRange = TimeRange { start: START_MICROS - 1, end: START_MICROS + 2_000_000_000 };

/// What H makes of the rows, with the trace of each hop, straight from the rows: no batch, no file.
fn each_hop(rows: &[SpanRow], mut each: impl FnMut(u128, &[Hop<'_>])) {
    let mut traces = BTreeMap::<u128, Vec<&SpanRow>>::new();
    rows.iter().for_each(|row| traces.entry(row.trace).or_default().push(row));
    for (trace, rows) in traces {
        let link = |link: &opentelemetry_proto::tonic::trace::v1::span::Link| Link {
            trace_id: link.trace_id.as_slice().try_into().unwrap(),
            span_id: link.span_id.as_slice().try_into().unwrap(),
        };
        let links: Vec<Vec<Link>> = rows.iter().map(|row| row.links.iter().map(link).collect()).collect();
        let spans: Vec<Span<'_>> = rows.iter().zip(&links).map(|(row, links)| span(row, links)).collect();
        let mut hops = Vec::new();
        TraceHops::new().append(&trace.to_be_bytes(), &spans, &mut hops);
        each(trace, &hops);
    }
}

/// The columns that are compared, and what stands in them for a hop.
const COLUMNS: &str = "encode(trace_id, 'hex'), encode(span_id, 'hex'), cast(time as bigint), time_nanos, direction, \
    caller_kind, caller_cluster, caller_namespace, caller_workload, caller_service, caller_version, caller_zone, \
    callee_kind, callee_cluster, callee_namespace, callee_workload, callee_service, callee_version, callee_zone, callee_port, \
    via_cluster, via_namespace, via_workload, protocol, method, operation, caller_latency, callee_latency, caller_error, callee_error, \
    caller_http_status, callee_http_status, caller_response_flags, callee_response_flags, network, request_bytes, attempt, calls, \
    messages, mtls, array_to_string(flags, ' '), weight";

fn line(trace: u128, hop: &Hop<'_>) -> String {
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let status = |report: Option<Report<'_>>| report.and_then(|report| report.http_status).map(|status| status.to_string());
    let end = |node: &Node<'_>| {
        [node.kind.as_str(), node.cluster, node.namespace, node.workload, node.service, node.version, node.zone].join("|")
    };
    let via = hop.via.unwrap_or_default();
    let (caller, callee) = (hop.caller_report, hop.callee_report);
    let error = |report: Option<Report<'_>>| report.map(|report| report.error.as_str()).unwrap_or_default();
    let flags = |report: Option<Report<'_>>| report.map(|report| report.response_flags.to_owned()).unwrap_or_default();
    let parts = [
        format!("{trace:032x}"),
        format!("{:016x}", u64::from_be_bytes(hop.key.span_id)),
        (hop.time / 1000).to_string(),
        (hop.time % 1000).to_string(),
        if hop.key.direction == Direction::In { "in" } else { "out" }.to_owned(),
        end(&hop.caller),
        end(&hop.callee),
        hop.callee.port.map(|port| port.to_string()).unwrap_or_default(),
        [via.cluster, via.namespace, via.workload, hop.protocol, hop.method, hop.operation].join("|"),
        number(caller.and_then(|report| report.latency)),
        number(callee.and_then(|report| report.latency)),
        error(caller).to_owned(),
        error(callee).to_owned(),
        status(caller).unwrap_or_default(),
        status(callee).unwrap_or_default(),
        flags(caller),
        flags(callee),
        number(hop.network),
        number(hop.request_bytes),
        hop.attempt.to_string(),
        hop.calls.to_string(),
        hop.messages.to_string(),
        hop.mtls.map(|mtls| mtls.to_string()).unwrap_or_default(),
        hop.flags.names().collect::<Vec<_>>().join(" "),
        number(hop.weight),
    ];
    parts.join("|")
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        let options = FormatOptions::default();
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        let line = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
        lines.extend((0..batch.num_rows()).map(line));
    }
    lines.sort();
    lines
}

/// Two tenants over live batches and files with more and more promoted attributes, such that H reads some of them.
async fn mesh(seed: u64) -> (Vec<SpanRow>, Engine) {
    let promoted = |scope, key: &str| Promoted { scope, key: key.to_owned(), value_type: ValueType::String };
    let list = [
        promoted(Scope::Span, "messaging.system"),
        promoted(Scope::Resource, "k8s.pod.ip"),
        promoted(Scope::Span, "retry.count"),
        promoted(Scope::Span, "istio.source_workload"),
        promoted(Scope::Span, "messaging.operation.type"),
    ];
    let mut chance = Chance(seed);
    let rows = mesh_rows(&mut chance, "a", 150);
    let foreign = mesh_rows(&mut chance, "b", 50);
    let source = scatter_over(TestSource::promoting(list.to_vec()), &mut chance, &[rows.clone(), foreign].concat()).await;
    (rows, source.engine())
}

pub(super) fn asked(range: TimeRange) -> GraphQuery {
    GraphQuery::whole(range, 100_000)
}

/// Scenario: random traces of a mesh over live batches and files, with promoted attributes that H reads, and another tenant's.
/// Guarantee: the rows of `hops` are what H makes of the tenant's spans as they were written, for every bound of their time; a trace by
/// its id is whole.
#[tokio::test]
async fn rows_are_the_hops_of_the_spans() {
    for seed in 1..4 {
        let (rows, engine) = mesh(seed).await;
        for (filter, from, to) in [
            ("true", 0, u64::MAX),
            (
                "time >= '2026-01-01T00:05:00Z' and time < '2026-01-01T00:10:00Z'",
                START / 1000 + 300_000_000,
                START / 1000 + 600_000_000,
            ),
            ("time > now()", u64::MAX, 0),
        ] {
            let mut expected = Vec::new();
            each_hop(&rows, |trace, hops| {
                let kept = hops.iter().filter(|hop| (from..to).contains(&(hop.time / 1000)));
                expected.extend(kept.map(|hop| line(trace, hop)));
            });
            expected.sort();
            let found = sql(&engine, "a", &format!("SELECT {COLUMNS} FROM hops WHERE {filter}")).await.unwrap();
            assert_eq!(lines(&found), expected, "{seed} {filter}");
        }
        let trace = rows[0].trace;
        let mut count = 0;
        each_hop(&rows, |id, hops| count += if id == trace { hops.len() } else { 0 });
        assert_eq!(
            value(&engine, "a", &format!("SELECT count(*) FROM hops WHERE trace_id = X'{trace:032x}'")).await,
            count.to_string()
        );
        assert_eq!(value(&engine, "b", &format!("SELECT count(*) FROM hops WHERE trace_id = X'{trace:032x}'")).await, "0");
    }
}

/// A node at the level of services, by all that makes it another.
type End = (&'static str, String, String, String, Option<u16>);

fn end(node: &Node<'_>) -> End {
    let name = if node.service.is_empty() { node.workload } else { node.service };
    (node.kind.as_str(), node.cluster.to_owned(), node.namespace.to_owned(), name.to_owned(), node.port)
}

fn end_of(graph: &Graph, id: &str) -> End {
    let GraphNode { kind, cluster, namespace, service, workload, port, .. } =
        graph.nodes.iter().find(|node| node.id == id).unwrap();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (kind, text(cluster), text(namespace), text(&service.clone().or_else(|| workload.clone())), *port)
}

#[derive(Default)]
struct Expected {
    requests: u64,
    calls: u64,
    errors: u64,
    unresolved: u64,
    mtls: [u64; 2],
    caller: Histogram,
    callee: Histogram,
    tally: Tally,
}

fn expected(rows: &[SpanRow], range: TimeRange) -> BTreeMap<(End, End), Expected> {
    let mut edges = BTreeMap::<(End, End), Expected>::new();
    each_hop(rows, |_, hops| {
        // Sampling is by trace, and its variance by trace, minute, and what the ends are at most.
        let mut weights = BTreeMap::<((End, End), u64, String), Vec<Option<u64>>>::new();
        for hop in hops.iter().filter(|hop| hop.time > range.start as u64 * 1000 && hop.time <= range.end as u64 * 1000) {
            let key = (end(&hop.caller), end(&hop.callee));
            let ends = format!("{:?}", (hop.caller, hop.callee, hop.via));
            weights.entry((key.clone(), hop.time.div_ceil(60_000_000_000), ends)).or_default().push(hop.weight);
            let edge = edges.entry(key).or_default();
            edge.requests += 1;
            edge.calls += u64::from(hop.calls);
            edge.mtls[0] += u64::from(hop.mtls == Some(true));
            edge.mtls[1] += u64::from(hop.mtls == Some(false));
            edge.unresolved += u64::from(hop.flags.contains(Flags::UNRESOLVED));
            edge.errors += u64::from(hop.callee_report.or(hop.caller_report).is_some_and(|report| report.error.is_error()));
            hop.caller_report.and_then(|report| report.latency).into_iter().for_each(|latency| edge.caller.record(latency));
            hop.callee_report.and_then(|report| report.latency).into_iter().for_each(|latency| edge.callee.record(latency));
        }
        for ((key, ..), mut weights) in weights {
            edges.get_mut(&key).unwrap().tally.add_trace(&mut weights);
        }
    });
    edges
}

/// Hops in the range that a waypoint carried.
fn through_waypoints(rows: &[SpanRow], range: TimeRange) -> u64 {
    let mut count = 0;
    each_hop(rows, |_, hops| count += hops.iter().filter(|hop| range.holds(hop.time) && hop.via.is_some()).count() as u64);
    count
}

/// Scenario: the same traces, and ranges of which one ends in the midst of a trace. Guarantee: each edge is the sum of its hops, with the
/// quantiles and the estimate of these; each node's requests are the sum of its incoming edges; and on every level, waypoints shown or
/// not, no hop is lost, and doubled only where a waypoint stands between (P3).
#[tokio::test]
async fn edges_are_the_sums_of_hops() {
    let (rows, engine) = mesh(7).await;
    sums_are_right(&rows, &engine).await;
}

/// Scenario: sums beside two lake files, of which those of the second are damaged, in each part of the file. Guarantee: they are made again, and all is as if
/// nothing was.
#[tokio::test]
async fn damaged_sums_are_made_again() {
    let rows = mesh_rows(&mut Chance(9), "a", 60);
    let (first, second): (Vec<SpanRow>, Vec<SpanRow>) = rows.iter().cloned().partition(|row| row.span % 2 == 0);
    let mut source = TestSource::promoting(promoted());
    source.add_summed_file(&first).await;
    source.add_summed_file(&second).await;
    let (store, snapshot, path) = (source.object_store().clone(), source.snapshot.clone(), Path::from("lake/_index/1.rollup"));
    let bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    for part in 0..8 {
        let mut damaged = bytes.clone();
        damaged[(bytes.len() - 1) * part / 7] ^= 1;
        store.put(&path, damaged.into()).await.unwrap();
        let mut source = TestSource::over(store.clone());
        source.snapshot = snapshot.clone();
        sums_are_right(&rows, &source.engine()).await;
    }
}

/// Scenario: the same, with spans of one trace in lake files with sums beside them, in lake files without, in fresh files and live; then a file of
/// the first kind goes, and the sums of others that were made with it there don't hold any more. Guarantee: the same.
#[tokio::test]
async fn edges_are_the_sums_of_what_is_kept() {
    for seed in 1..6 {
        let mut chance = Chance(seed);
        let rows = mesh_rows(&mut chance, "a", 60);
        let mut parts: Vec<Vec<SpanRow>> = vec![Vec::new(); 7];
        for row in &rows {
            let window = ((row.start - START) / 200_000_000_000).min(4) as usize;
            let part = if chance.below(4) == 0 { chance.below(7) as usize } else { window };
            parts[part].push(row.clone());
        }
        let mut source = TestSource::promoting(promoted());
        for (index, part) in parts.iter().enumerate() {
            match index {
                0 | 1 | 3 => source.add_summed_file(part).await,
                2 => source.add_lake_file(part, false).await,
                4 | 5 => source.add_file(part).await,
                _ => source.add_live(part),
            }
        }
        let mut fewer = TestSource::over(source.object_store().clone());
        fewer.snapshot = source.snapshot.clone();
        fewer.remove_file("lake/data/2026-01-01/1.parquet");
        sums_are_right(&rows, &source.engine()).await;
        let kept: Vec<SpanRow> =
            parts.iter().enumerate().filter(|(index, _)| *index != 1).flat_map(|(_, rows)| rows.clone()).collect();
        sums_are_right(&kept, &fewer.engine()).await;
    }
}

async fn sums_are_right(rows: &[SpanRow], engine: &Engine) {
    let of_a_trace = (rows[rows.len() / 2].start / 1000) as i64;
    let minute = 60_000_000;
    for range in [
        ALL,
        TimeRange { start: START_MICROS + 100_000_000, end: of_a_trace + 1 },
        TimeRange { start: of_a_trace, end: ALL.end },
        TimeRange { start: START_MICROS, end: START_MICROS + 40 * minute },
        TimeRange { start: START_MICROS + 3 * minute, end: START_MICROS + 9 * minute },
        TimeRange { start: START_MICROS + 3 * minute, end: START_MICROS + 4 * minute },
        TimeRange { start: START_MICROS + 5 * minute + 1, end: START_MICROS + 6 * minute - 1 },
    ] {
        if range.start >= range.end {
            continue;
        }
        let expected = expected(rows, range);
        let graph = engine.graph(&tenant("a"), &asked(range)).await.unwrap();
        assert_eq!(graph.edges.len(), expected.len());
        for edge in &graph.edges {
            let key = (end_of(&graph, &edge.source), end_of(&graph, &edge.target));
            let sums = &expected[&key];
            assert_eq!(
                (edge.requests, edge.calls, edge.errors, edge.unresolved),
                (sums.requests, sums.calls, sums.errors, sums.unresolved),
                "{key:?}"
            );
            let of = |histogram: &Histogram| [0.5, 0.9, 0.95, 0.99].map(|q| histogram.quantile(q));
            let quantiles = |side: &super::EdgeSide| [side.latency.p50, side.latency.p90, side.latency.p95, side.latency.p99];
            assert_eq!((quantiles(&edge.caller), quantiles(&edge.callee)), (of(&sums.caller), of(&sums.callee)), "{key:?}");
            assert_eq!(edge.estimate, sums.tally.estimate(), "{key:?}");
            assert_eq!([edge.mtls.yes, edge.mtls.no], sums.mtls, "{key:?}");
            assert_eq!(edge.mtls.yes + edge.mtls.no + edge.mtls.unknown, edge.requests, "{key:?}");
        }
        for node in &graph.nodes {
            let incoming = graph.edges.iter().filter(|edge| edge.target == node.id);
            let sums = incoming.fold((0, 0), |sums, edge| (sums.0 + edge.requests, sums.1 + edge.errors));
            assert_eq!((node.requests, node.errors), sums, "{}", node.id);
        }
        let total: u64 = expected.values().map(|sums| sums.requests).sum();
        assert!(range != ALL || [0, 1].iter().all(|mark| expected.values().any(|sums| sums.mtls[*mark] > 0)));
        for level in [Level::Service, Level::Workload, Level::Version, Level::Namespace, Level::Cluster] {
            let graph = engine.graph(&tenant("a"), &GraphQuery { level, ..asked(range) }).await.unwrap();
            let sum: u64 = graph.edges.iter().map(|edge| edge.requests).sum();
            assert_eq!((sum, graph.counts.requests, graph.truncated), (total, total, false), "{level:?}");
            let shown = engine.graph(&tenant("a"), &GraphQuery { level, proxies: Proxies::Shown, ..asked(range) }).await.unwrap();
            let sum: u64 = shown.edges.iter().map(|edge| edge.requests).sum();
            let twice = if matches!(level, Level::Namespace | Level::Cluster) { 0 } else { through_waypoints(rows, range) };
            assert_eq!((sum, shown.counts.requests), (total + twice, total), "{level:?}");
        }
    }
}

/// A request between two sidecars, in a trace of its own.
pub(super) fn pair(number: u64, caller: &str, callee: &str) -> [SpanRow; 2] {
    let sidecar = |service: &str, kind, span, parent| SpanRow {
        tenant: "a".to_owned(),
        trace: number.into(),
        span,
        parent,
        start: START + number,
        duration: 1_000,
        kind: Some(kind),
        service: Some(service.to_owned()),
        namespace: Some("shop".to_owned()),
        workload: Some(format!("{service}-v1")),
        version: Some("v1".to_owned()),
        proxy: Some("sidecar"),
        attributes: vec![
            text("component", "proxy"),
            text("istio.mesh_id", "mesh"),
            text("node_id", &format!("sidecar~10.0.0.1~{service}-v1-abc.shop~shop.svc.cluster.local")),
        ],
        ..SpanRow::default()
    };
    [sidecar(caller, "client", 1, None), sidecar(callee, "server", 2, Some(1))]
}

fn edges(graph: &Graph) -> Vec<(String, String, u64)> {
    let name = |id: &str| id.rsplit('/').next().unwrap_or_default().to_owned();
    graph.edges.iter().map(|edge| (name(&edge.source), name(&edge.target), edge.requests)).collect()
}

async fn chain() -> Engine {
    let calls = [("a", "b"), ("a", "b"), ("b", "c"), ("b", "d"), ("c", "c"), ("x", "d")];
    let rows: Vec<SpanRow> = (1..).zip(calls).flat_map(|(number, (caller, callee))| pair(number, caller, callee)).collect();
    let mut source = TestSource::new();
    source.add_live(&rows);
    source.engine()
}

/// Scenario: a -> b twice, b -> c, b -> d, c -> c, x -> d, asked from one of them, one way or both, near and far. Guarantee: the edges on
/// the ways from it, most requests first, and no callee of a caller.
#[tokio::test]
async fn edges_are_followed_from_what_is_asked_for() {
    let engine = chain().await;
    let edge = |source: &str, target: &str, requests| (source.to_owned(), target.to_owned(), requests);
    let (ab, bc, bd) = (edge("a", "b", 2), edge("b", "c", 1), edge("b", "d", 1));
    let (cc, xd) = (edge("c", "c", 1), edge("x", "d", 1));
    for (service, direction, depth, expected) in [
        ("b", GraphDirection::Both, 1, vec![&ab, &bc, &bd]),
        ("b", GraphDirection::In, 1, vec![&ab]),
        ("b", GraphDirection::Out, 1, vec![&bc, &bd]),
        ("b", GraphDirection::Out, 2, vec![&bc, &bd, &cc]),
        ("d", GraphDirection::Both, 2, vec![&ab, &bd, &xd]),
        ("a", GraphDirection::Both, 9, vec![&ab, &bc, &bd, &cc]),
        ("nobody", GraphDirection::Both, 9, vec![]),
    ] {
        let query = GraphQuery { service: Some(service.to_owned()), direction, depth, ..asked(ALL) };
        let graph = engine.graph(&tenant("a"), &query).await.unwrap();
        assert_eq!(edges(&graph).iter().collect::<Vec<_>>(), expected, "{service} {direction:?} {depth}");
    }
    let graph = engine.graph(&tenant("a"), &GraphQuery { namespace: Some("other".to_owned()), ..asked(ALL) }).await.unwrap();
    assert_eq!((edges(&graph), graph.nodes, graph.counts.requests), (vec![], vec![], 6));
}

/// Scenario: fewer edges than there are, and edges with few requests left out. Guarantee: those with most requests are kept, the answer says
/// whether the limit left some out, and nodes still count all that they received.
#[tokio::test]
async fn edges_are_limited() {
    let engine = chain().await;
    let graph = engine.graph(&tenant("a"), &GraphQuery { limit: 1, ..asked(ALL) }).await.unwrap();
    assert_eq!((edges(&graph), graph.truncated, graph.nodes.len()), (vec![("a".to_owned(), "b".to_owned(), 2)], true, 2));
    let graph = engine.graph(&tenant("a"), &GraphQuery { min_requests: 2, ..asked(ALL) }).await.unwrap();
    assert_eq!((graph.edges.len(), graph.truncated), (1, false));
    let graph = engine.graph(&tenant("a"), &GraphQuery { service: Some("x".to_owned()), ..asked(ALL) }).await.unwrap();
    let d = graph.nodes.iter().find(|node| node.service.as_deref() == Some("d")).unwrap();
    assert_eq!((d.id.as_str(), d.requests, graph.edges.len()), ("workload//shop/d", 2, 1));
    let empty = engine.graph(&tenant("a"), &asked(TimeRange { start: 5, end: 5 })).await;
    assert!(matches!(empty, Err(QueryError::Invalid { .. })), "{empty:?}");
}
