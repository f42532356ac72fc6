//! `DELETE traces/{trace_id}`, `POST deletions`, `GET deletions` and `GET deletions/{id}`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use meshlake_query::{DeletionError, Receipt, Selection, TraceId};
use serde::{Deserialize, Serialize};

use crate::api::{Api, ForTenant};
use crate::body;
use crate::params::Params;
use crate::problem::{Kind, Problem};
use crate::time::{format_micros, now, parse_time};

/// Who sends nothing but a range would delete all of it: say so with `true`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    r#where: String,
    start: Option<String>,
    end: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Deletion {
    id: String,
    state: &'static str,
    requested: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#where: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    spans: u64,
    files: Vec<File>,
    hidden: Option<String>,
    finished: Option<String>,
}

#[derive(Serialize)]
struct File {
    file: String,
    spans: u64,
    replaced: Option<String>,
    deleted: Option<String>,
}

impl From<Receipt> for Deletion {
    fn from(receipt: Receipt) -> Deletion {
        let state = match (receipt.hidden, receipt.finished) {
            (_, Some(_)) => "finished",
            (Some(_), None) => "hidden",
            (None, None) => "accepted",
        };
        let spans = receipt.spans();
        let moment = |micros: Option<i64>| micros.map(format_micros);
        let (trace_id, condition, start, end) = match receipt.selection {
            Selection::Trace(id) => (Some(id), None, None, None),
            Selection::Where { condition, start, end } => (None, Some(condition), moment(start), moment(end)),
        };
        let file = |file: meshlake_query::Rewritten| File {
            file: file.file,
            spans: file.spans,
            replaced: moment(file.replaced),
            deleted: moment(file.deleted),
        };
        Deletion {
            id: receipt.id,
            state,
            requested: format_micros(receipt.requested),
            trace_id,
            r#where: condition,
            start,
            end,
            spans,
            files: receipt.files.into_iter().map(file).collect(),
            hidden: moment(receipt.hidden),
            finished: moment(receipt.finished),
        }
    }
}

impl From<DeletionError> for Problem {
    fn from(error: DeletionError) -> Problem {
        match error {
            DeletionError::Condition(detail) => Problem::new(Kind::InvalidQuery, format!("`where`: {detail}")),
            other => Problem::internal("the deletion", &other),
        }
    }
}

fn accepted(receipt: Receipt) -> Response {
    let location = format!("/api/mesh/v1/deletions/{}", receipt.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(Deletion::from(receipt))).into_response()
}

/// Deletes a trace. The answer is the receipt of a deletion that has begun.
pub(crate) async fn trace(
    State(api): State<Api>,
    ForTenant(tenant): ForTenant,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::parse(&uri, &[])?;
    let Path(id) = id.map_err(|error| Problem::parameter("trace_id", error.body_text()))?;
    let id: TraceId = id.parse().map_err(|error| Problem::parameter("trace_id", format!("parameter `trace_id`: {error}")))?;
    Ok(accepted(api.engine()?.deletions().request(&tenant, Selection::Trace(id.to_string())).await?))
}

/// Deletes the spans for which a condition holds.
pub(crate) async fn create(State(api): State<Api>, ForTenant(tenant): ForTenant, request: Request) -> Result<Response, Problem> {
    Params::parse(request.uri(), &[])?;
    body::require_json(request.headers())?;
    let deletions = api.engine()?.deletions().clone();
    let asked: Asked = body::read_json(&api, request, r#"{"where": "service = 'reviews'", "start": …, "end": …}"#).await?;
    let now = now();
    let moment = |name: &str, text: Option<String>| {
        let wrong = |error: String| Problem::new(Kind::InvalidBody, format!("`{name}`: {error}"));
        text.map(|text| parse_time(&text, now)).transpose().map_err(wrong)
    };
    let (start, end) = (moment("start", asked.start)?, moment("end", asked.end)?);
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        return Err(Problem::new(Kind::InvalidBody, "`start` must be before `end`"));
    }
    let selection = Selection::Where { condition: asked.r#where, start, end };
    Ok(accepted(deletions.request(&tenant, selection).await?))
}

#[derive(Serialize)]
pub(crate) struct List {
    deletions: Vec<Deletion>,
}

/// The tenant's deletions, the newest first.
pub(crate) async fn list(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<List>, Problem> {
    Params::parse(&uri, &[])?;
    let receipts = api.engine()?.deletions().receipts(&tenant).await?;
    Ok(Json(List { deletions: receipts.into_iter().map(Deletion::from).collect() }))
}

/// One receipt.
pub(crate) async fn receipt(
    State(api): State<Api>,
    ForTenant(tenant): ForTenant,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<Deletion>, Problem> {
    Params::parse(&uri, &[])?;
    let Path(id) = id.map_err(|error| Problem::parameter("id", error.body_text()))?;
    let found = api.engine()?.deletions().receipt(&tenant, &id).await?;
    let receipt = found.ok_or_else(|| Problem::new(Kind::NotFound, format!("no deletion {id} is known")))?;
    Ok(Json(receipt.into()))
}

#[cfg(test)]
mod tests;
