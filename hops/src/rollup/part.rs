//! A rollup as it is kept: keys, and for each part its sums, encoded until they are asked for.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use super::format::{FormatError, Reader};
use super::keys::{Keys, RollupKey};
use super::measures::Measures;
use crate::varint;

/// The first byte of either half of an encoding.
const VERSION: u8 = 1;

/// The hops of a file, or of several, summed.
#[derive(Clone, Debug)]
pub struct Rollup {
    serial: u64,
    pub(crate) keys: Keys,
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
    pub(crate) totals: Vec<u8>,
    pub(crate) minutes: Vec<u8>,
}

/// Sums of some time.
#[derive(Clone, Copy, Debug)]
pub struct Block<'b> {
    keys: usize,
    bytes: &'b [u8],
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
        self.unnamed += sign * other.unnamed;
        self.spans += sign * other.spans;
    }
}

impl<'b> Block<'b> {
    /// Gives `each` the number of each key and its sums, by number. `scratch` is where they are read to.
    ///
    /// # Errors
    /// Bytes that no version 1 writes.
    pub fn read(self, scratch: &mut Measures, mut each: impl FnMut(u32, &Measures)) -> Result<LeftOut, FormatError> {
        let mut reader = Reader::new(self.bytes);
        let mut number = || reader.signed().ok_or(FormatError);
        let left_out = LeftOut { unnamed: number()?, spans: number()? };
        let mut key = 0;
        for _ in 0..reader.length()? {
            key += reader.small().ok_or(FormatError)?;
            if key >= self.keys as u64 {
                return Err(FormatError);
            }
            scratch.decode(&mut reader).ok_or(FormatError)?;
            each(key as u32, scratch);
        }
        Ok(left_out)
    }
}

pub(crate) fn write_block<'m>(bytes: &mut Vec<u8>, left_out: LeftOut, rows: impl ExactSizeIterator<Item = (u32, &'m Measures)>) {
    for number in [left_out.unnamed, left_out.spans] {
        varint::write(bytes, varint::zigzag(number.into()));
    }
    varint::write(bytes, rows.len() as u128);
    let mut before = 0;
    for (key, measures) in rows {
        varint::write(bytes, (key - before).into());
        measures.encode(bytes);
        before = key;
    }
}

impl Rollup {
    pub(crate) fn new(keys: Keys, parts: Vec<Part>) -> Rollup {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        Rollup { serial: SERIAL.fetch_add(1, Ordering::Relaxed), keys, parts }
    }

    /// A number that no other rollup of this process has, but copies of this one.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// How many keys it has.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// A key, by its number below [`Rollup::keys`].
    pub fn key(&self, number: u32) -> RollupKey<'_> {
        self.keys.key(number)
    }

    /// The sums over all minutes of a part.
    pub fn total<'b>(&self, part: &'b Part) -> Block<'b> {
        Block { keys: self.keys(), bytes: &part.totals }
    }

    /// The sums of each of these minutes that a part says anything about, ascending; none of a rollup without minutes.
    ///
    /// # Errors
    /// Bytes that no version 1 writes.
    pub fn minutes<'b>(
        &self,
        part: &'b Part,
        minutes: RangeInclusive<u64>,
    ) -> impl Iterator<Item = Result<(u64, Block<'b>), FormatError>> + use<'b> {
        let (keys, mut reader, mut minute) = (self.keys(), Reader::new(&part.minutes), 0u64);
        let next = move || -> Option<Result<(u64, Block<'b>), FormatError>> {
            if reader.bytes.is_empty() {
                return None;
            }
            let mut block = || {
                minute = reader.small().and_then(|step| minute.checked_add(step)).ok_or(FormatError)?;
                let length = reader.length()?;
                Ok((minute, Block { keys, bytes: reader.slice(length)? }))
            };
            let block = block();
            if block.is_err() {
                reader.bytes = &[];
            }
            Some(block)
        };
        let (first, last) = minutes.into_inner();
        let blocks = std::iter::from_fn(next).take_while(move |block| !matches!(block, Ok((minute, _)) if *minute > last));
        blocks.skip_while(move |block| matches!(block, Ok((minute, _)) if *minute < first))
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let of_part = |part: &Part| {
            let before: usize = part.before.iter().map(|file| file.len()).sum();
            size_of::<Part>() + before + part.traces.len() * 16 + part.totals.len() + part.minutes.len()
        };
        self.keys.bytes() + self.parts.iter().map(of_part).sum::<usize>()
    }

    /// The encoding: what is asked for most, and apart from it the minutes.
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut head, mut minutes) = (vec![VERSION], vec![VERSION]);
        self.keys.encode(&mut head);
        varint::write(&mut head, self.parts.len() as u128);
        for part in &self.parts {
            varint::write(&mut head, part.before.len() as u128);
            for file in &part.before {
                varint::write(&mut head, file.len() as u128);
                head.extend_from_slice(file.as_bytes());
            }
            varint::write(&mut head, part.traces.len() as u128);
            head.extend(part.traces.iter().flatten());
            varint::write(&mut head, part.first.into());
            varint::write(&mut head, part.last.into());
            for (bytes, section) in [(&mut head, &part.totals), (&mut minutes, &part.minutes)] {
                varint::write(bytes, section.len() as u128);
                bytes.extend_from_slice(section);
            }
        }
        (head, minutes)
    }

    /// Reads an encoding back, without the minutes.
    ///
    /// # Errors
    /// Bytes that no version 1 writes, as far as they are looked at.
    pub fn decode(head: &[u8]) -> Result<Rollup, FormatError> {
        let mut reader = Reader::new(head);
        if reader.byte() != Some(VERSION) {
            return Err(FormatError);
        }
        let keys = Keys::decode(&mut reader)?;
        let mut parts = Vec::new();
        for _ in 0..reader.length()? {
            let mut part = Part::default();
            for _ in 0..reader.length()? {
                part.before.push(reader.text()?.into());
            }
            for _ in 0..reader.length()? {
                part.traces.push(reader.id().ok_or(FormatError)?);
            }
            part.first = reader.small().ok_or(FormatError)?;
            part.last = reader.small().ok_or(FormatError)?;
            let length = reader.length()?;
            part.totals = reader.slice(length)?.to_vec();
            parts.push(part);
        }
        if reader.bytes.is_empty() { Ok(Rollup::new(keys, parts)) } else { Err(FormatError) }
    }

    /// Reads its minutes.
    ///
    /// # Errors
    /// Bytes that no version 1 writes for a rollup with as many parts.
    pub fn decode_minutes(&mut self, minutes: &[u8]) -> Result<(), FormatError> {
        let mut reader = Reader::new(minutes);
        if reader.byte() != Some(VERSION) {
            return Err(FormatError);
        }
        for part in &mut self.parts {
            let length = reader.length()?;
            part.minutes = reader.slice(length)?.to_vec();
        }
        if reader.bytes.is_empty() { Ok(()) } else { Err(FormatError) }
    }
}
