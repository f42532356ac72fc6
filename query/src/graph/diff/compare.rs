//! The tests of one edge or node.

use meshlake_hops::{QuantileTest, Rate, Share, Tally, WEIGHT_ONE, adjust, rates_differ, shares_differ};

use super::super::GraphNode;
use super::super::totals::EdgeTotals;
use super::answer::{Change, EdgeDiff, ErrorChange, LatencyChange, NodeDiff, QuantileChange, RateChange, Test, Traffic};
use super::union::NodeTotals;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// Adjusts the tests of all edges, or of all nodes, to how many they are.
pub(crate) fn settle(tests: Vec<&mut Test>, q: f64) {
    let p: Vec<f64> = tests.iter().map(|test| test.p).collect();
    for (test, adjusted) in tests.into_iter().zip(adjust(&p)) {
        test.adjusted = adjusted;
        test.significant = adjusted <= q;
    }
}

/// Whether it is to be answered.
pub(crate) fn is_change(change: Change) -> bool {
    change != Change::Same
}

fn change<'t>(is_there: [bool; 2], mut tests: impl Iterator<Item = &'t Test>) -> Change {
    match is_there {
        [false, _] => Change::New,
        [_, false] => Change::Gone,
        _ if tests.any(|test| test.significant) => Change::Changed,
        _ => Change::Same,
    }
}

fn least<'t>(tests: impl Iterator<Item = &'t Test>) -> f64 {
    tests.map(|test| test.adjusted).fold(f64::INFINITY, f64::min)
}

fn of(p: f64) -> Test {
    Test { p, ..Test::default() }
}

/// An edge, compared.
pub(crate) struct Compared {
    pub(crate) edge: (usize, usize),
    totals: [EdgeTotals; 2],
    rate: RateChange,
    errors: Option<ErrorChange>,
    /// Which of [`EdgeTotals::latencies`], and the tests of [`QUANTILES`].
    latency: Option<(usize, [Option<Test>; QUANTILES.len()])>,
}

impl Compared {
    pub(crate) fn new(edge: (usize, usize), totals: [EdgeTotals; 2], seconds: [f64; 2]) -> Compared {
        let counts = [&totals[0], &totals[1]].map(|totals| Counts {
            requests: totals.requests(),
            errors: totals.errors(),
            tally: totals.tally(),
        });
        let (rate, errors) = (rate(&counts, seconds), errors(&counts));
        let [before, after] = totals.each_ref().map(EdgeTotals::latencies);
        let told = |side: usize| [&before, &after].iter().all(|latencies| latencies[side].1.count() > 0);
        let latency = (0..2).find(|side| told(*side)).map(|side| {
            let test = QuantileTest::new(&before[side].1, &after[side].1);
            (side, QUANTILES.map(|(_, q)| test.p(q).map(of)))
        });
        Compared { edge, totals, rate, errors, latency }
    }

    pub(crate) fn tests_mut(&mut self) -> impl Iterator<Item = &mut Test> {
        let quantiles = self.latency.iter_mut().flat_map(|(_, tests)| tests.iter_mut().flatten());
        [&mut self.rate.test].into_iter().chain(self.errors.as_mut().map(|errors| &mut errors.test)).chain(quantiles)
    }

    fn tests(&self) -> impl Iterator<Item = &Test> {
        let quantiles = self.latency.iter().flat_map(|(_, tests)| tests.iter().flatten());
        [&self.rate.test].into_iter().chain(self.errors.as_ref().map(|errors| &errors.test)).chain(quantiles)
    }

    pub(crate) fn change(&self) -> Change {
        change([0, 1].map(|range| self.totals[range].requests() > 0), self.tests())
    }

    /// The least of its adjusted p-values.
    pub(crate) fn least(&self) -> f64 {
        least(self.tests())
    }

    pub(crate) fn requests(&self) -> u64 {
        self.totals[0].requests() + self.totals[1].requests()
    }

    /// The answer, with the intervals of quantiles, which only what is answered needs.
    pub(crate) fn diff(&self, source: &str, target: &str, seconds: [f64; 2]) -> EdgeDiff {
        let [before, after] =
            [0, 1].map(|range| traffic(self.totals[range].requests(), self.totals[range].errors(), seconds[range]));
        let latency = self.latency.map(|(side, tests)| self.latency(side, tests));
        EdgeDiff {
            source: source.to_owned(),
            target: target.to_owned(),
            change: self.change(),
            before,
            after,
            rate: self.rate,
            errors: self.errors,
            latency: latency.filter(|latency| !latency.quantiles.is_empty()),
        }
    }

