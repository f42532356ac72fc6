//! Numbers over time.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use meshlake_config::Tenant;
use meshlake_query::meshlake_traceql::{self, Grid, Literal, MetricsAnswer, Query, Series, Value};
use meshlake_query::{TraceId, TraceQlMetrics};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::caller::Caller;
use super::failure::Failure;
use super::params;
use super::proto::{
    Exemplar, InstantSeries, PartialStatus, QueryInstantRequest, QueryInstantResponse, QueryRangeRequest, QueryRangeResponse,
    Sample, SearchMetrics, TimeSeries,
};
use super::reply::{reply, share};
use crate::api::Api;
use crate::params::Params;

/// Exemplars of an answer: as many if it is not said how many, and at most.
const EXEMPLARS: u32 = 100;
const SERIES_DEFAULT: u32 = 1_000;
const SERIES_MAX: u32 = 100_000;
const NANOS_PER_MILLI: u64 = 1_000_000;
/// The one job that an answer is.
const DONE: SearchMetrics = SearchMetrics { inspected_traces: 0, inspected_bytes: 0, completed_jobs: 1, total_jobs: 1 };

/// `GET /api/metrics/query_range`
pub(super) async fn range_over_http(
    State(api): State<Api>,
    Caller(tenant): Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let params = &Params::any(&uri)?;
    let request = QueryRangeRequest {
        query: query_text(params),
        start: params::nanos(params, "start")?,
        end: params::nanos(params, "end")?,
        step: params::step(params, "step")?,
        exemplars: params::number(params, "exemplars", 0..=u32::MAX)?,
        max_series: params::number(params, "maxSeries", 0..=u32::MAX)?,
        instant: None,
    };
    reply(&api, &headers, &range(api.clone(), tenant, request).await?)
}

/// `GET /api/metrics/query`
pub(super) async fn instant_over_http(
    State(api): State<Api>,
    Caller(tenant): Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let params = &Params::any(&uri)?;
    let (start, end) = (params::nanos(params, "start")?, params::nanos(params, "end")?);
    reply(&api, &headers, &instant(api.clone(), tenant, QueryInstantRequest { query: query_text(params), start, end }).await?)
}

/// Prometheus' name of the parameter is taken, too, as Tempo does.
fn query_text(params: &Params) -> String {
    params.get("q").or_else(|| params.get("query")).unwrap_or_default().to_owned()
}

/// Numbers of each step.
pub(super) async fn range(api: Api, tenant: Tenant, request: QueryRangeRequest) -> Result<QueryRangeResponse, Failure> {
    let question = question(&request)?;
    let grid = question.grid()?;
    let answer = api.engine()?.traceql_metrics(&tenant, &question).await?;
    let (status, message) = completeness(&answer, question.max_series);
    let _share = share(&api, answer.series.len() * grid.len() * size_of::<Sample>())?;
    let series = answer.series.into_iter().map(|series| time_series(series, &grid)).collect();
    Ok(QueryRangeResponse { series, metrics: DONE, status: status as i32, message })
}

/// One number of the whole range.
pub(super) async fn instant(api: Api, tenant: Tenant, request: QueryInstantRequest) -> Result<QueryInstantResponse, Failure> {
    let QueryInstantRequest { query, start, end } = request;
    let mut question = question(&QueryRangeRequest { query, start, end, instant: Some(true), ..Default::default() })?;
    question.exemplars = 0;
    let answer = api.engine()?.traceql_metrics(&tenant, &question).await?;
    let (status, message) = completeness(&answer, question.max_series);
    let number = |series: Series| {
        let value = series.values.last().copied().filter(|value| !value.is_nan())?;
        Some(InstantSeries { labels: series.labels.into_iter().map(label).collect(), value })
    };
    let series = answer.series.into_iter().filter_map(number).collect();
    Ok(QueryInstantResponse { series, metrics: DONE, status: status as i32, message })
}

fn question(request: &QueryRangeRequest) -> Result<TraceQlMetrics, Failure> {
    let query: Query = request.query.parse()?;
    let (start, end) = params::nanos_range(request.start, request.end)?;
    let asked = match query.hint("exemplars") {
        Some(Literal::Bool(false)) => Some(0),
        Some(Literal::Int(number)) => Some(u32::try_from(*number).unwrap_or(EXEMPLARS)),
        _ => Some(request.exemplars).filter(|number| *number > 0),
    };
    let max_series = if request.max_series == 0 { SERIES_DEFAULT } else { request.max_series.min(SERIES_MAX) };
    Ok(TraceQlMetrics {
        query,
        start,
        end,
        step: request.step,
        instant: request.instant.unwrap_or_default(),
        exemplars: asked.unwrap_or(EXEMPLARS).min(EXEMPLARS) as usize,
        max_series: max_series as usize,
    })
}

/// Whether series are missing, and what Grafana shows of it (P10).
fn completeness(answer: &MetricsAnswer, max_series: usize) -> (PartialStatus, String) {
    if !answer.truncated {
        return (PartialStatus::Complete, String::new());
    }
    let message =
        format!("Response exceeds maximum series limit of {max_series}, a partial response is returned: group by fewer values");
    (PartialStatus::Partial, message)
}

fn time_series(series: Series, grid: &Grid) -> TimeSeries {
    let numbers = (0_u32..).zip(series.values).filter(|(_, value)| !value.is_nan());
    let samples = numbers.map(|(interval, value)| Sample { value, timestamp_ms: millis(grid.time(interval)) });
    let mut exemplars: Vec<Exemplar> = series.exemplars.iter().map(exemplar).collect();
    exemplars.sort_by_key(|exemplar| exemplar.timestamp_ms);
    TimeSeries { labels: series.labels.into_iter().map(label).collect(), samples: samples.collect(), exemplars }
}

/// Grafana makes a link of the label `trace:id`.
fn exemplar(of: &meshlake_traceql::Exemplar) -> Exemplar {
    let trace_id = Any::StringValue(TraceId(of.trace_id).to_string());
    Exemplar { labels: vec![key_value("trace:id".to_owned(), trace_id)], value: of.value, timestamp_ms: millis(of.time) }
}

/// Unix milliseconds of nanoseconds; the quotient is in range.
fn millis(nanos: u64) -> i64 {
    (nanos / NANOS_PER_MILLI).cast_signed()
}

fn label((name, value): (String, Value<'static>)) -> KeyValue {
    key_value(name, any(value))
}

fn key_value(key: String, value: Any) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

/// What has no type in OTLP, or none that Grafana can show as a label, is its text.
fn any(value: Value<'_>) -> Any {
    match value {
        Value::Bool(value) => Any::BoolValue(value),
        Value::Int(value) => Any::IntValue(value),
        Value::Float(value) => Any::DoubleValue(value),
        Value::Text(text) => Any::StringValue(text.into_owned()),
        other => Any::StringValue(other.to_string()),
    }
}
