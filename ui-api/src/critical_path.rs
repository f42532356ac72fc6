//! `GET traces/{trace_id}/critical-path` and `GET critical-path`: what end-to-end times consist of.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use http::Uri;
use meshlake_query::{
    ClassTimes, CriticalPaths, NodeName, PathChange, PathPart, PathQuery, PathRow, PathSegment, PathTotals, TimeRange, TraceId,
    TracePath,
};
use serde::Serialize;

use crate::api::{Api, ForTenant};
use crate::params::Params;
use crate::problem::{Kind, Problem};
use crate::sample::{Sample, traces};
use crate::time::{format_micros, format_nanos};

/// What `GET critical-path` takes.
pub(crate) const PARAMETERS: &[&str] =
    &["start", "end", "baseline_start", "baseline_end", "service", "operation", "traces", "limit"];

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;

/// The critical path of a trace.
#[derive(Serialize)]
pub(crate) struct OfTrace {
    trace_id: String,
    start_time: String,
    duration_ns: u64,
    classes: Classes,
    segments: Vec<Segment>,
    tops: usize,
    detached: usize,
    moved: usize,
    left_out: usize,
}

#[derive(Serialize)]
struct Segment {
    /// Since the start.
    offset_ns: u64,
    duration_ns: u64,
    class: &'static str,
    span_id: Option<String>,
    operation: Option<String>,
    #[serde(flatten)]
    node: Node,
}

#[derive(Serialize)]
struct Classes {
    application: Time,
    proxy: Time,
    network: Time,
    unknown: Time,
}

#[derive(Serialize)]
struct Time {
    time_ns: u64,
    share: f64,
}

/// Whose time it is.
#[derive(Serialize)]
pub(crate) struct Node {
    kind: &'static str,
    cluster: Option<String>,
    namespace: Option<String>,
    workload: Option<String>,
    service: Option<String>,
}

/// The critical paths of a range.
#[derive(Serialize)]
pub(crate) struct OfRange {
    rows: Vec<Row>,
    truncated: bool,
    range: Totals,
    baseline: Option<Totals>,
}

#[derive(Serialize)]
struct Totals {
    start: String,
    end: String,
    paths: u64,
    time_ns: u64,
    mean_ns: f64,
    classes: Classes,
    moved: u64,
    detached: u64,
    #[serde(flatten)]
    sample: Sample,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    node: Node,
    operation: Option<String>,
    class: &'static str,
    #[serde(flatten)]
    range: Part,
    baseline: Option<Part>,
    change: Option<Change>,
}

#[derive(Serialize)]
struct Part {
    time_ns: u64,
    paths: u64,
    share: f64,
    mean_ns: f64,
}

#[derive(Serialize)]
struct Change {
    share: f64,
    mean_ns: f64,
}

/// What the end-to-end time of a trace consists of.
pub(crate) async fn of_trace(
    State(api): State<Api>,
    ForTenant(tenant): ForTenant,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<OfTrace>, Problem> {
    Params::parse(&uri, &[])?;
    let Path(id) = id.map_err(|error| Problem::parameter("trace_id", error.body_text()))?;
    let id: TraceId = id.parse().map_err(|error| Problem::parameter("trace_id", format!("parameter `trace_id`: {error}")))?;
    let found = api.engine()?.critical_path(&tenant, id).await?;
    let path = found.ok_or_else(|| Problem::new(Kind::NotFound, format!("no span of trace {id} is known")))?;
    let TracePath { start, end, segments, classes, tops, detached, moved, left_out } = path;
    Ok(Json(OfTrace {
        trace_id: id.to_string(),
        // Until the year 2262, where signed nanoseconds end.
        start_time: format_nanos(start as i64),
        duration_ns: end - start,
        classes: Classes::of(&classes, u128::from(end - start)),
        segments: segments.into_iter().map(|segment| Segment::of(segment, start)).collect(),
        tops,
        detached,
        moved,
        left_out,
    }))
}

/// What the end-to-end times of traces, or of requests, consist of.
pub(crate) async fn of_range(State(api): State<Api>, ForTenant(tenant): ForTenant, uri: Uri) -> Result<Json<OfRange>, Problem> {
    let query = read_query(&Params::parse(&uri, PARAMETERS)?)?;
    let CriticalPaths { rows, truncated, range, baseline } = api.engine()?.critical_paths(&tenant, &query).await?;
    Ok(Json(OfRange {
        rows: rows.into_iter().map(Row::from).collect(),
        truncated,
        range: Totals::of(&range, query.range),
        baseline: baseline.zip(query.baseline).map(|(totals, range)| Totals::of(&totals, range)),
    }))
}

fn read_query(params: &Params) -> Result<PathQuery, Problem> {
    let text = |name| params.get(name).map(str::to_owned);
    Ok(PathQuery {
        range: params.range()?,
        baseline: params.range_if_given("baseline_start", "baseline_end")?,
        service: text("service"),
        operation: text("operation"),
        traces: traces(params)?,
        limit: params.number("limit", 1..=LIMIT_MAX, LIMIT_DEFAULT)?,
    })
}

/// What JSON has of a sum of nanoseconds: 584 years.
fn nanoseconds(time: u128) -> u64 {
    u64::try_from(time).unwrap_or(u64::MAX)
}

impl Classes {
    fn of(times: &ClassTimes, whole: u128) -> Classes {
        let time =
            |time: u128| Time { time_ns: nanoseconds(time), share: if whole == 0 { 0.0 } else { time as f64 / whole as f64 } };
        let ClassTimes { application, proxy, network, unknown } = *times;
        Classes { application: time(application), proxy: time(proxy), network: time(network), unknown: time(unknown) }
    }
}

impl Segment {
    fn of(segment: PathSegment, start: u64) -> Segment {
        Segment {
            offset_ns: segment.from - start,
            duration_ns: segment.to - segment.from,
            class: segment.class.as_str(),
            span_id: segment.span_id.map(|id| format!("{:016x}", u64::from_be_bytes(id))),
            operation: segment.operation,
            node: segment.node.into(),
        }
    }
}

impl Totals {
    fn of(totals: &PathTotals, range: TimeRange) -> Totals {
        let PathTotals { paths, time, classes, moved, detached, sample } = *totals;
        Totals {
            start: format_micros(range.start),
            end: format_micros(range.end),
            paths,
            time_ns: nanoseconds(time),
            mean_ns: if paths == 0 { 0.0 } else { time as f64 / paths as f64 },
            classes: Classes::of(&classes, time),
            moved,
            detached,
            sample: sample.into(),
        }
    }
}

impl From<NodeName> for Node {
    fn from(node: NodeName) -> Node {
        let NodeName { kind, cluster, namespace, workload, service } = node;
        Node { kind, cluster, namespace, workload, service }
    }
}

impl From<PathRow> for Row {
    fn from(row: PathRow) -> Row {
        Row {
            node: row.node.into(),
            operation: row.operation,
            class: row.class.as_str(),
            range: row.range.into(),
            baseline: row.baseline.map(Part::from),
            change: row.change.map(|PathChange { share, mean }| Change { share, mean_ns: mean }),
        }
    }
}

impl From<PathPart> for Part {
    fn from(part: PathPart) -> Part {
        let PathPart { time, paths, share, mean } = part;
        Part { time_ns: nanoseconds(time), paths, share, mean_ns: mean }
    }
}
