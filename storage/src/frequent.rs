//! The frequent values of one attribute, counted in bounded memory.
//!
//! Up to [`DISTINCT_MAX`] values are counted exactly. Past it the rare ones are passed over from then on: of each batch only
//! values that at least one in [`RARE`] of its spans has are counted, which costs next to nothing where no two spans say the
//! same, and finds what is frequent, for in files sorted by random trace ids each batch is a sample of the whole. What is
//! counted then is a lower bound. Everything depends on the batches and their order alone.

use hashbrown::HashMap;

/// Values that are counted exactly.
pub(crate) const DISTINCT_MAX: usize = 1_000;
/// Once there are more, values are passed over where less than one in so many spans has them.
pub(crate) const RARE: u64 = 1_000;
/// Values that are told.
pub(crate) const VALUES_MAX: usize = 100;
/// Bytes of a value; longer ones are not told.
pub(crate) const VALUE_BYTES_MAX: usize = 256;
/// Bytes that a value takes besides its own.
const OVERHEAD: usize = 48;

/// Values and how many spans have them.
#[derive(Debug, Default)]
pub(crate) struct FrequentValues {
    counts: HashMap<Box<str>, u64>,
    /// Whether values were passed over.
    cut: bool,
}

impl FrequentValues {
    /// Whether a value that `spans` have, of `of` in a batch, does not count.
    pub(crate) fn passes_over(&self, spans: u64, of: u64) -> bool {
        self.cut && (spans < 2 || spans * RARE < of)
    }

    /// Counts `spans` with a value, of `of` in a batch. `room` is how many bytes may be held more.
    pub(crate) fn add(&mut self, value: &str, spans: u64, of: u64, room: &mut usize) {
        if self.passes_over(spans, of) {
            return;
        }
        if let Some(count) = self.counts.get_mut(value) {
            *count += spans;
            return;
        }
        if value.len() > VALUE_BYTES_MAX {
            return;
        }
        self.cut |= self.counts.len() >= DISTINCT_MAX || *room < value.len() + OVERHEAD;
        if self.passes_over(spans, of) {
            return;
        }
        if self.counts.len() >= 2 * DISTINCT_MAX {
            self.prune(room);
        }
        if let Some(left) = room.checked_sub(value.len() + OVERHEAD) {
            *room = left;
            self.counts.insert(value.into(), spans);
        }
    }

    /// Keeps the most frequent.
    fn prune(&mut self, room: &mut usize) {
        let mut sorted = sorted(std::mem::take(&mut self.counts));
        let dropped = sorted.split_off(DISTINCT_MAX.min(sorted.len()));
        *room += dropped.iter().map(|(value, _)| value.len() + OVERHEAD).sum::<usize>();
        self.counts = sorted.into_iter().collect();
    }

    /// The most frequent values of an attribute that `spans` carry, and whether their counts are lower bounds.
    pub(crate) fn finish(self, spans: u64) -> (Vec<(String, u64)>, bool) {
        let cut = self.cut;
        let told = sorted(self.counts).into_iter().filter(|(_, count)| !cut || count * RARE >= spans).take(VALUES_MAX);
        (told.map(|(value, count)| (value.into(), count)).collect(), cut)
    }
}

/// The most frequent first, then by text.
fn sorted(counts: HashMap<Box<str>, u64>) -> Vec<(Box<str>, u64)> {
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_unstable_by(|(value, count), (other, others)| (others, value).cmp(&(count, other)));
    sorted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Adds batches of (value, spans); what comes of it, and the true counts.
    fn counted(batches: &[Vec<(String, u64)>], mut room: usize) -> (Vec<(String, u64)>, bool, BTreeMap<String, u64>) {
        let (mut values, mut naive) = (FrequentValues::default(), BTreeMap::new());
        for batch in batches {
            let of = batch.iter().map(|(_, spans)| spans).sum();
            for (value, spans) in batch {
                values.add(value, *spans, of, &mut room);
                *naive.entry(value.clone()).or_default() += spans;
            }
        }
        let (told, cut) = values.finish(naive.values().sum());
        (told, cut, naive)
    }

    /// Scenario: as many values as are counted exactly, some of them long. Guarantee: the most frequent are told in order, with
    /// the true counts, and long ones are not.
    #[test]
    fn few_values_are_exact() {
        let batch =
            |batch: u64| (0..DISTINCT_MAX as u64).map(|value| (format!("v{value:04}"), 1 + (value * 7 + batch) % 90)).collect();
        let mut batches: Vec<Vec<(String, u64)>> = (0..20).map(batch).collect();
        batches[3].push(("x".repeat(VALUE_BYTES_MAX + 1), 1_000_000));
        let (told, cut, mut naive) = counted(&batches, usize::MAX);
        naive.retain(|value, _| value.len() <= VALUE_BYTES_MAX);
        let mut expected: Vec<(String, u64)> = naive.into_iter().collect();
        expected.sort_by_key(|(value, count)| (std::cmp::Reverse(*count), value.clone()));
        expected.truncate(VALUES_MAX);
        assert_eq!((told, cut), (expected, false));
    }

    /// Scenario: in each batch thousands of values that never come again, and three that one in three, one in 50 and one in 400
    /// spans have; then the same with hardly any room. Guarantee: counts are never too high, the three are told and miss less than a
    /// tenth where there is room, and of the others none.
    #[test]
    fn frequent_values_are_found_among_many() {
        let batch = |batch: u64| {
            let rare = (0..8_000).map(move |value| (format!("id-{batch}-{value}"), 1 + value % 2));
            let frequent = [("often", 6_000), ("some", 360), ("few", 45)].map(|(value, spans)| (value.to_owned(), spans));
            rare.chain(frequent).collect()
        };
        let batches: Vec<Vec<(String, u64)>> = (0..30).map(batch).collect();
        let (told, cut, naive) = counted(&batches, usize::MAX);
        assert!(cut);
        assert_eq!(told.iter().map(|(value, _)| value.as_str()).collect::<Vec<_>>(), ["often", "some", "few"]);
        for (value, count) in &told {
            assert!(*count <= naive[value] && *count * 10 > naive[value] * 9, "{value}: {count} of {}", naive[value]);
        }
        let (told, cut, naive) = counted(&batches, 1_000);
        assert!(cut && told.iter().all(|(value, count)| *count <= naive[value]), "{told:?}");
    }
}
