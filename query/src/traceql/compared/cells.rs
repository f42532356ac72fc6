use std::mem;

use hashbrown::HashMap;
use meshlake_traceql::{ComparedCount, ComparedSpans};

/// Counts that stand side by side: of the first values, which most spans have, in all groups. So few that they stay in a
/// processor's cache while a column is counted.
const FIRST_MAX: usize = 32 * 1024;
/// As many of them as are made for each one that was added elsewhere: most attributes have few values, in few of many groups.
const FIRST_PER_ADD: usize = 4;
/// Counts of other values after which [`Cells::are_full`].
const OTHERS_MAX: usize = 64 * 1024;

/// The number of spans that are counted together.
pub(super) fn group(spans: ComparedSpans) -> u32 {
    2 * spans.interval + u32::from(spans.selected)
}

/// How often each of some values occurs in each group of spans, by their numbers.
pub(super) struct Cells {
    /// How many there are of groups.
    groups: usize,
    /// Of the first values, each in all groups.
    first: Vec<u32>,
    /// Of others, by value and group; of the first values what was counted before those had their place, or has no room there.
    others: HashMap<(u32, u32), u64>,
    /// How many were added to others, ever.
    adds: usize,
    /// The last of them that was counted, and how often since: spans of a trace stand together, and may well have one value.
    last: ((u32, u32), u64),
}

impl Cells {
    /// `intervals` are as many as the answer has.
    pub(super) fn new(intervals: usize) -> Cells {
        Cells { groups: 2 * intervals, first: Vec::new(), others: HashMap::new(), adds: 0, last: Default::default() }
    }

    /// Adds one of a value to a group.
    #[inline]
    pub(super) fn add(&mut self, value: usize, group: u32) {
        match self.first.get_mut(value * self.groups + group as usize) {
            Some(count) if *count < u32::MAX => *count += 1,
            _ => self.add_other(value, group, 1),
        }
    }

    /// Adds so many of a value to a group.
    pub(super) fn add_many(&mut self, value: usize, group: u32, spans: u32) {
        let place = value * self.groups + group as usize;
        match self.first.get(place).and_then(|count| count.checked_add(spans)) {
            Some(count) => self.first[place] = count,
            None => self.add_other(value, group, spans),
        }
    }

    fn add_other(&mut self, value: usize, group: u32, spans: u32) {
        self.adds += 1;
        let end = (value + 1) * self.groups;
        if self.first.len() < end && end <= FIRST_MAX.min(FIRST_PER_ADD * self.adds) {
            self.first.resize(end, 0);
            self.first[value * self.groups + group as usize] = spans;
        } else {
            let cell = (value as u32, group);
            if self.last.0 != cell {
                self.end_run();
                self.last.0 = cell;
            }
            self.last.1 += u64::from(spans);
        }
    }

    fn end_run(&mut self) {
        let (cell, count) = mem::take(&mut self.last);
        if count > 0 {
            *self.others.entry(cell).or_default() += count;
        }
    }

    /// Whether they had better be taken in: more counts than these are slow to find.
    pub(super) fn are_full(&self) -> bool {
        self.others.len() > OTHERS_MAX
    }

    /// The counts, which are gone then; of a value and group there may be two.
    pub(super) fn take(&mut self) -> Vec<ComparedCount> {
        self.end_run();
        let count = |value, group: u32, count| {
            let spans = ComparedSpans { selected: group % 2 == 1, interval: group / 2 };
            ComparedCount { value, spans, count }
        };
        let of_first = self.first.chunks(self.groups.max(1)).enumerate().flat_map(|(value, counts)| {
            (0..).zip(counts).filter(|(_, spans)| **spans > 0).map(move |(group, spans)| count(value, group, u64::from(*spans)))
        });
        let mut all: Vec<ComparedCount> = of_first.collect();
        all.extend(self.others.drain().map(|((value, group), spans)| count(value as usize, group, spans)));
        self.first.clear();
        all
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.first.capacity() * size_of::<u32>() + self.others.capacity() * size_of::<((u32, u32), u64)>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Scenario: values of spans of several groups, in few intervals and in so many that no count has its place. Guarantee: each group
    /// has its own counts, of those values that it has; what was taken is gone.
    #[test]
    fn counts_are_by_group() {
        for intervals in [5, FIRST_MAX] {
            let mut cells = Cells::new(intervals);
            for _ in 0..2 {
                for (selected, interval, values) in [
                    (false, 1, &[3, 0, 3][..]),
                    (true, 1, &[3]),
                    (false, 4, &[0, 5_000, 5_000]),
                    (false, 1, &[3, 5_000]),
                    (false, 4, &[5_000]),
                ] {
                    let group = group(ComparedSpans { selected, interval });
                    (0..5).flat_map(|_| values).for_each(|value| cells.add(*value, group));
                    values.iter().for_each(|value| cells.add_many(*value, group, 4));
                }
                assert_eq!(cells.first.is_empty(), intervals == FIRST_MAX);
                let mut counts = BTreeMap::new();
                for ComparedCount { value, spans, count } in cells.take() {
                    *counts.entry((value, spans.selected, spans.interval)).or_default() += count;
                }
                let expected = [
                    ((0, false, 1), 9),
                    ((0, false, 4), 9),
                    ((3, false, 1), 27),
                    ((3, true, 1), 9),
                    ((5_000, false, 1), 9),
                    ((5_000, false, 4), 27),
                ];
                assert_eq!(counts, BTreeMap::from(expected));
            }
        }
    }

    /// Scenario: more of a value than there is room for in its place. Guarantee: all count.
    #[test]
    fn counts_are_of_any_size() {
        let mut cells = Cells::new(1);
        for spans in [1, u32::MAX - 1, 1, u32::MAX, 2] {
            cells.add_many(0, 1, spans);
        }
        cells.add(0, 1);
        let counts = cells.take();
        assert!(counts.iter().all(|count| count.value == 0 && count.spans.selected));
        assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 2 * u64::from(u32::MAX) + 4);
    }

    /// Scenario: a value that occurs in few of many groups, first seldom and then often. Guarantee: its counts stand side by side only
    /// when it occurs often.
    #[test]
    fn few_counts_take_few_bytes() {
        let mut cells = Cells::new(FIRST_MAX / 4);
        (0..100).for_each(|group| cells.add(0, group));
        assert!(cells.first.is_empty() && cells.bytes() < 8_192, "{}", cells.bytes());
        (0..FIRST_MAX as u32).for_each(|number| cells.add(0, number % 100));
        assert_eq!(cells.first.len(), FIRST_MAX / 2);
        assert_eq!(cells.take().iter().map(|count| count.count).sum::<u64>(), 100 + FIRST_MAX as u64);
    }
}
