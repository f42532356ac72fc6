//! Reading encodings back.

use crate::varint;

/// Bytes that are no rollup of a version that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatError;

impl std::fmt::Display for FormatError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("the bytes are no rollup of a known version")
    }
}

impl std::error::Error for FormatError {}

/// Takes from the front of bytes.
pub(crate) struct Reader<'b> {
    pub(crate) bytes: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader { bytes }
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    /// A number of at most 64 bits.
    pub(crate) fn small(&mut self) -> Option<u64> {
        varint::read_small(&mut self.bytes)
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let value = self.small()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn large(&mut self) -> Option<u128> {
        varint::read(&mut self.bytes)
    }

    pub(crate) fn id(&mut self) -> Option<[u8; 16]> {
        let (id, rest) = self.bytes.split_first_chunk::<16>()?;
        self.bytes = rest;
        Some(*id)
    }

    pub(crate) fn slice(&mut self, length: u64) -> Result<&'b [u8], FormatError> {
        let (slice, rest) =
            usize::try_from(length).ok().and_then(|length| self.bytes.split_at_checked(length)).ok_or(FormatError)?;
        self.bytes = rest;
        Ok(slice)
    }

    /// How many elements follow, of which each takes a byte at least: so no length makes the reader reserve more than there is.
    pub(crate) fn length(&mut self) -> Result<u64, FormatError> {
        let length = self.small().ok_or(FormatError)?;
        if length > self.bytes.len() as u64 { Err(FormatError) } else { Ok(length) }
    }

    pub(crate) fn text(&mut self) -> Result<&'b str, FormatError> {
        let length = self.length()?;
        std::str::from_utf8(self.slice(length)?).map_err(|_| FormatError)
    }

    /// Numbers below `end`.
    pub(crate) fn numbers<const N: usize>(&mut self, end: usize) -> Result<[u32; N], FormatError> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            let read = self.small().filter(|read| *read < end as u64).ok_or(FormatError)?;
            *number = read as u32;
        }
        Ok(numbers)
    }
}