    fn latency(&self, side: usize, tests: [Option<Test>; QUANTILES.len()]) -> LatencyChange {
        let [before, after] = self.totals.each_ref().map(EdgeTotals::latencies);
        let (test, side) = (QuantileTest::new(&before[side].1, &after[side].1), before[side].0);
        let one = |((name, q), tested): ((&'static str, f64), Option<Test>)| {
            Some(QuantileChange { name, shift: test.shift(q)?, test: tested? })
        };
        LatencyChange { side, quantiles: QUANTILES.into_iter().zip(tests).filter_map(one).collect() }
    }
}

/// A node, compared by what it received.
pub(crate) struct ComparedNode {
    pub(crate) number: usize,
    totals: [NodeTotals; 2],
    rate: Option<RateChange>,
    errors: Option<ErrorChange>,
}

impl ComparedNode {
    pub(crate) fn new(number: usize, totals: [NodeTotals; 2], seconds: [f64; 2]) -> ComparedNode {
        let counts =
            [&totals[0], &totals[1]].map(|totals| Counts { requests: totals.requests, errors: totals.errors, tally: totals.tally });
        let received = counts.iter().any(|counts| counts.requests > 0);
        let (rate, errors) = (received.then(|| rate(&counts, seconds)), errors(&counts));
        ComparedNode { number, totals, rate, errors }
    }

    pub(crate) fn tests_mut(&mut self) -> impl Iterator<Item = &mut Test> {
        let rate = self.rate.as_mut().map(|rate| &mut rate.test);
        rate.into_iter().chain(self.errors.as_mut().map(|errors| &mut errors.test))
    }

    fn tests(&self) -> impl Iterator<Item = &Test> {
        let rate = self.rate.as_ref().map(|rate| &rate.test);
        rate.into_iter().chain(self.errors.as_ref().map(|errors| &errors.test))
    }

    pub(crate) fn change(&self) -> Change {
        change([0, 1].map(|range| self.totals[range].is_there), self.tests())
    }

    /// The least of its adjusted p-values.
    pub(crate) fn least(&self) -> f64 {
        least(self.tests())
    }

    pub(crate) fn diff(&self, node: &GraphNode, seconds: [f64; 2]) -> NodeDiff {
        let [before, after] = [0, 1].map(|range| traffic(self.totals[range].requests, self.totals[range].errors, seconds[range]));
        let node = GraphNode { requests: after.requests, errors: after.errors, ..node.clone() };
        NodeDiff { node, change: self.change(), before, after, rate: self.rate, errors: self.errors }
    }
}

fn traffic(requests: u64, errors: u64, seconds: f64) -> Traffic {
    Traffic { requests, errors, rate: requests as f64 / seconds }
}

/// Of an edge or a node, what rates and shares are made of.
struct Counts {
    requests: u64,
    errors: u64,
    tally: Tally,
}

impl Counts {
    /// How many requests one stands for, on average; none where the sampling of one is unknown, or there are none.
    fn weight(&self) -> Option<f64> {
        let known = self.tally.unknown == 0 && self.tally.hops > 0;
        known.then(|| self.tally.weight as f64 / WEIGHT_ONE as f64 / self.tally.hops as f64)
    }
}

/// Kept requests come by chance at the rate of all of them times the share that is kept, so they are counted over as much less time.
fn rate(counts: &[Counts; 2], seconds: [f64; 2]) -> RateChange {
    let [before, after] = counts;
    let weights = match (before.weight(), after.weight()) {
        (Some(before), Some(after)) => Some([before, after]),
        // Where there is nothing it would have been sampled alike.
        (None, Some(weight)) if before.requests == 0 => Some([weight; 2]),
        (Some(weight), None) if after.requests == 0 => Some([weight; 2]),
        _ => None,
    };
    let weight = weights.unwrap_or([1.0; 2]);
    let of = |range: usize| Rate { events: counts[range].requests, exposure: seconds[range] / weight[range] };
    let per_second = |rate: Rate| rate.events as f64 / rate.exposure;
    RateChange {
        ratio: (before.requests > 0).then(|| per_second(of(1)) / per_second(of(0))),
        sampling_known: weights.is_some(),
        test: self::of(rates_differ(of(0), of(1))),
    }
}

/// None where there is nothing in one of the ranges.
fn errors(counts: &[Counts; 2]) -> Option<ErrorChange> {
    let [before, after] = counts.each_ref().map(|counts| Share { part: counts.errors, whole: counts.requests });
    if before.whole == 0 || after.whole == 0 {
        return None;
    }
    let share = |share: Share| share.part as f64 / share.whole as f64;
    Some(ErrorChange { difference: share(after) - share(before), test: of(shares_differ(before, after)) })
}
