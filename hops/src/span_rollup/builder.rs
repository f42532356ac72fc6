//! Sums spans up.

use std::sync::Arc;

use super::counts::CountWriter;
use super::keys::{KeyNumbers, SpanKey, SpanKeys};
use super::outline::{SECTIONS_BEFORE, SpanOutline};
use crate::rollup::gathered::{Fact, Gathered, Place};
use crate::rollup::rows::RowWriter;
use crate::rollup::{Latencies, minute};

/// A span: key, minute and nanoseconds that it took in one integer, the first of them highest. So there is nothing to look for when
/// they are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Took(u128);

impl Took {
    fn new(key: u32, start: u64, nanoseconds: u64) -> Took {
        // The minutes of all times are below 2^29.
        Took(u128::from(key) << 96 | u128::from(minute(start)) << 64 | u128::from(nanoseconds))
    }
}

impl Fact for Took {
    type Sum = Latencies;

    fn in_order(facts: &mut [Took], mut each: impl FnMut(Place, &Took)) {
        facts.sort_unstable();
        facts.iter().for_each(|fact| each(((fact.0 >> 96) as u32, u64::from((fact.0 >> 64) as u32)), fact));
    }

    fn add_to(&self, sum: &mut Latencies) {
        sum.record(self.0 as u64, 1);
    }
}

/// A rollup of spans in the making.
#[derive(Debug, Default)]
pub struct SpanRollupBuilder {
    keys: KeyNumbers,
    facts: Gathered<Took>,
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

    /// Adds a span by the number of its key; nanoseconds since the epoch, and nanoseconds: one that ends before it starts took
    /// none.
    pub fn add(&mut self, key: u32, start: u64, duration: i64) {
        self.facts.add(Took::new(key, start, u64::try_from(duration).unwrap_or(0)));
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        2 * self.keys.keys.bytes() + self.facts.bytes()
    }

    /// The rollup: the same bytes for the same spans, in whatever order they came (P4).
    pub fn finish(mut self) -> SpanRollup {
        let (keys, numbers) = self.keys.sorted();
        let (mut counts, mut durations) = (CountWriter::default(), RowWriter::default());
        let (mut first, mut last) = (u64::MAX, 0);
        let each_alone = |key: u32| key;
        self.facts.rows(&numbers, each_alone, |rows| {
            let Some(((key, _), _)) = rows.first() else { return };
            counts.add(*key, rows.iter().map(|((_, minute), sums)| (*minute, sums.count() as u64)));
            durations.add(rows);
            (first, last) =
                rows.iter().fold((first, last), |(first, last), ((_, minute), _)| (first.min(*minute), last.max(*minute)));
        });
        let (counts, durations) = (counts.finish(), durations.finish());
        let firsts = |sections: &[(u32, Vec<u8>)]| sections.iter().map(|(first, _)| *first).collect();
        let outline = SpanOutline { first: first.min(last), last, counts: firsts(&counts), durations: firsts(&durations) };
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
