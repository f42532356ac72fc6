//! `GET latency`: how long requests took, step by step.

use axum::Json;
use axum::extract::State;
use http::Uri;
use meshlake_query::{LatencyPoint, LatencyQuery, LatencySide, Quantile};
use serde::{Serialize, Serializer};

use crate::api::{Api, ForTenant};
use crate::hops::Counts;
use crate::params::Params;
use crate::problem::Problem;
use crate::time::{format_micros, parse_duration};

/// What it takes.
pub(crate) const PARAMETERS: &[&str] =
    &["start", "end", "exact", "step", "service", "operation", "workload", "namespace", "cluster", "side", "group_by", "quantiles"];

const STEP_DEFAULT_MICROS: i64 = 60_000_000;
const QUANTILES_DEFAULT: &str = "0.5,0.9,0.95,0.99";
const QUANTILES_MAX: usize = 20;

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

/// Latencies by the names of the quantiles, in the order in which they were asked for.
struct Quantiles(Vec<(String, Option<u64>)>);

impl Serialize for Quantiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The latencies of the requests in the range.
pub(crate) async fn latency(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<Latency>, Problem> {
    let params = Params::parse(&uri, PARAMETERS)?;
    let quantiles = read_quantiles(params.get("quantiles").unwrap_or(QUANTILES_DEFAULT));
    let quantiles = quantiles.map_err(|error| Problem::parameter("quantiles", format!("parameter `quantiles`: {error}")))?;
    let query = LatencyQuery { quantiles, ..read_query(&params)? };
    let latency = api.engine()?.latency(&tenant, &query).await?;
    let names: Vec<String> = query.quantiles.iter().map(Quantile::to_string).collect();
    let point = |point| self::point(point, &names);
    let series = latency
        .series
        .into_iter()
        .map(|series| Series { group: series.group, points: series.points.into_iter().map(point).collect() });
    Ok(Json(Latency {
        start: format_micros(query.range.start),
        end: format_micros(query.range.end),
        series: series.collect(),
        counts: latency.counts.into(),
    }))
}

fn point(point: LatencyPoint, names: &[String]) -> Point {
    Point {
        end: format_micros(point.end),
        requests: point.requests,
        rate: point.rate,
        reports: point.reports,
        errors: point.errors,
        latency_ns: Quantiles(names.iter().cloned().zip(point.latency).collect()),
    }
}

/// Quantiles with commas between them.
fn read_quantiles(text: &str) -> Result<Vec<Quantile>, String> {
    let quantiles = text.split(',').map(|text| text.parse::<Quantile>().map_err(|error| error.to_string()));
    let quantiles = quantiles.take(QUANTILES_MAX + 1).collect::<Result<Vec<Quantile>, String>>()?;
    if quantiles.len() > QUANTILES_MAX {
        return Err(format!("there are more than {QUANTILES_MAX}"));
    }
    match quantiles.iter().enumerate().find(|(at, quantile)| quantiles[..*at].contains(quantile)) {
        Some((_, twice)) => Err(format!("{} is given more than once", twice.share())),
        None => Ok(quantiles),
    }
}

/// The requests that are asked for; no quantiles yet.
pub(crate) fn read_query(params: &Params) -> Result<LatencyQuery, Problem> {
    let text = |name| params.get(name).map(str::to_owned);
    let step = params.read("step", parse_duration)?;
    let query = LatencyQuery {
        range: params.of_hops(params.range()?)?,
        step: step.map_or(STEP_DEFAULT_MICROS, |step| i64::try_from(step.as_micros()).unwrap_or(i64::MAX)),
        service: text("service"),
        operation: text("operation"),
        workload: text("workload"),
        namespace: text("namespace"),
        cluster: text("cluster"),
        side: params.read("side", str::parse)?.unwrap_or(LatencySide::Callee),
        group_by: params.read("group_by", str::parse)?,
        quantiles: Vec::new(),
    };
    query.steps().map_err(|error| Problem::parameter("step", format!("parameter `step`: {error}")))?;
    Ok(query)
}
