//! Who calls whom in a mesh: a graph that stays as it is while traces walk over it.

use std::ops::Range;

use anyhow::ensure;

use crate::chance::Chance;

/// A mesh of a known shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MeshSize {
    /// The published shape of a very large mesh (Meta, ATC'23): 18,500 services, 200,000 edges, calls 19 deep
    Large,
    /// 200 services, 1,000 edges, calls 6 deep
    Ordinary,
}

/// What is known of a mesh.
struct Outline {
    services: usize,
    edges: usize,
    /// Hops from the gateway to the last service.
    depth: usize,
    /// Callees of a service: at a share of all services, so many have at most so many. Between them it rises exponentially; below the
    /// first are those that call nobody.
    fan_out: &'static [(f64, f64)],
}

/// Published are the quantiles of 50, 75, 90, 95, 99, 99.9 and 100 %; the two between them make the edges as many as there are.
const LARGE: Outline = Outline {
    services: 18_500,
    edges: 200_000,
    depth: 19,
    fan_out: &[
        (0.2, 1.0),
        (0.5, 4.0),
        (0.75, 7.0),
        (0.9, 13.0),
        (0.95, 21.0),
        (0.99, 93.0),
        (0.997, 150.0),
        (0.999, 1337.0),
        (0.9995, 1850.0),
        (1.0, 5865.0),
    ],
};

const ORDINARY: Outline =
    Outline { services: 200, edges: 1_000, depth: 6, fan_out: &[(0.2, 1.0), (0.5, 4.0), (0.9, 9.0), (0.99, 28.0), (1.0, 40.0)] };

/// Percentage of the services that the gateway calls (arXiv 2504.13141, table 1).
const ENTRIES_PERCENT: usize = 13;
/// Services of a level, of those of the level before.
const NEXT_LEVEL: f64 = 0.7;

/// A mesh: services, numbered from 0, and edges between them, numbered from 0 by their callers.
///
/// Besides these edges a gateway calls each service that has no main caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    depth: usize,
    /// Where the edges of each service begin, and at last their number.
    firsts: Vec<usize>,
    /// The callee of each edge.
    callees: Vec<usize>,
    /// The edge by which a service is reached on the shortest known way from the gateway.
    main: Vec<Option<usize>>,
}

impl Topology {
    /// A mesh of that size; the same for the same seed.
    ///
    /// # Errors
    /// If the services of a level can't call all of the next, which is chance.
    pub(crate) fn new(size: MeshSize, seed: u64) -> anyhow::Result<Self> {
        let outline = match size {
            MeshSize::Large => LARGE,
            MeshSize::Ordinary => ORDINARY,
        };
        let mut chance = Chance::new(seed);
        let levels = outline.levels();
        let fan_outs = outline.assign_fan_outs(&levels, &mut chance);
        let mut callees = main_callees(&levels, &fan_outs, &mut chance)?;
        let main: Vec<usize> = callees.iter().map(Vec::len).collect();
        add_callees(&mut callees, &fan_outs, &mut chance);
        Ok(Self::of(outline.depth, &callees, &main))
    }

    /// The first so many callees of each service are those that it is the main caller of.
    fn of(depth: usize, callees: &[Vec<usize>], main_callees: &[usize]) -> Self {
        let mut topology = Self { depth, firsts: vec![0], callees: Vec::new(), main: vec![None; callees.len()] };
        for (callees, main) in callees.iter().zip(main_callees) {
            let first = topology.callees.len();
            callees[..*main].iter().enumerate().for_each(|(edge, callee)| topology.main[*callee] = Some(first + edge));
            topology.callees.extend(callees);
            topology.firsts.push(topology.callees.len());
        }
        topology
    }

    /// Services.
    pub(crate) fn services(&self) -> usize {
        self.main.len()
    }

    /// Edges, without those of the gateway.
    pub(crate) fn edges(&self) -> usize {
        self.callees.len()
    }

    /// Hops from the gateway to the last service that a trace makes at most.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The edges of a service to those that it calls.
    pub(crate) fn edges_of(&self, service: usize) -> Range<usize> {
        self.firsts[service]..self.firsts[service + 1]
    }

