//! Leaves out of the whole graph what was not asked for.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::answer::{Graph, GraphNode};
use super::builder::{Builder, BuiltNode};
use super::question::{GraphDirection, GraphQuery};
use super::totals::EdgeTotals;

type Edge = ((usize, usize), EdgeTotals);

/// The edges that were asked for, and their ends.
pub(crate) fn select(builder: Builder<'_>, query: &GraphQuery) -> Graph {
    let Builder { mut nodes, edges, counts, .. } = builder;
    for ((_, target), totals) in &edges {
        nodes[*target].node.requests += totals.requests();
        nodes[*target].node.errors += totals.errors();
    }
    let reached = reached(&nodes, edges.keys().copied().collect(), query);
    let mut edges: Vec<Edge> = edges.into_iter().collect();
    edges.retain(|(edge, totals)| reached.contains(edge) && totals.requests() >= query.min_requests);
    let id = |number: usize| nodes[number].node.id.as_str();
    edges.sort_by(|((a, b), x), ((c, d), y)| (Reverse(x.requests()), id(*a), id(*b)).cmp(&(Reverse(y.requests()), id(*c), id(*d))));
    let truncated = edges.len() > query.limit;
    edges.truncate(query.limit);
    let seconds = (query.range.end - query.range.start) as f64 / 1e6;
    let ends: HashSet<usize> = edges.iter().flat_map(|((source, target), _)| [*source, *target]).collect();
    let owned = |number: usize| id(number).to_owned();
    let edges = edges.into_iter().map(|((source, target), totals)| totals.edge(owned(source), owned(target), seconds)).collect();
    Graph { edges, nodes: sorted(nodes, &ends), truncated, counts }
}

fn sorted(nodes: Vec<BuiltNode>, kept: &HashSet<usize>) -> Vec<GraphNode> {
    let numbered = nodes.into_iter().enumerate().filter(|(number, _)| kept.contains(number));
    let mut nodes: Vec<GraphNode> = numbered.map(|(_, built)| built.node).collect();
    nodes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    nodes
}

/// The edges on the ways from the chosen nodes.
pub(super) fn reached(nodes: &[BuiltNode], edges: Vec<(usize, usize)>, query: &GraphQuery) -> HashSet<(usize, usize)> {
    if query.namespace.is_none() && query.cluster.is_none() && query.service.is_none() {
        return edges.into_iter().collect();
    }
    let chosen = || nodes.iter().enumerate().filter(|(_, built)| built.chosen).map(|(number, _)| number).collect();
    let mut reached = HashSet::new();
    if query.direction != GraphDirection::In {
        reached.extend(walk(nodes.len(), &edges, chosen(), query.depth));
    }
    if query.direction != GraphDirection::Out {
        let backwards: Vec<(usize, usize)> = edges.iter().map(|(source, target)| (*target, *source)).collect();
        reached.extend(walk(nodes.len(), &backwards, chosen(), query.depth).map(|(target, source)| (source, target)));
    }
    reached
}

/// The edges that begin at most `depth` steps from the nodes.
fn walk(nodes: usize, edges: &[(usize, usize)], from: Vec<usize>, depth: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let mut outgoing: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    edges.iter().for_each(|(source, target)| outgoing[*source].push(*target));
    let mut seen = vec![false; nodes];
    from.iter().for_each(|node| seen[*node] = true);
    let (mut found, mut frontier) = (Vec::new(), from);
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
