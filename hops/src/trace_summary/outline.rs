//! What is known of the summaries of a file without their blocks.

use super::block::{Told, find};
use crate::rollup::FormatError;
use crate::rollup::format::Reader;
use crate::varint;

/// The first byte.
const VERSION: u8 = 1;

/// The texts of a file's summaries, and where its traces are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceOutline {
    pub(super) texts: Vec<Box<str>>,
    /// The first trace of each block, ascending.
    pub(super) firsts: Vec<[u8; 16]>,
}

impl TraceOutline {
    /// The section of the block that tells of a trace, counted from that of the outline; none if the file does not have it.
    pub fn section(&self, id: &[u8; 16]) -> Option<usize> {
        let behind = self.firsts.partition_point(|first| first <= id);
        (behind > 0).then_some(behind)
    }

    /// What a block says of a trace, which is that of [`TraceOutline::section`].
    ///
    /// # Errors
    /// Bytes that no version 1 writes.
    pub fn find(&self, block: &[u8], id: &[u8; 16]) -> Result<Told<'_>, FormatError> {
        let text = |number: u64| usize::try_from(number).ok().and_then(|number| self.texts.get(number)).ok_or(FormatError);
        find(block, id, |number| text(number).map(|text| &**text))
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.len() + size_of::<Box<str>>()).sum::<usize>() + self.firsts.len() * 16
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        varint::write(&mut bytes, self.texts.len() as u128);
        for text in &self.texts {
            varint::write(&mut bytes, text.len() as u128);
            bytes.extend_from_slice(text.as_bytes());
        }
        varint::write(&mut bytes, self.firsts.len() as u128);
        self.firsts.iter().for_each(|first| bytes.extend_from_slice(first));
        bytes
    }

    /// Reads the section of the outline.
    ///
    /// # Errors
    /// Bytes that no version 1 writes.
    pub fn decode(section: &[u8]) -> Result<TraceOutline, FormatError> {
        let (mut reader, mut outline) = (Reader::new(section), TraceOutline::default());
        if reader.byte() != Some(VERSION) {
            return Err(FormatError);
        }
        for _ in 0..reader.length()? {
            outline.texts.push(reader.text()?.into());
        }
        for _ in 0..reader.length()? {
            outline.firsts.push(reader.id().ok_or(FormatError)?);
        }
        let whole = reader.bytes.is_empty() && outline.firsts.is_sorted_by(|a, b| a < b);
        if whole { Ok(outline) } else { Err(FormatError) }
    }
}