    pub(crate) fn caller(&self, edge: usize) -> usize {
        self.firsts.partition_point(|first| *first <= edge) - 1
    }

    pub(crate) fn callee(&self, edge: usize) -> usize {
        self.callees[edge]
    }

    /// The services from one that the gateway calls to this one, and the edges between them.
    pub(crate) fn way(&self, service: usize) -> (usize, Vec<usize>) {
        let (mut first, mut edges) = (service, Vec::new());
        while let Some(edge) = self.main[first] {
            edges.push(edge);
            first = self.caller(edge);
        }
        edges.reverse();
        (first, edges)
    }
}

impl Outline {
    /// The services by their hops from the gateway: a level is called by the one before.
    fn levels(&self) -> Vec<Range<usize>> {
        let (mut levels, mut end) = (Vec::new(), 0);
        for level in 0..self.depth {
            // Of a geometric series that ends, the share that its first term has.
            let share = (1.0 - NEXT_LEVEL) / (1.0 - NEXT_LEVEL.powi((self.depth - level) as i32));
            let next = ((self.services - end) as f64 * share).round() as usize;
            let count = if level == 0 { self.services * ENTRIES_PERCENT / 100 } else { next };
            levels.push(end..end + count);
            end += count;
        }
        levels
    }

    /// How many services each service calls. Those of the last level call nobody, for calls would be deeper.
    fn assign_fan_outs(&self, levels: &[Range<usize>], chance: &mut Chance) -> Vec<usize> {
        let last = levels.last().map_or(0, Range::len);
        let mut fan_outs = self.fan_outs();
        let mut of_others = fan_outs.split_off(last);
        chance.shuffle(&mut of_others);
        of_others.append(&mut fan_outs);
        of_others
    }

    /// Ascending; their sum is the number of edges.
    fn fan_outs(&self) -> Vec<usize> {
        let share = |rank| rank as f64 / (self.services - 1) as f64;
        let mut fan_outs: Vec<usize> = (0..self.services).map(|rank| self.fan_out(share(rank))).collect();
        let sum: usize = fan_outs.iter().sum();
        // Rounding: one more or less for as many as it takes of those between the quantiles of 95 and 99 %.
        let many = self.services * 95 / 100 + 1..self.services * 99 / 100;
        for rank in many.clone().cycle().take(sum.abs_diff(self.edges)) {
            fan_outs[rank] = if sum < self.edges { fan_outs[rank] + 1 } else { fan_outs[rank] - 1 };
        }
        fan_outs[many].sort_unstable();
        fan_outs
    }

    fn fan_out(&self, share: f64) -> usize {
        let above = self.fan_out.partition_point(|(quantile, _)| *quantile < share);
        let Some(((low, least), (high, most))) =
            above.checked_sub(1).and_then(|below| self.fan_out.get(below).zip(self.fan_out.get(above)))
        else {
            return 0;
        };
        (least * (most / least).powf((share - low) / (high - low))).round() as usize
    }
}

/// For each service those of the next level that it is the main caller of: more for one that calls more.
fn main_callees(levels: &[Range<usize>], fan_outs: &[usize], chance: &mut Chance) -> anyhow::Result<Vec<Vec<usize>>> {
    let mut callees = vec![Vec::new(); fan_outs.len()];
    for callers in levels.windows(2) {
        let [callers, called] = callers else { continue };
        let mut calls: Vec<usize> = callers.clone().flat_map(|service| vec![service; fan_outs[service]]).collect();
        ensure!(
            calls.len() >= called.len(),
            "cannot build the mesh: {} services make {} calls and must reach {}; take another seed",
            callers.len(),
            calls.len(),
            called.len()
        );
        chance.shuffle(&mut calls);
        calls.iter().zip(called.clone()).for_each(|(caller, service)| callees[*caller].push(service));
    }
    Ok(callees)
}

