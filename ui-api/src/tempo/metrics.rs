//! Numbers over time.

use std::vec;

use axum::extract::State;
use axum::response::Response;
use futures::stream::{self, StreamExt};
use http::{HeaderMap, Uri};
use meshlake_config::Tenant;
use meshlake_query::meshlake_traceql::{self, Body, Function, Grid, Literal, MetricsAnswer, Query, Series, Value};
use meshlake_query::{MetricsPart, MetricsSoFar, TraceId, TraceQlMetrics};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::caller::Caller;
use super::failure::Failure;
use super::grpc::Messages;
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
async fn range(api: Api, tenant: Tenant, request: QueryRangeRequest) -> Result<QueryRangeResponse, Failure> {
    let question = question(&request)?;
    let known = Known::whole(api.engine()?.traceql_metrics(&tenant, &question).await?);
    range_response(&api, &question, known)
}

/// One number of the whole range.
async fn instant(api: Api, tenant: Tenant, request: QueryInstantRequest) -> Result<QueryInstantResponse, Failure> {
    let question = instant_question(request)?;
    let known = Known::whole(api.engine()?.traceql_metrics(&tenant, &question).await?);
    Ok(instant_response(&question, known))
}

/// `StreamingQuerier.MetricsQueryRange`: the numbers of long ranges in parts, the newest first. Grafana adds the samples of each message to those that
/// came before it, and of two of one time shows the later. So each message has the samples of its part, which stay as they are, and the last has
/// all, with those that only the whole range tells: exemplars, and zeros of series that other parts have.
pub(super) fn range_messages(
    api: Api,
    tenant: Tenant,
    request: &QueryRangeRequest,
) -> Result<Messages<QueryRangeResponse>, Failure> {
    let question = question(request)?;
    let known = in_parts(api.clone(), tenant, question.clone())?;
    Ok(known.map(move |known| range_response(&api, &question, known?)).boxed())
}

/// `StreamingQuerier.MetricsQueryInstant`: the numbers of the newest part of a long range, then of ever more of it. Grafana shows those of the last
/// message.
pub(super) fn instant_messages(
    api: Api,
    tenant: Tenant,
    request: QueryInstantRequest,
) -> Result<Messages<QueryInstantResponse>, Failure> {
    let question = instant_question(request)?;
    let known = in_parts(api, tenant, question.clone())?;
    Ok(known.map(move |known| Ok(instant_response(&question, known?))).boxed())
}

/// What is known of an answer.
struct Known {
    answer: MetricsAnswer,
    /// Of what part it is, unless it is the whole answer.
    part: Option<MetricsPart>,
    metrics: SearchMetrics,
}

impl Known {
    fn whole(answer: MetricsAnswer) -> Known {
        Known { answer, part: None, metrics: DONE }
    }

    /// Whether the samples of a time are new, and whole.
    fn tells(&self, time: u64) -> bool {
        self.part.is_none_or(|part| part.after < time && time <= part.until)
    }
}

/// An answer as it becomes known.
fn in_parts(api: Api, tenant: Tenant, question: TraceQlMetrics) -> Result<Messages<Known>, Failure> {
    let mut parts = question.parts()?;
    if is_heat_map(&question.query) {
        // What is one part, is answered at once.
        parts.truncate(1);
    }
    // There are a few.
    let total = parts.len() as u32;
    let progress = Progress { api, tenant, question, parts: parts.into_iter(), so_far: None, done: 0, total };
    Ok(stream::try_unfold(progress, Progress::next).boxed())
}

/// Whether Grafana paints a heat map: its rows are the series in the order in which they come, which only the whole range tells.
fn is_heat_map(query: &Query) -> bool {
    let Body::Metrics(series) = &query.body else { return false };
    series.queries().iter().any(|query| matches!(query.function, Function::HistogramOverTime(_)))
}

/// Numbers that are made in parts.
struct Progress {
    api: Api,
    tenant: Tenant,
    question: TraceQlMetrics,
    /// What is still to be read.
    parts: vec::IntoIter<MetricsPart>,
    /// What came of the parts that were read.
    so_far: Option<MetricsSoFar>,
    /// How many those are.
    done: u32,
    /// All parts.
    total: u32,
}

impl Progress {
    async fn next(mut self) -> Result<Option<(Known, Progress)>, Failure> {
        let Some(part) = self.parts.next() else { return Ok(None) };
        let (engine, tenant, question) = (self.api.engine()?, &self.tenant, &self.question);
        if self.total == 1 {
            let known = Known::whole(engine.traceql_metrics(tenant, question).await?);
            return Ok(Some((known, self)));
        }
        let (so_far, answer) = engine.traceql_metrics_part(tenant, question, part, self.so_far.take()).await?;
        self.done += 1;
        let is_last = self.done == self.total;
        self.so_far = Some(so_far).filter(|_| !is_last);
        let metrics = SearchMetrics { completed_jobs: self.done, total_jobs: self.total, ..DONE };
        Ok(Some((Known { answer, part: Some(part).filter(|_| !is_last), metrics }, self)))
    }
}

fn range_response(api: &Api, question: &TraceQlMetrics, mut known: Known) -> Result<QueryRangeResponse, Failure> {
    let (grid, (status, message)) = (question.grid()?, completeness(&known.answer, question.max_series));
    let _share = share(api, known.answer.series.len() * grid.len() * size_of::<Sample>())?;
    let series = std::mem::take(&mut known.answer.series).into_iter().filter_map(|series| time_series(series, &grid, &known));
    Ok(QueryRangeResponse { series: series.collect(), metrics: known.metrics, status: status as i32, message })
}

fn instant_response(question: &TraceQlMetrics, known: Known) -> QueryInstantResponse {
    let Known { answer, metrics, .. } = known;
    let (status, message) = completeness(&answer, question.max_series);
    let number = |series: Series| {
        let value = series.values.last().copied().filter(|value| !value.is_nan())?;
        Some(InstantSeries { labels: series.labels.into_iter().map(label).collect(), value })
    };
    let series = answer.series.into_iter().filter_map(number).collect();
    QueryInstantResponse { series, metrics, status: status as i32, message }
}

fn instant_question(request: QueryInstantRequest) -> Result<TraceQlMetrics, Failure> {
    let QueryInstantRequest { query, start, end } = request;
    let question = question(&QueryRangeRequest { query, start, end, instant: Some(true), ..Default::default() })?;
    Ok(TraceQlMetrics { exemplars: 0, ..question })
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

/// What is known of a series; nothing, if a part has no sample of it.
fn time_series(series: Series, grid: &Grid, known: &Known) -> Option<TimeSeries> {
    let numbers = (0_u32..).zip(series.values).map(|(interval, value)| (grid.time(interval), value));
    let numbers = numbers.filter(|(time, value)| !value.is_nan() && known.tells(*time));
    let samples: Vec<Sample> = numbers.map(|(time, value)| Sample { value, timestamp_ms: millis(time) }).collect();
    let is_whole = known.part.is_none();
    let mut exemplars: Vec<Exemplar> = series.exemplars.iter().filter(|_| is_whole).map(exemplar).collect();
    exemplars.sort_by_key(|exemplar| exemplar.timestamp_ms);
    let labels = series.labels.into_iter().map(label).collect();
    (is_whole || !samples.is_empty()).then_some(TimeSeries { labels, samples, exemplars })
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
