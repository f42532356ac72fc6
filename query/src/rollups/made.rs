//! Sums that are made when they are first asked for, while they may be asked for again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use datafusion::error::Result;
use meshlake_hops::rollup::{Rollup, RollupBuilder};
use meshlake_storage::{Snapshot, SpanFile};
use parking_lot::Mutex;

use super::correct::Places;
use super::writer::shared;
use crate::trace_id::TraceId;

/// Values by what they are of, each made by who asks first; the least recently used go first.
pub(super) struct Making<K, V> {
    limit: usize,
    held: Mutex<Held<K, V>>,
}

struct Held<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// How often something was asked for.
    clock: u64,
}

#[derive(Default)]
struct Entry<V> {
    value: Arc<V>,
    bytes: usize,
    used: u64,
}

impl<K: Clone + Eq + Hash, V: Default> Making<K, V> {
    /// With at most so many bytes.
    pub(super) fn new(limit: usize) -> Making<K, V> {
        Making { limit, held: Mutex::new(Held { entries: HashMap::new(), clock: 0 }) }
    }

    /// Where a value is, or will be.
    pub(super) fn get(&self, of: &K) -> Arc<V> {
        let mut held = self.held.lock();
        held.clock += 1;
        let used = held.clock;
        let entry = held.entries.entry(of.clone()).or_default();
        entry.used = used;
        entry.value.clone()
    }

    /// Notes how large a value is, and forgets others if they are too much together.
    pub(super) fn weigh(&self, of: &K, bytes: usize) {
        let mut held = self.held.lock();
        if let Some(entry) = held.entries.get_mut(of) {
            entry.bytes = bytes;
        }
        let mut all: usize = held.entries.values().map(|entry| entry.bytes).sum();
        while all > self.limit {
            let Some(oldest) = held.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(of, _)| of.clone()) else { break };
            all -= held.entries.remove(&oldest).map_or(0, |entry| entry.bytes);
        }
    }

    pub(super) fn retain(&self, keep: impl Fn(&K) -> bool) {
        self.held.lock().entries.retain(|of, _| keep(of));
    }
}

/// Sums that were made of spans.
#[derive(Default)]
pub(crate) struct Made {
    /// Of the file alone; none of a part of a rollup.
    pub(super) alone: Option<Arc<Rollup>>,
    /// The traces that are corrected if a file before has spans of them.
    pub(super) ids: Vec<TraceId>,
    /// The files before that were asked for these.
    asked: HashSet<String>,
    /// Those that may hold some.
    shared: BTreeMap<String, Vec<TraceId>>,
    /// The corrections, and for which files before they are.
    corrections: Option<(Vec<String>, Arc<Rollup>)>,
}

impl Made {
    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        let rollups = self.alone.iter().chain(self.corrections.iter().map(|(_, corrections)| corrections));
        let ids = self.ids.len() + self.shared.values().map(Vec::len).sum::<usize>();
        rollups.map(|rollup| rollup.bytes()).sum::<usize>() + ids * size_of::<TraceId>() + self.asked.len() * 128
    }

    /// The corrections for the files `before`. Those of earlier calls are kept where the same files may hold the traces.
    pub(super) async fn corrections(&mut self, places: &Places, own: &Snapshot, before: &[Arc<SpanFile>]) -> Result<Arc<Rollup>> {
        let there: HashSet<&str> = before.iter().map(|file| file.path.as_str()).collect();
        self.asked.retain(|path| there.contains(path.as_str()));
        self.shared.retain(|path, _| there.contains(path.as_str()));
        for file in before.iter().filter(|file| !self.asked.contains(&file.path)) {
            let (_, ids) = shared(&self.ids, std::slice::from_ref(file));
            if !ids.is_empty() {
                self.shared.insert(file.path.clone(), ids);
            }
        }
        self.asked = there.into_iter().map(str::to_owned).collect();
        let of: Vec<String> = self.shared.keys().cloned().collect();
        if let Some((known, corrections)) = &self.corrections
            && *known == of
        {
            return Ok(corrections.clone());
        }
        let mut ids: Vec<TraceId> = self.shared.values().flatten().copied().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut builder = RollupBuilder::new();
        let earlier = places.files(before.iter().filter(|file| self.shared.contains_key(&file.path)).cloned());
        places.correct(&mut builder, &earlier, own, &ids).await?;
        let corrections = Arc::new(builder.finish());
        self.corrections = Some((of, corrections.clone()));
        Ok(corrections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: values of which two fit; the first is asked for again before the third comes. Guarantee: the second goes, and a value larger than all that
    /// may be held does not stay.
    #[test]
    fn the_least_recently_used_go() {
        let making: Making<&str, Mutex<u64>> = Making::new(100);
        for (of, bytes) in [("first", 40), ("second", 40)] {
            *making.get(&of).lock() = bytes;
            making.weigh(&of, bytes as usize);
        }
        assert_eq!(*making.get(&"first").lock(), 40);
        making.get(&"third");
        making.weigh(&"third", 50);
        assert_eq!((*making.get(&"first").lock(), *making.get(&"second").lock()), (40, 0));
        *making.get(&"large").lock() = 1;
        making.weigh(&"large", 200);
        assert_eq!(*making.get(&"large").lock(), 0);
    }
}
