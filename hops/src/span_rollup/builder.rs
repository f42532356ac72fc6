//! Sums spans up.

use std::sync::Arc;

use hashbrown::HashMap;

use super::counts::write_counts;
use super::keys::{KeyNumbers, SpanKey, SpanKeys};
use super::outline::{SECTIONS_BEFORE, SpanOutline};
use crate::rollup::rows::{Row, by_key, write_rows};
use crate::rollup::{Latencies, minute};

/// A rollup of spans in the making.
#[derive(Debug, Default)]
pub struct SpanRollupBuilder {
    keys: KeyNumbers,
    rows: HashMap<(u32, u64), Latencies>,
}

/// The spans of a file, or of several, summed.
#[derive(Clone, Debug, Default)]
pub struct SpanRollup {
    /// Its minutes and sections.
    pub outline: SpanOutline,
    /// What it has sums of.
    pub keys: Arc<SpanKeys>,
    sections: Vec<Arc<Vec<u8>>>,
}

impl SpanRollupBuilder {
    /// Of nothing.
    pub fn new() -> SpanRollupBuilder {
        SpanRollupBuilder::default()
    }

    /// The number of a key, for [`SpanRollupBuilder::add`].
    pub fn number(&mut self, key: &SpanKey<'_>) -> u32 {
        self.keys.number(key)
    }

    /// Adds a span by the number of its key; nanoseconds since the epoch, and nanoseconds: one that ends before it starts took none.
    pub fn add(&mut self, key: u32, start: u64, duration: i64) {
        self.rows.entry((key, minute(start))).or_default().record(u64::try_from(duration).unwrap_or(0), 1);
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        // With a few buckets in each.
        2 * self.keys.keys.bytes() + self.rows.len() * 4 * size_of::<Latencies>()
    }

    /// The rollup: the same bytes for the same spans, in whatever order they came (P4).
    pub fn finish(self) -> SpanRollup {
        let (keys, numbers) = self.keys.sorted();
        let rows = self.rows.into_iter().map(|((key, minute), sums)| ((numbers[key as usize], minute), sums));
        let mut rows: Vec<Row<Latencies>> = rows.collect();
        rows.sort_unstable_by_key(|(row, _)| *row);
        let minutes = || rows.iter().map(|((_, minute), _)| *minute);
        let (first, last) = (minutes().min().unwrap_or(0), minutes().max().unwrap_or(0));
        let counts: Vec<((u32, u64), u64)> = rows.iter().map(|(row, sums)| (*row, sums.count() as u64)).collect();
        let (counts, durations) = (write_counts(&counts), write_rows(by_key(&rows)));
        let firsts = |sections: &[(u32, Vec<u8>)]| sections.iter().map(|(first, _)| *first).collect();
        let outline = SpanOutline { first, last, counts: firsts(&counts), durations: firsts(&durations) };
        let sections = counts.into_iter().chain(durations).map(|(_, section)| Arc::new(section)).collect();
        SpanRollup { outline, keys: Arc::new(keys), sections }
    }
}

impl SpanRollup {
    /// A section with sums, by its number; see [`SpanOutline`].
    pub fn section(&self, number: usize) -> Option<&Arc<Vec<u8>>> {
        self.sections.get(number.checked_sub(SECTIONS_BEFORE)?)
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.outline.bytes() + self.keys.bytes() + self.sections.iter().map(|section| section.len()).sum::<usize>()
    }

    /// Its sections, each to be kept so that it can be read alone.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        let sums = self.sections.iter().map(|section| section.to_vec());
        [self.outline.encode(), self.keys.encode()].into_iter().chain(sums).collect()
    }
}
