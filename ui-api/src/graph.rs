//! `GET graph`: who calls whom.

pub(crate) mod diff;
mod dot;
mod nodegraph;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use meshlake_query::{EdgeSide, Graph, GraphDirection, GraphEdge, GraphNode, GraphQuery, Level, Proxies, TimeRange};
use serde::{Serialize, Serializer};

use crate::api::{Api, ForTenant};
use crate::hops::{Counts, Quantiles};
use crate::params::Params;
use crate::problem::Problem;
use crate::reply;
use crate::time::{format_micros, format_nanos};

/// What it takes.
pub(crate) const PARAMETERS: &[&str] = &[
    "start",
    "end",
    "exact",
    "level",
    "namespace",
    "cluster",
    "service",
    "direction",
    "depth",
    "proxies",
    "min_requests",
    "limit",
    "format",
];

const DEPTH_MAX: usize = 20;
const MIN_REQUESTS_MAX: usize = 1_000_000_000;
const LIMIT_DEFAULT: usize = 1_000;
/// More edges than the largest meshes have; what bounds an answer is the memory for it.
const LIMIT_MAX: usize = 1_000_000;
const JSON: &str = "application/json";

/// How the graph is written.
enum Format {
    Json,
    /// Graphviz.
    Dot,
    /// What Grafana's Node Graph panel draws.
    NodeGraph,
}

