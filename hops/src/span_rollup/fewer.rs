//! Counts by less than all that tells keys apart.

use std::sync::Arc;

use hashbrown::HashMap;

use super::counts::{CountWriter, read_counts};
use super::keys::{KeyNumbers, KeyParts, SpanKeys};
use crate::rollup::FormatError;

/// The counts of a rollup, by fewer keys.
#[derive(Clone, Debug, Default)]
pub struct SpanCounts {
    /// What they are of.
    pub keys: Arc<SpanKeys>,
    /// See [`read_counts`].
    pub sections: Vec<Arc<Vec<u8>>>,
}

impl SpanCounts {
    /// The counts of these keys in all their sections, of which those of keys that differ in none of `parts` are one count: see
    /// [`KeyNumbers::numbers`].
    ///
    /// # Errors
    /// Bytes that no version 1 writes.
    pub fn of(keys: &SpanKeys, sections: &[Arc<Vec<u8>>], parts: KeyParts) -> Result<SpanCounts, FormatError> {
        let (mut fewer, mut sums) = (KeyNumbers::default(), HashMap::<(u32, u64), u64>::new());
        let numbers = fewer.numbers(keys, parts);
        for section in sections {
            let add = |minute, key: u32, count| *sums.entry((numbers[key as usize], minute)).or_default() += count;
            read_counts(section, keys.len(), &(0..=u64::MAX), |_| true, add)?;
        }
        let mut counts: Vec<((u32, u64), u64)> = sums.into_iter().collect();
        counts.sort_unstable();
        let mut writer = CountWriter::default();
        for counts in counts.chunk_by(|a, b| a.0.0 == b.0.0) {
            let Some(((key, _), _)) = counts.first() else { continue };
            writer.add(*key, counts.iter().map(|((_, minute), count)| (*minute, *count)));
        }
        let sections = writer.finish().into_iter().map(|(_, section)| Arc::new(section)).collect();
        Ok(SpanCounts { keys: Arc::new(fewer.keys), sections })
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.sections.iter().map(|section| section.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{SpanKey, SpanRollupBuilder};
    use super::*;
    use crate::rollup::{MINUTE, minute};

    /// Scenario: spans of services, names and kinds in several minutes, one without a service. Guarantee: by service and kind there
    /// are as many in each minute as were added, whatever their names are.
    #[test]
    fn counts_by_fewer_parts() {
        let (mut builder, mut expected) = (SpanRollupBuilder::new(), BTreeMap::new());
        for number in 0..500u64 {
            let service = [None, Some("a"), Some("b")][number as usize % 3];
            let kind = ["server", "client"][number as usize % 2];
            let (name, start) = (format!("operation {}", number % 7), number * number % 11 * MINUTE + 1);
            let key = builder.number(&SpanKey { service, name: &name, kind, status: "ok" });
            builder.add(key, start, 5);
            *expected.entry((service, kind, minute(start))).or_insert(0u64) += 1;
        }
        let rollup = builder.finish();
        let sections: Vec<_> =
            rollup.outline.counts_of(None).into_iter().filter_map(|number| rollup.section(number).cloned()).collect();
        let parts = KeyParts { service: true, kind: true, ..KeyParts::default() };
        let fewer = SpanCounts::of(&rollup.keys, &sections, parts).unwrap();
        let mut found = BTreeMap::new();
        for section in &fewer.sections {
            let add = |minute, key, count| {
                let SpanKey { service, name, kind, status } = fewer.keys.key(key);
                assert_eq!((name, status), ("", ""));
                assert_eq!(found.insert((service, kind, minute), count), None);
            };
            read_counts(section, fewer.keys.len(), &(0..=u64::MAX), |_| true, add).unwrap();
        }
        assert_eq!(found, expected);
    }
}
