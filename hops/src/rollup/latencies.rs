//! A histogram with signed counts.

use std::ops::Range;

use super::format::Reader;
use super::rows::Sum;
use crate::histogram::{Histogram, number};
use crate::varint;

/// How many more latencies of each size there are with something than without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Number and count of each bucket whose count is not zero, ascending.
    buckets: Vec<(u16, i64)>,
    sum: i128,
}

impl Latencies {
    /// Counts a latency, in nanoseconds, `sign` times.
    pub(crate) fn record(&mut self, value: u64, sign: i64) {
        self.sum = self.sum.wrapping_add(i128::from(value) * i128::from(sign));
        let number = number(value);
        // Many come in their order: they are of the last bucket, or of a further one.
        match self.buckets.last_mut() {
            Some((last, count)) if *last == number && *count != -sign => {
                *count += sign;
                return;
            }
            Some((last, _)) if *last >= number => {}
            _ => {
                self.buckets.push((number, sign));
                return;
            }
        }
        match self.buckets.binary_search_by_key(&number, |bucket| bucket.0) {
            Ok(index) => {
                self.buckets[index].1 += sign;
                if self.buckets[index].1 == 0 {
                    self.buckets.remove(index);
                }
            }
            Err(index) => self.buckets.insert(index, (number, sign)),
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Latencies) {
        self.sum = self.sum.wrapping_add(other.sum);
        let held = self.buckets.len();
        let (mut index, mut new, mut zeros) = (0, 0, false);
        for &(number, count) in &other.buckets {
            while index < held && self.buckets[index].0 < number {
                index += 1;
            }
            if index < held && self.buckets[index].0 == number {
                self.buckets[index].1 = self.buckets[index].1.wrapping_add(count);
                zeros |= self.buckets[index].1 == 0;
            } else {
                new += 1;
            }
        }
        self.insert(&other.buckets, new);
        if zeros {
            self.buckets.retain(|(_, count)| *count != 0);
        }
    }

    /// Puts those of other buckets between its own whose numbers it does not have, which are `new`. From the last on, so that each
    /// is moved once, and none before the first of them.
    fn insert(&mut self, others: &[(u16, i64)], new: usize) {
        let (mut rest, mut end) = (self.buckets.len(), self.buckets.len() + new);
        self.buckets.resize(end, (0, 0));
        for other in others.iter().rev() {
            while rest < end && rest > 0 && self.buckets[rest - 1].0 > other.0 {
                (rest, end) = (rest - 1, end - 1);
                self.buckets[end] = self.buckets[rest];
            }
            if rest == end {
                break;
            }
            if rest == 0 || self.buckets[rest - 1].0 != other.0 {
                end -= 1;
                self.buckets[end] = *other;
            }
        }
    }

    /// The histogram, of something that is whole: no count is negative.
    pub fn histogram(&self) -> Histogram {
        let counts = self.buckets.iter().map(|(number, count)| (*number, u64::try_from(*count).unwrap_or(0)));
        Histogram::of_buckets(counts.filter(|(_, count)| *count > 0).collect(), u128::try_from(self.sum).unwrap_or(0))
    }

    /// How many it counts.
    pub fn count(&self) -> i64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

impl Sum for Latencies {
    fn merge(&mut self, other: &Latencies) {
        Latencies::merge(self, other);
    }

    fn is_zero(&self) -> bool {
        self.buckets.is_empty() && self.sum == 0
    }

    fn clear(&mut self) {
        self.buckets.clear();
        self.sum = 0;
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        varint::write_small(bytes, self.buckets.len() as u64);
        varint::write(bytes, varint::zigzag(self.sum));
        let mut before = 0;
        for &(number, count) in &self.buckets {
            varint::write_pair(bytes, [u64::from(number - before), varint::zigzag_small(count)]);
            before = number;
        }
    }

    fn decode(&mut self, bytes: &mut &[u8]) -> Option<()> {
        self.clear();
        let mut reader = Reader::new(bytes);
        let buckets = reader.small()?;
        self.sum = varint::unzigzag(reader.large()?);
        let mut number = 0u64;
        // Each takes two bytes at least.
        self.buckets.reserve_exact(buckets.min(reader.bytes.len() as u64 / 2) as usize);
        for _ in 0..buckets {
            number = number.checked_add(reader.small()?)?;
            self.buckets.push((u16::try_from(number).ok()?, reader.signed()?));
        }
        *bytes = reader.bytes;
        Some(())
    }
}

/// The sum of many [`Latencies`]: with a place for each bucket, so that adding takes no longer the more buckets it has.
#[derive(Debug, Default)]
pub(crate) struct LatencySums {
    /// By the number of the bucket.
    counts: Vec<i64>,
    /// The buckets that may not be zero.
    touched: Range<usize>,
    sum: i128,
}

impl LatencySums {
    pub(crate) fn add(&mut self, latencies: &Latencies) {
        self.sum = self.sum.wrapping_add(latencies.sum);
        let [Some(first), Some(last)] = [latencies.buckets.first(), latencies.buckets.last()] else { return };
        let (first, end) = (first.0.into(), usize::from(last.0) + 1);
        if self.counts.len() < end {
            self.counts.resize(end, 0);
        }
        let was = if self.touched.is_empty() { first..end } else { self.touched.clone() };
        self.touched = was.start.min(first)..was.end.max(end);
        for (number, count) in &latencies.buckets {
            let counted = &mut self.counts[usize::from(*number)];
            *counted = counted.wrapping_add(*count);
        }
    }

    /// Makes `latencies` the sum; what is left is zero.
    pub(crate) fn take(&mut self, latencies: &mut Latencies) {
        let touched = std::mem::take(&mut self.touched);
        let counts = &mut self.counts[touched.clone()];
        let not_zero = touched.zip(&*counts).filter(|(_, count)| **count != 0);
        latencies.buckets.clear();
        latencies.buckets.extend(not_zero.map(|(number, count)| (number as u16, *count)));
        counts.fill(0);
        latencies.sum = std::mem::take(&mut self.sum);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Scenario: histograms of a few and of many buckets, of which some are in both, some come between, before and behind, and some
        /// cancel out. Guarantee: merged, and summed in memory that held another, they have what a map of the counts has.
        #[test]
        fn merged_counts_are_those_of_a_map(histograms in vec(vec((1..80u64, prop_oneof![Just(1i64), Just(-1)]), 0..12), 0..4)) {
            let (mut sums, mut taken) = (LatencySums::default(), Latencies::default());
            taken.record(77, 1);
            let (mut merged, mut counts) = (Latencies::default(), BTreeMap::<u16, i64>::new());
            for records in histograms {
                let mut other = Latencies::default();
                for (value, sign) in records {
                    other.record(value, sign);
                    *counts.entry(number(value)).or_default() += sign;
                }
                merged.merge(&other);
                sums.add(&other);
            }
            counts.retain(|_, count| *count != 0);
            sums.take(&mut taken);
            prop_assert_eq!(&merged.buckets, &counts.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(merged, taken);
        }
    }
}
