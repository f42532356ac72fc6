//! What is known of a rollup of spans without its keys and sums.

use crate::rollup::FormatError;
use crate::rollup::format::Reader;
use crate::rollup::rows::sections_of;
use crate::varint;

/// The first byte.
const VERSION: u8 = 1;
/// The sections before those with sums: the outline itself, and the keys.
pub(super) const SECTIONS_BEFORE: usize = 2;

/// The minutes of a rollup, and its sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanOutline {
    /// The first minute that a span starts in; see [`crate::rollup::minute`].
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The sections that have counts: the first key of each. They begin after the keys.
    pub(super) counts: Vec<u32>,
    /// The sections that have durations, alike. They begin after those.
    pub(super) durations: Vec<u32>,
}

impl SpanOutline {
    /// The sections that have counts of keys that are `wanted`, by number; all of them if all are.
    pub fn counts_of(&self, wanted: Option<&[bool]>) -> Vec<usize> {
        sections_of(SECTIONS_BEFORE, &self.counts, wanted)
    }

    /// The sections that have their durations, alike.
    pub fn durations_of(&self, wanted: Option<&[bool]>) -> Vec<usize> {
        sections_of(SECTIONS_BEFORE + self.counts.len(), &self.durations, wanted)
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        size_of::<SpanOutline>() + (self.counts.len() + self.durations.len()) * 4
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        [self.first, self.last].into_iter().for_each(|minute| varint::write(&mut bytes, minute.into()));
        for firsts in [&self.counts, &self.durations] {
            varint::write(&mut bytes, firsts.len() as u128);
            firsts.iter().for_each(|first| varint::write(&mut bytes, (*first).into()));
        }
        bytes
    }

    /// Reads the first section of a rollup.
    ///
    /// # Errors
    /// Bytes that no version 1 writes.
    pub fn decode(section: &[u8]) -> Result<SpanOutline, FormatError> {
        let mut reader = Reader::new(section);
        if reader.byte() != Some(VERSION) {
            return Err(FormatError);
        }
        let mut minute = || reader.small().ok_or(FormatError);
        let mut outline = SpanOutline { first: minute()?, last: minute()?, ..SpanOutline::default() };
        for firsts in [&mut outline.counts, &mut outline.durations] {
            for _ in 0..reader.length()? {
                firsts.push(reader.small().and_then(|first| u32::try_from(first).ok()).ok_or(FormatError)?);
            }
            if !firsts.is_sorted_by(|a, b| a < b) {
                return Err(FormatError);
            }
        }
        if reader.bytes.is_empty() { Ok(outline) } else { Err(FormatError) }
    }
}
