//! The sums of many rollups of spans.

use hashbrown::HashMap;

use super::keys::{KeyNumbers, SpanKey, SpanKeys};
use crate::rollup::Latencies;

/// Sums by step and key.
#[derive(Debug, Default)]
pub struct SpanStepSums {
    keys: KeyNumbers,
    rows: HashMap<(u64, u32), SpanSums>,
}

/// How many spans there were, and how long they took as far as that was asked for.
#[derive(Debug, Default)]
pub struct SpanSums {
    /// How many.
    pub count: u64,
    /// How long.
    pub durations: Latencies,
}

/// The numbers that keys of a rollup have in some [`SpanStepSums`].
#[derive(Debug, Default)]
pub struct SpanNumbers(Vec<Option<u32>>);

impl SpanStepSums {
    /// Of nothing.
    pub fn new() -> SpanStepSums {
        SpanStepSums::default()
    }

    /// The sums of one of these keys in a step. `numbers` is of these keys and of these sums alone, and begins empty.
    pub fn row(&mut self, step: u64, (keys, numbers): (&SpanKeys, &mut SpanNumbers), key: u32) -> &mut SpanSums {
        if numbers.0.is_empty() {
            numbers.0.resize(keys.len(), None);
        }
        let number = *numbers.0[key as usize].get_or_insert_with(|| self.keys.number(&keys.key(key)));
        self.rows.entry((step, number)).or_default()
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        // With a few buckets in each.
        2 * self.keys.keys.bytes() + self.rows.len() * 4 * size_of::<SpanSums>()
    }

    /// Each step and key, by step and key.
    pub fn rows(&self) -> Vec<(u64, SpanKey<'_>, &SpanSums)> {
        let mut rows: Vec<_> = self.rows.iter().map(|((step, key), sums)| (*step, self.keys.keys.key(*key), sums)).collect();
        rows.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        rows
    }
}
