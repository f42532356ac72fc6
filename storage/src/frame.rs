//! The unit of the journal: one received request.
//!
//! # Format
//! A segment is a header, and groups of frames: what was written with one fsync. The header and each group begin at a multiple of
//! 4,096 bytes, and zeros follow them up to the next one. In a segment of version 1 nothing is between header and frames. All numbers are
//! little-endian.
//!
//! ```text
//! segment header, 24 bytes
//!   0  magic     8  "MESHJRNL"
//!   8  version   4  2
//!  12  reserved  4  0
//!  16  seed      8  of every hash in the segment
//!
//! frame header, 44 bytes
//!   0  body      4  length of the body in bytes
//!   4  tenant    1  length of the tenant in bytes
//!   5  content   1  0 protobuf, 1 JSON
//!   6  encoding  1  0 identity, 1 gzip, 2 zstd
//!   7  reserved  1  0
//!   8  received  8  microseconds since the epoch
//!  16  hash     16  XXH3-128 of content, encoding, tenant, 0xFF, body
//!  32  reserved  8  0
//!  40  check     4  low half of XXH3-64 of the 40 bytes before
//! then the tenant, then the body
//! ```
//!
//! The hash is the checksum of the frame and the identity of the request: equal hashes are byte-identical requests of one
//! tenant.

use bytes::Bytes;
use meshlake_config::Tenant;
use thiserror::Error;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// What a request's bytes are, once decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// OTLP protobuf.
    Protobuf,
    /// OTLP JSON.
    Json,
}

/// How a request's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// One received `ExportTraceServiceRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who sent it.
    pub tenant: Tenant,
    /// What the bytes are.
    pub content: Content,
    /// How they are compressed.
    pub encoding: Encoding,
    /// When they came: microseconds since the epoch.
    pub received: i64,
    /// As they came.
    pub body: Bytes,
}

/// The identity of a request: see the format above.
pub(crate) type RequestHash = u128;

pub(crate) const SEGMENT_HEADER: usize = 24;
pub(crate) const FRAME_HEADER: usize = 44;
/// What header and groups begin at a multiple of.
pub(crate) const BLOCK: usize = 4_096;
const MAGIC: &[u8; 8] = b"MESHJRNL";
const VERSION: u32 = 2;

/// Why bytes are no journal.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    #[error("no journal segment: it does not begin with MESHJRNL")]
    Magic,
    #[error("journal version {0}: this program reads versions 1 to {VERSION}")]
    Version(u32),
    #[error("incomplete or damaged frame")]
    Torn,
}

pub(crate) fn segment_header(seed: u64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..].copy_from_slice(&seed.to_le_bytes());
    header
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], FrameError> {
    let slice = bytes.get(at..at + N).ok_or(FrameError::Torn)?;
    slice.try_into().map_err(|_| FrameError::Torn)
}

/// The seed that a segment's header states.
pub(crate) fn parse_segment_header(bytes: &[u8]) -> Result<u64, FrameError> {
    if bytes.len() < SEGMENT_HEADER {
        return Err(FrameError::Torn);
    }
    if &bytes[..8] != MAGIC {
        return Err(FrameError::Magic);
    }
    match u32::from_le_bytes(array(bytes, 8)?) {
        1..=VERSION => Ok(u64::from_le_bytes(array(bytes, 16)?)),
        other => Err(FrameError::Version(other)),
    }
}

impl Frame {
    fn tags(&self) -> [u8; 2] {
        let content = match self.content {
            Content::Protobuf => 0,
            Content::Json => 1,
        };
        let encoding = match self.encoding {
            Encoding::Identity => 0,
            Encoding::Gzip => 1,
            Encoding::Zstd => 2,
        };
        [content, encoding]
    }

    /// The identity of this request in a journal with this seed.
    pub(crate) fn hash(&self, seed: u64) -> RequestHash {
        let mut hasher = Xxh3::with_seed(seed);
        hasher.update(&self.tags());
        hasher.update(self.tenant.as_str().as_bytes());
        hasher.update(&[0xFF]);
        hasher.update(&self.body);
        hasher.digest128()
    }

    /// Bytes that the frame takes in a segment.
    pub(crate) fn stored_len(&self) -> usize {
        FRAME_HEADER + self.tenant.as_str().len() + self.body.len()
    }

