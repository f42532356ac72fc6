//! `GET traceql`: a search in TraceQL, page by page. Tempo's API, whose clients know no cursor, is in [`crate::tempo`].

use axum::Json;
use axum::extract::State;
use http::Uri;
use meshlake_query::meshlake_traceql::Query;
use meshlake_query::{FoundSpan, FoundSpanset, FoundTrace, TraceQlSearch};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde::Serialize;

use crate::api::{Api, ForTenant};
use crate::otlp_json::attributes;
use crate::params::Params;
use crate::problem::Problem;
use crate::time::format_nanos;
use crate::traces::Trace;

const PARAMETERS: &[&str] = &["q", "start", "end", "limit", "spans", "cursor"];
const LIMIT_DEFAULT: usize = 20;
const SPANS_DEFAULT: usize = 3;
const SPANS_MAX: usize = 10_000;

#[derive(Serialize)]
pub(crate) struct Page {
    traces: Vec<Found>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct Found {
    trace: Trace,
    spansets: Vec<Spanset>,
}

#[derive(Serialize)]
struct Spanset {
    matched: usize,
    #[serde(serialize_with = "attributes")]
    attributes: Vec<KeyValue>,
    spans: Vec<Span>,
}

#[derive(Serialize)]
struct Span {
    span_id: String,
    name: String,
    start_time: String,
    duration_ns: i64,
    #[serde(serialize_with = "attributes")]
    attributes: Vec<KeyValue>,
}

/// The newest traces that match, each with the spans that do.
pub(crate) async fn search(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<Page>, Problem> {
    let search = read(&Params::parse(&uri, PARAMETERS)?)?;
    let found = api.engine()?.traceql_search(&tenant, &search).await?;
    let traces = found.traces.into_iter().map(Found::from).collect();
    Ok(Json(Page { traces, next_cursor: found.next.map(|cursor| cursor.to_string()) }))
}

fn read(params: &Params) -> Result<TraceQlSearch, Problem> {
    let query: Result<Query, _> = params.get("q").unwrap_or("{}").parse();
    Ok(TraceQlSearch {
        query: query.map_err(|error| Problem::parameter("q", format!("parameter `q`: {error}")))?,
        range: params.range()?,
        limit: params.limit(LIMIT_DEFAULT)?,
        spans_per_spanset: params.number("spans", 1..=SPANS_MAX, SPANS_DEFAULT)?,
        min_duration: None,
        max_duration: None,
        cursor: params.read("cursor", str::parse)?,
    })
}

impl From<FoundTrace> for Found {
    fn from(found: FoundTrace) -> Found {
        Found { trace: found.summary.into(), spansets: found.spansets.into_iter().map(Spanset::from).collect() }
    }
}

impl From<FoundSpanset> for Spanset {
    fn from(found: FoundSpanset) -> Spanset {
        let attributes = found.attributes.into_iter().map(key_value).collect();
        Spanset { matched: found.matched, attributes, spans: found.spans.into_iter().map(Span::from).collect() }
    }
}

impl From<FoundSpan> for Span {
    fn from(found: FoundSpan) -> Span {
        Span {
            span_id: format!("{:016x}", u64::from_be_bytes(found.id)),
            name: found.name,
            start_time: format_nanos(found.start),
            duration_ns: found.duration,
            attributes: found.attributes.into_iter().map(key_value).collect(),
        }
    }
}

/// An attribute as OTLP has it.
pub(crate) fn key_value((key, value): (String, AnyValue)) -> KeyValue {
    KeyValue { key, value: Some(value), key_strindex: 0 }
}
