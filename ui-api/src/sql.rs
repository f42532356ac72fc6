//! `POST sql`.

use std::convert::Infallible;
use std::time::Duration;

use arrow::error::ArrowError;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use meshlake_query::SqlAnswer;
use serde::Deserialize;

use crate::accept;
use crate::api::{Api, ForTenant};
use crate::budget::Share;
use crate::params::Params;
use crate::problem::{Kind, Problem};
use crate::rows::{Format, Rows};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    query: String,
}

/// Runs one read-only statement. The answer is collected before its first byte is sent, so that a query that fails half-way
/// has the status of its failure, and never looks like a whole answer. The client going away drops this future, and with it
/// the query.
pub(crate) async fn sql(State(api): State<Api>, ForTenant(tenant): ForTenant, request: Request) -> Result<Response, Problem> {
    Params::parse(request.uri(), &[])?;
    let format = Format::of(accept::choose(request.headers(), &Format::OFFERS)?);
    require_json(request.headers())?;
    let engine = api.engine()?;
    let question = read_question(&api, request).await?;
    let answer = engine.sql(&tenant, &question.query).await?;
    let mut share = Share::of(api.answers());
    let pieces = collect(answer, format, &mut share).await?;
    // With its length, an answer that is cut off on the way cannot look whole.
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
        (header::CONTENT_LENGTH, HeaderValue::from(share.bytes())),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    // The share lives as long as the body.
    let body = stream::iter(pieces).map(move |piece| {
        let _ = &share;
        Ok::<_, Infallible>(piece)
    });
    Ok((headers, Body::from_stream(body)).into_response())
}

/// A page of another site cannot send this type without asking first, and we never agree: there is no CORS.
fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Kind::UnsupportedMediaType, format!("content-type is `{content_type}`: allowed is application/json")))
}

async fn read_question(api: &Api, request: Request) -> Result<Question, Problem> {
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| Problem::new(Kind::BodyTimeout, format!("the body did not arrive within {BODY_TIMEOUT:?}")))?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Kind::BodyTooLarge,
            format!("the body is larger than {} bytes, the limit of api.max_body_size", api.max_body_size()),
        ),
        _ => Problem::new(Kind::InvalidBody, rejection.body_text()),
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(Kind::InvalidBody, format!("the body must be {{\"query\": \"select …\"}}: {error}")))
}

async fn collect(mut answer: SqlAnswer, format: Format, share: &mut Share) -> Result<Vec<Bytes>, Problem> {
    let mut rows = Rows::new(format, answer.schema.clone()).map_err(unwritable)?;
    let mut pieces = Vec::new();
    let mut keep = |piece: Result<Vec<u8>, ArrowError>| {
        let piece = piece.map_err(unwritable)?;
        share.grow(piece.len())?;
        pieces.push(Bytes::from(piece));
        Ok::<_, Problem>(())
    };
    keep(rows.begin())?;
    while let Some(batch) = answer.batches.next().await {
        keep(rows.write(&batch?))?;
    }
    keep(rows.finish())?;
    Ok(pieces)
}

fn unwritable(error: ArrowError) -> Problem {
    Problem::new(
        Kind::InvalidQuery,
        format!(
            "a column has a type that this content type has no form for; cast it, or ask for {}: {error}",
            Format::Arrow.content_type()
        ),
    )
}
