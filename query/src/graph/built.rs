//! A graph that is kept: made of lake files alone, it is that of every question until there are others.

use std::collections::HashMap;
use std::sync::Arc;

use super::answer::GraphEdge;
use super::builder::{Builder, BuiltNode, Shape};
use super::reach::Ways;
use super::totals::PackedTotals;
use crate::hops::SignedCounts;
use crate::rollups::PieceId;

/// What a graph is made of: pieces, its shape, and the length of its range in microseconds.
pub(crate) type BuiltOf = (Vec<PieceId>, Shape, i64);

/// Nodes and edges, ready to be answered, and to be added to.
#[derive(Default)]
pub(crate) struct Built {
    pub(crate) nodes: Vec<BuiltNode>,
    /// The number of each node by its id.
    pub(crate) numbers: HashMap<String, usize>,
    /// Most requests first, then by the ids of source and target.
    pub(crate) edges: Vec<BuiltEdge>,
    /// The place of each edge by the numbers of its ends.
    pub(crate) places: HashMap<(usize, usize), usize>,
    pub(crate) counts: SignedCounts,
    /// Requests and errors that each node received.
    pub(crate) received: Vec<[i64; 2]>,
    pub(crate) ways: Ways,
    bytes: usize,
}

pub(crate) struct BuiltEdge {
    pub(crate) ends: (usize, usize),
    pub(crate) totals: PackedTotals,
    pub(crate) edge: Arc<GraphEdge>,
}

impl Built {
    /// The graph of a range of so many seconds.
    pub(crate) fn of(builder: Builder, seconds: f64) -> Built {
        let Builder { nodes, numbers, edges, counts, .. } = builder;
        let id = |number: usize| nodes[number].node.id.clone();
        let answered = edges.into_iter().map(|(ends, totals)| {
            let edge = Arc::new(totals.edge(id(ends.0), id(ends.1), seconds));
            BuiltEdge { ends, totals: totals.pack(), edge }
        });
        let mut edges: Vec<BuiltEdge> = answered.collect();
        edges.sort_unstable_by(|a, b| a.edge.order(&b.edge));
        let places = edges.iter().enumerate().map(|(place, edge)| (edge.ends, place)).collect();
        let mut received = vec![[0; 2]; nodes.len()];
        for BuiltEdge { ends: (_, target), edge, .. } in &edges {
            edge.received().into_iter().zip(&mut received[*target]).for_each(|(count, sum)| *sum += count);
        }
        let ways = Ways::of(edges.iter().map(|edge| edge.ends), nodes.len());
        let mut built = Built { nodes, numbers, edges, places, counts, received, ways, bytes: 0 };
        built.bytes = built.size();
        built
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn size(&self) -> usize {
        let node = |built: &BuiltNode| 4 * built.node.id.len() + size_of::<BuiltNode>() + built.names.len() * 128;
        let edge = |edge: &BuiltEdge| {
            let GraphEdge { source, target, .. } = &*edge.edge;
            edge.totals.bytes() + size_of::<GraphEdge>() + source.len() + target.len() + 256
        };
        // With the ways, and where each edge is.
        self.nodes.iter().map(node).sum::<usize>() + self.edges.iter().map(|one| edge(one) + 64).sum::<usize>()
    }
}
