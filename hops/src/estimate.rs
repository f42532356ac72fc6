//! From the hops of sampled traces to how many there were, with its interval (P10).
//!
//! Sampling is by trace, so hops of one trace come or go together, and the variance is that of traces. With W the sum of the
//! weights of a trace's hops, the estimate is the sum of W; its variance is the sum over traces of W² less the maximum of each
//! ordered pair of its weights (Horvitz and Thompson: two hops of one trace are both kept with the smaller probability).

use crate::poisson;
use crate::weight::WEIGHT_ONE;

/// Below this many traces a sum is no normal variable.
const TRACES_MIN: u64 = 30;
/// Standard deviations either side that hold 95 % of a normal variable.
const DEVIATIONS: f64 = 1.96;

/// The weights of an edge's hops, summed in integers: the order in which traces come does not matter (P4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Traces whose sampling is known.
    pub traces: u64,
    /// Their hops.
    pub hops: u64,
    /// Hops whose sampling is unknown.
    pub unknown: u64,
    /// Sum of the weights, in units of 2^-16.
    pub weight: u128,
    /// Variance of that sum, in units of 2^-32.
    pub variance: u128,
}

/// An estimated number of requests and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Requests.
    pub value: f64,
    /// At least so many.
    pub low: f64,
    /// At most so many.
    pub high: f64,
}

impl Tally {
    /// Adds the hops of one trace, each with its weight; none: sampling unknown. The order of `weights` is changed.
    pub fn add_trace(&mut self, weights: &mut [Option<u64>]) {
        weights.sort_unstable();
        let unknown = weights.partition_point(Option::is_none);
        self.unknown += unknown as u64;
        let known = &weights[unknown..];
        let (mut total, mut maxima) = (0u128, 0u128);
        for (index, weight) in known.iter().flatten().enumerate() {
            total += u128::from(*weight);
            // In ascending order: it is the maximum of its pairs with each lighter one, twice, and with itself.
            maxima += u128::from(*weight) * (2 * index as u128 + 1);
        }
        self.traces += u64::from(!known.is_empty());
        self.hops += known.len() as u64;
        self.weight += total;
        let squared = total.saturating_mul(total);
        self.variance = self.variance.saturating_add(squared.saturating_sub(maxima * u128::from(WEIGHT_ONE)));
    }

    /// Adds what was tallied of other traces.
    pub fn merge(&mut self, other: &Tally) {
        self.traces += other.traces;
        self.hops += other.hops;
        self.unknown += other.unknown;
        self.weight = self.weight.saturating_add(other.weight);
        self.variance = self.variance.saturating_add(other.variance);
    }

    /// How many requests there were. None if there are no hops, or hops whose sampling is unknown.
    pub fn estimate(&self) -> Option<Estimate> {
        if self.unknown > 0 || self.hops == 0 {
            return None;
        }
        let one = WEIGHT_ONE as f64;
        let value = self.weight as f64 / one;
        let variance = self.variance as f64 / (one * one);
        let (low, high) = if self.variance == 0 {
            (value, value)
        } else if self.traces < TRACES_MIN {
            // Garwood's interval, of the count that would have the same relative error.
            let count = value * value / variance;
            let (low, high) = poisson::interval(count);
            (value * low / count, value * high / count)
        } else {
            let error = DEVIATIONS * variance.sqrt();
            (value - error, value + error)
        };
        // No fewer than were seen.
        Some(Estimate { value, low: low.max(self.hops as f64).min(value), high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(traces: &[&[u64]]) -> Tally {
        let mut tally = Tally::default();
        for trace in traces {
            let mut weights: Vec<_> = trace.iter().map(|weight| Some(weight * WEIGHT_ONE)).collect();
            tally.add_trace(&mut weights);
        }
        tally
    }

    /// Scenario: traces of equal and of unequal weights. Guarantee: the variance is y²w(w-1), and the definition's sum of pairs.
    #[test]
    fn variance_is_by_trace() {
        let unit = u128::from(WEIGHT_ONE) * u128::from(WEIGHT_ONE);
        assert_eq!(tally(&[&[10, 10, 10]]).variance, 9 * 10 * 9 * unit);
        assert_eq!(tally(&[&[1], &[1, 1]]).variance, 0);
        let weights = [5u64, 2, 7];
        let pairs: u64 = weights.iter().flat_map(|a| weights.iter().map(move |b| a.max(b))).sum();
        assert_eq!(tally(&[&weights]).variance, u128::from(14 * 14 - pairs) * unit);
    }

    /// Scenario: all traces kept; few of ten; many of ten. Guarantee: exact; Garwood's interval; 1.96 deviations.
    #[test]
    fn intervals() {
        let exact = tally(&[&[1, 1][..]; 5]).estimate().unwrap();
        assert_eq!((exact.value, exact.low, exact.high), (10.0, 10.0, 10.0));

        // Ten traces of weight 1000: a Poisson count of 10, whose interval is 4.795 to 18.39 (Garwood 1936).
        let few = tally(&[&[1000][..]; 10]).estimate().unwrap();
        assert_eq!(few.value, 10_000.0);
        assert!((few.low / 4_795.0 - 1.0).abs() < 0.002 && (few.high / 18_390.0 - 1.0).abs() < 0.002, "{few:?}");

        let many = tally(&[&[10][..]; 400]).estimate().unwrap();
        let error = 1.96 * (400.0f64 * 90.0).sqrt();
        assert!((many.low - (4_000.0 - error)).abs() < 1e-6 && (many.high - (4_000.0 + error)).abs() < 1e-6, "{many:?}");
    }

    /// Scenario: nothing; hops of unknown sampling among known ones. Guarantee: no estimate.
    #[test]
    fn unknown_sampling() {
        assert_eq!(Tally::default().estimate(), None);
        let mut mixed = tally(&[&[2]]);
        mixed.add_trace(&mut [None, Some(2 * WEIGHT_ONE)]);
        assert_eq!((mixed.traces, mixed.hops, mixed.unknown), (2, 2, 1));
        assert_eq!(mixed.estimate(), None);
    }

    /// Scenario: traces in two parts, merged. Guarantee: the same as in one.
    #[test]
    fn merging() {
        let mut left = tally(&[&[3, 3], &[5]]);
        left.merge(&tally(&[&[2, 9]]));
        assert_eq!(left, tally(&[&[9, 2], &[3, 3], &[5]]));
    }

    /// Scenario: a thousand draws of sampled traces. Guarantee: the interval holds the truth about as often as it says.
    #[test]
    fn intervals_hold_the_truth() {
        for (traces, keep) in [(40u64, 0.2), (1_000, 0.1)] {
            let mut random = 7u64;
            let mut draw = || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 11) as f64 / (1u64 << 53) as f64
            };
            let weight = Some((WEIGHT_ONE as f64 / keep) as u64);
            let truth: u64 = (0..traces).map(|trace| 1 + trace % 3).sum();
            let held = (0..1_000).filter(|_| {
                let mut tally = Tally::default();
                for trace in (0..traces).filter(|_| draw() < keep).collect::<Vec<_>>() {
                    tally.add_trace(&mut vec![weight; 1 + trace as usize % 3]);
                }
                tally.estimate().is_some_and(|estimate| (estimate.low..=estimate.high).contains(&(truth as f64)))
            });
            let held = held.count();
            assert!((900..=990).contains(&held), "{held} of 1000 with {traces} traces");
        }
    }
}