/// The graph of the hops in the range.
pub(crate) async fn graph(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Response, Problem> {
    let params = Params::parse(&uri, PARAMETERS)?;
    let (query, format) = (
        read_query(&params, params.of_hops(params.range()?)?, LIMIT_MAX)?,
        params.read("format", read_format)?.unwrap_or(Format::Json),
    );
    let graph = api.engine()?.graph(&tenant, &query).await?;
    match format {
        Format::Json => {
            let answer = answer(graph, query.range);
            reply::write(&api, JSON, |out| serde_json::to_writer(out, &answer).map_err(Into::into))
        }
        Format::Dot => reply::write(&api, "text/vnd.graphviz", |out| dot::write(&graph, out)),
        Format::NodeGraph => {
            let frames = nodegraph::frames(graph, query.range);
            reply::write(&api, JSON, |out| serde_json::to_writer(out, &frames).map_err(Into::into))
        }
    }
}

fn read_query(params: &Params, range: TimeRange, limit_max: usize) -> Result<GraphQuery, Problem> {
    let text = |name| params.get(name).map(str::to_owned);
    Ok(GraphQuery {
        range,
        level: params.read("level", str::parse)?.unwrap_or(Level::Service),
        namespace: text("namespace"),
        cluster: text("cluster"),
        service: text("service"),
        direction: params.read("direction", str::parse)?.unwrap_or(GraphDirection::Both),
        depth: params.number("depth", 1..=DEPTH_MAX, 1)?,
        proxies: params.read("proxies", str::parse)?.unwrap_or(Proxies::Collapsed),
        min_requests: params.number("min_requests", 0..=MIN_REQUESTS_MAX, 0)? as u64,
        limit: params.number("limit", 1..=limit_max, LIMIT_DEFAULT)?,
    })
}

fn read_format(text: &str) -> Result<Format, String> {
    match text {
        "json" => Ok(Format::Json),
        "dot" => Ok(Format::Dot),
        "nodegraph" => Ok(Format::NodeGraph),
        _ => Err(format!("`{text}` is none of json, dot, nodegraph")),
    }
}

/// The name of a node at its level.
fn name(node: &GraphNode) -> &str {
    let names = [&node.service, &node.workload, &node.namespace, &node.cluster];
    names.into_iter().find_map(Option::as_deref).unwrap_or(node.kind)
}

/// What stands beside the name.
fn detail(node: &GraphNode) -> String {
    let parts = [&node.version, &node.namespace, &node.cluster].into_iter().filter_map(Option::as_deref);
    let parts: Vec<&str> = parts.filter(|part| *part != name(node)).collect();
    if parts.is_empty() && name(node) != node.kind { node.kind.to_owned() } else { parts.join(" ") }
}

#[derive(Serialize)]
struct Answer {
    start: String,
    end: String,
    nodes: Vec<Node>,
    #[serde(serialize_with = "write_edges")]
    edges: Vec<Arc<GraphEdge>>,
    truncated: bool,
    #[serde(flatten)]
    counts: Counts,
}

/// One after the other: there may be many.
fn write_edges<S: Serializer>(edges: &[Arc<GraphEdge>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(edges.iter().map(|edge| Edge::from(&**edge)))
}

#[derive(Serialize)]
struct Node {
    id: String,
    kind: &'static str,
    cluster: Option<String>,
    namespace: Option<String>,
    workload: Option<String>,
    service: Option<String>,
    version: Option<String>,
    port: Option<u16>,
    requests: u64,
    errors: u64,
}

#[derive(Serialize)]
struct Edge {
    source: String,
    target: String,
    /// Whether it leads to where it begins.
    #[serde(rename = "self")]
    is_self: bool,
    requests: u64,
    calls: u64,
    attempts: u64,
    messages: u64,
    rate: f64,
    errors: u64,
    caller: Side,
    callee: Side,
    network_ns: Quantiles,
    request_bytes: u64,
    response_bytes: u64,
    protocols: BTreeMap<String, u64>,
    sampling: &'static str,
    estimate: Option<Estimate>,
    slowest: Option<Slowest>,
    latest_error: Option<LatestError>,
    cross_zone: u64,
    cross_cluster: u64,
    mtls: MutualTls,
    unresolved: u64,
    assumed: u64,
}

#[derive(Serialize)]
struct Side {
    reports: u64,
    errors: BTreeMap<&'static str, u64>,
    latency_ns: Quantiles,
}

#[derive(Serialize)]
struct Estimate {
    value: f64,
    low: f64,
    high: f64,
}

#[derive(Serialize)]
struct MutualTls {
    yes: u64,
    no: u64,
    unknown: u64,
}

#[derive(Serialize)]
struct Slowest {
    trace_id: String,
    latency_ns: u64,
}

#[derive(Serialize)]
struct LatestError {
    trace_id: String,
    time: String,
}

fn answer(graph: Graph, range: TimeRange) -> Answer {
    Answer {
        start: format_micros(range.start),
        end: format_micros(range.end),
        nodes: graph.nodes.into_iter().map(Node::from).collect(),
        edges: graph.edges,
        truncated: graph.truncated,
        counts: graph.counts.into(),
    }
}

impl From<GraphNode> for Node {
    fn from(node: GraphNode) -> Node {
        Node {
            id: node.id,
            kind: node.kind,
            cluster: node.cluster,
            namespace: node.namespace,
            workload: node.workload,
            service: node.service,
            version: node.version,
            port: node.port,
            requests: node.requests,
            errors: node.errors,
        }
    }
}

impl From<&GraphEdge> for Edge {
    fn from(edge: &GraphEdge) -> Edge {
        Edge {
            is_self: edge.source == edge.target,
            source: edge.source.clone(),
            target: edge.target.clone(),
            requests: edge.requests,
            calls: edge.calls,
            attempts: edge.attempts,
            messages: edge.messages,
            rate: edge.rate,
            errors: edge.errors,
            caller: (&edge.caller).into(),
            callee: (&edge.callee).into(),
            network_ns: edge.network.into(),
            request_bytes: edge.request_bytes,
            response_bytes: edge.response_bytes,
            protocols: edge.protocols.iter().cloned().collect(),
            sampling: if edge.estimate.is_some() { "known" } else { "unknown" },
            estimate: edge.estimate.map(|estimate| Estimate { value: estimate.value, low: estimate.low, high: estimate.high }),
            slowest: edge.slowest.map(|one| Slowest { trace_id: one.trace_id.to_string(), latency_ns: one.value }),
            latest_error: edge.latest_error.map(|one| LatestError {
                trace_id: one.trace_id.to_string(),
                // Until the year 2262, where signed nanoseconds end.
                time: format_nanos(one.value as i64),
            }),
            cross_zone: edge.cross_zone,
            cross_cluster: edge.cross_cluster,
            mtls: MutualTls { yes: edge.mtls.yes, no: edge.mtls.no, unknown: edge.mtls.unknown },
            unresolved: edge.unresolved,
            assumed: edge.assumed,
        }
    }
}

impl From<&EdgeSide> for Side {
    fn from(side: &EdgeSide) -> Side {
        Side { reports: side.reports, errors: side.errors.iter().copied().collect(), latency_ns: side.latency.into() }
    }
}
