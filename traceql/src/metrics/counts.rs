use std::collections::BTreeMap;
use std::slice;

/// What a count takes in a map, about.
const COUNT_BYTES: usize = 32;

/// How many spans there are in each interval that has some.
#[derive(Clone, Debug)]
pub(super) enum Counts {
    /// In one at most: many values occur in no other, and an answer may have no other. It stands where the value does, so that to
    /// count the next span is to look at one place of memory.
    One((u32, u64)),
    Several(BTreeMap<u32, u64>),
}

impl Default for Counts {
    fn default() -> Counts {
        Counts::One((0, 0))
    }
}

impl Counts {
    /// Adds spans, of which there are some, to an interval; the bytes that this takes besides.
    pub(super) fn add(&mut self, interval: u32, spans: u64) -> usize {
        match self {
            Counts::One(one) if one.0 == interval || one.1 == 0 => {
                let new = if one.1 == 0 { COUNT_BYTES } else { 0 };
                *one = (interval, one.1 + spans);
                new
            }
            Counts::One(one) => {
                *self = Counts::Several(BTreeMap::from([*one, (interval, spans)]));
                COUNT_BYTES
            }
            Counts::Several(counts) => {
                let count = counts.entry(interval).or_default();
                let new = if *count == 0 { COUNT_BYTES } else { 0 };
                *count += spans;
                new
            }
        }
    }

    /// The intervals that have some, in order, each with how many.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        let (one, several) = match self {
            Counts::One(one) => (slice::from_ref(one), None),
            Counts::Several(counts) => (&[][..], Some(counts)),
        };
        let several = several.into_iter().flatten().map(|(interval, spans)| (*interval, *spans));
        one.iter().copied().filter(|(_, spans)| *spans > 0).chain(several)
    }

    /// Of all intervals.
    pub(super) fn total(&self) -> u64 {
        self.iter().map(|(_, spans)| spans).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: spans of no interval, of one, of the same again, and of more than one, in no order. Guarantee: each interval has its
    /// own, in order; each takes its bytes once.
    #[test]
    fn spans_are_counted_by_interval() {
        let mut counts = Counts::default();
        let mut expected = BTreeMap::<u32, u64>::new();
        assert_eq!((counts.iter().next(), counts.total()), (None, 0));
        for (interval, spans) in [(7, 2), (7, 1), (0, 4), (7, 1), (3, 5), (9, 1), (0, 1)] {
            let new = if expected.contains_key(&interval) { 0 } else { COUNT_BYTES };
            *expected.entry(interval).or_default() += spans;
            assert_eq!(counts.add(interval, spans), new);
            assert!(counts.iter().eq(expected.iter().map(|(interval, spans)| (*interval, *spans))));
            assert_eq!(counts.total(), expected.values().sum::<u64>());
            assert_eq!(matches!(counts, Counts::One(_)), expected.len() == 1);
        }
    }
}
