//! `GET latency/heatmap`: how many requests took how long, step by step.

use axum::Json;
use axum::extract::State;
use http::Uri;
use meshlake_query::{HeatmapColumn, HeatmapQuery};
use serde::Serialize;

use crate::api::{Api, ForTenant};
use crate::hops::Counts;
use crate::latency::read_query;
use crate::params::Params;
use crate::problem::Problem;
use crate::time::format_micros;

/// What it takes.
pub(crate) const PARAMETERS: &[&str] =
    &["start", "end", "exact", "step", "service", "operation", "workload", "namespace", "cluster", "side", "group_by", "buckets"];

const BUCKETS_MIN: usize = 4;
const BUCKETS_MAX: usize = 200;
const BUCKETS_DEFAULT: usize = 40;

#[derive(Serialize)]
pub(crate) struct Heatmap {
    start: String,
    end: String,
    scale: i32,
    buckets: Vec<Bucket>,
    series: Vec<Series>,
    #[serde(flatten)]
    counts: Counts,
}

/// Both bounds belong to it.
#[derive(Serialize)]
struct Bucket {
    low_ns: u64,
    high_ns: u64,
}

#[derive(Serialize)]
struct Series {
    group: Option<String>,
    columns: Vec<Column>,
}

#[derive(Serialize)]
struct Column {
    end: String,
    counts: Vec<u64>,
}

/// The heatmap of the requests in the range.
pub(crate) async fn heatmap(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<Heatmap>, Problem> {
    let params = Params::parse(&uri, PARAMETERS)?;
    let buckets = params.number("buckets", BUCKETS_MIN..=BUCKETS_MAX, BUCKETS_DEFAULT)?;
    let query = HeatmapQuery { requests: read_query(&params)?, buckets };
    let heatmap = api.engine()?.heatmap(&tenant, &query).await?;
    let column = |column: HeatmapColumn| Column { end: format_micros(column.end), counts: column.counts };
    let series = heatmap
        .series
        .into_iter()
        .map(|series| Series { group: series.group, columns: series.columns.into_iter().map(column).collect() });
    Ok(Json(Heatmap {
        start: format_micros(query.requests.range.start),
        end: format_micros(query.requests.range.end),
        scale: heatmap.scale,
        buckets: heatmap.buckets.into_iter().map(|(low_ns, high_ns)| Bucket { low_ns, high_ns }).collect(),
        series: series.collect(),
        counts: heatmap.counts.into(),
    }))
}
