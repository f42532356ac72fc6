//! The protobuf wire format, read in place.
//!
//! A [`Fields`] walks over the fields of one message without copying or allocating; the caller matches on field numbers. It
//! accepts what `prost` accepts: unknown fields are passed over, deprecated groups too.

use thiserror::Error;

/// Nesting of groups; as in prost.
const DEPTH_MAX: u32 = 100;

/// Why bytes are no message. Names what was wrong; costs nothing to make.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum WireError {
    #[error("the message ends in the middle of a field")]
    Truncated,
    #[error("a variable-length integer has more than 10 bytes or more than 64 bits")]
    Varint,
    #[error("field number 0 or wire type 6 or 7, which do not exist")]
    Tag,
    #[error("field {0} has the wrong wire type")]
    Type(u32),
    #[error("a group does not end")]
    Group,
    #[error("groups are nested deeper than {DEPTH_MAX}")]
    Depth,
    #[error("values are nested too deep in an attribute")]
    Nesting,
    /// The one that is no matter of the format: see [`crate::room`].
    #[error(
        "it would become too large: its spans, events, links, attributes and nested values, or attributes of resources and \
         scopes, which are repeated for each span, take far more than its own bytes"
    )]
    Room,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Group,
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(self, number: u32) -> Result<&'a [u8], WireError> {
        if let Field::Bytes(bytes) = self { Ok(bytes) } else { Err(WireError::Type(number)) }
    }

    pub(crate) fn varint(self, number: u32) -> Result<u64, WireError> {
        if let Field::Varint(value) = self { Ok(value) } else { Err(WireError::Type(number)) }
    }

    pub(crate) fn fixed64(self, number: u32) -> Result<u64, WireError> {
        if let Field::Fixed64(value) = self { Ok(value) } else { Err(WireError::Type(number)) }
    }

    pub(crate) fn fixed32(self, number: u32) -> Result<u32, WireError> {
        if let Field::Fixed32(value) = self { Ok(value) } else { Err(WireError::Type(number)) }
    }
}

/// The fields of a message, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes between here and `later`, which came from here.
    pub(crate) fn until(&self, later: &Fields<'a>) -> &'a [u8] {
        &self.rest[..self.rest.len() - later.rest.len()]
    }

    /// The next field's number and value; none at the end.
    // Each caller takes a few of the cases: a call would make all of them, and the value, for each field.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let field = match wire_type {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Field::Bytes(self.take(length)?)
            }
            3 => {
                self.skip_group(number, DEPTH_MAX)?;
                Field::Group
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            4 => return Err(WireError::Group),
            _ => return Err(WireError::Tag),
        };
        Ok(Some((number, field)))
    }

    #[inline]
    fn tag(&mut self) -> Result<(u32, u8), WireError> {
        let tag = u32::try_from(self.varint()?).map_err(|_| WireError::Tag)?;
        if tag < 8 { Err(WireError::Tag) } else { Ok((tag >> 3, (tag & 7) as u8)) }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            if index == 9 && byte > 1 {
                return Err(WireError::Varint);
            }
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::Varint })
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn skip_group(&mut self, number: u32, depth: u32) -> Result<(), WireError> {
        let depth = depth.checked_sub(1).ok_or(WireError::Depth)?;
        loop {
            if self.rest.is_empty() {
                return Err(WireError::Group);
            }
            let (inner, wire_type) = self.tag()?;
            match wire_type {
                0 => drop(self.varint()?),
                1 => drop(self.array::<8>()?),
                2 => {
                    let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                    self.take(length)?;
                }
                3 => self.skip_group(inner, depth)?,
                4 if inner == number => return Ok(()),
                4 => return Err(WireError::Group),
                5 => drop(self.array::<4>()?),
                _ => return Err(WireError::Tag),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Scenario: fields of every wire type, the longest varint among them. Guarantee: each is read with its number.
    #[test]
    fn every_wire_type() {
        let mut message = vec![0x08];
        message.extend([0xFF; 9].iter().chain(&[0x01]));
        message.extend([0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1A, 2, b'h', b'i', 0x25, 7, 0, 0, 0]);
        message.extend([0x2B, 0x08, 0x01, 0x2C]);
        let mut fields = Fields::new(&message);
        assert_eq!(fields.next(), Ok(Some((1, Field::Varint(u64::MAX)))));
        assert_eq!(fields.next(), Ok(Some((2, Field::Fixed64(1)))));
        assert_eq!(fields.next(), Ok(Some((3, Field::Bytes(b"hi")))));
        assert_eq!(fields.next(), Ok(Some((4, Field::Fixed32(7)))));
        assert_eq!(fields.next(), Ok(Some((5, Field::Group))));
        assert_eq!(fields.next(), Ok(None));
    }

    proptest! {
        /// Scenario: arbitrary bytes. Guarantee: reading them ends, without a panic.
        #[test]
        fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut fields = Fields::new(&bytes);
            let mut count = 0;
            while let Ok(Some(_)) = fields.next() {
                count += 1;
            }
            prop_assert!(count <= bytes.len());
        }
    }
}