    /// The frame's header; the tenant and the body follow it.
    pub(crate) fn header(&self, hash: RequestHash, seed: u64) -> [u8; FRAME_HEADER] {
        let mut header = [0; FRAME_HEADER];
        header[..4].copy_from_slice(&(self.body.len() as u32).to_le_bytes());
        header[4] = self.tenant.as_str().len() as u8;
        header[5..7].copy_from_slice(&self.tags());
        header[8..16].copy_from_slice(&self.received.to_le_bytes());
        header[16..32].copy_from_slice(&hash.to_le_bytes());
        let check = xxh3_64_with_seed(&header[..40], seed) as u32;
        header[40..].copy_from_slice(&check.to_le_bytes());
        header
    }

    /// Bytes that follow a frame's header: tenant and body.
    ///
    /// # Errors
    /// [`FrameError::Torn`] if it is no header in a segment with this seed.
    pub(crate) fn rest_len(header: &[u8; FRAME_HEADER], seed: u64) -> Result<usize, FrameError> {
        if u32::from_le_bytes(array(header, 40)?) != xxh3_64_with_seed(&header[..40], seed) as u32 {
            return Err(FrameError::Torn);
        }
        Ok(u32::from_le_bytes(array(header, 0)?) as usize + usize::from(header[4]))
    }

    /// The frame at `at` in a segment with this seed, and its hash.
    ///
    /// # Errors
    /// [`FrameError::Torn`] if there is no whole, undamaged frame.
    pub(crate) fn parse(segment: &Bytes, at: usize, seed: u64) -> Result<(Frame, RequestHash), FrameError> {
        let header: [u8; FRAME_HEADER] = array(segment, at)?;
        let tenant_at = at + FRAME_HEADER;
        let body_at = tenant_at + usize::from(header[4]);
        let end = tenant_at + Frame::rest_len(&header, seed)?;
        let tenant = segment.get(tenant_at..body_at).ok_or(FrameError::Torn)?;
        if end > segment.len() {
            return Err(FrameError::Torn);
        }
        let frame = Frame {
            tenant: std::str::from_utf8(tenant).ok().and_then(|tenant| Tenant::parse(tenant).ok()).ok_or(FrameError::Torn)?,
            content: if header[5] == 0 { Content::Protobuf } else { Content::Json },
            encoding: match header[6] {
                0 => Encoding::Identity,
                1 => Encoding::Gzip,
                2 => Encoding::Zstd,
                _ => return Err(FrameError::Torn),
            },
            received: i64::from_le_bytes(array(&header, 8)?),
            body: segment.slice(body_at..end),
        };
        let hash = u128::from_le_bytes(array(&header, 16)?);
        if frame.hash(seed) != hash {
            return Err(FrameError::Torn);
        }
        Ok((frame, hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            tenant: Tenant::parse("team-a").unwrap(),
            content: Content::Json,
            encoding: Encoding::Zstd,
            received: 1_795_412_385_203_506,
            body: Bytes::from_static(b"{}"),
        }
    }

    fn segment() -> Bytes {
        let frame = frame();
        let mut bytes = segment_header(7).to_vec();
        bytes.extend(frame.header(frame.hash(7), 7));
        bytes.extend(b"team-a{}");
        Bytes::from(bytes)
    }

    /// Scenario: header and frame of a segment as this version writes them, without what is between them. Guarantee: the bytes on disk
    /// stay readable by later versions.
    #[test]
    fn golden_bytes() {
        let hex: String = segment().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/journal-v2.hex").trim());
    }

    /// Scenario: a frame is written, and read. Guarantee: it is the same.
    #[test]
    fn reads_back() {
        let segment = segment();
        assert_eq!(parse_segment_header(&segment), Ok(7));
        assert_eq!(Frame::parse(&segment, SEGMENT_HEADER, 7), Ok((frame(), frame().hash(7))));
    }

    /// Scenario: any one byte of a frame is changed, or the frame is cut anywhere. Guarantee: it is not taken for a frame.
    #[test]
    fn damage_is_seen() {
        let segment = segment();
        for at in SEGMENT_HEADER..segment.len() {
            let mut damaged = segment.to_vec();
            damaged[at] ^= 1;
            assert_eq!(Frame::parse(&damaged.into(), SEGMENT_HEADER, 7), Err(FrameError::Torn), "byte {at}");
            assert_eq!(Frame::parse(&segment.slice(..at), SEGMENT_HEADER, 7), Err(FrameError::Torn), "cut at {at}");
        }
    }
}
