//! Requests that were received before (P2: a byte-identical retry never counts twice).
//!
//! Remembered for `ingest.dedupe_window`, and at most `ingest.dedupe_max_requests` of them, in groups: one a journal segment,
//! forgotten oldest first.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use hashbrown::HashSet;

use crate::frame::RequestHash;
use crate::journal::Seen;

/// The hashes are uniform already.
#[derive(Debug, Default)]
pub(crate) struct Uniform(u64);

impl Hasher for Uniform {
    fn write(&mut self, bytes: &[u8]) {
        let (low, _) = bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        self.0 = u64::from_le_bytes(*low);
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The requests that are remembered.
#[derive(Debug)]
pub(crate) struct Dedupe {
    all: HashSet<RequestHash, BuildHasherDefault<Uniform>>,
    groups: VecDeque<(u64, Seen)>,
    window: i64,
    limit: usize,
}

impl Dedupe {
    pub(crate) fn new(window: Duration, limit: usize) -> Dedupe {
        Dedupe { all: HashSet::default(), groups: VecDeque::new(), window: window.as_micros() as i64, limit }
    }

    /// Remembers a request of the segment `number`; segments come in order. False if it is remembered already.
    pub(crate) fn insert(&mut self, number: u64, received: i64, hash: RequestHash) -> bool {
        let fresh = self.all.insert(hash);
        if fresh {
            match self.groups.back_mut() {
                Some((last, seen)) if *last == number => {
                    seen.newest = seen.newest.max(received);
                    seen.hashes.push(hash);
                }
                _ => self.groups.push_back((number, Seen { newest: received, hashes: vec![hash] })),
            }
        }
        fresh
    }

    /// Forgets the `count` requests that were remembered last, all of one segment: they could not be stored.
    pub(crate) fn take_back(&mut self, count: usize) {
        if let Some((_, seen)) = self.groups.back_mut() {
            let kept = seen.hashes.len().saturating_sub(count);
            for hash in seen.hashes.drain(kept..) {
                self.all.remove(&hash);
            }
        }
    }

    /// Forgets whole segments that are too old or too many, and returns their numbers.
    pub(crate) fn expire(&mut self, now: i64) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some((number, seen)) = self.groups.front() {
            let last = self.groups.len() == 1;
            let stale = seen.newest < now - self.window || (self.all.len() > self.limit && !last);
            if !stale {
                break;
            }
            expired.push(*number);
            if let Some((_, seen)) = self.groups.pop_front() {
                for hash in &seen.hashes {
                    self.all.remove(hash);
                }
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: requests of three segments, then time passes. Guarantee: what is young enough is known, the rest is not.
    #[test]
    fn forgets_by_age() {
        let mut dedupe = Dedupe::new(Duration::from_micros(10), 100);
        (1..=3).for_each(|number| assert!(dedupe.insert(number, number as i64 * 10, u128::from(number))));
        assert_eq!(dedupe.expire(35), [1, 2]);
        assert!(dedupe.insert(4, 35, 1) && dedupe.insert(4, 35, 2) && !dedupe.insert(4, 35, 3));
    }

    /// Scenario: more requests than may be remembered. Guarantee: the oldest segments go, the newest stays whatever its size.
    #[test]
    fn forgets_by_number() {
        let mut dedupe = Dedupe::new(Duration::from_secs(10), 2);
        [(1, 1u128), (2, 2), (2, 3), (2, 4)].into_iter().for_each(|(number, hash)| assert!(dedupe.insert(number, 0, hash)));
        assert_eq!(dedupe.expire(0), [1]);
        assert!(dedupe.insert(3, 0, 1) && !dedupe.insert(3, 0, 4) && !dedupe.insert(3, 0, 2));
    }

    /// Scenario: a group of requests could not be written. Guarantee: their retry is not taken for a duplicate.
    #[test]
    fn takes_back() {
        let mut dedupe = Dedupe::new(Duration::from_secs(10), 10);
        assert!(dedupe.insert(1, 0, 1) && dedupe.insert(1, 0, 2) && dedupe.insert(1, 0, 3));
        dedupe.take_back(2);
        assert!(!dedupe.insert(1, 0, 1) && dedupe.insert(1, 0, 2) && dedupe.insert(1, 0, 3));
    }
}
