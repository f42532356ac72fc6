//! What a request may become in memory (P6).
//!
//! An empty link takes 2 bytes of a request and some 30 in columns, compressed a thousandth of that, and the attributes of a
//! resource stand in each of its rows. So whatever a request makes takes room, counted as bytes of columns, and the room is
//! bounded by the request's size: honest requests, whose spans have a hundred bytes and more, need less than four times theirs.

use crate::wire::WireError;

/// What a span takes in columns, whatever it holds: ids, times and keys of dictionaries.
pub(crate) const SPAN_BYTES: usize = 256;
/// What an event, a link, an attribute or a nested value takes, whatever it holds: offsets, and a number of each type.
pub(crate) const ITEM_BYTES: usize = 32;

/// Multiple of a request's bytes that it may take, as far as that is no more than [`MAX`]: many spans of a large resource.
const EXPANSION: usize = 64;
/// Room that every request has.
const MIN: usize = 1 << 20;
const MAX: usize = 256 << 20;
/// Multiple of a request's bytes that it may take, however many they are.
const EXPANSION_LARGE: usize = 4;
/// Multiple of the bytes that were received: a large request that shrinks to a sixtieth may take four times its own bytes.
const EXPANSION_RECEIVED: usize = 256;
/// Room that every request has, however well it was compressed.
const RECEIVED_MIN: usize = 2 << 20;

/// The bytes of columns that a request may still make.
#[derive(Debug)]
pub(crate) struct Room(usize);

impl Room {
    /// The room of a request of `received` bytes, which are `bytes` of protobuf.
    pub(crate) fn of_request(received: usize, bytes: usize) -> Room {
        let small = bytes.saturating_mul(EXPANSION).clamp(MIN, MAX);
        let room = small.max(bytes.saturating_mul(EXPANSION_LARGE));
        Room(room.min(received.saturating_mul(EXPANSION_RECEIVED).max(RECEIVED_MIN)))
    }

    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), WireError> {
        self.0 = self.0.checked_sub(bytes).ok_or(WireError::Room)?;
        Ok(())
    }
}
