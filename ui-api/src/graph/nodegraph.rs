//! The graph as the data frames of Grafana's Node Graph panel, one object a row.

use std::sync::Arc;

use meshlake_query::{Graph, GraphEdge, GraphNode, TimeRange};
use serde::{Serialize, Serializer};

use super::{detail, name};
use crate::hops::Counts;

#[derive(Serialize)]
pub(super) struct Frames {
    nodes: Vec<Node>,
    #[serde(serialize_with = "write_edges")]
    edges: Vec<Arc<GraphEdge>>,
    truncated: bool,
    #[serde(flatten)]
    counts: Counts,
}

/// A node, drawn as a circle whose arcs are the shares of requests.
#[derive(Serialize)]
struct Node {
    id: String,
    title: String,
    subtitle: String,
    mainstat: String,
    secondarystat: String,
    #[serde(rename = "arc__success")]
    succeeded: f64,
    #[serde(rename = "arc__errors")]
    failed: f64,
}

#[derive(Serialize)]
struct Edge {
    id: String,
    source: String,
    target: String,
    mainstat: String,
    secondarystat: String,
}

/// Both frames, and what is to be known of every graph.
pub(super) fn frames(graph: Graph, range: TimeRange) -> Frames {
    let seconds = (range.end - range.start) as f64 / 1e6;
    let node = |node| self::node(node, seconds);
    Frames {
        nodes: graph.nodes.iter().map(node).collect(),
        edges: graph.edges,
        truncated: graph.truncated,
        counts: graph.counts.into(),
    }
}

/// One after the other: there may be many.
fn write_edges<S: Serializer>(edges: &[Arc<GraphEdge>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(edges.iter().map(|one| edge(one)))
}

fn node(node: &GraphNode, seconds: f64) -> Node {
    // What nobody calls does not fail.
    let failed = node.errors as f64 / node.requests.max(1) as f64;
    Node {
        id: node.id.clone(),
        title: name(node).to_owned(),
        subtitle: detail(node),
        mainstat: rate(node.requests as f64 / seconds),
        secondarystat: format!("{:.2} % errors", failed * 100.0),
        succeeded: 1.0 - failed,
        failed,
    }
}

fn edge(edge: &GraphEdge) -> Edge {
    let latency = edge.callee.latency.p95.or(edge.caller.latency.p95);
    Edge {
        id: format!("{} {}", edge.source, edge.target),
        source: edge.source.clone(),
        target: edge.target.clone(),
        mainstat: rate(edge.rate),
        secondarystat: latency.map_or_else(String::new, |latency| format!("p95 {:.2} ms", latency as f64 / 1e6)),
    }
}

fn rate(rate: f64) -> String {
    format!("{rate:.2} req/s")
}
