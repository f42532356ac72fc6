//! Answers that are written as a whole before their first byte is sent, within the memory for answers (P6).

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::{HeaderValue, header};

use crate::api::Api;
use crate::budget::{Budget, Share};
use crate::problem::Problem;

/// Bytes that an answer grows by.
const PIECE: usize = 64 << 10;

/// An answer in the making.
pub(crate) struct Written {
    pieces: Vec<Bytes>,
    piece: Vec<u8>,
    share: Share,
    refused: Option<Problem>,
}

/// What `write` writes.
///
/// # Errors
/// 503 while this and the other answers that are being sent take too much memory.
pub(crate) fn write(
    api: &Api,
    media_type: &'static str,
    write: impl FnOnce(&mut Written) -> io::Result<()>,
) -> Result<Response, Problem> {
    let mut written = Written::new(api.answers());
    let result = write(&mut written).and_then(|()| written.keep());
    if let Err(error) = result {
        return Err(written.refused.unwrap_or_else(|| Problem::internal("writing an answer", &error)));
    }
    let Written { pieces, share, .. } = written;
    // With its length, an answer that is cut off on the way cannot look whole.
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(media_type)), (header::CONTENT_LENGTH, HeaderValue::from(share.bytes()))];
    Ok((headers, body(pieces, share)).into_response())
}

/// Pieces as a body. The share lives as long as it.
pub(crate) fn body(pieces: Vec<Bytes>, share: Share) -> Body {
    Body::from_stream(stream::iter(pieces.into_iter().map(move |piece| {
        let _ = &share;
        Ok::<_, Infallible>(piece)
    })))
}

impl Written {
    fn new(answers: &Arc<Budget>) -> Written {
        Written { pieces: Vec::new(), piece: Vec::new(), share: Share::of(answers), refused: None }
    }

    /// Ends the piece that is being written.
    fn keep(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if let Err(problem) = self.share.grow(piece.len()) {
            self.refused = Some(problem);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.pieces.push(piece.into());
        Ok(())
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() + bytes.len() > PIECE && !self.piece.is_empty() {
            self.keep()?;
        }
        if self.piece.capacity() == 0 {
            self.piece.reserve_exact(PIECE);
        }
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Scenario: answers that are written in small parts and in large ones, within a limit and past it. Guarantee: every byte in its place; past the
    /// limit a problem that says so, and nothing is held after it.
    #[test]
    fn answers_are_bounded() {
        let answers = Arc::new(Budget::new(5 * PIECE as u64));
        let mut written = Written::new(&answers);
        let parts: Vec<Vec<u8>> = [1, 7, PIECE - 1, PIECE + 1, 3].iter().map(|length| vec![*length as u8; *length]).collect();
        parts.iter().for_each(|part| written.write_all(part).unwrap());
        written.keep().unwrap();
        assert_eq!(written.pieces.concat(), parts.concat());
        assert_eq!(written.share.bytes(), parts.concat().len() as u64);

        let mut other = Written::new(&answers);
        assert!((0..10_000).any(|_| other.write_all(&[0; 1_000]).is_err()));
        assert!(other.pieces.len() <= 3);
        assert!(format!("{:?}", other.refused.take().unwrap()).contains("query.memory_limit"));
        drop((written, other));
        let mut all = Share::of(&answers);
        all.grow(5 * PIECE).unwrap();
    }
}
