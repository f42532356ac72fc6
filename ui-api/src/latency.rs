//! `GET latency`: how long requests took, step by step.

use axum::Json;
use axum::extract::State;
use http::Uri;
use meshlake_query::{LatencyPoint, LatencyQuery, LatencySide};
use serde::Serialize;

use crate::api::{Api, ForTenant};
use crate::hops::{Counts, Quantiles};
use crate::params::Params;
use crate::problem::Problem;
use crate::time::{format_micros, parse_duration};

/// What it takes.
pub(crate) const PARAMETERS: &[&str] = &["start", "end", "step", "service", "operation", "workload", "cluster", "side", "group_by"];

const STEP_DEFAULT_MICROS: i64 = 60_000_000;

#[derive(Serialize)]
pub(crate) struct Latency {
    start: String,
    end: String,
    series: Vec<Series>,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Series {
    group: Option<String>,
    points: Vec<Point>,
}

#[derive(Serialize)]
struct Point {
    end: String,
    requests: u64,
    rate: f64,
    reports: u64,
    errors: u64,
    latency_ns: Quantiles,
}

/// The latencies of the requests in the range.
pub(crate) async fn latency(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<Latency>, Problem> {
    let query = read_query(&Params::parse(&uri, PARAMETERS)?)?;
    let latency = api.engine()?.latency(&tenant, &query).await?;
    let series = latency
        .series
        .into_iter()
        .map(|series| Series { group: series.group, points: series.points.into_iter().map(Point::from).collect() });
    Ok(Json(Latency {
        start: format_micros(query.range.start),
        end: format_micros(query.range.end),
        series: series.collect(),
        counts: latency.counts.into(),
    }))
}

impl From<LatencyPoint> for Point {
    fn from(point: LatencyPoint) -> Point {
        Point {
            end: format_micros(point.end),
            requests: point.requests,
            rate: point.rate,
            reports: point.reports,
            errors: point.errors,
            latency_ns: point.latency.into(),
        }
    }
}

fn read_query(params: &Params) -> Result<LatencyQuery, Problem> {
    let text = |name| params.get(name).map(str::to_owned);
    let step = params.read("step", parse_duration)?;
    let query = LatencyQuery {
        range: params.range()?,
        step: step.map_or(STEP_DEFAULT_MICROS, |step| i64::try_from(step.as_micros()).unwrap_or(i64::MAX)),
        service: text("service"),
        operation: text("operation"),
        workload: text("workload"),
        cluster: text("cluster"),
        side: params.read("side", str::parse)?.unwrap_or(LatencySide::Callee),
        group_by: params.read("group_by", str::parse)?,
    };
    query.steps().map_err(|error| Problem::parameter("step", format!("parameter `step`: {error}")))?;
    Ok(query)
}
