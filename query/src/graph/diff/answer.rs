//! What is answered.

use meshlake_hops::Shift;

use super::super::GraphNode;
use crate::hops::HopCounts;

/// What changed from the baseline (before) to the range (after).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphDiff {
    /// The ends of the edges, and nodes that changed although none of their edges did; by id.
    pub nodes: Vec<NodeDiff>,
    /// Those that are new, gone or changed: the surest first, then those with most requests.
    pub edges: Vec<EdgeDiff>,
    /// Whether there are edges that the limit left out.
    pub truncated: bool,
    /// How many edges there are of each kind, answered or not.
    pub edge_counts: ChangeCounts,
    /// How many of their ends.
    pub node_counts: ChangeCounts,
    /// The hops before, of edges that are answered or not.
    pub before: HopCounts,
    /// The hops after.
    pub after: HopCounts,
}

/// How an edge or a node differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// It has no hop before.
    New,
    /// It has no hop after.
    Gone,
    /// One of its tests is significant.
    Changed,
    /// None is.
    #[default]
    Same,
}

impl Change {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::Gone => "gone",
            Change::Changed => "changed",
            Change::Same => "same",
        }
    }
}

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// See [`Change::New`].
    pub new: u64,
    /// See [`Change::Gone`].
    pub gone: u64,
    /// See [`Change::Changed`].
    pub changed: u64,
    /// See [`Change::Same`].
    pub same: u64,
}

impl ChangeCounts {
    pub(crate) fn add(&mut self, change: Change) {
        let count = match change {
            Change::New => &mut self.new,
            Change::Gone => &mut self.gone,
            Change::Changed => &mut self.changed,
            Change::Same => &mut self.same,
        };
        *count += 1;
    }
}

/// A node in both ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeDiff {
    /// Who it is, with its requests and errors after.
    pub node: GraphNode,
    /// How it differs.
    pub change: Change,
    /// What it received before.
    pub before: Traffic,
    /// What it received after.
    pub after: Traffic,
    /// None for a node that received nothing.
    pub rate: Option<RateChange>,
    /// None where it received nothing in one of the ranges.
    pub errors: Option<ErrorChange>,
}

/// An edge in both ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeDiff {
    /// The caller's id.
    pub source: String,
    /// The callee's id.
    pub target: String,
    /// How it differs.
    pub change: Change,
    /// Before.
    pub before: Traffic,
    /// After.
    pub after: Traffic,
    /// Requests a second.
    pub rate: RateChange,
    /// None for what is new or gone.
    pub errors: Option<ErrorChange>,
    /// None where one side tells no latency in both ranges, or too few.
    pub latency: Option<LatencyChange>,
}

/// Requests of one range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Hops.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Requests a second.
    pub rate: f64,
}

/// Whether a difference is more than chance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Test {
    /// How probable so much of a difference is by chance.
    pub p: f64,
    /// The same among all tests of edges, or all of nodes (Benjamini and Hochberg).
    pub adjusted: f64,
    /// Whether that is at most q.
    pub significant: bool,
}

/// The rate of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateChange {
    /// How many times the rate before is the rate after; none where there was none.
    pub ratio: Option<f64>,
    /// Whether rates are those before sampling; else sampling is taken to be the same in both ranges.
    pub sampling_known: bool,
    /// Poisson ratio.
    pub test: Test,
}

/// The share of requests that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ErrorChange {
    /// The share after less the share before.
    pub difference: f64,
    /// Score test of two proportions.
    pub test: Test,
}

/// Quantiles of latencies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyChange {
    /// Who tells of them: `callee`, or `caller` where no callee does in both ranges.
    pub side: &'static str,
    /// Those that there are enough latencies for.
    pub quantiles: Vec<QuantileChange>,
}

/// One quantile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantileChange {
    /// `p50`, `p90`, `p95` or `p99`.
    pub name: &'static str,
    /// How far it moved, with the 95 % interval.
    pub shift: Shift,
    /// Mood's test.
    pub test: Test,
}
