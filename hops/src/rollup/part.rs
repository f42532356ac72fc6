//! What is known of a rollup without its keys and sums.

use std::ops::RangeInclusive;

use super::format::{FormatError, Reader};
use super::rows::sections_of;
use crate::varint;

/// The first byte.
const VERSION: u8 = 3;
/// The sections before those of the first part: the outline itself, and the keys.
pub(crate) const SECTIONS_BEFORE: usize = 2;
/// The kinds of sections with rows.
pub(super) const KINDS: usize = 3;
/// For which grains each is read, in their order. An operation whose sums would be about as many rows as those of its keys has none, and these are
/// read for both.
const READ_FOR: [&[Grain]; KINDS] = [&[Grain::Keys, Grain::Operations], &[Grain::Keys], &[Grain::Operations]];

/// What a row is of, besides its minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// A key, with all that is summed.
    Keys,
    /// A callee and an operation, which a key with these stands for. Counts and latencies alone are summed: weights and exemplars are of keys.
    Operations,
}

/// The parts of a rollup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The first is of the file's own spans; the others are corrections.
    pub parts: Vec<Part>,
}

/// Sums that hold as long as certain files are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Those files, sorted: of the traces below, no file before this one has spans but these. None for the file's own spans.
    pub before: Vec<Box<str>>,
    /// The traces that it corrects, sorted.
    pub traces: Vec<[u8; 16]>,
    /// The first minute that it says anything about, or may say about if its files before are others; see [`super::minute`].
    pub first: u64,
    /// The last.
    pub last: u64,
    /// What H left out, by minute.
    pub left_out: Vec<(u64, LeftOut)>,
    /// The section that has the sums over all minutes.
    pub totals: usize,
    /// The sections that have those of each minute, and follow it: of each kind the first key of each.
    pub(super) rows: [Vec<u32>; KINDS],
}

/// Of some traces, what H made no hops of; see [`crate::Summary`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Calls that name nobody.
    pub unnamed: i64,
    /// Spans past the limit.
    pub spans: i64,
}

impl LeftOut {
    /// Adds what was left out of others, or takes it out if `sign` is -1.
    pub fn add(&mut self, other: LeftOut, sign: i64) {
        self.unnamed = self.unnamed.wrapping_add(sign * other.unnamed);
        self.spans = self.spans.wrapping_add(sign * other.spans);
    }
}

impl Part {
    /// What H left out in some minutes.
    pub fn left_out(&self, minutes: &RangeInclusive<u64>) -> LeftOut {
        let mut sum = LeftOut::default();
        let within = self.left_out.iter().filter(|(minute, _)| minutes.contains(minute));
        within.for_each(|(_, left_out)| sum.add(*left_out, 1));
        sum
    }

    /// The sections that have rows of the keys that are `wanted`, by number; all of them if all are. Where rows are of operations, all keys of an
    /// operation are wanted, or none.
    pub fn rows_of(&self, grain: Grain, wanted: Option<&[bool]>) -> Vec<usize> {
        let (mut begin, mut sections) = (self.totals + 1, Vec::new());
        for (firsts, grains) in self.rows.iter().zip(READ_FOR) {
            if grains.contains(&grain) {
                sections.extend(sections_of(begin, firsts, wanted));
            }
            begin += firsts.len();
        }
        sections
    }

    /// How many sections it has.
    fn sections(&self) -> usize {
        1 + self.rows.iter().map(Vec::len).sum::<usize>()
    }

    fn bytes(&self) -> usize {
        let before: usize = self.before.iter().map(|file| file.len() + size_of::<Box<str>>()).sum();
        let rows = self.sections() * size_of::<u32>() + self.left_out.len() * size_of::<(u64, LeftOut)>();
        size_of::<Part>() + before + self.traces.len() * 16 + rows
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let write = |bytes: &mut Vec<u8>, number: u64| varint::write(bytes, number.into());
        write(bytes, self.before.len() as u64);
        for file in &self.before {
            write(bytes, file.len() as u64);
            bytes.extend_from_slice(file.as_bytes());
        }
        write(bytes, self.traces.len() as u64);
        bytes.extend(self.traces.iter().flatten());
        write(bytes, self.first);
        write(bytes, self.last);
        write(bytes, self.left_out.len() as u64);
        for (minute, LeftOut { unnamed, spans }) in &self.left_out {
            write(bytes, *minute);
            [unnamed, spans].into_iter().for_each(|number| varint::write(bytes, varint::zigzag((*number).into())));
        }
        for firsts in &self.rows {
            write(bytes, firsts.len() as u64);
            firsts.iter().for_each(|first| write(bytes, (*first).into()));
        }
    }

    fn decode(reader: &mut Reader<'_>, totals: usize) -> Result<Part, FormatError> {
        let mut part = Part { totals, ..Part::default() };
        for _ in 0..reader.length()? {
            part.before.push(reader.text()?.into());
        }
        for _ in 0..reader.length()? {
            part.traces.push(reader.id().ok_or(FormatError)?);
        }
        part.first = reader.small().ok_or(FormatError)?;
        part.last = reader.small().ok_or(FormatError)?;
        for _ in 0..reader.length()? {
            let minute = reader.small().ok_or(FormatError)?;
            let mut number = || reader.signed().ok_or(FormatError);
            part.left_out.push((minute, LeftOut { unnamed: number()?, spans: number()? }));
        }
        for firsts in &mut part.rows {
            for _ in 0..reader.length()? {
                firsts.push(reader.small().and_then(|first| u32::try_from(first).ok()).ok_or(FormatError)?);
            }
            if !firsts.is_sorted_by(|a, b| a < b) {
                return Err(FormatError);
            }
        }
        Ok(part)
    }
}

impl Outline {
    /// How many sections there are, with those before the first part.
    pub fn sections(&self) -> usize {
        SECTIONS_BEFORE + self.parts.iter().map(Part::sections).sum::<usize>()
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        varint::write(&mut bytes, self.parts.len() as u128);
        self.parts.iter().for_each(|part| part.encode(&mut bytes));
        bytes
    }

    /// Reads the first section of a rollup.
    ///
    /// # Errors
    /// Bytes that no version 3 writes, as far as they are looked at.
    pub fn decode(section: &[u8]) -> Result<Outline, FormatError> {
        let mut reader = Reader::new(section);
        if reader.byte() != Some(VERSION) {
            return Err(FormatError);
        }
        let (mut outline, mut totals) = (Outline::default(), SECTIONS_BEFORE);
        for _ in 0..reader.length()? {
            let part = Part::decode(&mut reader, totals)?;
            totals += part.sections();
            outline.parts.push(part);
        }
        if reader.bytes.is_empty() { Ok(outline) } else { Err(FormatError) }
    }
}
