//! Adds hop to hop.

use std::collections::HashMap;

use meshlake_hops::{Hop, Node, Summary};

use super::answer::GraphNode;
use super::identity::Identity;
use super::question::{GraphQuery, Level};
use super::totals::EdgeTotals;
use crate::hops::HopCounts;
use crate::trace_id::TraceId;

/// What a node and an edge take, with latencies as those of a mesh lie: about a hundred buckets in three histograms.
const NODE_BYTES: usize = 512;
const EDGE_BYTES: usize = 4096;

/// The whole graph of a range.
pub(crate) struct Builder<'q> {
    query: &'q GraphQuery,
    pub(crate) nodes: Vec<BuiltNode>,
    numbers: HashMap<String, usize>,
    pub(crate) edges: HashMap<(usize, usize), EdgeTotals>,
    pub(crate) counts: HopCounts,
    /// The weights of one trace's hops, each with its edge.
    weights: Vec<((usize, usize), Option<u64>)>,
    id: String,
}

/// A node, and whether edges are followed from it.
pub(crate) struct BuiltNode {
    pub(crate) node: GraphNode,
    pub(crate) chosen: bool,
}

impl<'q> Builder<'q> {
    pub(crate) fn new(query: &'q GraphQuery) -> Builder<'q> {
        Builder {
            query,
            nodes: Vec::new(),
            numbers: HashMap::new(),
            edges: HashMap::new(),
            counts: HopCounts::default(),
            weights: Vec::new(),
            id: String::new(),
        }
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len() * NODE_BYTES + self.edges.len() * EDGE_BYTES
    }

    /// Adds those hops of a trace that are in the range.
    pub(crate) fn add_trace(&mut self, trace_id: TraceId, hops: &[Hop<'_>], summary: Summary) {
        self.counts.leave_out(summary);
        for hop in hops.iter().filter(|hop| self.query.range.holds(hop.time)) {
            self.counts.add(hop);
            self.add_hop(trace_id, hop);
        }
        // Sampling is by trace, and so is its variance.
        self.weights.sort_unstable();
        for of_edge in self.weights.chunk_by(|(a, _), (b, _)| a == b) {
            let mut weights: Vec<Option<u64>> = of_edge.iter().map(|(_, weight)| *weight).collect();
            let totals = of_edge.first().and_then(|(edge, _)| self.edges.get_mut(edge));
            totals.into_iter().for_each(|totals| totals.tally.add_trace(&mut weights));
        }
        self.weights.clear();
    }

    fn add_hop(&mut self, trace_id: TraceId, hop: &Hop<'_>) {
        let (caller, callee) = (self.node(&hop.caller), self.node(&hop.callee));
        match &hop.via {
            Some(via) if self.query.shows_waypoints() => {
                let waypoint = self.number(&Identity::of_waypoint(via, self.query.level));
                // Each side tells of its part of the way.
                self.add_to((caller, waypoint), trace_id, &Hop { callee_report: None, network: None, ..*hop });
                self.add_to((waypoint, callee), trace_id, &Hop { caller_report: None, network: None, ..*hop });
            }
            _ => self.add_to((caller, callee), trace_id, hop),
        }
    }

    fn add_to(&mut self, edge: (usize, usize), trace_id: TraceId, hop: &Hop<'_>) {
        self.edges.entry(edge).or_default().add(trace_id, hop);
        self.weights.push((edge, hop.weight));
    }

    /// The number of the node that an end of a hop is of.
    fn node(&mut self, node: &Node<'_>) -> usize {
        let number = self.number(&Identity::of(node, self.query.level));
        let GraphQuery { namespace, cluster, service, .. } = self.query;
        let is = |asked: &Option<String>, part: &str| asked.as_deref().is_none_or(|asked| asked == part);
        let chosen = is(namespace, node.namespace) && is(cluster, node.cluster) && is(service, node.service);
        let built = &mut self.nodes[number];
        built.chosen |= chosen;
        if self.query.level == Level::Workload && !node.service.is_empty() {
            let known = built.node.service.as_deref();
            if known.is_none_or(|known| node.service < known) {
                built.node.service = Some(node.service.to_owned());
            }
        }
        number
    }

    fn number(&mut self, identity: &Identity<'_>) -> usize {
        identity.write_id(&mut self.id);
        if let Some(number) = self.numbers.get(&self.id) {
            return *number;
        }
        let number = self.nodes.len();
        self.nodes.push(BuiltNode { node: identity.node(&self.id), chosen: false });
        self.numbers.insert(self.id.clone(), number);
        number
    }
}
