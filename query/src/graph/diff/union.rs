//! Two graphs as one: each node and each edge once, with what it has before and after.

use std::collections::HashMap;

use meshlake_hops::Tally;

use super::super::builder::{Builder, BuiltNode};
use super::super::totals::EdgeTotals;

/// The nodes by number, what each received, and the edges between their numbers; of pairs the first is before.
pub(crate) struct Union {
    pub(crate) nodes: Vec<BuiltNode>,
    pub(crate) node_totals: Vec<[NodeTotals; 2]>,
    pub(crate) edges: HashMap<(usize, usize), [EdgeTotals; 2]>,
}

/// What a node received in one range.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeTotals {
    /// Whether it has a hop, as callee or as caller.
    pub(crate) is_there: bool,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) tally: Tally,
}

impl Union {
    pub(crate) fn of(before: Builder, after: Builder) -> Union {
        let mut union = Union { nodes: Vec::new(), node_totals: Vec::new(), edges: HashMap::new() };
        let mut numbers = HashMap::new();
        union.add(0, before, &mut numbers);
        union.add(1, after, &mut numbers);
        union
    }

    fn add(&mut self, range: usize, builder: Builder, numbers: &mut HashMap<String, usize>) {
        let renumbered: Vec<usize> = builder.nodes.into_iter().map(|built| self.number(built, numbers)).collect();
        for ((source, target), totals) in builder.edges {
            self.node_totals[renumbered[source]][range].is_there = true;
            let node = &mut self.node_totals[renumbered[target]][range];
            node.is_there = true;
            node.requests += totals.requests();
            node.errors += totals.errors();
            node.tally.merge(&totals.tally());
            self.edges.entry((renumbered[source], renumbered[target])).or_default()[range] = totals;
        }
    }

    fn number(&mut self, built: BuiltNode, numbers: &mut HashMap<String, usize>) -> usize {
        match numbers.get(&built.node.id) {
            Some(number) => {
                self.nodes[*number].add_names(built);
                *number
            }
            None => {
                numbers.insert(built.node.id.clone(), self.nodes.len());
                self.nodes.push(built);
                self.node_totals.push(Default::default());
                self.nodes.len() - 1
            }
        }
    }
}
