//! Messages as answers over HTTP: protobuf where it is asked for by name, as Tempo does it, else JSON.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use prost::Message;
use serde::Serialize;

use super::failure::Failure;
use crate::problem::Problem;

const PROTOBUF: &str = "application/protobuf";
const JSON: &str = "application/json";

/// Whether the client wants protobuf.
pub(super) fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    accepted.filter_map(|range| range.split(';').next()).any(|media| media.trim().eq_ignore_ascii_case(PROTOBUF))
}

/// A message in the type that the client wants.
pub(super) fn reply<M: Message + Serialize>(headers: &HeaderMap, message: &M) -> Result<Response, Failure> {
    if wants_protobuf(headers) { Ok(protobuf(message)) } else { json(message) }
}

pub(super) fn protobuf(message: &impl Message) -> Response {
    answer(PROTOBUF, message.encode_to_vec())
}

pub(super) fn json(document: &impl Serialize) -> Result<Response, Failure> {
    let body = serde_json::to_vec(document).map_err(|error| Problem::internal("writing an answer as JSON", &error))?;
    Ok(answer(JSON, body))
}

fn answer(media_type: &'static str, body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, media_type), (header::VARY, "accept")], body).into_response()
}
