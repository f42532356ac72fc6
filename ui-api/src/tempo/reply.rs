//! Messages as answers over HTTP: protobuf where it is asked for by name, as Tempo does it, else JSON.

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use prost::Message;
use serde::Serialize;

use super::failure::Failure;
use crate::api::Api;
use crate::budget::Share;
use crate::problem::Problem;
use crate::reply::body;

const PROTOBUF: &str = "application/protobuf";
const JSON: &str = "application/json";
/// How many bytes a document takes at most for each byte that its message takes as protobuf, about: four for a number over time.
const JSON_GROWTH: usize = 4;

/// Whether the client wants protobuf.
pub(super) fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    accepted.filter_map(|range| range.split(';').next()).any(|media| media.trim().eq_ignore_ascii_case(PROTOBUF))
}

/// A message in the type that the client wants.
///
/// # Errors
/// 429 while other answers that are being sent take too much memory.
pub(super) fn reply<M: Message + Serialize>(api: &Api, headers: &HeaderMap, message: &M) -> Result<Response, Failure> {
    if wants_protobuf(headers) { protobuf(api, message) } else { json(api, message, message.encoded_len()) }
}

/// A message as protobuf; errors as those of [`reply`].
pub(super) fn protobuf(api: &Api, message: &impl Message) -> Result<Response, Failure> {
    let share = share(api, message.encoded_len())?;
    Ok(answer(PROTOBUF, message.encode_to_vec(), share))
}

/// A document of what takes `bytes` as protobuf; errors as those of [`reply`].
pub(super) fn json(api: &Api, document: &impl Serialize, bytes: usize) -> Result<Response, Failure> {
    let share = share(api, bytes.saturating_mul(JSON_GROWTH))?;
    let body = serde_json::to_vec(document).map_err(|error| Problem::internal("writing an answer as JSON", &error))?;
    Ok(answer(JSON, body, share))
}

/// Memory for an answer, before it is written and until it is sent (P6).
pub(super) fn share(api: &Api, bytes: usize) -> Result<Share, Failure> {
    let mut share = Share::of(api.answers());
    share.grow(bytes)?;
    Ok(share)
}

fn answer(media_type: &'static str, body: Vec<u8>, share: Share) -> Response {
    // With its length, an answer that is cut off on the way cannot look whole.
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(body.len())),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    (headers, self::body(vec![Bytes::from(body)], share)).into_response()
}
