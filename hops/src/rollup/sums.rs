//! The sums of many rollups.

use hashbrown::HashMap;

use super::keys::{KeyNumbers, Keys, RollupKey};
use super::measures::{Count, Measures};
use super::rows::{Sum, TotalWriter, read_totals};

/// Sums by key, in the making.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    keys: KeyNumbers,
    measures: Vec<Measures>,
}

/// Sums by key, as small as they are kept.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// What it has sums of.
    pub keys: Keys,
    section: Vec<u8>,
}

/// The numbers that keys of a rollup have in some [`Sums`].
#[derive(Clone, Debug, Default)]
pub struct Numbers(Vec<Option<u32>>);

impl Sums {
    /// Of nothing.
    pub fn new() -> Sums {
        Sums::default()
    }

    /// Adds the sums of one of these keys. `numbers` is of these keys and of these sums alone, and begins empty.
    pub fn add(&mut self, keys: &Keys, numbers: &mut Numbers, key: u32, measures: &Measures) {
        let number = numbers.of(key, keys.len(), || self.keys.number(&keys.key(key)));
        match self.measures.get_mut(number as usize) {
            Some(sums) => sums.merge(measures),
            // Numbers are given in order.
            None => self.measures.push(measures.clone()),
        }
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        // With a few dozen buckets in three histograms.
        self.keys.bytes() + self.measures.len() * 4 * size_of::<Measures>()
    }

    /// The sums.
    pub fn finish(self) -> Total {
        let mut totals = TotalWriter::default();
        let rows = (0..).zip(&self.measures).filter(|(_, measures)| !measures.is_zero());
        rows.for_each(|(key, measures)| totals.add(key, measures));
        Total { section: totals.finish(), keys: self.keys.into_keys() }
    }
}

impl Total {
    /// Gives `each` the number of each key and its sums. `scratch` is where they are read to.
    pub fn read(&self, scratch: &mut Measures, each: impl FnMut(u32, &Measures)) {
        // It was written by this program, and has not left it.
        let read = read_totals(&self.section, self.keys.len(), scratch, each);
        debug_assert!(read.is_ok());
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.section.len()
    }
}

impl Numbers {
    fn of(&mut self, key: u32, keys: usize, number: impl FnOnce() -> u32) -> u32 {
        if self.0.is_empty() {
            self.0.resize(keys, None);
        }
        *self.0[key as usize].get_or_insert_with(number)
    }
}

/// Sums by step and key.
#[derive(Clone, Debug, Default)]
pub struct StepSums {
    keys: KeyNumbers,
    rows: HashMap<(u64, u32), Measures>,
}

impl StepSums {
    /// Of nothing.
    pub fn new() -> StepSums {
        StepSums::default()
    }

    /// Adds the sums of one of these keys to those of a step, as if they were of the key that `of` makes of it. `numbers` is of
    /// these keys and of these sums alone, and begins empty.
    pub fn add(
        &mut self,
        step: u64,
        (keys, numbers): (&Keys, &mut Numbers),
        key: u32,
        measures: &Measures,
        of: impl for<'a> Fn(RollupKey<'a>) -> RollupKey<'a>,
    ) {
        let number = numbers.of(key, keys.len(), || self.keys.number(&of(keys.key(key))));
        self.rows.entry((step, number)).or_default().merge(measures);
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        // With a few buckets in three histograms.
        self.keys.bytes() + self.rows.len() * 2 * size_of::<Measures>()
    }

    /// Each step and key that has hops, by step and key.
    pub fn rows(&self) -> Vec<(u64, RollupKey<'_>, &Measures)> {
        let whole = self.rows.iter().filter(|(_, measures)| measures.count(Count::Requests) > 0);
        let mut rows: Vec<_> = whole.map(|((step, key), measures)| (*step, self.keys.keys().key(*key), measures)).collect();
        rows.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        rows
    }
}
