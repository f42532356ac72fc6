//! The graph beside sums of the oracle's hops.

use std::collections::{BTreeMap, BTreeSet};

use meshlake_hops::{Hop, Node, NodeKind};
use meshlake_query::{
    EdgeSide, Engine, Graph, GraphDirection, GraphEdge, GraphNode, GraphQuery, Level, Proxies, Quantiles, TimeRange,
};

use crate::estimate::are_near;
use crate::known::{Known, SideSums, Sums, bucket, quantile};
use crate::store::Chance;

/// Kind, cluster, namespace, service, workload, version and port of a node, as far as a level has them.
type End = [String; 7];

fn end(kind: &str, node: &Node<'_>, level: Level) -> End {
    let of_mesh = matches!(node.kind, NodeKind::Workload | NodeKind::Gateway) || kind == "waypoint";
    let Node { cluster, namespace, mut service, mut workload, mut version, .. } = *node;
    let port = node.port.map(|port| port.to_string()).unwrap_or_default();
    match level {
        Level::Cluster => return [if of_mesh { "cluster" } else { kind }, cluster, "", "", "", "", ""].map(str::to_owned),
        Level::Namespace => {
            return [if of_mesh { "namespace" } else { kind }, cluster, namespace, "", "", "", ""].map(str::to_owned);
        }
        Level::Service if service.is_empty() => version = "",
        Level::Service => (workload, version) = ("", ""),
        Level::Workload if workload.is_empty() => version = "",
        Level::Workload => (service, version) = ("", ""),
        Level::Version if service.is_empty() => {}
        Level::Version => workload = "",
    }
    [kind, cluster, namespace, service, workload, version, &port].map(str::to_owned)
}

/// The same of a node of an answer, where a workload tells its service, too.
fn answered_end(node: &GraphNode, level: Level) -> End {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let service = if level == Level::Workload && node.workload.is_some() { String::new() } else { text(&node.service) };
    let port = node.port.map(|port| port.to_string()).unwrap_or_default();
    let (cluster, namespace) = (text(&node.cluster), text(&node.namespace));
    [node.kind.to_owned(), cluster, namespace, service, text(&node.workload), text(&node.version), port]
}

