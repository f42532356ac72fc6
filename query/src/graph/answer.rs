//! What the graph answers. Latencies are integer nanoseconds, wrong by 1.1 % at most (see [`meshlake_hops::Histogram`]).

use std::sync::Arc;

use meshlake_hops::{Estimate, Histogram};

use crate::hops::HopCounts;
use crate::trace_id::TraceId;

/// The graph of a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The ends of the edges, by id.
    pub nodes: Vec<GraphNode>,
    /// Most requests first, then by source and target.
    pub edges: Vec<Arc<GraphEdge>>,
    /// Whether there are edges that the limit left out.
    pub truncated: bool,
    /// The hops in the range, of edges that are answered or not.
    pub counts: HopCounts,
}

/// A node, with the parts of its identity that the level has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphNode {
    /// Names it in edges: the same for the same node in every answer of the level.
    pub id: String,
    /// `workload`, `gateway`, `external`, `database`, `queue`, `outside`, `unknown`, `missing`; `waypoint` where proxies are shown;
    /// `namespace` or `cluster` for what of these levels is of the mesh.
    pub kind: &'static str,
    /// Its cluster.
    pub cluster: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its workload.
    pub workload: Option<String>,
    /// Its service. A workload of several is of the first by name.
    pub service: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The port of a database.
    pub port: Option<u16>,
    /// Requests that it received: the sum of its incoming edges, answered or not.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

/// All hops from one node to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphEdge {
    /// The caller's id.
    pub source: String,
    /// The callee's id.
    pub target: String,
    /// Hops.
    pub requests: u64,
    /// Calls of the caller that they were made for.
    pub calls: u64,
    /// Requests that are no copies (mirror): those that it took to make the calls.
    pub attempts: u64,
    /// Messages.
    pub messages: u64,
    /// Requests a second.
    pub rate: f64,
    /// Requests that failed: as the callee tells, or the caller where no callee tells.
    pub errors: u64,
    /// What callers tell.
    pub caller: EdgeSide,
    /// What callees tell.
    pub callee: EdgeSide,
    /// Nanoseconds that callers waited longer than callees worked.
    pub network: Quantiles,
    /// Bytes of the requests' bodies.
    pub request_bytes: u64,
    /// Bytes of the responses' bodies.
    pub response_bytes: u64,
    /// Requests by protocol, by name; those of which no span tells it are in none.
    pub protocols: Vec<(String, u64)>,
    /// How many requests there were before sampling, with the 95 % interval; none if the sampling of a span is unknown (P10). Too narrow where a
    /// trace has hops in several minutes, or of several of the finest edges, which are taken for independent.
    pub estimate: Option<Estimate>,
    /// The slowest, in nanoseconds at the callee, or at the caller where no callee tells; of equals the smallest trace id. No second best is kept
    /// for one that spans which came later took off an edge.
    pub slowest: Option<Exemplar>,
    /// The latest that failed, in nanoseconds since the epoch; alike.
    pub latest_error: Option<Exemplar>,
    /// Requests from one zone to another.
    pub cross_zone: u64,
    /// Requests from one cluster to another.
    pub cross_cluster: u64,
    /// Requests by whether they came over mutual TLS.
    pub mtls: MutualTls,
    /// See [`HopCounts::unresolved`].
    pub unresolved: u64,
    /// See [`HopCounts::assumed`].
    pub assumed: u64,
}

/// What one side of an edge tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeSide {
    /// Requests that it tells of.
    pub reports: u64,
    /// Those of each class that is not `none`, as `caller_error` and `callee_error` of the table `hops` name it; `http_4xx` is no failure.
    pub errors: Vec<(&'static str, u64)>,
    /// Latencies, nanoseconds.
    pub latency: Quantiles,
}

/// Nearest-rank quantiles; none where there are no values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// The median.
    pub p50: Option<u64>,
    /// 90 % are no greater.
    pub p90: Option<u64>,
    /// 95 % are no greater.
    pub p95: Option<u64>,
    /// 99 % are no greater.
    pub p99: Option<u64>,
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram) -> Quantiles {
        let at = |q| histogram.quantile(q);
        Quantiles { p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99) }
    }
}

/// Requests by whether they came over mutual TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MutualTls {
    /// The client showed a certificate.
    pub yes: u64,
    /// It showed none.
    pub no: u64,
    /// No tag tells.
    pub unknown: u64,
}

/// A trace that shows something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace.
    pub trace_id: TraceId,
    /// By what it was chosen.
    pub value: u64,
}
