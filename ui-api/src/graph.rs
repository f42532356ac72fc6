//! `GET graph`: who calls whom.

pub(crate) mod diff;
mod dot;
mod nodegraph;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Uri, header};
use meshlake_query::{EdgeSide, Graph, GraphDirection, GraphEdge, GraphNode, GraphQuery, Level, Proxies, TimeRange};
use serde::Serialize;

use crate::api::{Api, ForTenant};
use crate::hops::{Counts, Quantiles};
use crate::params::Params;
use crate::problem::Problem;
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
const LIMIT_MAX: usize = 100_000;

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
    let (query, format) =
        (read_query(&params, params.of_hops(params.range()?)?)?, params.read("format", read_format)?.unwrap_or(Format::Json));
    let graph = api.engine()?.graph(&tenant, &query).await?;
    Ok(match format {
        Format::Json => Json(answer(graph, query.range)).into_response(),
        Format::Dot => ([(header::CONTENT_TYPE, "text/vnd.graphviz")], dot::write(&graph)).into_response(),
        Format::NodeGraph => Json(nodegraph::frames(&graph, query.range)).into_response(),
    })
}

fn read_query(params: &Params, range: TimeRange) -> Result<GraphQuery, Problem> {
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
        limit: params.number("limit", 1..=LIMIT_MAX, LIMIT_DEFAULT)?,
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
    edges: Vec<Edge>,
    truncated: bool,
    #[serde(flatten)]
    counts: Counts,
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
        edges: graph.edges.iter().map(|edge| Edge::from(&**edge)).collect(),
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
