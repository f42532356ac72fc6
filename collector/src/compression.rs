//! Decompression under a limit: a bomb is refused before its content is allocated.
//!
//! The output starts in proportion to the input and doubles while there is more to read, never past one byte over the limit.
//! That byte is how an oversize request is told from one that just fits.

use std::cell::Cell;
use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use meshlake_storage::Encoding;
use thiserror::Error;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

/// 32 MiB, the widest window that common senders use (the best levels of Go's encoder; the C library stays under 8 MiB up to
/// level 19). A frame can demand this much memory in its first bytes, so it is no wider.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// A zstd context larger than this, in bytes, is not kept for the thread's next request.
const ZSTD_CONTEXT_KEPT_MAX: usize = 4 << 20;
/// A guess at what spans shrink by; where it is wrong, the output doubles.
const EXPANSION: usize = 4;
const OUTPUT_MIN: usize = 1024;

thread_local! {
    /// Spares small requests, the most of them, the making of a context that is larger than they are.
    static ZSTD_CONTEXT: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

/// Why a body has no content to decode.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CompressionError {
    #[error("the request is larger than {limit} bytes uncompressed, which is the limit that `otlp.max_request_size` sets")]
    TooLarge { limit: usize },
    #[error("cannot decompress the request, which is said to be {encoding}: {reason}")]
    Corrupt { encoding: &'static str, reason: String },
}

/// The content of `body`, at most `limit` bytes. Gzip members and zstd frames may follow one another; anything else after the
/// first, and a body that ends early, is [`CompressionError::Corrupt`]. No byte at all is no gzip, but it is zstd of nothing:
/// Go's encoder writes an empty request so.
pub(crate) fn decompress(encoding: Encoding, body: &Bytes, limit: usize) -> Result<Bytes, CompressionError> {
    match encoding {
        Encoding::Identity if body.len() > limit => Err(CompressionError::TooLarge { limit }),
        Encoding::Identity => Ok(body.clone()),
        Encoding::Gzip => {
            let mut output = output(body.len(), limit);
            gzip(body, limit, &mut output)?;
            Ok(output.into())
        }
        Encoding::Zstd => {
            let mut output = output(body.len(), limit);
            zstd(body, limit, &mut output)?;
            Ok(output.into())
        }
    }
}

fn gzip(body: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut content = MultiGzDecoder::new(body);
    loop {
        let spare = output.capacity() - output.len();
        let read = content.by_ref().take(spare as u64).read_to_end(output).map_err(|error| corrupt("gzip", error))?;
        if read < spare {
            return Ok(());
        }
        grow(output, limit)?;
    }
}

fn zstd(body: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), CompressionError> {
    let mut context = ZSTD_CONTEXT.take().unwrap_or_else(DCtx::create);
    let result = zstd_frames(&mut context, body, limit, output);
    if context.sizeof() <= ZSTD_CONTEXT_KEPT_MAX {
        ZSTD_CONTEXT.set(Some(context));
    }
    result
}

fn zstd_frames(context: &mut DCtx<'_>, body: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), CompressionError> {
    let failed = |code| corrupt("zstd", get_error_name(code));
    context.reset(ResetDirective::SessionOnly).map_err(failed)?;
    context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(failed)?;
    let mut input = InBuffer::around(body);
    let mut in_frame = false;
    while in_frame || input.pos() < body.len() {
        if !in_frame && !begins_zstd_frame(&body[input.pos()..]) {
            return Err(corrupt("zstd", format!("no frame begins at byte {}", input.pos())));
        }
        let filled = output.len();
        let hint = context.decompress_stream(&mut OutBuffer::around_pos(output, filled), &mut input).map_err(failed)?;
        in_frame = hint != 0;
        if output.len() == output.capacity() {
            grow(output, limit)?;
        } else if in_frame && input.pos() == body.len() {
            return Err(corrupt("zstd", "the last frame is cut off"));
        }
    }
    Ok(())
}

/// A frame or a skippable frame of RFC 8878. The library may be built to read the formats before it, too; their decoders are
/// not meant for hostile input.
fn begins_zstd_frame(bytes: &[u8]) -> bool {
    matches!(bytes, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn output(compressed: usize, limit: usize) -> Vec<u8> {
    Vec::with_capacity(compressed.saturating_mul(EXPANSION).max(OUTPUT_MIN).min(limit.saturating_add(1)))
}

/// Makes room in a full `output`, unless that means it is over the limit.
fn grow(output: &mut Vec<u8>, limit: usize) -> Result<(), CompressionError> {
    if output.len() > limit {
        return Err(CompressionError::TooLarge { limit });
    }
    let capacity = output.capacity().saturating_mul(2).min(limit.saturating_add(1));
    output.reserve_exact(capacity - output.len());
    Ok(())
}

fn corrupt(encoding: &'static str, reason: impl ToString) -> CompressionError {
    CompressionError::Corrupt { encoding, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const MIB: usize = 1 << 20;

    fn gzipped(content: impl Read) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::copy(&mut { content }, &mut encoder).unwrap();
        encoder.finish().unwrap().into()
    }

    fn zstded(content: impl Read) -> Bytes {
        zstd::encode_all(content, 1).unwrap().into()
    }

    fn both(content: &[u8]) -> [(Encoding, Bytes); 2] {
        [(Encoding::Gzip, gzipped(content)), (Encoding::Zstd, zstded(content))]
    }

    /// Bytes that shrink, but not to nothing.
    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * index % 251 % 64) as u8).collect()
    }

    fn is_corrupt(result: Result<Bytes, CompressionError>) -> bool {
        matches!(result, Err(CompressionError::Corrupt { .. }))
    }

    // Scenario: contents around the sizes where the output starts and doubles. Guarantee: what was compressed comes back, and
    // the limit is exact to the byte.
    #[test]
    fn round_trips_up_to_the_limit() {
        for length in [0, 1, 1023, 1024, 1025, 4096, 100_000, 3 * MIB] {
            let content = text(length);
            let plain = Bytes::from(content.clone());
            for (encoding, body) in both(&content).into_iter().chain([(Encoding::Identity, plain)]) {
                assert_eq!(decompress(encoding, &body, 64 * MIB).unwrap(), content);
                assert_eq!(decompress(encoding, &body, length).unwrap(), content);
                if length > 0 {
                    let limit = length - 1;
                    assert_eq!(decompress(encoding, &body, limit), Err(CompressionError::TooLarge { limit }));
                }
            }
        }
    }

    // Scenario: several members and frames in a row, some of them empty, and a skippable frame. Guarantee: one content.
    #[test]
    fn members_and_frames_are_joined() {
        let parts = ["first ", "", "second"];
        let gzip = parts.iter().flat_map(|part| gzipped(part.as_bytes())).collect();
        assert_eq!(decompress(Encoding::Gzip, &gzip, 100).unwrap(), "first second");
        let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 7, 7, 7];
        let zstd = parts.iter().flat_map(|part| [zstded(part.as_bytes()), Bytes::copy_from_slice(&skippable)].concat()).collect();
        assert_eq!(decompress(Encoding::Zstd, &zstd, 100).unwrap(), "first second");
    }

    type Fill = fn(&[u8], usize, &mut Vec<u8>) -> Result<(), CompressionError>;

    // Scenario: 1 GiB of zeros against a limit of 10 MiB. Guarantee: refused, and the output never outgrew the limit.
    #[test]
    fn bombs_are_refused() {
        let zeros = || std::io::repeat(0).take(1 << 30);
        let limit = 10 * MIB;
        for (fill, bomb) in [(gzip as Fill, gzipped(zeros())), (zstd as Fill, zstded(zeros()))] {
            assert!(bomb.len() < limit);
            let mut held = output(1, limit);
            assert_eq!(fill(&bomb, limit, &mut held), Err(CompressionError::TooLarge { limit }));
            assert_eq!(held.capacity(), limit + 1);
        }
    }

    // Scenario: 8 MiB of zeros in a few KiB, all of it allowed. Guarantee: the memory held is at most twice the content.
    #[test]
    fn output_is_at_most_twice_the_content() {
        let content = vec![0; 8 * MIB + 1];
        for (fill, body) in [(gzip as Fill, gzipped(&content[..])), (zstd as Fill, zstded(&content[..]))] {
            let mut held = output(body.len(), 64 * MIB);
            fill(&body, 64 * MIB, &mut held).unwrap();
            assert_eq!(held, content);
            assert!(held.capacity() <= 2 * content.len(), "{}", held.capacity());
        }
    }

    // Scenario: a compressed body cut at every length. Guarantee: corrupt, never a part of the content.
    #[test]
    fn truncated_is_corrupt() {
        for (encoding, body) in both(&text(2000)) {
            for end in 1..body.len() {
                assert!(is_corrupt(decompress(encoding, &body.slice(..end), MIB)), "{encoding:?} cut at {end}");
            }
        }
        assert!(is_corrupt(decompress(Encoding::Gzip, &Bytes::new(), MIB)));
        assert_eq!(decompress(Encoding::Zstd, &Bytes::new(), MIB).unwrap(), "");
    }

    // Scenario: bytes after the end, a changed check sum, plain text, one encoding under the other's name, a frame of zstd 0.4.
    // Guarantee: corrupt, and the thread's next request is read all the same.
    #[test]
    fn garbage_is_corrupt() {
        for (encoding, body) in both(b"spans") {
            for tail in ["x", "trailing garbage"] {
                assert!(is_corrupt(decompress(encoding, &[&body, tail.as_bytes()].concat().into(), MIB)));
            }
            assert!(is_corrupt(decompress(encoding, &Bytes::from_static(b"plain text"), MIB)));
            assert_eq!(decompress(encoding, &body, MIB).unwrap(), "spans");
        }
        let mut changed = gzipped(&b"spans"[..]).to_vec();
        let sum = changed.len() - 8;
        changed[sum] ^= 1;
        assert!(is_corrupt(decompress(Encoding::Gzip, &changed.into(), MIB)));
        assert!(is_corrupt(decompress(Encoding::Gzip, &zstded(&b"spans"[..]), MIB)));
        assert!(is_corrupt(decompress(Encoding::Zstd, &gzipped(&b"spans"[..]), MIB)));
        assert!(is_corrupt(decompress(Encoding::Zstd, &Bytes::from_static(b"\x24\xb5\x2f\xfd\0\0\0\0"), MIB)));
    }

    // Scenario: frames whose header demands a window, the widest allowed and one wider. Guarantee: the first is read and its
    // memory given back, the second is refused.
    #[test]
    fn zstd_window_is_bounded() {
        let frame = |window_log| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window_log).unwrap();
            encoder.write_all(&text(3000)).unwrap();
            encoder.flush().unwrap();
            Bytes::from(encoder.finish().unwrap())
        };
        assert_eq!(decompress(Encoding::Zstd, &frame(ZSTD_WINDOW_LOG_MAX), MIB).unwrap(), text(3000));
        assert!(ZSTD_CONTEXT.take().is_none());
        assert!(is_corrupt(decompress(Encoding::Zstd, &frame(ZSTD_WINDOW_LOG_MAX + 1), MIB)));
    }
}
