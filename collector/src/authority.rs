//! Authorities that are none: what Envoy writes when nobody told it better.
//!
//! Envoy's gRPC client sends the name of its cluster as `:authority` unless its configuration sets one. Istio does
//! (`authority: <host>`), a plain Envoy with a cluster `outbound|4317||meshlake…` does not, and the `http` crate refuses `|`:
//! each export would be reset before anybody sees it, and its spans would be gone. So the bytes of a connection are read
//! along, and such a character is replaced by one that is allowed and takes just as many bits, in place. Nobody reads the
//! authority; the HPACK table of the connection, sizes and positions stay as they were (RFC 7541, sections 5.2 and 6).

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length 3, type 1, flags 1, stream 4.
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// A block of headers larger than this is left as it is: no client needs it for an authority.
const BLOCK_MAX: usize = 16 << 10;
/// `:authority` in HPACK's static table.
const AUTHORITY: u64 = 1;

/// Bits and code of the printable ASCII characters in HPACK's Huffman code (RFC 7541, appendix B), from the space on.
#[rustfmt::skip]
const CODES: [(u32, u32); 95] = [
    (6, 0x14), (10, 0x3f8), (10, 0x3f9), (12, 0xffa), (13, 0x1ff9), (6, 0x15), (8, 0xf8), (11, 0x7fa), (10, 0x3fa),
    (10, 0x3fb), (8, 0xf9), (11, 0x7fb), (8, 0xfa), (6, 0x16), (6, 0x17), (6, 0x18), (5, 0x0), (5, 0x1), (5, 0x2), (6, 0x19),
    (6, 0x1a), (6, 0x1b), (6, 0x1c), (6, 0x1d), (6, 0x1e), (6, 0x1f), (7, 0x5c), (8, 0xfb), (15, 0x7ffc), (6, 0x20),
    (12, 0xffb), (10, 0x3fc), (13, 0x1ffa), (6, 0x21), (7, 0x5d), (7, 0x5e), (7, 0x5f), (7, 0x60), (7, 0x61), (7, 0x62),
    (7, 0x63), (7, 0x64), (7, 0x65), (7, 0x66), (7, 0x67), (7, 0x68), (7, 0x69), (7, 0x6a), (7, 0x6b), (7, 0x6c), (7, 0x6d),
    (7, 0x6e), (7, 0x6f), (7, 0x70), (7, 0x71), (7, 0x72), (8, 0xfc), (7, 0x73), (8, 0xfd), (13, 0x1ffb), (19, 0x7fff0),
    (13, 0x1ffc), (14, 0x3ffc), (6, 0x22), (15, 0x7ffd), (5, 0x3), (6, 0x23), (5, 0x4), (6, 0x24), (5, 0x5), (6, 0x25),
    (6, 0x26), (6, 0x27), (5, 0x6), (7, 0x74), (7, 0x75), (6, 0x28), (6, 0x29), (6, 0x2a), (5, 0x7), (6, 0x2b), (7, 0x76),
    (6, 0x2c), (5, 0x8), (5, 0x9), (6, 0x2d), (7, 0x77), (7, 0x78), (7, 0x79), (7, 0x7a), (7, 0x7b), (15, 0x7ffe), (11, 0x7fc),
    (14, 0x3ffd), (13, 0x1ffd),
];

/// What stands for a character that an authority must not have: an allowed one whose code has as many bits.
fn substitute(bits: u32) -> Option<u8> {
    match bits {
        6 => Some(b'-'),
        10 => Some(b'!'),
        11 => Some(b'+'),
        _ => None,
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]".contains(&byte)
}

/// An integer with a prefix of `bits` bits (section 5.1), and where it ends.
fn integer(block: &[u8], mut at: usize, bits: u32) -> Option<(u64, usize)> {
    let mask = (1u64 << bits) - 1;
    let mut value = u64::from(*block.get(at)?) & mask;
    at += 1;
    if value == mask {
        for shift in (0..28).step_by(7) {
            let byte = *block.get(at)?;
            at += 1;
            value += u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some((value, at));
            }
        }
        return None;
    }
    Some((value, at))
}

/// The bytes of a string (section 5.2) and whether they are Huffman-coded.
fn string(block: &[u8], at: usize) -> Option<(Range<usize>, bool)> {
    let coded = block.get(at)? & 0x80 != 0;
    let (length, start) = integer(block, at, 7)?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= block.len()).then_some((start..end, coded))
}

