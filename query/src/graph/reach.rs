//! Which edges lie on the ways from some nodes.

use std::collections::HashSet;

use super::question::{GraphDirection, GraphQuery};

/// The other ends of each node's edges.
#[derive(Default)]
pub(crate) struct Neighbours {
    /// Where those of a node begin; those of the next one follow.
    begins: Vec<usize>,
    others: Vec<usize>,
}

impl Neighbours {
    /// Of edges from node to node, of so many nodes.
    pub(crate) fn of(edges: impl Iterator<Item = (usize, usize)> + Clone, nodes: usize) -> Neighbours {
        let mut begins = vec![0; nodes + 1];
        edges.clone().for_each(|(from, _)| begins[from + 1] += 1);
        (0..nodes).for_each(|node| begins[node + 1] += begins[node]);
        let (mut next, mut others) = (begins.clone(), vec![0; begins[nodes]]);
        edges.for_each(|(from, to)| {
            others[next[from]] = to;
            next[from] += 1;
        });
        Neighbours { begins, others }
    }

    /// Those of a node; none of one that came later.
    fn get(&self, node: usize) -> &[usize] {
        match (self.begins.get(node), self.begins.get(node + 1)) {
            (Some(begin), Some(end)) => &self.others[*begin..*end],
            _ => &[],
        }
    }
}

/// Whom each node calls, and who calls it.
#[derive(Default)]
pub(crate) struct Ways {
    outgoing: Neighbours,
    incoming: Neighbours,
}

impl Ways {
    pub(crate) fn of(edges: impl Iterator<Item = (usize, usize)> + Clone, nodes: usize) -> Ways {
        let backwards = edges.clone().map(|(source, target)| (target, source));
        Ways { outgoing: Neighbours::of(edges, nodes), incoming: Neighbours::of(backwards, nodes) }
    }
}

/// Whether it is asked for some nodes, not for all.
pub(crate) fn asks_for_some(query: &GraphQuery) -> bool {
    query.namespace.is_some() || query.cluster.is_some() || query.service.is_some()
}

/// The edges on the ways from the chosen nodes, of those that are there.
pub(crate) fn reached(
    chosen: &[bool],
    ways: &[&Ways],
    is_there: impl Fn((usize, usize)) -> bool,
    query: &GraphQuery,
) -> HashSet<(usize, usize)> {
    let mut reached = HashSet::new();
    if query.direction != GraphDirection::In {
        let outgoing: Vec<&Neighbours> = ways.iter().map(|ways| &ways.outgoing).collect();
        reached.extend(walk(chosen, &outgoing, &is_there, query.depth));
    }
    if query.direction != GraphDirection::Out {
        let incoming: Vec<&Neighbours> = ways.iter().map(|ways| &ways.incoming).collect();
        let back = |(target, source)| (source, target);
        reached.extend(walk(chosen, &incoming, |ends| is_there(back(ends)), query.depth).into_iter().map(back));
    }
    reached
}

/// The edges that begin at most `depth` steps from the nodes.
fn walk(from: &[bool], ways: &[&Neighbours], is_there: impl Fn((usize, usize)) -> bool, depth: usize) -> Vec<(usize, usize)> {
    let mut seen = from.to_vec();
    let mut frontier: Vec<usize> = from.iter().enumerate().filter(|(_, is_chosen)| **is_chosen).map(|(node, _)| node).collect();
    let mut found = Vec::new();
    for _ in 0..depth {
        let mut next = Vec::new();
        for source in frontier {
            let targets = ways.iter().flat_map(|ways| ways.get(source)).copied();
            for target in targets.filter(|target| is_there((source, *target))) {
                found.push((source, target));
                if !std::mem::replace(&mut seen[target], true) {
                    next.push(target);
                }
            }
        }
        frontier = next;
    }
    found
}
