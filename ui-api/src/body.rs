//! Bodies of requests.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::problem::{Kind, Problem};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A page of another site cannot send this type without asking first, and we never agree: there is no CORS.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Kind::UnsupportedMediaType, format!("content-type is `{content_type}`: allowed is application/json")))
}

/// Reads a body of the shape of `example`.
pub(crate) async fn read_json<T: DeserializeOwned>(api: &Api, request: Request, example: &str) -> Result<T, Problem> {
    let body = read(api, request).await?;
    serde_json::from_slice(&body).map_err(|error| Problem::new(Kind::InvalidBody, format!("the body must be {example}: {error}")))
}

/// Reads a whole body, within the limits of size and time.
pub(crate) async fn read(api: &Api, request: Request) -> Result<Bytes, Problem> {
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| Problem::new(Kind::BodyTimeout, format!("the body did not arrive within {BODY_TIMEOUT:?}")))?;
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Kind::BodyTooLarge,
            format!("the body is larger than {} bytes, the limit of api.max_body_size", api.max_body_size()),
        ),
        _ => Problem::new(Kind::InvalidBody, rejection.body_text()),
    })
}
