//! Traces as walks over the graph of a mesh.

use crate::{chance::Chance, fleet::Call, topology::Topology};

/// Calls of a trace besides those on the way to its edge: of a hundred traces so many make at least so many and fewer than so many.
const EXTRA_CALLS: [(u64, u64, u64); 3] = [(65, 0, 6), (30, 5, 60), (5, 60, 600)];

/// Traces, one after the other. Each goes from the gateway through one edge, the next of all edges in a random order, so that as many
/// traces as there are edges have walked each of them, however rare. Then services of the trace that chance chooses call one more, the
/// next of their callees by turns.
pub(crate) struct Walk {
    topology: Topology,
    chance: Chance,
    /// All edges.
    order: Vec<usize>,
    /// Traces so far.
    traces: usize,
    /// For each service, its calls so far that were no part of a way.
    turns: Vec<usize>,
    walked: Vec<bool>,
}

/// A trace while it grows.
struct Trace {
    tree: Vec<Call>,
    /// Of the call at the same place: hops from the gateway.
    depths: Vec<usize>,
}

impl Walk {
    pub(crate) fn new(topology: Topology, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut order: Vec<usize> = (0..topology.edges()).collect();
        chance.shuffle(&mut order);
        let (turns, walked) = (vec![0; topology.services()], vec![false; topology.edges()]);
        Self { topology, chance, order, traces: 0, turns, walked }
    }

    /// Edges that traces so far have walked.
    pub(crate) fn walked(&self) -> usize {
        self.walked.iter().filter(|walked| **walked).count()
    }

    /// The calls of the next trace.
    pub(crate) fn trace(&mut self) -> Vec<Call> {
        let edge = self.order[self.traces % self.order.len()];
        self.traces += 1;
        let (entry, way) = self.topology.way(self.topology.caller(edge));
        let mut trace = Trace { tree: vec![Call { service: entry, calls: Vec::new() }], depths: vec![1] };
        for (place, edge) in way.into_iter().chain([edge]).enumerate() {
            self.call(&mut trace, place, edge);
        }
        for _ in 0..self.extra_calls() {
            let place = self.chance.below(trace.tree.len() as u64) as usize;
            let service = trace.tree[place].service;
            let edges = self.topology.edges_of(service);
            if trace.depths[place] < self.topology.depth() && !edges.is_empty() {
                let turn = self.turns[service] % edges.len();
                self.turns[service] += 1;
                self.call(&mut trace, place, edges.start + turn);
            }
        }
        trace.tree
    }

    fn call(&mut self, trace: &mut Trace, place: usize, edge: usize) {
        self.walked[edge] = true;
        let callee = trace.tree.len();
        trace.tree[place].calls.push(callee);
        trace.tree.push(Call { service: self.topology.callee(edge), calls: Vec::new() });
        trace.depths.push(trace.depths[place] + 1);
    }

    fn extra_calls(&mut self) -> u64 {
        let mut percent = self.chance.below(100);
        for (of_hundred, least, most) in EXTRA_CALLS {
            if percent < of_hundred {
                return least + self.chance.below(most - least);
            }
            percent -= of_hundred;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::MeshSize;

    fn walk(size: MeshSize, seed: u64) -> Walk {
        Walk::new(Topology::new(size, seed).unwrap(), seed)
    }

    /// Each call of a tree once, with its depth. Fails unless the tree is one.
    fn depths(tree: &[Call]) -> Vec<usize> {
        let mut depths = vec![0; tree.len()];
        depths[0] = 1;
        for (place, call) in tree.iter().enumerate() {
            for next in &call.calls {
                assert!(*next > place && depths[*next] == 0, "called once, after its caller");
                depths[*next] = depths[place] + 1;
            }
        }
        assert!(!depths.contains(&0), "every call has a caller");
        depths
    }

    /// Scenario: as many traces of the large mesh as it has edges, which is less than 20 M spans. Guarantee: all 200,000 edges are walked,
    /// calls are up to 19 deep and never deeper, and traces have between two hops and several hundred.
    #[test]
    fn rare_edges_are_walked_too() {
        let mut walk = walk(MeshSize::Large, 1);
        let (mut hops, mut deepest, mut largest, mut small) = (0, 0, 0, 0);
        for _ in 0..200_000 {
            let tree = walk.trace();
            hops += tree.len();
            deepest = deepest.max(depths(&tree).into_iter().max().unwrap());
            largest = largest.max(tree.len());
            small += usize::from(tree.len() < 12);
            assert!(tree.len() >= 2);
        }
        assert_eq!((walk.walked(), deepest), (200_000, 19));
        assert!((4_000_000..10_000_000).contains(&hops), "{hops}");
        assert!((500..1_000).contains(&largest) && small > 100_000, "{largest} {small}");
    }

    /// Scenario: traces of an ordinary mesh. Guarantee: every call is an edge of the mesh, and all are walked, by ways and turns.
    #[test]
    fn calls_are_edges() {
        let mut walk = walk(MeshSize::Ordinary, 2);
        for _ in 0..1_000 {
            let tree = walk.trace();
            for call in &tree {
                let callees: Vec<usize> = walk.topology.edges_of(call.service).map(|edge| walk.topology.callee(edge)).collect();
                assert!(call.calls.iter().all(|next| callees.contains(&tree[*next].service)));
            }
        }
        assert_eq!(walk.walked(), 1_000);
    }

    /// Scenario: two walks over one mesh with one seed, and one with another. Guarantee: the same traces, and others.
    #[test]
    fn a_seed_makes_one_walk() {
        let traces = |seed| {
            let mut walk = Walk::new(Topology::new(MeshSize::Ordinary, 1).unwrap(), seed);
            (0..100).map(|_| walk.trace()).collect::<Vec<_>>()
        };
        assert_eq!(traces(5), traces(5));
        assert_ne!(traces(5), traces(6));
    }
}
