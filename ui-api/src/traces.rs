//! `GET traces/{trace_id}` and `GET traces`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Uri, header};
use meshlake_query::{Order, Search, TraceId, TraceSummary};
use prost::Message;
use serde::Serialize;

use crate::accept;
use crate::api::{Api, ForTenant};
use crate::otlp_json;
use crate::params::Params;
use crate::problem::{Kind, Problem};
use crate::time::{format_nanos, parse_duration};

/// What `GET traces` takes.
pub(crate) const SEARCH_PARAMETERS: &[&str] =
    &["service", "operation", "min_duration", "max_duration", "status", "attribute", "start", "end", "limit", "order_by", "cursor"];

const JSON: &str = "application/json";
const TRACE_TYPES: [&str; 3] = [JSON, "application/x-protobuf", "application/protobuf"];
const LIMIT_DEFAULT: usize = 20;
const ATTRIBUTES_MAX: usize = 20;

/// A trace as OTLP: JSON, or protobuf `TracesData`.
pub(crate) async fn trace(
    State(api): State<Api>,
    ForTenant(tenant): ForTenant,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Params::parse(&uri, &[])?;
    let media_type = accept::choose(&headers, &TRACE_TYPES)?;
    let Path(id) = id.map_err(|error| Problem::parameter("trace_id", error.body_text()))?;
    let id: TraceId = id.parse().map_err(|error| Problem::parameter("trace_id", format!("parameter `trace_id`: {error}")))?;
    let found = api.engine()?.trace(&tenant, id).await?;
    let traces = found.ok_or_else(|| Problem::new(Kind::NotFound, format!("no span of trace {id} is known")))?;
    let body = match media_type {
        JSON => otlp_json::to_json(&traces).map_err(|error| Problem::internal("writing the trace as JSON", &error))?,
        _ => traces.encode_to_vec(),
    };
    Ok(([(header::CONTENT_TYPE, media_type), (header::VARY, "accept")], body).into_response())
}

#[derive(Serialize)]
pub(crate) struct Page {
    traces: Vec<Trace>,
    next_cursor: Option<String>,
}

/// A trace as a whole.
#[derive(Serialize)]
pub(crate) struct Trace {
    trace_id: String,
    root_service: Option<String>,
    root_operation: Option<String>,
    start_time: String,
    duration_ns: i64,
    spans: u64,
    errors: u64,
    services: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    service: String,
    spans: u64,
    errors: u64,
}

impl From<TraceSummary> for Trace {
    fn from(summary: TraceSummary) -> Trace {
        let part = |part: meshlake_query::ServiceSpans| Part { service: part.service, spans: part.spans, errors: part.errors };
        Trace {
            trace_id: summary.trace_id.to_string(),
            root_service: summary.root_service,
            root_operation: summary.root_operation,
            start_time: format_nanos(summary.start),
            duration_ns: summary.duration,
            spans: summary.spans,
            errors: summary.errors,
            services: summary.services.into_iter().map(part).collect(),
        }
    }
}

/// The traces with a span that fulfils all that is asked, as summaries.
pub(crate) async fn search(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<Page>, Problem> {
    let search = read_search(&Params::parse(&uri, SEARCH_PARAMETERS)?)?;
    let page = api.engine()?.search(&tenant, &search).await?;
    let traces = page.traces.into_iter().map(Trace::from).collect();
    Ok(Json(Page { traces, next_cursor: page.next.map(|cursor| cursor.to_string()) }))
}

fn read_search(params: &Params) -> Result<Search, Problem> {
    let search = Search {
        service: params.get("service").map(str::to_owned),
        operation: params.get("operation").map(str::to_owned),
        min_duration: params.read("min_duration", parse_duration)?,
        max_duration: params.read("max_duration", parse_duration)?,
        status: params.read("status", str::parse)?,
        attributes: read_attributes(params)?,
        range: params.range()?,
        limit: params.limit(LIMIT_DEFAULT)?,
        order_by: params.read("order_by", str::parse)?.unwrap_or(Order::Start),
        cursor: params.read("cursor", str::parse)?,
    };
    if let (Some(min), Some(max)) = (search.min_duration, search.max_duration)
        && min > max
    {
        return Err(Problem::parameter(
            "min_duration",
            format!("`min_duration` ({min:?}) must not be longer than `max_duration` ({max:?})"),
        ));
    }
    if search.cursor.is_some_and(|cursor| cursor.order != search.order_by) {
        return Err(Problem::parameter("cursor", "`cursor` is of a search in another order than `order_by` says"));
    }
    Ok(search)
}

fn read_attributes(params: &Params) -> Result<Vec<(String, String)>, Problem> {
    let wrong = |detail: String| Problem::parameter("attribute", format!("parameter `attribute`: {detail}"));
    let mut attributes = Vec::new();
    for text in params.all("attribute") {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| wrong(format!("`{text}` is not key=value")))?;
        attributes.push((key.to_owned(), value.to_owned()));
    }
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(wrong(format!("given {} times, allowed are {ATTRIBUTES_MAX}", attributes.len())));
    }
    Ok(attributes)
}
