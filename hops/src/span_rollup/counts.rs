//! How many spans there were of each key in each minute.

use std::ops::RangeInclusive;

use crate::rollup::FormatError;
use crate::rollup::format::Reader;
use crate::varint;

/// Bytes at which a section ends, with the key before.
const SECTION_BYTES: usize = 64 << 10;

/// Writes the counts of keys, which ascend, as sections.
#[derive(Debug, Default)]
pub(super) struct CountWriter {
    sections: Vec<(u32, Vec<u8>)>,
    before: u32,
}

impl CountWriter {
    /// Adds how many there are of one key in each minute.
    pub(super) fn add(&mut self, key: u32, counts: impl ExactSizeIterator<Item = (u64, u64)>) {
        if self.sections.last().is_none_or(|(_, section)| section.len() > SECTION_BYTES) {
            self.sections.push((key, Vec::new()));
            self.before = 0;
        }
        let Some((_, section)) = self.sections.last_mut() else { return };
        varint::write(section, (key - self.before).into());
        varint::write(section, counts.len() as u128);
        let mut minute_before = 0;
        for (minute, count) in counts {
            varint::write(section, (minute - minute_before).into());
            varint::write(section, count.into());
            minute_before = minute;
        }
        self.before = key;
    }

    /// The first key of each section, and its bytes.
    pub(super) fn finish(self) -> Vec<(u32, Vec<u8>)> {
        self.sections
    }
}

/// Gives `each` the minutes, keys and counts of a section, as far as they are of these minutes and the key is wanted.
///
/// # Errors
/// Bytes that no version 1 writes for so many keys.
pub fn read_counts(
    section: &[u8],
    keys: usize,
    minutes: &RangeInclusive<u64>,
    wanted: impl Fn(u32) -> bool,
    mut each: impl FnMut(u64, u32, u64),
) -> Result<(), FormatError> {
    let (mut reader, mut key) = (Reader::new(section), 0u64);
    while !reader.bytes.is_empty() {
        let step = reader.small().ok_or(FormatError)?;
        key = key.checked_add(step).filter(|key| *key < keys as u64).ok_or(FormatError)?;
        let is_wanted = wanted(key as u32);
        let mut minute = 0u64;
        for _ in 0..reader.length()? {
            let (step, count) = (reader.small().ok_or(FormatError)?, reader.small().ok_or(FormatError)?);
            minute = minute.checked_add(step).ok_or(FormatError)?;
            if is_wanted && minutes.contains(&minute) {
                each(minute, key as u32, count);
            }
        }
    }
    Ok(())
}
