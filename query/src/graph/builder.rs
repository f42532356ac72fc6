//! Adds sums to nodes and edges.

use std::collections::HashMap;

use meshlake_hops::Node;
use meshlake_hops::rollup::{Count, Keys, Measures, RollupKey};

use super::answer::GraphNode;
use super::identity::Identity;
use super::question::{GraphQuery, Level};
use super::totals::EdgeTotals;
use crate::hops::SignedCounts;

/// What a node and an edge take, with latencies as those of a mesh lie: about a hundred buckets in three histograms.
const NODE_BYTES: usize = 512;
const EDGE_BYTES: usize = 4096;

/// What a graph is of, whatever part of it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) level: Level,
    pub(crate) shows_waypoints: bool,
}

impl Shape {
    pub(crate) fn of(query: &GraphQuery) -> Shape {
        Shape { level: query.level, shows_waypoints: query.shows_waypoints() }
    }
}

/// A graph in the making: sums of which each may be less than nothing.
pub(crate) struct Builder {
    shape: Shape,
    pub(crate) nodes: Vec<BuiltNode>,
    pub(crate) numbers: HashMap<String, usize>,
    pub(crate) edges: HashMap<(usize, usize), EdgeTotals>,
    pub(crate) counts: SignedCounts,
    id: String,
}

/// Namespace, cluster and service of ends of hops.
pub(crate) type Names = [Box<str>; 3];

/// A node, and the hops at it by the names that it goes by: by these it is asked for.
#[derive(Clone)]
pub(crate) struct BuiltNode {
    pub(crate) node: GraphNode,
    pub(crate) names: HashMap<Names, i64>,
}

impl BuiltNode {
    /// Whether hops at it are of what is asked for.
    pub(crate) fn is_chosen(&self, query: &GraphQuery) -> bool {
        let asked = [&query.namespace, &query.cluster, &query.service];
        let are =
            |names: &Names| asked.iter().zip(names).all(|(asked, name)| asked.as_deref().is_none_or(|asked| asked == &**name));
        self.names.iter().any(|(names, requests)| *requests > 0 && are(names))
    }

    /// The node. A workload of several services is of the first by name.
    pub(crate) fn answer(&self, level: Level) -> GraphNode {
        let services = self.names.iter().filter(|(_, requests)| **requests > 0).map(|([.., service], _)| service);
        let first = services.filter(|service| !service.is_empty()).min();
        let service = if level == Level::Workload { first.map(|service| service.to_string()) } else { None };
        GraphNode { service: service.or_else(|| self.node.service.clone()), ..self.node.clone() }
    }

    pub(crate) fn add_names(&mut self, other: BuiltNode) {
        other.names.into_iter().for_each(|(names, requests)| *self.names.entry(names).or_default() += requests);
    }
}

impl Builder {
    pub(crate) fn new(shape: Shape) -> Builder {
        Builder {
            shape,
            nodes: Vec::new(),
            numbers: HashMap::new(),
            edges: HashMap::new(),
            counts: SignedCounts::default(),
            id: String::new(),
        }
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len() * NODE_BYTES + self.edges.len() * EDGE_BYTES
    }

    /// Begins to add sums of these keys.
    pub(crate) fn rows<'b>(&'b mut self, keys: &'b Keys) -> Rows<'b> {
        Rows { ends: vec![None; keys.ends()], builder: self, keys }
    }

    fn add_edge(&mut self, (caller, callee): (usize, usize), key: &RollupKey<'_>, measures: &Measures) {
        match &key.via {
            Some(via) if self.shape.shows_waypoints => {
                let waypoint = self.number(&Identity::of_waypoint(via, self.shape.level));
                self.edges.entry((caller, waypoint)).or_default().add(key, &measures.to_waypoint());
                self.edges.entry((waypoint, callee)).or_default().add(key, &measures.from_waypoint());
            }
            _ => self.edges.entry((caller, callee)).or_default().add(key, measures),
        }
    }

    /// The number of the node that an end of a hop is of.
    fn node(&mut self, node: &Node<'_>) -> usize {
        self.number(&Identity::of(node, self.shape.level))
    }

    fn number(&mut self, identity: &Identity<'_>) -> usize {
        identity.write_id(&mut self.id);
        if let Some(number) = self.numbers.get(&self.id) {
            return *number;
        }
        let number = self.nodes.len();
        self.nodes.push(BuiltNode { node: identity.node(&self.id), names: HashMap::new() });
        self.numbers.insert(self.id.clone(), number);
        number
    }
}

/// Sums of some keys, of which many have the same ends.
pub(crate) struct Rows<'b> {
    builder: &'b mut Builder,
    keys: &'b Keys,
    /// By the number of the end: that of its node, and its hops.
    ends: Vec<Option<(usize, i64)>>,
}

impl Rows<'_> {
    /// Adds the sums of a key.
    pub(crate) fn add(&mut self, number: u32, measures: &Measures) {
        let Rows { builder, keys, ends } = self;
        builder.counts.add(measures);
        let (numbers, key) = (keys.ends_of(number), keys.key(number));
        let [caller, callee] = [(numbers[0], &key.caller), (numbers[1], &key.callee)].map(|(end, node)| {
            let (node, requests) = ends[end].get_or_insert_with(|| (builder.node(node), 0));
            *requests += measures.signed(Count::Requests);
            *node
        });
        builder.add_edge((caller, callee), &key, measures);
    }

    /// Notes by which names the nodes go.
    pub(crate) fn finish(self) {
        for (end, found) in (0..).zip(self.ends) {
            let Some((node, requests)) = found else { continue };
            let Node { namespace, cluster, service, .. } = self.keys.end(end);
            let names = [namespace, cluster, service].map(Box::from);
            *self.builder.nodes[node].names.entry(names).or_default() += requests;
        }
    }
}
