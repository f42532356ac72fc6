//! Sections: the sums of keys, over all minutes or minute by minute.
//!
//! Of the first kind: for each key that has sums the distance from the key before, and the sums. Of the second kind: the same
//! distance, the length of its rows, and for each row the distance from the minute before, its length and the sums; so that what is
//! not asked for is passed over. Sums by operation are of the second kind, with the first key of each operation.

use std::ops::RangeInclusive;

use super::format::{FormatError, Reader};
use crate::varint;

/// Bytes at which a section of rows ends, with the key before: as few as are asked for together, and enough to be compressed.
const SECTION_BYTES: usize = 64 << 10;

/// Something that is summed by key.
pub trait Sum: Default {
    /// Appends the encoding.
    fn encode(&self, bytes: &mut Vec<u8>);

    /// Takes an encoding from the front, in place of what it is; none if there is no such.
    fn decode(&mut self, bytes: &mut &[u8]) -> Option<()>;

    /// Adds what was summed of something else.
    fn merge(&mut self, other: &Self);

    /// Adds another part of the same sum, which was summed apart.
    fn join(&mut self, other: &Self) {
        self.merge(other);
    }

    /// Whether it adds nothing to anything.
    fn is_zero(&self) -> bool;

    /// Zeroes it, and keeps its memory.
    fn clear(&mut self);
}

/// Sums of a key and a minute.
pub(crate) type Row<S> = ((u32, u64), S);

/// Rows in memory that is used again: their sums keep theirs.
#[derive(Debug, Default)]
pub(crate) struct RowBuffer<S> {
    memory: Vec<Row<S>>,
    count: usize,
}

impl<S: Sum> RowBuffer<S> {
    /// Adds a row, unless it is zero. `set` puts the sum in the place of whatever stands there.
    pub(crate) fn add(&mut self, place: (u32, u64), set: impl FnOnce(&mut S)) {
        if self.count == self.memory.len() {
            self.memory.push((place, S::default()));
        }
        let row = &mut self.memory[self.count];
        row.0 = place;
        set(&mut row.1);
        self.count += usize::from(!row.1.is_zero());
    }

    pub(crate) fn rows(&self) -> &[Row<S>] {
        &self.memory[..self.count]
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }
}

/// Writes the sums of keys, which ascend.
#[derive(Debug, Default)]
pub(crate) struct TotalWriter {
    bytes: Vec<u8>,
    before: u32,
}

impl TotalWriter {
    pub(crate) fn add(&mut self, key: u32, sum: &impl Sum) {
        varint::write(&mut self.bytes, (key - self.before).into());
        sum.encode(&mut self.bytes);
        self.before = key;
    }

