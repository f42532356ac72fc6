//! Adds what does not last to a graph that is kept, and leaves out what was not asked for.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::answer::{Graph, GraphEdge, GraphNode};
use super::builder::{Builder, BuiltNode};
use super::built::Built;
use super::question::{GraphDirection, GraphQuery};
use super::totals::EdgeTotals;

/// An edge that may be answered.
struct Edge<'b> {
    ends: (usize, usize),
    edge: Cow<'b, Arc<GraphEdge>>,
}

/// The edges that were asked for, and their ends.
pub(crate) fn select(built: &Built, passing: Builder, query: &GraphQuery) -> Graph {
    let mut counts = built.counts;
    counts.merge(&passing.counts);
    let (nodes, changed) = add(built, passing);
    let seconds = (query.range.end - query.range.start) as f64 / 1e6;
    let mut edges: Vec<Edge<'_>> = built
        .edges
        .iter()
        .filter(|edge| !changed.contains_key(&edge.ends))
        .map(|edge| Edge { ends: edge.ends, edge: Cow::Borrowed(&edge.edge) })
        .collect();
    let id = |number: usize| nodes[number].node.id.clone();
    edges.extend(changed.iter().map(|(ends, totals)| {
        let edge = Arc::new(totals.edge(id(ends.0), id(ends.1), seconds));
        Edge { ends: *ends, edge: Cow::Owned(edge) }
    }));
    edges.retain(|edge| edge.edge.requests > 0);
    let received = received(&edges, nodes.len());
    if asks_for_some(query) {
        let chosen: Vec<bool> = nodes.iter().map(|node| node.is_chosen(query)).collect();
        let reached = reached(&chosen, edges.iter().map(|edge| edge.ends).collect(), query);
        edges.retain(|edge| reached.contains(&edge.ends));
    }
    edges.retain(|edge| edge.edge.requests >= query.min_requests);
    // Those that are kept are in order, which this sort makes use of.
    edges.sort_by(|a, b| a.edge.order(&b.edge));
    let truncated = edges.len() > query.limit;
    edges.truncate(query.limit);
    let answer = |number: usize| {
        let [requests, errors] = received[number];
        GraphNode { requests, errors, ..nodes[number].answer(query.level) }
    };
    let mut answered: Vec<GraphNode> = ends_of(&edges, nodes.len()).map(answer).collect();
    answered.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let edges = edges.into_iter().map(|edge| edge.edge.into_owned()).collect();
    Graph { edges, nodes: answered, truncated, counts: counts.finish() }
}

impl GraphEdge {
    /// Most requests first, then by the ids of source and target.
    pub(crate) fn order(&self, other: &GraphEdge) -> Ordering {
        let by_ends = || (&self.source, &self.target).cmp(&(&other.source, &other.target));
        other.requests.cmp(&self.requests).then_with(by_ends)
    }
}

/// All nodes, those of the kept graph first, and the edges that others are added to.
type Together<'b> = (Vec<Cow<'b, BuiltNode>>, HashMap<(usize, usize), EdgeTotals>);

fn add(built: &Built, passing: Builder) -> Together<'_> {
    let mut nodes: Vec<Cow<'_, BuiltNode>> = built.nodes.iter().map(Cow::Borrowed).collect();
    let mut numbers = Vec::with_capacity(passing.nodes.len());
    for node in passing.nodes {
        match built.numbers.get(&node.node.id) {
            Some(number) => {
                nodes[*number].to_mut().add_names(node);
                numbers.push(*number);
            }
            None => {
                numbers.push(nodes.len());
                nodes.push(Cow::Owned(node));
            }
        }
    }
    let changed = passing.edges.into_iter().map(|((source, target), more)| {
        let ends = (numbers[source], numbers[target]);
        let mut totals = built.places.get(&ends).map_or_else(EdgeTotals::default, |place| built.edges[*place].totals.unpack());
        totals.merge(&more);
        (ends, totals)
    });
    let changed = changed.collect();
    (nodes, changed)
}

/// Requests and errors that each node received.
fn received(edges: &[Edge<'_>], nodes: usize) -> Vec<[u64; 2]> {
    let mut received = vec![[0; 2]; nodes];
    for Edge { ends: (_, target), edge } in edges {
        received[*target][0] += edge.requests;
        received[*target][1] += edge.errors;
    }
    received
}

/// The nodes that have one of the edges.
fn ends_of(edges: &[Edge<'_>], nodes: usize) -> impl Iterator<Item = usize> + use<> {
    let mut is_end = vec![false; nodes];
    edges.iter().for_each(|edge| (is_end[edge.ends.0], is_end[edge.ends.1]) = (true, true));
    (0..nodes).filter(move |node| is_end[*node])
}

fn asks_for_some(query: &GraphQuery) -> bool {
    query.namespace.is_some() || query.cluster.is_some() || query.service.is_some()
}

/// The edges on the ways from the chosen nodes; all of them if no node is asked for.
pub(super) fn reached(chosen: &[bool], edges: Vec<(usize, usize)>, query: &GraphQuery) -> HashSet<(usize, usize)> {
    if !asks_for_some(query) {
        return edges.into_iter().collect();
    }
    let mut reached = HashSet::new();
    if query.direction != GraphDirection::In {
        reached.extend(walk(chosen, &edges, query.depth));
    }
    if query.direction != GraphDirection::Out {
        let backwards: Vec<(usize, usize)> = edges.iter().map(|(source, target)| (*target, *source)).collect();
        reached.extend(walk(chosen, &backwards, query.depth).map(|(target, source)| (source, target)));
    }
    reached
}

/// The edges that begin at most `depth` steps from the nodes.
fn walk(from: &[bool], edges: &[(usize, usize)], depth: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let mut outgoing: Vec<Vec<usize>> = vec![Vec::new(); from.len()];
    edges.iter().for_each(|(source, target)| outgoing[*source].push(*target));
    let mut seen = from.to_vec();
    let mut frontier: Vec<usize> = from.iter().enumerate().filter(|(_, is_chosen)| **is_chosen).map(|(node, _)| node).collect();
    let mut found = Vec::new();
    for _ in 0..depth {
        let mut next = Vec::new();
        for source in frontier {
            for target in std::mem::take(&mut outgoing[source]) {
                found.push((source, target));
                if !std::mem::replace(&mut seen[target], true) {
                    next.push(target);
                }
            }
        }
        frontier = next;
    }
    found.into_iter()
}