/// Adds other callees until each service has as many as it calls. Some services are called by many, most by few.
fn add_callees(callees: &mut [Vec<usize>], fan_outs: &[usize], chance: &mut Chance) {
    let services = callees.len();
    let mut by_rank: Vec<usize> = (0..services).collect();
    chance.shuffle(&mut by_rank);
    // Who has a service as callee already, one caller after the other.
    let mut called_by = vec![usize::MAX; services];
    for (caller, callees) in callees.iter_mut().enumerate() {
        called_by[caller] = caller;
        callees.iter().for_each(|callee| called_by[*callee] = caller);
        while callees.len() < fan_outs[caller] {
            // The fourth power makes fan-ins of about 6, 18 and 76 at 50, 90 and 99 %; published are 2, 12 and 70.
            let share = chance.share();
            let callee = by_rank[(share * share * share * share * services as f64) as usize];
            if called_by[callee] != caller {
                called_by[callee] = caller;
                callees.push(callee);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn fan_outs(topology: &Topology) -> Vec<usize> {
        let mut fan_outs: Vec<usize> = (0..topology.services()).map(|service| topology.edges_of(service).len()).collect();
        fan_outs.sort_unstable();
        fan_outs
    }

    /// Nearest rank.
    fn quantile(sorted: &[usize], quantile: f64) -> usize {
        sorted[((sorted.len() as f64 * quantile).ceil() as usize).saturating_sub(1)]
    }

    /// What holds of every mesh: no service calls itself or another twice, an edge is found by its number, and ways are as deep as said.
    fn check(topology: &Topology, depth: usize) {
        let edges: HashSet<(usize, usize)> =
            (0..topology.edges()).map(|edge| (topology.caller(edge), topology.callee(edge))).collect();
        assert_eq!(edges.len(), topology.edges());
        assert!(edges.iter().all(|(caller, callee)| caller != callee));
        for service in 0..topology.services() {
            assert!(topology.edges_of(service).all(|edge| topology.caller(edge) == service));
            let (mut at, way) = topology.way(service);
            for edge in &way {
                assert_eq!(topology.caller(*edge), at);
                at = topology.callee(*edge);
            }
            assert_eq!(at, service);
            assert!(way.len() + 1 < depth || topology.edges_of(service).is_empty(), "its callees would be too deep");
        }
        let deepest = (0..topology.services()).map(|service| topology.way(service).1.len() + 1).max();
        assert_eq!(deepest, Some(depth), "the gateway's call and those after it");
    }

    /// Scenario: the large mesh. Guarantee: the published numbers of services, edges and callees, and the published depth; some services
    /// are called by thousands, most by a few.
    #[test]
    fn the_large_mesh_has_the_published_shape() {
        let topology = Topology::new(MeshSize::Large, 1).unwrap();
        check(&topology, 19);
        assert_eq!((topology.services(), topology.edges()), (18_500, 200_000));
        let sorted = fan_outs(&topology);
        for (share, published) in [(0.5, 4), (0.75, 7), (0.9, 13), (0.95, 21), (0.99, 93), (0.999, 1337), (1.0, 5865)] {
            let found = quantile(&sorted, share);
            assert!(found.abs_diff(published) * 20 <= published.max(20), "{share}: {found}, published {published}");
        }
        let mut fan_ins = vec![0; topology.services()];
        (0..topology.edges()).for_each(|edge| fan_ins[topology.callee(edge)] += 1);
        fan_ins.sort_unstable();
        let [p50, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(|share| quantile(&fan_ins, share));
        assert!((2..=8).contains(&p50) && (12..=24).contains(&p90), "{p50} {p90}");
        assert!((60..=100).contains(&p99) && (2_000..=14_084).contains(&most), "{p99} {most}");
    }

    /// Scenario: the ordinary mesh, of several seeds. Guarantee: 200 services and 1,000 edges, calls six deep.
    #[test]
    fn the_ordinary_mesh_has_its_shape() {
        for seed in 0..20 {
            let topology = Topology::new(MeshSize::Ordinary, seed).unwrap();
            check(&topology, 6);
            assert_eq!((topology.services(), topology.edges()), (200, 1_000));
            assert_eq!((quantile(&fan_outs(&topology), 0.5), quantile(&fan_outs(&topology), 1.0)), (4, 40));
        }
    }

    /// Scenario: a mesh built twice, and with another seed. Guarantee: the same, and another one.
    #[test]
    fn a_seed_makes_one_mesh() {
        let topology = |seed| Topology::new(MeshSize::Large, seed).unwrap();
        assert!(topology(3) == topology(3));
        assert!(topology(3) != topology(4));
    }
}
