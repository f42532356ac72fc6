//! Adds sums to sums.

use std::collections::HashMap;

use meshlake_hops::Node;
use meshlake_hops::rollup::{Measures, RollupKey};

use super::answer::GraphNode;
use super::identity::Identity;
use super::question::{GraphQuery, Level};
use super::totals::EdgeTotals;
use crate::hops::HopCounts;

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
            id: String::new(),
        }
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len() * NODE_BYTES + self.edges.len() * EDGE_BYTES
    }

    /// Adds the rows of some sums, whose keys have so many different ends: see [`meshlake_hops::rollup::Sums`].
    pub(crate) fn add<'s>(&mut self, rows: impl Iterator<Item = (RollupKey<'s>, [usize; 2], &'s Measures)>, ends: usize) {
        // Many keys have the same ends.
        let mut numbers: Vec<Option<usize>> = vec![None; ends];
        for (key, ends, measures) in rows {
            self.counts.add(measures);
            let [caller, callee] = [(ends[0], &key.caller), (ends[1], &key.callee)]
                .map(|(end, node)| *numbers[end].get_or_insert_with(|| self.node(node)));
            self.add_edge((caller, callee), &key, measures);
        }
    }

    fn add_edge(&mut self, (caller, callee): (usize, usize), key: &RollupKey<'_>, measures: &Measures) {
        match &key.via {
            Some(via) if self.query.shows_waypoints() => {
                let waypoint = self.number(&Identity::of_waypoint(via, self.query.level));
                self.edges.entry((caller, waypoint)).or_default().add(key, &measures.to_waypoint());
                self.edges.entry((waypoint, callee)).or_default().add(key, &measures.from_waypoint());
            }
            _ => self.edges.entry((caller, callee)).or_default().add(key, measures),
        }
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
