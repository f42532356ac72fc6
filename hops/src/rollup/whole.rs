//! A rollup with all that is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::keys::Keys;
use super::part::{Outline, SECTIONS_BEFORE};

/// The hops of a file, or of several, summed.
#[derive(Clone, Debug)]
pub struct Rollup {
    serial: u64,
    /// Its parts.
    pub outline: Outline,
    /// What it has sums of.
    pub keys: Arc<Keys>,
    sections: Vec<Arc<Vec<u8>>>,
}

impl Rollup {
    pub(crate) fn new(outline: Outline, keys: Keys, sections: Vec<Vec<u8>>) -> Rollup {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let sections = sections.into_iter().map(Arc::new).collect();
        Rollup { serial: SERIAL.fetch_add(1, Ordering::Relaxed), outline, keys: Arc::new(keys), sections }
    }

    /// A number that no other rollup of this process has, but copies of this one.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// A section with sums, by its number in a [`super::Part`].
    pub fn section(&self, number: usize) -> Option<&Arc<Vec<u8>>> {
        self.sections.get(number.checked_sub(SECTIONS_BEFORE)?)
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.outline.bytes() + self.keys.bytes() + self.sections.iter().map(|section| section.len()).sum::<usize>()
    }

    /// Its sections, each to be kept so that it can be read alone: the [`Outline`], the [`Keys`], and those with sums.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        self.keys.encode(&mut keys);
        let sums = self.sections.iter().map(|section| section.to_vec());
        [self.outline.encode(), keys].into_iter().chain(sums).collect()
    }
}
