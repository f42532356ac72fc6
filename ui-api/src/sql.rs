//! `POST sql`.

use arrow::error::ArrowError;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{HeaderValue, header};
use meshlake_query::SqlAnswer;
use serde::Deserialize;

use crate::accept;
use crate::api::{Api, ForTenant};
use crate::body;
use crate::budget::Share;
use crate::params::Params;
use crate::problem::{Kind, Problem};
use crate::reply;
use crate::rows::{Format, Rows};

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
    body::require_json(request.headers())?;
    let engine = api.engine()?;
    let question = body::read_json::<Question>(&api, request, r#"{"query": "select …"}"#).await?;
    let answer = engine.sql(&tenant, &question.query).await?;
    let mut share = Share::of(api.answers());
    let pieces = collect(answer, format, &mut share).await?;
    // With its length, an answer that is cut off on the way cannot look whole.
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
        (header::CONTENT_LENGTH, HeaderValue::from(share.bytes())),
        (header::VARY, HeaderValue::from_static("accept")),
    ];
    Ok((headers, reply::body(pieces, share)).into_response())
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
