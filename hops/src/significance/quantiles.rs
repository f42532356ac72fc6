//! Quantiles of two histograms, whatever their distributions.

use super::rates::EXACT_VARIANCE;
use super::shares::{Share, shares_differ};
use super::tail::Binomial;
use crate::histogram::Histogram;

/// Probability that is left out on either side of an interval.
const TAIL: f64 = 0.025;
/// Standard deviations that leave it out.
const DEVIATIONS: f64 = 1.96;

/// Two histograms that are compared.
#[derive(Clone, Debug)]
pub struct QuantileTest<'h> {
    before: &'h Histogram,
    after: &'h Histogram,
    /// At each bucket's end, ascending: how many values of each histogram are below.
    cuts: Vec<(u64, u64)>,
}

/// How far a quantile moved. All numbers are those of buckets: wrong by 1.1 % at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The quantile before, nanoseconds.
    pub before: u64,
    /// The quantile after, nanoseconds.
    pub after: u64,
    /// The difference, nanoseconds, with the 95 % interval of it.
    pub by: i64,
    /// At least so far.
    pub low: i64,
    /// At most so far.
    pub high: i64,
}

impl<'h> QuantileTest<'h> {
    /// A comparison of these two.
    pub fn new(before: &'h Histogram, after: &'h Histogram) -> QuantileTest<'h> {
        let (mut left, mut right) = (before.buckets().peekable(), after.buckets().peekable());
        let (mut below, mut cuts) = ((0u64, 0u64), Vec::new());
        while let Some(high) = [left.peek(), right.peek()].into_iter().flatten().map(|bucket| bucket.high).min() {
            below.0 += left.next_if(|bucket| bucket.high == high).map_or(0, |bucket| bucket.count);
            below.1 += right.next_if(|bucket| bucket.high == high).map_or(0, |bucket| bucket.count);
            cuts.push(below);
        }
        QuantileTest { before, after, cuts }
    }

    /// How probable histograms are that differ so much or more at the quantile `q` of both together, if their values are of one kind. It is tested at
    /// the bucket's end that is nearest to the quantile and has values on both of its sides. None where either histogram is too small for
    /// [`QuantileTest::shift`]: that does not depend on the values, so it favours none.
    pub fn p(&self, q: f64) -> Option<f64> {
        if !(is_enough(self.before, q) && is_enough(self.after, q)) {
            return None;
        }
        let (before, after) = (self.before.count(), self.after.count());
        let all = before as f64 + after as f64;
        let distance = |(a, b): (u64, u64)| ((a as f64 + b as f64) / all - q).abs();
        let inner = self.cuts.iter().copied().filter(|cut| *cut != (before, after));
        let nearest = inner.min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        Some(nearest.map_or(1.0, |(a, b)| shares_differ(Share { part: a, whole: before }, Share { part: b, whole: after })))
    }

    /// How far the quantile `q` moved. Each histogram's interval lies between two order statistics, and ends where their buckets end. None where either
    /// has so few values that it would be open: fewer than 6 for the median, 36 for 0.9, 72 for 0.95, 368 for 0.99.
    pub fn shift(&self, q: f64) -> Option<Shift> {
        let (before, after) = (Interval::of(self.before, q)?, Interval::of(self.after, q)?);
        let by = after.value - before.value;
        let low = by - (after.value - after.low).hypot(before.high - before.value);
        let high = by + (after.high - after.value).hypot(before.value - before.low);
        let whole = |nanoseconds: f64| nanoseconds as i64;
        let value = |interval: &Interval| interval.value as u64;
        Some(Shift {
            before: value(&before),
            after: value(&after),
            by: whole(by),
            low: whole(low.floor()),
            high: whole(high.ceil()),
        })
    }
}

/// Whether an interval of the quantile is closed on both sides.
fn is_enough(histogram: &Histogram, q: f64) -> bool {
    let count = histogram.count() as f64;
    q > 0.0 && q < 1.0 && q.powf(count) <= TAIL && (1.0 - q).powf(count) <= TAIL
}

/// The 95 % interval of a quantile, nanoseconds.
struct Interval {
    low: f64,
    value: f64,
    high: f64,
}

impl Interval {
    fn of(histogram: &Histogram, q: f64) -> Option<Interval> {
        if !is_enough(histogram, q) {
            return None;
        }
        let (low, high) = ranks(histogram.count(), q);
        let end = |nanoseconds: u64| nanoseconds as f64;
        Some(Interval {
            low: end(histogram.at_rank(low)?.low),
            value: end(histogram.quantile(q)?),
            high: end(histogram.at_rank(high)?.high),
        })
    }
}

/// The ranks, from 1, between whose values the quantile lies with 95 % (Conover, "Practical Nonparametric Statistics", 3.2).
pub(crate) fn ranks(count: u64, q: f64) -> (u64, u64) {
    let below = Binomial { n: count, p: q, complement: 1.0 - q };
    let lower = |below: Binomial| {
        if below.variance() <= EXACT_VARIANCE {
            return below.lower(TAIL);
        }
        (below.mean() - DEVIATIONS * below.variance().sqrt() - 0.5).max(0.0) as u64 + 1
    };
    (lower(below), count + 1 - lower(below.mirrored()))
}
