//! What is asked of the graph.

use std::str::FromStr;

use crate::error::QueryError;
use crate::types::TimeRange;

/// A question to the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphQuery {
    /// When the hops' key spans start; right-closed here: `start < t <= end`, so that ranges next to each other share no hop.
    pub range: TimeRange,
    /// What a node is.
    pub level: Level,
    /// With `cluster` and `service`: the nodes that edges are followed from. They are those with a hop of which one end fulfils all
    /// that is given. Nothing given: all edges.
    pub namespace: Option<String>,
    /// See `namespace`.
    pub cluster: Option<String>,
    /// See `namespace`.
    pub service: Option<String>,
    /// Which way edges are followed.
    pub direction: GraphDirection,
    /// How many edges far.
    pub depth: usize,
    /// Whether waypoints are nodes.
    pub proxies: Proxies,
    /// The fewest requests of an edge that is answered.
    pub min_requests: u64,
    /// The most edges that are answered.
    pub limit: usize,
}

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// A service.
    #[default]
    Service,
    /// A workload.
    Workload,
    /// A version of a service.
    Version,
    /// A namespace.
    Namespace,
    /// A cluster.
    Cluster,
}

/// Which way edges are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GraphDirection {
    /// From callee to caller.
    In,
    /// From caller to callee.
    Out,
    /// Callers of callers and callees of callees, but no callees of callers.
    #[default]
    Both,
}

/// Whether waypoints are nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proxies {
    /// They are a detail of the edge between caller and callee.
    #[default]
    Collapsed,
    /// They are nodes between caller and callee, but at the levels of namespaces and clusters: a hop through one is of two edges.
    Shown,
}

impl GraphQuery {
    /// A question for all edges between services in a range, at most `limit`.
    pub fn whole(range: TimeRange, limit: usize) -> GraphQuery {
        GraphQuery {
            range,
            level: Level::default(),
            namespace: None,
            cluster: None,
            service: None,
            direction: GraphDirection::default(),
            depth: 1,
            proxies: Proxies::default(),
            min_requests: 0,
            limit,
        }
    }

    /// Whether waypoints are nodes. Within a namespace both edges of a hop would be one, and count it twice.
    pub(crate) fn shows_waypoints(&self) -> bool {
        self.proxies == Proxies::Shown && !matches!(self.level, Level::Namespace | Level::Cluster)
    }
}

impl Level {
    const ALL: [(&str, Level); 5] = [
        ("service", Level::Service),
        ("workload", Level::Workload),
        ("version", Level::Version),
        ("namespace", Level::Namespace),
        ("cluster", Level::Cluster),
    ];
}

fn named<T: Copy>(all: &[(&str, T)], text: &str) -> Result<T, QueryError> {
    let found = all.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    found.ok_or_else(|| QueryError::invalid(format!("`{text}` is none of {}", names.join(", "))))
}

impl FromStr for Level {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        named(&Level::ALL, text)
    }
}

impl FromStr for GraphDirection {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        named(&[("in", GraphDirection::In), ("out", GraphDirection::Out), ("both", GraphDirection::Both)], text)
    }
}

impl FromStr for Proxies {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        named(&[("collapsed", Proxies::Collapsed), ("shown", Proxies::Shown)], text)
    }
}
