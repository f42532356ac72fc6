//! `GET graph/diff`: what changed in the graph from one range to another.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::Uri;
use meshlake_query::{
    ChangeCounts, EdgeDiff, ErrorChange, GraphDiff, GraphDiffQuery, LatencyChange, NodeDiff, QuantileChange, RateChange, Test,
    Traffic,
};
use serde::Serialize;

use super::read_query;
use crate::api::{Api, ForTenant};
use crate::hops::Counts;
use crate::params::Params;
use crate::problem::Problem;
use crate::time::{format_micros, now};

/// What it takes.
pub(crate) const PARAMETERS: &[&str] = &[
    "start",
    "end",
    "exact",
    "baseline_start",
    "baseline_end",
    "q",
    "level",
    "namespace",
    "cluster",
    "service",
    "direction",
    "depth",
    "proxies",
    "min_requests",
    "limit",
];

const Q_DEFAULT: f64 = 0.05;
const LIMIT_MAX: usize = 100_000;

#[derive(Serialize)]
pub(crate) struct Answer {
    start: String,
    end: String,
    baseline_start: String,
    baseline_end: String,
    q: f64,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    truncated: bool,
    node_changes: Changes,
    edge_changes: Changes,
    before: Counts,
    after: Counts,
}

#[derive(Serialize)]
struct Changes {
    new: u64,
    gone: u64,
    changed: u64,
    same: u64,
}

#[derive(Serialize)]
struct Node {
    #[serde(flatten)]
    node: super::Node,
    change: &'static str,
    before: Requests,
    after: Requests,
    rate_change: Option<Rate>,
    error_change: Option<Errors>,
}

#[derive(Serialize)]
struct Edge {
    source: String,
    target: String,
    change: &'static str,
    before: Requests,
    after: Requests,
    rate_change: Rate,
    error_change: Option<Errors>,
    latency_change: Option<Latency>,
}

#[derive(Serialize)]
struct Requests {
    requests: u64,
    errors: u64,
    rate: f64,
}

#[derive(Serialize)]
struct Found {
    p: f64,
    adjusted_p: f64,
    significant: bool,
}

#[derive(Serialize)]
struct Rate {
    ratio: Option<f64>,
    sampling: &'static str,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
struct Errors {
    difference: f64,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
struct Latency {
    side: &'static str,
    quantiles: BTreeMap<&'static str, Shift>,
}

#[derive(Serialize)]
struct Shift {
    before_ns: u64,
    after_ns: u64,
    shift_ns: i64,
    shift_low_ns: i64,
    shift_high_ns: i64,
    #[serde(flatten)]
    found: Found,
}

/// What changed from the baseline to the range.
pub(crate) async fn diff(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<Answer>, Problem> {
    let params = Params::parse(&uri, PARAMETERS)?;
    let now = now();
    let asked = params.range_at(now)?;
    let (range, before) = (params.of_hops(asked)?, params.baseline_at(now, asked)?);
    let mut baseline = params.of_hops(before)?;
    if before.end <= asked.start {
        // Rounded, too, they share no minute.
        baseline.end = baseline.end.min(range.start);
    }
    let q = params.read("q", read_share)?.unwrap_or(Q_DEFAULT);
    let query = GraphDiffQuery { graph: read_query(&params, range, LIMIT_MAX)?, baseline, q };
    query.check().map_err(|error| Problem::parameter("baseline_start", format!("parameter `baseline_start`: {error}")))?;
    let diff = api.engine()?.graph_diff(&tenant, &query).await?;
    Ok(Json(answer(diff, &query)))
}

fn read_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| format!("`{text}` is not a number between 0 and 1"))
}

fn answer(diff: GraphDiff, query: &GraphDiffQuery) -> Answer {
    Answer {
        start: format_micros(query.graph.range.start),
        end: format_micros(query.graph.range.end),
        baseline_start: format_micros(query.baseline.start),
        baseline_end: format_micros(query.baseline.end),
        q: query.q,
        nodes: diff.nodes.into_iter().map(Node::from).collect(),
        edges: diff.edges.into_iter().map(Edge::from).collect(),
        truncated: diff.truncated,
        node_changes: diff.node_counts.into(),
        edge_changes: diff.edge_counts.into(),
        before: diff.before.into(),
        after: diff.after.into(),
    }
}

impl From<ChangeCounts> for Changes {
    fn from(counts: ChangeCounts) -> Changes {
        let ChangeCounts { new, gone, changed, same } = counts;
        Changes { new, gone, changed, same }
    }
}

impl From<NodeDiff> for Node {
    fn from(diff: NodeDiff) -> Node {
        Node {
            node: diff.node.into(),
            change: diff.change.as_str(),
            before: diff.before.into(),
            after: diff.after.into(),
            rate_change: diff.rate.map(Rate::from),
            error_change: diff.errors.map(Errors::from),
        }
    }
}

impl From<EdgeDiff> for Edge {
    fn from(diff: EdgeDiff) -> Edge {
        Edge {
            source: diff.source,
            target: diff.target,
            change: diff.change.as_str(),
            before: diff.before.into(),
            after: diff.after.into(),
            rate_change: diff.rate.into(),
            error_change: diff.errors.map(Errors::from),
            latency_change: diff.latency.map(Latency::from),
        }
    }
}

impl From<Traffic> for Requests {
    fn from(traffic: Traffic) -> Requests {
        Requests { requests: traffic.requests, errors: traffic.errors, rate: traffic.rate }
    }
}

impl From<Test> for Found {
    fn from(test: Test) -> Found {
        Found { p: test.p, adjusted_p: test.adjusted, significant: test.significant }
    }
}

impl From<RateChange> for Rate {
    fn from(change: RateChange) -> Rate {
        let sampling = if change.sampling_known { "known" } else { "unknown" };
        Rate { ratio: change.ratio, sampling, found: change.test.into() }
    }
}

impl From<ErrorChange> for Errors {
    fn from(change: ErrorChange) -> Errors {
        Errors { difference: change.difference, found: change.test.into() }
    }
}

impl From<LatencyChange> for Latency {
    fn from(change: LatencyChange) -> Latency {
        let quantile = |quantile: QuantileChange| (quantile.name, quantile.into());
        Latency { side: change.side, quantiles: change.quantiles.into_iter().map(quantile).collect() }
    }
}

impl From<QuantileChange> for Shift {
    fn from(change: QuantileChange) -> Shift {
        let meshlake_query::Shift { before, after, by, low, high } = change.shift;
        Shift {
            before_ns: before,
            after_ns: after,
            shift_ns: by,
            shift_low_ns: low,
            shift_high_ns: high,
            found: change.test.into(),
        }
    }
}