/// What an edge answers, with the buckets of its quantiles.
#[derive(Debug, PartialEq)]
struct Edge {
    counts: [(&'static str, u64); 14],
    caller: Side,
    callee: Side,
    network: [Option<i64>; 4],
    protocols: BTreeMap<String, u64>,
}

#[derive(Debug, PartialEq)]
struct Side {
    reports: u64,
    errors: BTreeMap<&'static str, u64>,
    latency: [Option<i64>; 4],
}

fn quantiles(values: &[u64]) -> [Option<i64>; 4] {
    [50, 90, 95, 99].map(|percent| quantile(values, percent))
}

fn answered_quantiles(answered: &Quantiles) -> [Option<i64>; 4] {
    [answered.p50, answered.p90, answered.p95, answered.p99].map(|value| value.map(bucket))
}

impl Edge {
    fn of(sums: &Sums) -> Edge {
        let side =
            |side: &SideSums| Side { reports: side.reports, errors: side.errors.clone(), latency: quantiles(&side.latencies) };
        Edge {
            counts: [
                ("requests", sums.requests),
                ("errors", sums.errors),
                ("calls", sums.calls),
                ("attempts", sums.attempts),
                ("messages", sums.messages),
                ("unresolved", sums.unresolved),
                ("assumed", sums.assumed),
                ("request_bytes", sums.request_bytes),
                ("response_bytes", sums.response_bytes),
                ("mtls", sums.mtls),
                ("plain_text", sums.plain_text),
                ("mtls unknown", sums.requests - sums.mtls - sums.plain_text),
                ("cross_zone", sums.cross_zone),
                ("cross_cluster", sums.cross_cluster),
            ],
            caller: side(&sums.caller),
            callee: side(&sums.callee),
            network: quantiles(&sums.network),
            protocols: sums.protocols.clone(),
        }
    }

    fn answered(edge: &GraphEdge) -> Edge {
        let side = |side: &EdgeSide| Side {
            reports: side.reports,
            errors: side.errors.iter().copied().collect(),
            latency: answered_quantiles(&side.latency),
        };
        Edge {
            counts: [
                ("requests", edge.requests),
                ("errors", edge.errors),
                ("calls", edge.calls),
                ("attempts", edge.attempts),
                ("messages", edge.messages),
                ("unresolved", edge.unresolved),
                ("assumed", edge.assumed),
                ("request_bytes", edge.request_bytes),
                ("response_bytes", edge.response_bytes),
                ("mtls", edge.mtls.yes),
                ("plain_text", edge.mtls.no),
                ("mtls unknown", edge.mtls.unknown),
                ("cross_zone", edge.cross_zone),
                ("cross_cluster", edge.cross_cluster),
            ],
            caller: side(&edge.caller),
            callee: side(&edge.callee),
            network: answered_quantiles(&edge.network),
            protocols: edge.protocols.iter().cloned().collect(),
        }
    }
}

/// All edges of a range, from whom they are followed, and the first service of each node by name.
#[derive(Default)]
struct Whole {
    edges: BTreeMap<(End, End), Sums>,
    chosen: BTreeSet<End>,
    services: BTreeMap<End, &'static str>,
}

impl Whole {
    fn of(known: &Known, query: &GraphQuery) -> Whole {
        let mut whole = Whole::default();
        let shown = query.proxies == Proxies::Shown && !matches!(query.level, Level::Namespace | Level::Cluster);
        for (trace, hop) in known.within(query.range) {
            let [caller, callee] = [&hop.caller, &hop.callee].map(|node| whole.end(node, query));
            let mut add = |ends, hop: &Hop<'static>| whole.edges.entry(ends).or_default().add(*trace, hop);
            match hop.via.filter(|_| shown) {
                None => add((caller, callee), hop),
                Some(via) => {
                    let (cluster, namespace, workload) = (via.cluster, via.namespace, via.workload);
                    let waypoint = end("waypoint", &Node { cluster, namespace, workload, ..Node::default() }, query.level);
                    add((caller, waypoint.clone()), &Hop { callee_report: None, network: None, ..*hop });
                    add((waypoint, callee), &Hop { caller_report: None, network: None, ..*hop });
                }
            }
        }
        whole
    }

    fn end(&mut self, node: &Node<'static>, query: &GraphQuery) -> End {
        let end = end(node.kind.as_str(), node, query.level);
        let is = |asked: &Option<String>, part: &str| asked.as_deref().is_none_or(|asked| asked == part);
        if is(&query.namespace, node.namespace) && is(&query.cluster, node.cluster) && is(&query.service, node.service) {
            self.chosen.insert(end.clone());
        }
        if !node.service.is_empty() {
            let first = self.services.entry(end.clone()).or_insert(node.service);
            *first = node.service.min(*first);
        }
        end
    }

    /// The edges that are asked for.
    fn asked(&self, query: &GraphQuery) -> BTreeSet<&(End, End)> {
        let from_all = query.namespace.is_none() && query.cluster.is_none() && query.service.is_none();
        let mut asked: BTreeSet<&(End, End)> = self.edges.keys().filter(|_| from_all).collect();
        let ways = [(GraphDirection::Out, false), (GraphDirection::In, true)];
        for (_, backwards) in ways.into_iter().filter(|(way, _)| [*way, GraphDirection::Both].contains(&query.direction)) {
            let mut reached: BTreeSet<&End> = self.chosen.iter().collect();
            for _ in 0..query.depth {
                let mut next = reached.clone();
                for edge in self.edges.keys() {
                    let (from, to) = if backwards { (&edge.1, &edge.0) } else { (&edge.0, &edge.1) };
                    if reached.contains(from) {
                        asked.insert(edge);
                        next.insert(to);
                    }
                }
                reached = next;
            }
        }
        asked.retain(|edge| self.edges[*edge].requests >= query.min_requests);
        asked
    }
}

/// A question about a range; for `filtered` ones about some of the graph.
pub fn question(chance: &mut Chance, range: TimeRange, filtered: bool) -> GraphQuery {
    let levels = [Level::Service, Level::Workload, Level::Version, Level::Namespace, Level::Cluster];
    let mut query = GraphQuery {
        range,
        level: chance.pick(&levels),
        namespace: None,
        cluster: None,
        service: None,
        direction: GraphDirection::Both,
        depth: 1,
        proxies: chance.pick(&[Proxies::Collapsed, Proxies::Shown]),
        min_requests: 0,
        limit: 100_000,
    };
    if filtered {
        let mut maybe = |texts: &[&str]| chance.one_in(2).then(|| chance.pick(texts).to_owned());
        query.namespace = maybe(&["shop", "data", "istio-system", ""]);
        query.cluster = maybe(&["c1", "c2", ""]);
        query.service = maybe(&["frontend", "reviews", "details", "mail", "api.example.com", "nobody"]);
        query.direction = chance.pick(&[GraphDirection::In, GraphDirection::Out, GraphDirection::Both]);
        query.depth = 1 + chance.below(3) as usize;
        query.min_requests = chance.below(4);
    }
    query
}

/// Guarantee: the edges, nodes and counts are the sums of the oracle's hops.
pub async fn check(engine: &Engine, known: &Known, query: &GraphQuery, context: &str) {
    let context = format!("{context}, {query:?}");
    let graph = engine.graph(&Default::default(), query).await.unwrap();
    let whole = Whole::of(known, query);
    let asked = whole.asked(query);
    assert_eq!(graph.counts, known.counts(query.range, known.within(query.range).map(|(_, hop)| hop)), "{context}");
    assert!(!graph.truncated, "{context}");
    check_edges(&graph, &whole, &asked, query, &context);
    check_nodes(&graph, &whole, &asked, query.level, &context);
}

fn check_edges(graph: &Graph, whole: &Whole, asked: &BTreeSet<&(End, End)>, query: &GraphQuery, context: &str) {
    let ends: BTreeMap<&str, End> = graph.nodes.iter().map(|node| (node.id.as_str(), answered_end(node, query.level))).collect();
    let of = |edge: &GraphEdge| (ends[edge.source.as_str()].clone(), ends[edge.target.as_str()].clone());
    let answered: BTreeMap<(End, End), &GraphEdge> = graph.edges.iter().map(|edge| (of(edge), &**edge)).collect();
    assert_eq!(answered.len(), graph.edges.len(), "an edge twice: {context}");
    assert_eq!(answered.keys().collect::<BTreeSet<_>>(), *asked, "{context}");
    let seconds = (query.range.end - query.range.start) as f64 / 1e6;
    for (ends, edge) in answered {
        let sums = &whole.edges[&ends];
        assert_eq!(Edge::answered(edge), Edge::of(sums), "{ends:?}: {context}");
        assert_eq!(edge.rate, sums.requests as f64 / seconds, "{ends:?}: {context}");
        let estimate = sums.estimate();
        assert!(are_near(edge.estimate, estimate), "{:?}, {estimate:?}, {ends:?}: {context}", edge.estimate);
        for exemplar in [edge.slowest, edge.latest_error].into_iter().flatten() {
            assert!(sums.traces.contains(&exemplar.trace_id.0), "{exemplar:?} has no hop of {ends:?}: {context}");
        }
    }
}

fn check_nodes(graph: &Graph, whole: &Whole, asked: &BTreeSet<&(End, End)>, level: Level, context: &str) {
    let node = |end: &End| {
        let incoming = whole.edges.iter().filter(|((_, target), _)| target == end);
        let sums = incoming.fold([0, 0], |[requests, errors], (_, sums)| [requests + sums.requests, errors + sums.errors]);
        let service = whole.services.get(end).filter(|_| level == Level::Workload).map(|service| (*service).to_owned());
        (end.clone(), (sums, service))
    };
    let expected: BTreeMap<End, _> = asked.iter().flat_map(|(source, target)| [node(source), node(target)]).collect();
    let answered = graph.nodes.iter().map(|node| {
        let service = node.service.clone().filter(|_| level == Level::Workload);
        (answered_end(node, level), ([node.requests, node.errors], service))
    });
    assert_eq!(answered.collect::<BTreeMap<_, _>>(), expected, "{context}");
}
