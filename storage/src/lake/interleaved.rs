//! The fingerprints of trace filters of one shape, line by line, so that all are asked at once.

use std::array::from_fn;
use std::sync::Arc;

use super::filter::{Shape, fingerprint};

/// How many filters are interleaved: with 32 a lookup among 20,000 files takes 1.7 times as long, with 128 as long.
pub(crate) const COLUMNS: usize = 64;

/// The fingerprints at one place of each filter: two cache lines.
#[derive(Clone, Copy)]
#[repr(align(128))]
struct Line([u16; COLUMNS]);

/// Up to [`COLUMNS`] filters. To ask them all for a trace reads three lines; to ask one by itself would read as many.
#[derive(Clone)]
pub(crate) struct Interleaved {
    shape: Shape,
    lines: Arc<[Line]>,
}

impl std::fmt::Debug for Interleaved {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Interleaved({} lines)", self.lines.len())
    }
}

impl Interleaved {
    /// Of filters with these fingerprints, [`Shape::len`] each.
    pub(super) fn new(shape: Shape, columns: &[Arc<[u16]>]) -> Interleaved {
        let line = |place| Line(from_fn(|column| columns.get(column).map_or(0, |column| column[place])));
        Interleaved { shape, lines: (0..shape.len()).map(line).collect() }
    }

    /// Which filters may hold the trace with this [`Shape::hash`]: a bit a column.
    pub(crate) fn may_hold(&self, hash: u64) -> u64 {
        let [first, second, third] = self.shape.places(hash).map(|place| &self.lines[place].0);
        let wanted = fingerprint(hash);
        let differ: [u16; COLUMNS] = from_fn(|column| first[column] ^ second[column] ^ third[column] ^ wanted);
        // Nearly always none, which is found without a look at each.
        if !differ.iter().fold(false, |any, differs| any | (*differs == 0)) {
            return 0;
        }
        differ.iter().rev().fold(0, |bits, differs| bits << 1 | u64::from(*differs == 0))
    }

    /// The fingerprints of one filter.
    pub(super) fn column(&self, column: usize) -> Arc<[u16]> {
        self.lines.iter().map(|line| line.0[column]).collect()
    }

    /// One of them.
    pub(super) fn at(&self, place: usize, column: usize) -> u16 {
        self.lines[place].0[column]
    }

    /// Whether these are the same, not only alike.
    pub(super) fn is(&self, other: &Interleaved) -> bool {
        Arc::ptr_eq(&self.lines, &other.lines)
    }

    /// How many have these.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::TraceFilter;

    fn keys(from: u64, count: u64) -> Vec<u64> {
        (from..from + count).map(|id| crate::lake::key(&id.to_le_bytes())).collect()
    }

    /// Scenario: filters are interleaved, all columns and a few, and asked for keys of each and of none. Guarantee: the answers are
    /// those of each filter, and less than one in 30,000 for others.
    #[test]
    fn answers_are_those_of_each_filter() {
        for count in [COLUMNS as u64, 3, 1] {
            let own: Vec<Vec<u64>> = (0..count).map(|number| keys(number << 32, 250)).collect();
            let filters: Vec<TraceFilter> = own.iter().map(|keys| TraceFilter::new(keys.clone()).unwrap()).collect();
            let alike: Vec<&TraceFilter> = filters.iter().filter(|filter| filter.shape() == filters[0].shape()).collect();
            let shape = alike[0].shape();
            let others = keys(1 << 60, 20_000);
            let asked: Vec<u64> = own.concat().into_iter().chain(others.iter().copied()).map(|key| shape.hash(key)).collect();
            let each = |hash: u64| {
                let bit = |(column, filter): (usize, &&TraceFilter)| {
                    let mut bit = 0;
                    filter.select(&[(hash, column)], |column| bit = 1 << column);
                    bit
                };
                alike.iter().enumerate().map(bit).fold(0, |bits: u64, bit| bits | bit)
            };
            let before: Vec<u64> = asked.iter().map(|hash| each(*hash)).collect();
            let all = TraceFilter::interleave(shape, &alike);
            let mut in_vain = 0;
            for ((hash, before), number) in asked.iter().zip(before).zip(0..) {
                assert_eq!((all.may_hold(*hash), each(*hash)), (before, before));
                in_vain += if number >= own.len() * 250 { before.count_ones() } else { 0 };
            }
            assert!(in_vain < 44, "{in_vain}");
        }
    }

    /// Scenario: filters are interleaved, and separated again. Guarantee: they are what they were at each step, and memory holds them
    /// once.
    #[test]
    fn filters_are_held_once() {
        let filters: Vec<TraceFilter> = (0..3).map(|number| TraceFilter::new(keys(number << 32, 10)).unwrap()).collect();
        let bytes = |filters: &[TraceFilter]| filters.iter().map(TraceFilter::to_bytes).collect::<Vec<_>>();
        assert!(filters.iter().all(|filter| filter.shape() == filters[0].shape()));
        let (before, references) = (bytes(&filters), filters.iter().collect::<Vec<_>>());
        let all = TraceFilter::interleave(filters[0].shape(), &references);
        let again = TraceFilter::interleave(filters[0].shape(), &references);
        assert_eq!(bytes(&filters), before);
        filters.iter().for_each(|filter| filter.separate(&all));
        assert_eq!((all.holders(), again.holders()), (1, 4), "filters are where they were put last");
        filters.iter().for_each(|filter| filter.separate(&again));
        assert_eq!(again.holders(), 1);
        assert_eq!(bytes(&filters), before);
    }
}
