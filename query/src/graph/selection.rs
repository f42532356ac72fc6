//! Adds what does not last to a graph that is kept, and leaves out what was not asked for.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::answer::{Graph, GraphEdge, GraphNode};
use super::builder::{Builder, BuiltNode};
use super::built::Built;
use super::question::GraphQuery;
use super::reach::{Ways, asks_for_some, reached};
use super::totals::EdgeTotals;

/// Edges that are not those of the kept graph, by their ends.
type Changed = HashMap<(usize, usize), Arc<GraphEdge>>;

/// The edges that were asked for, and their ends.
pub(crate) fn select(built: &Built, passing: Builder, query: &GraphQuery) -> Graph {
    let mut counts = built.counts;
    counts.merge(&passing.counts);
    let seconds = (query.range.end - query.range.start) as f64 / 1e6;
    let (nodes, changed) = add(built, passing, seconds);
    let received = received(built, &changed, nodes.len());
    let mut edges: Vec<((usize, usize), &Arc<GraphEdge>)> = if asks_for_some(query) {
        let chosen: Vec<bool> = nodes.iter().map(|node| node.is_chosen(query)).collect();
        let ways = Ways::of(changed.keys().copied(), nodes.len());
        let edge = |ends| edge(built, &changed, ends);
        let is_there = |ends| edge(ends).is_some_and(|edge| edge.requests > 0);
        let reached = reached(&chosen, &[&built.ways, &ways], is_there, query);
        reached.into_iter().filter_map(|ends| Some((ends, edge(ends)?))).collect()
    } else {
        let kept = built.edges.iter().filter(|edge| changed.is_empty() || !changed.contains_key(&edge.ends));
        kept.map(|edge| (edge.ends, &edge.edge)).chain(changed.iter().map(|(ends, edge)| (*ends, edge))).collect()
    };
    edges.retain(|(_, edge)| edge.requests > 0 && edge.requests >= query.min_requests);
    // Those that are kept are in order, which this sort makes use of.
    edges.sort_by(|(_, a), (_, b)| a.order(b));
    let truncated = edges.len() > query.limit;
    edges.truncate(query.limit);
    let mut is_end = vec![false; nodes.len()];
    edges.iter().for_each(|((source, target), _)| (is_end[*source], is_end[*target]) = (true, true));
    let answer = |number: usize| {
        let [requests, errors] = received[number].map(|count| u64::try_from(count).unwrap_or(0));
        GraphNode { requests, errors, ..nodes[number].answer(query.level) }
    };
    let mut answered: Vec<GraphNode> = (0..nodes.len()).filter(|node| is_end[*node]).map(answer).collect();
    answered.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let edges = edges.into_iter().map(|(_, edge)| edge.clone()).collect();
    Graph { edges, nodes: answered, truncated, counts: counts.finish() }
}

fn edge<'g>(built: &'g Built, changed: &'g Changed, ends: (usize, usize)) -> Option<&'g Arc<GraphEdge>> {
    changed.get(&ends).or_else(|| built.places.get(&ends).map(|place| &built.edges[*place].edge))
}

impl GraphEdge {
    /// Requests and errors.
    pub(crate) fn received(&self) -> [i64; 2] {
        [self.requests, self.errors].map(|count| i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Most requests first, then by the ids of source and target.
    pub(crate) fn order(&self, other: &GraphEdge) -> Ordering {
        let by_ends = || (&self.source, &self.target).cmp(&(&other.source, &other.target));
        other.requests.cmp(&self.requests).then_with(by_ends)
    }
}

/// All nodes, those of the kept graph first, and the edges that others are added to.
fn add(built: &Built, passing: Builder, seconds: f64) -> (Vec<Cow<'_, BuiltNode>>, Changed) {
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
    let id = |number: usize| nodes[number].node.id.clone();
    let changed = passing.edges.into_iter().map(|((source, target), more)| {
        let ends = (numbers[source], numbers[target]);
        let mut totals = built.places.get(&ends).map_or_else(EdgeTotals::default, |place| built.edges[*place].totals.unpack());
        totals.merge(&more);
        (ends, Arc::new(totals.edge(id(ends.0), id(ends.1), seconds)))
    });
    let changed = changed.collect();
    (nodes, changed)
}

/// Requests and errors that each node received.
fn received(built: &Built, changed: &Changed, nodes: usize) -> Vec<[i64; 2]> {
    let mut received = built.received.clone();
    received.resize(nodes, [0; 2]);
    for (ends, edge) in changed {
        let known = built.places.get(ends).map_or([0; 2], |place| built.edges[*place].edge.received());
        let now = edge.received();
        (0..2).for_each(|of| received[ends.1][of] += now[of] - known[of]);
    }
    received
}