/// Mends the authorities of a block of headers; stops where it does not understand it.
fn mend_block(block: &mut [u8]) -> Option<()> {
    let mut at = 0;
    while at < block.len() {
        let bits = match block[at] {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let (index, after) = integer(block, at, bits)?;
        at = after;
        if bits == 7 || bits == 5 {
            continue;
        }
        if index == 0 {
            at = string(block, at)?.0.end;
        }
        let (value, coded) = string(block, at)?;
        at = value.end;
        if index == AUTHORITY {
            let value = &mut block[value];
            if coded { mend_coded(value) } else { mend_plain(value) }
        }
    }
    Some(())
}

fn mend_plain(value: &mut [u8]) {
    value.iter_mut().filter(|byte| !is_allowed(**byte)).for_each(|byte| *byte = b'-');
}

/// The `count` bits at bit `at`, most significant first; ones behind the end, as in padding.
fn bits_at(value: &[u8], at: usize, count: u32) -> u32 {
    let bit = |at: usize| value.get(at / 8).map_or(1, |byte| u32::from(byte >> (7 - at % 8) & 1));
    (0..count as usize).fold(0, |bits, index| bits << 1 | bit(at + index))
}

fn set_bits(value: &mut [u8], at: usize, count: u32, code: u32) {
    for index in 0..count as usize {
        let (byte, mask) = ((at + index) / 8, 0x80 >> ((at + index) % 8));
        let one = code >> (count as usize - 1 - index) & 1 == 1;
        value[byte] = if one { value[byte] | mask } else { value[byte] & !mask };
    }
}

fn mend_coded(value: &mut [u8]) {
    let mut at = 0;
    while at < value.len() * 8 {
        let found = CODES.iter().position(|(bits, code)| bits_at(value, at, *bits) == *code);
        let Some(index) = found else { return };
        let bits = CODES[index].0;
        if at + bits as usize > value.len() * 8 {
            return;
        }
        if let (false, Some(better)) = (is_allowed(index as u8 + b' '), substitute(bits)) {
            set_bits(value, at, bits, CODES[usize::from(better - b' ')].1);
        }
        at += bits as usize;
    }
}

/// Where in the stream of frames a connection is.
#[derive(Debug)]
enum Position {
    Preface,
    /// At a frame, once so many bytes have passed.
    Frames(usize),
    /// Not HTTP/2.
    Other,
}

impl Position {
    /// Mends what is complete in `data` and says how many bytes of it may be passed on; the rest needs more bytes.
    fn pass(&mut self, data: &mut [u8]) -> usize {
        if matches!(self, Position::Preface) {
            let length = data.len().min(PREFACE.len());
            if data[..length] != PREFACE[..length] {
                *self = Position::Other;
            } else if length < PREFACE.len() {
                return 0;
            } else {
                *self = Position::Frames(PREFACE.len());
            }
        }
        let Position::Frames(left) = self else { return data.len() };
        let mut at = 0;
        loop {
            let step = (*left).min(data.len() - at);
            *left -= step;
            at += step;
            let Some(frame) = data.get_mut(at..).filter(|frame| frame.len() >= FRAME_HEAD && *left == 0) else {
                return at;
            };
            let length = usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
            let whole = FRAME_HEAD + length;
            if frame[3] == HEADERS && frame[4] & END_HEADERS != 0 && length <= BLOCK_MAX {
                if frame.len() < whole {
                    return at;
                }
                mend_frame(&mut frame[..whole]);
            }
            *left = whole;
        }
    }
}

fn mend_frame(frame: &mut [u8]) {
    let padded = frame[4] & PADDED != 0;
    let padding = if padded { frame.get(FRAME_HEAD).map_or(0, |length| usize::from(*length)) } else { 0 };
    let start = FRAME_HEAD + usize::from(padded) + if frame[4] & PRIORITY != 0 { 5 } else { 0 };
    let end = frame.len().saturating_sub(padding);
    if let Some(block) = frame.get_mut(start..end) {
        // What is not understood here, the connection will refuse.
        let _ = mend_block(block);
    }
}

/// A connection whose authorities are mended while they are read.
#[derive(Debug)]
pub(crate) struct MendedAuthority<S> {
    inner: S,
    position: Position,
    /// Read, not passed on yet.
    held: Vec<u8>,
    /// How much of `held` may be passed on.
    passed: usize,
    greeted: Arc<AtomicBool>,
}

impl<S> MendedAuthority<S> {
    pub(crate) fn new(inner: S) -> MendedAuthority<S> {
        MendedAuthority { inner, position: Position::Preface, held: Vec::new(), passed: 0, greeted: Arc::default() }
    }

    /// Turns true when the protocol is known: there was a whole preface, or what is none.
    pub(crate) fn greeted(&self) -> Arc<AtomicBool> {
        self.greeted.clone()
    }

    fn note_greeting(&self) {
        if !matches!(self.position, Position::Preface) {
            self.greeted.store(true, Ordering::Relaxed);
        }
    }

    fn pass_on(&mut self, out: &mut ReadBuf<'_>) {
        let count = self.passed.min(out.remaining());
        out.put_slice(&self.held[..count]);
        self.held.drain(..count);
        self.passed -= count;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MendedAuthority<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.passed == 0 {
            if this.held.is_empty() {
                // Nearly always: read where the bytes are wanted, and pass all of them on.
                let before = out.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(context, out))?;
                let passed = this.position.pass(&mut out.filled_mut()[before..]);
                this.note_greeting();
                this.held.extend_from_slice(&out.filled()[before + passed..]);
                out.set_filled(before + passed);
                if passed > 0 || this.held.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let mut bytes = [0; 1024];
                let mut more = ReadBuf::new(&mut bytes);
                ready!(Pin::new(&mut this.inner).poll_read(context, &mut more))?;
                this.held.extend_from_slice(more.filled());
                // At the end of the stream what is incomplete stays so.
                this.passed = if more.filled().is_empty() { this.held.len() } else { this.position.pass(&mut this.held) };
                this.note_greeting();
            }
        }
        this.pass_on(out);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MendedAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    fn coded(text: &str) -> Vec<u8> {
        let mut bytes = vec![0xFF; text.len() * 4];
        let mut at = 0;
        for byte in text.bytes() {
            let (bits, code) = CODES[usize::from(byte - b' ')];
            set_bits(&mut bytes, at, bits, code);
            at += bits as usize;
        }
        bytes.truncate(at.div_ceil(8));
        bytes
    }

    /// A block as Envoy sends it: indexed fields, then an authority that enters the table, then one more field.
    fn block(authority: &[u8], coded: u8) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x41, coded | authority.len() as u8];
        block.extend_from_slice(authority);
        block.extend_from_slice(&[0x40, 1, b'a', 1, b'|', 0x90]);
        block
    }

    fn headers(block: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, block.len() as u8, HEADERS, END_HEADERS, 0, 0, 0, 1];
        frame.extend_from_slice(block);
        frame
    }

    const NAMES: [(&str, &str); 3] = [
        ("outbound|4317||otel.observability.svc.cluster.local", "outbound+4317++otel.observability.svc.cluster.local"),
        ("extension/k8s-ns/auth", "extension-k8s-ns-auth"),
        ("meshlake.observability:4317", "meshlake.observability:4317"),
    ];

    /// Scenario: authorities in Huffman code. Guarantee: forbidden characters are replaced, lengths and all else stay.
    #[test]
    fn coded_authorities_are_mended() {
        for (sent, read) in NAMES {
            let mut mended = block(&coded(sent), 0x80);
            mend_block(&mut mended).unwrap();
            assert_eq!(mended, block(&coded(read), 0x80), "{sent}");
        }
    }

    /// Scenario: an authority as plain text. Guarantee: as above.
    #[test]
    fn plain_authorities_are_mended() {
        let mut mended = block(b"outbound|80||x", 0);
        mend_block(&mut mended).unwrap();
        assert_eq!(mended, block(b"outbound-80--x", 0));
    }

    /// Scenario: a connection whose bytes come in pieces of every size, with other frames between. Guarantee: what is read is
    /// what was sent, but for the authorities.
    #[tokio::test]
    async fn any_pieces() {
        let stream = |name: &str| {
            let data = [&[0, 0, 5, 0, 0, 0, 0, 0, 1][..], b"|||||"].concat();
            let frame = headers(&block(&coded(name), 0x80));
            [PREFACE, &data, &frame, &data, &frame, &[0, 0, 200, 9]].concat()
        };
        let (sent, expected) = (stream(NAMES[0].0), stream(NAMES[0].1));
        for size in 1..sent.len() {
            let mut read = Vec::new();
            let pieces = Pieces(sent.chunks(size).map(<[u8]>::to_vec).collect());
            MendedAuthority::new(pieces).read_to_end(&mut read).await.unwrap();
            assert_eq!(read, expected, "pieces of {size}");
        }
    }

    /// Scenario: HTTP/1.1, and what is nothing. Guarantee: it passes as it is.
    #[tokio::test]
    async fn other_protocols_pass() {
        for text in ["POST /v1/traces HTTP/1.1\r\nhost: a|b\r\n\r\n", "PRI * HTTP/1", "PR", ""] {
            let mut read = Vec::new();
            let pieces = Pieces(VecDeque::from([text.as_bytes().to_vec()]));
            MendedAuthority::new(pieces).read_to_end(&mut read).await.unwrap();
            assert_eq!(read, text.as_bytes());
        }
    }

    proptest! {
        /// Scenario: any bytes behind the preface. Guarantee: no panic, and no byte more than there is.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut data = [PREFACE, &bytes].concat();
            let length = data.len();
            prop_assert!(Position::Preface.pass(&mut data) <= length);
            let _ = mend_block(&mut data);
        }
    }

    /// A reader that gives one piece at a time.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let rest = piece.split_off(piece.len().min(out.remaining()));
                out.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }
}
