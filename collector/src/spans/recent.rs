//! What was derived for the last few spans, to be taken again.

/// Values remembered: the routes of a gateway alternate, and most senders have one or two of anything.
const REMEMBERED: usize = 8;

/// Values by key, the oldest of which give way.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries: [Option<(K, V)>; REMEMBERED],
    next: usize,
}

impl<K: Copy, V: Copy> Default for Recent<K, V> {
    fn default() -> Self {
        Recent { entries: [None; REMEMBERED], next: 0 }
    }
}

impl<K: Copy + PartialEq, V: Copy> Recent<K, V> {
    #[inline]
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.entries.iter().flatten().find(|(known, _)| known == key).map(|(_, value)| *value)
    }

    /// Remembers a value whose key is not there.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.entries[self.next] = Some((key, value));
        self.next = (self.next + 1) % REMEMBERED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: as many keys as are remembered, then one more. Guarantee: all are found, then all but the oldest.
    #[test]
    fn the_oldest_gives_way() {
        let mut recent = Recent::default();
        (0..=REMEMBERED).for_each(|key| {
            assert!((0..key).all(|known| recent.get(&known) == Some(known + 100)), "{key}");
            if key < REMEMBERED {
                recent.insert(key, key + 100);
            }
        });
        recent.insert(REMEMBERED, 7);
        assert_eq!((recent.get(&0), recent.get(&1), recent.get(&REMEMBERED)), (None, Some(101), Some(7)));
    }
}