    /// The section.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Gives `each` the keys of a section of totals and their sums. `scratch` is where they are read to.
///
/// # Errors
/// Bytes that no version 3 writes for so many keys.
pub fn read_totals<S: Sum>(section: &[u8], keys: usize, scratch: &mut S, mut each: impl FnMut(u32, &S)) -> Result<(), FormatError> {
    let (mut reader, mut before) = (Reader::new(section), 0);
    while !reader.bytes.is_empty() {
        before = next_key(&mut reader, before, keys)?;
        scratch.decode(&mut reader.bytes).ok_or(FormatError)?;
        each(before, scratch);
    }
    Ok(())
}

fn next_key(reader: &mut Reader<'_>, before: u32, keys: usize) -> Result<u32, FormatError> {
    let key = reader.small().and_then(|step| step.checked_add(before.into())).filter(|key| *key < keys as u64);
    key.map(|key| key as u32).ok_or(FormatError)
}

/// The rows of each key; all are sorted.
pub(crate) fn by_key<S>(rows: &[Row<S>]) -> impl Iterator<Item = &[Row<S>]> {
    rows.chunk_by(|a, b| a.0.0 == b.0.0)
}

/// Writes the rows of keys, which ascend, as sections.
#[derive(Debug, Default)]
pub(crate) struct RowWriter {
    /// The first key of each, and its bytes.
    sections: Vec<(u32, Vec<u8>)>,
    before: u32,
    of_key: Vec<u8>,
    of_row: Vec<u8>,
}

impl RowWriter {
    /// Adds the rows of one key.
    pub(crate) fn add<S: Sum>(&mut self, rows: &[Row<S>]) {
        let Some(((key, _), _)) = rows.first() else { return };
        let (of_key, of_row) = (&mut self.of_key, &mut self.of_row);
        of_key.clear();
        let mut minute_before = 0;
        for ((_, minute), sum) in rows {
            of_row.clear();
            sum.encode(of_row);
            varint::write(of_key, (minute - minute_before).into());
            varint::write(of_key, of_row.len() as u128);
            of_key.extend_from_slice(of_row);
            minute_before = *minute;
        }
        if self.sections.last().is_none_or(|(_, section)| section.len() + of_key.len() > SECTION_BYTES) {
            self.sections.push((*key, Vec::new()));
            self.before = 0;
        }
        let Some((_, section)) = self.sections.last_mut() else { return };
        varint::write(section, (key - self.before).into());
        varint::write(section, of_key.len() as u128);
        section.extend_from_slice(of_key);
        self.before = *key;
    }

    /// The first key of each section, and its bytes.
    pub(crate) fn finish(self) -> Vec<(u32, Vec<u8>)> {
        self.sections
    }
}

/// Of sections with these first keys, of which the first is number `begin`, the numbers of those that have a key that is wanted;
/// all of them if all are.
pub(crate) fn sections_of(begin: usize, firsts: &[u32], wanted: Option<&[bool]>) -> Vec<usize> {
    let ends = firsts.iter().skip(1).map(|first| *first as usize).chain([usize::MAX]);
    let has = |first: u32, end: usize| {
        wanted.is_none_or(|wanted| wanted.get(first as usize..end.min(wanted.len())).is_some_and(|keys| keys.contains(&true)))
    };
    let sections = firsts.iter().zip(ends).enumerate().filter(|(_, (first, end))| has(**first, *end));
    sections.map(|(number, _)| begin + number).collect()
}

/// Gives `each` the minutes, keys and sums of a section of rows, as far as they are of these minutes and the key is wanted.
///
/// # Errors
/// Bytes that no version 3 writes for so many keys, as far as they are looked at.
pub fn read_rows<S: Sum>(
    section: &[u8],
    keys: usize,
    (minutes, wanted): (&RangeInclusive<u64>, impl Fn(u32) -> bool),
    scratch: &mut S,
    mut each: impl FnMut(u64, u32, &S),
) -> Result<(), FormatError> {
    let (mut reader, mut key) = (Reader::new(section), 0);
    while !reader.bytes.is_empty() {
        key = next_key(&mut reader, key, keys)?;
        let length = reader.length()?;
        let rows = reader.slice(length)?;
        if wanted(key) {
            read_key(rows, minutes, scratch, |minute, sum| each(minute, key, sum))?;
        }
    }
    Ok(())
}

fn read_key<S: Sum>(
    rows: &[u8],
    minutes: &RangeInclusive<u64>,
    scratch: &mut S,
    mut each: impl FnMut(u64, &S),
) -> Result<(), FormatError> {
    let (mut reader, mut minute) = (Reader::new(rows), 0u64);
    while !reader.bytes.is_empty() {
        minute = reader.small().and_then(|step| minute.checked_add(step)).ok_or(FormatError)?;
        let length = reader.length()?;
        let row = reader.slice(length)?;
        if minute > *minutes.end() {
            break;
        }
        if minute >= *minutes.start() {
            scratch.decode(&mut &*row).ok_or(FormatError)?;
            each(minute, scratch);
        }
    }
    Ok(())
}
