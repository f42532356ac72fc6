//! The sums of many rollups.

use hashbrown::{HashMap, HashSet};

use super::keys::{Keys, RollupKey};
use super::measures::{Count, Measures};
use super::part::Rollup;

/// Sums by key.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    keys: Keys,
    measures: Vec<Measures>,
}

/// The numbers that keys of a rollup have in some [`Sums`].
#[derive(Clone, Debug, Default)]
pub struct Numbers(Vec<Option<u32>>);

impl Sums {
    /// Of nothing.
    pub fn new() -> Sums {
        Sums::default()
    }

    /// Adds the sums of a key of a rollup. `numbers` is of that rollup and of these sums alone, and begins empty.
    pub fn add(&mut self, rollup: &Rollup, numbers: &mut Numbers, key: u32, measures: &Measures) {
        if numbers.0.is_empty() {
            numbers.0.resize(rollup.keys(), None);
        }
        let number = *numbers.0[key as usize].get_or_insert_with(|| self.keys.number(&rollup.key(key)));
        match self.measures.get_mut(number as usize) {
            Some(sums) => sums.merge(measures),
            // Numbers are given in order.
            None => self.measures.push(measures.clone()),
        }
    }

    /// How many different ends the keys have.
    pub fn ends(&self) -> usize {
        self.keys.ends()
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        // With a few dozen buckets in three histograms.
        self.keys.bytes() + self.measures.len() * 4 * size_of::<Measures>()
    }

    /// Each key that has hops, with the numbers of its caller and its callee among the ends, and its sums.
    pub fn rows(&self) -> impl Iterator<Item = (RollupKey<'_>, [usize; 2], &Measures)> {
        self.rows_where(|_| true)
    }

    /// The same without keys that are [`taken`](Sums::take).
    pub fn rows_without(&self, taken: &Taken) -> impl Iterator<Item = (RollupKey<'_>, [usize; 2], &Measures)> {
        self.rows_where(|number| !taken.0.contains(&number))
    }

    fn rows_where(&self, keep: impl Fn(u32) -> bool) -> impl Iterator<Item = (RollupKey<'_>, [usize; 2], &Measures)> {
        let rows = (0..).zip(&self.measures).filter(move |(number, _)| keep(*number));
        let rows = rows.filter(|(_, measures)| measures.count(Count::Requests) > 0);
        rows.map(|(number, measures)| (self.keys.key(number), self.keys.ends_of(number), measures))
    }

    /// Adds to these sums those that `other` has of the same keys, which are taken from then on: so that few sums are added to very many, which stay as
    /// they are.
    pub fn take(&mut self, other: &Sums) -> Taken {
        let mut taken = Taken::default();
        for (number, measures) in self.measures.iter_mut().enumerate() {
            if let Some(known) = other.keys.find(&self.keys.key(number as u32)) {
                measures.merge(&other.measures[known as usize]);
                taken.0.insert(known);
            }
        }
        taken
    }
}

/// Keys of some [`Sums`] that others have.
#[derive(Clone, Debug, Default)]
pub struct Taken(HashSet<u32>);

/// Sums by step and key.
#[derive(Clone, Debug, Default)]
pub struct StepSums {
    keys: Keys,
    rows: HashMap<(u64, u32), Measures>,
}

impl StepSums {
    /// Of nothing.
    pub fn new() -> StepSums {
        StepSums::default()
    }

    /// Adds the sums of a key of a rollup to those of a step, as if they were of the key that `of` makes of it. `numbers` is of that rollup and of
    /// these sums alone, and begins empty.
    pub fn add(
        &mut self,
        step: u64,
        (rollup, numbers): (&Rollup, &mut Numbers),
        key: u32,
        measures: &Measures,
        of: impl for<'a> Fn(RollupKey<'a>) -> RollupKey<'a>,
    ) {
        if numbers.0.is_empty() {
            numbers.0.resize(rollup.keys(), None);
        }
        let number = *numbers.0[key as usize].get_or_insert_with(|| self.keys.number(&of(rollup.key(key))));
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
        let mut rows: Vec<_> = whole.map(|((step, key), measures)| (*step, self.keys.key(*key), measures)).collect();
        rows.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        rows
    }
}
