//! Searches.

use std::collections::HashSet;
use std::time::Duration;
use std::vec;

use axum::extract::State;
use axum::response::Response;
use futures::stream::{self, StreamExt};
use http::{HeaderMap, Uri};
use meshlake_config::Tenant;
use meshlake_query::meshlake_traceql::Query;
use meshlake_query::{FoundSpan, FoundSpanset, FoundTrace, TimeRange, TraceId, TraceQlFound, TraceQlSearch};

use super::caller::Caller;
use super::failure::Failure;
use super::grpc::Messages;
use super::proto::{SearchMetrics, SearchRequest, SearchResponse, ServiceStats, Span, SpanSet, TraceSearchMetadata};
use super::reply::reply;
use super::{columns, legacy, params};
use crate::api::Api;
use crate::params::Params;
use crate::traceql::key_value;

const TRACES_DEFAULT: u32 = 20;
const TRACES_MAX: u32 = 10_000;
const SPANS_DEFAULT: u32 = 3;
const SPANS_MAX: u32 = 10_000;
/// What a call that may answer in parts searches first: the last hour of its range, then so many times as long.
const FIRST_PART_MICROS: i64 = 3_600_000_000;
const PART_GROWTH: i64 = 4;

/// `GET /api/search`
pub(super) async fn over_http(
    State(api): State<Api>,
    Caller(tenant): Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let search = question(&read(&Params::any(&uri)?)?)?;
    let mut found = api.engine()?.traceql_search(&tenant, &search).await?;
    columns::align(&mut found.traces);
    let metrics = SearchMetrics {
        inspected_traces: saturated(found.inspected_traces),
        inspected_bytes: found.inspected_bytes,
        completed_jobs: 1,
        total_jobs: 1,
    };
    reply(&api, &headers, &SearchResponse { traces: found.traces.into_iter().map(metadata).collect(), metrics })
}

fn read(params: &Params) -> Result<SearchRequest, Failure> {
    let all_spans = params.get("spss") == Some("0");
    Ok(SearchRequest {
        tags: legacy::read_tags(params.get("tags").unwrap_or_default()).map_err(Failure::invalid)?,
        min_duration_ms: params::millis(params, "minDuration")?,
        max_duration_ms: params::millis(params, "maxDuration")?,
        limit: params::number(params, "limit", 1..=u32::MAX)?,
        start: params::seconds(params, "start")?,
        end: params::seconds(params, "end")?,
        query: params.get("q").unwrap_or_default().to_owned(),
        spans_per_span_set: if all_spans { SPANS_MAX } else { params::number(params, "spss", 1..=u32::MAX)? },
    })
}

/// What a request asks. An empty one, with which Kiali looks whether anybody is there, asks for the newest traces.
fn question(request: &SearchRequest) -> Result<TraceQlSearch, Failure> {
    let query: Query = match (request.query.trim(), request.tags.is_empty()) {
        ("", _) => legacy::query(&request.tags).parse()?,
        (query, true) => query.parse()?,
        (_, false) => return Err(Failure::invalid("invalid request: can't specify tags and q in the same query")),
    };
    let limit = or_default(request.limit, TRACES_DEFAULT);
    if limit > TRACES_MAX {
        return Err(Failure::invalid(format!("limit {limit} exceeds max limit {TRACES_MAX}")));
    }
    let spans = or_default(request.spans_per_span_set, SPANS_DEFAULT);
    if spans > SPANS_MAX {
        return Err(Failure::invalid(format!("spans per span set exceeds {SPANS_MAX}. received {spans}")));
    }
    let (min, max) = (request.min_duration_ms, request.max_duration_ms);
    if max != 0 && min > max {
        return Err(Failure::invalid("invalid maxDuration: must be greater than minDuration"));
    }
    let duration = |millis: u32| (millis != 0).then(|| Duration::from_millis(millis.into()));
    Ok(TraceQlSearch {
        query,
        range: params::range(request.start, request.end)?,
        limit: limit as usize,
        spans_per_spanset: spans as usize,
        min_duration: duration(min),
        max_duration: duration(max),
        cursor: None,
    })
}

fn or_default(given: u32, default: u32) -> u32 {
    if given == 0 { default } else { given }
}

/// `StreamingQuerier.Search`: the traces in parts, the newest first. Each trace comes once, and whole, for clients either keep the first of a
/// trace or show each that comes.
pub(super) fn messages(api: Api, tenant: Tenant, request: &SearchRequest) -> Result<Messages<SearchResponse>, Failure> {
    let search = question(request)?;
    let parts = parts(search.range);
    let total = saturated(parts.len() as u64);
    let progress = Progress { api, tenant, search, parts: parts.into_iter(), sent: HashSet::new(), done: 0, total };
    Ok(stream::try_unfold(progress, Progress::next).boxed())
}

/// The ends of a range, ever longer; the range itself is the last. Each holds those before it, for what makes a trace match may lie on both
/// sides of any border; to search again what was searched costs at most a third of the whole.
fn parts(range: TimeRange) -> Vec<TimeRange> {
    let (mut parts, mut length) = (Vec::new(), FIRST_PART_MICROS);
    while length <= range.end.saturating_sub(range.start) / PART_GROWTH {
        parts.push(TimeRange { start: range.end - length, end: range.end });
        length = length.saturating_mul(PART_GROWTH);
    }
    parts.push(range);
    parts
}

/// A search that is answered in parts.
struct Progress {
    api: Api,
    tenant: Tenant,
    search: TraceQlSearch,
    /// What is still to be searched.
    parts: vec::IntoIter<TimeRange>,
    sent: HashSet<TraceId>,
    /// Parts that were searched.
    done: u32,
    /// All parts.
    total: u32,
}

impl Progress {
    async fn next(mut self) -> Result<Option<(SearchResponse, Progress)>, Failure> {
        let Some(range) = self.parts.next() else { return Ok(None) };
        let search = TraceQlSearch { range, ..self.search.clone() };
        let found = self.api.engine()?.traceql_search(&self.tenant, &search).await?;
        let TraceQlFound { mut traces, inspected_traces, inspected_bytes, .. } = found;
        columns::align(&mut traces);
        let room = self.search.limit - self.sent.len();
        let fresh: Vec<_> = traces.into_iter().filter(|trace| !self.sent.contains(&trace.summary.trace_id)).take(room).collect();
        self.sent.extend(fresh.iter().map(|trace| trace.summary.trace_id));
        self.done += 1;
        if self.sent.len() == self.search.limit {
            self.parts = Vec::new().into_iter();
            self.done = self.total;
        }
        let metrics = SearchMetrics {
            inspected_traces: saturated(inspected_traces),
            inspected_bytes,
            completed_jobs: self.done,
            total_jobs: self.total,
        };
        let message = SearchResponse { traces: fresh.into_iter().map(metadata).collect(), metrics };
        Ok(Some((message, self)))
    }
}

fn metadata(found: FoundTrace) -> TraceSearchMetadata {
    const NANOS_PER_MILLI: i64 = 1_000_000;
    let summary = found.summary;
    let span_sets: Vec<SpanSet> = found.spansets.into_iter().map(span_set).collect();
    let (root_service_name, root_trace_name) = match (summary.root_service, summary.root_operation) {
        (None, None) => ("<root span not yet received>".to_owned(), String::new()),
        (service, operation) => (service.unwrap_or_default(), operation.unwrap_or_default()),
    };
    let stats = |spans, errors| ServiceStats { span_count: saturated(spans), error_count: saturated(errors) };
    TraceSearchMetadata {
        trace_id: summary.trace_id.to_string(),
        root_service_name,
        root_trace_name,
        start_time_unix_nano: summary.start.max(0).cast_unsigned(),
        duration_ms: saturated((summary.duration.max(0) / NANOS_PER_MILLI).cast_unsigned()),
        span_set: span_sets.first().cloned(),
        span_sets,
        service_stats: summary.services.into_iter().map(|part| (part.service, stats(part.spans, part.errors))).collect(),
    }
}

fn span_set(found: FoundSpanset) -> SpanSet {
    SpanSet {
        spans: found.spans.into_iter().map(span).collect(),
        matched: saturated(found.matched as u64),
        attributes: found.attributes.into_iter().map(key_value).collect(),
    }
}

fn span(found: FoundSpan) -> Span {
    Span {
        span_id: format!("{:016x}", u64::from_be_bytes(found.id)),
        name: found.name,
        start_time_unix_nano: found.start.max(0).cast_unsigned(),
        duration_nanos: found.duration.max(0).cast_unsigned(),
        attributes: found.attributes.into_iter().map(key_value).collect(),
    }
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<TraceQlSearch, Failure> {
        question(&read(&Params::any(&format!("/?{query}").parse().unwrap())?)?)
    }

    #[test]
    fn defaults_and_limits_are_tempos() {
        let search = asked("end=7200&unknown=1").unwrap();
        assert_eq!((search.query.to_string().as_str(), search.limit, search.spans_per_spanset), ("{ true }", 20, 3));
        assert_eq!(search.range, TimeRange { start: 3_600_000_000, end: 7_200_000_000 });
        let search = asked("q=%7B%20.a%20%3D%201%20%7D&limit=200&spss=0&minDuration=5ms&maxDuration=1m").unwrap();
        assert_eq!((search.limit, search.spans_per_spanset), (200, SPANS_MAX as usize));
        assert_eq!((search.min_duration, search.max_duration), (Some(Duration::from_millis(5)), Some(Duration::from_secs(60))));
        for (wrong, told) in [
            ("q=%7B%20status%20%3E%205%20%7D", "parse error at line 1, col 3"),
            ("limit=0", "`limit`"),
            ("limit=20000", "exceeds max limit 10000"),
            ("spss=20000", "spans per span set exceeds 10000"),
            ("minDuration=2s&maxDuration=1s", "maxDuration"),
            ("minDuration=fast", "`minDuration`"),
            ("start=20&end=10", "start must be before end"),
            ("start=soon", "`start`"),
            ("q=%7B%7D&tags=a%3Db", "tags and q"),
            ("tags=a", "`a`"),
        ] {
            let status = asked(wrong).unwrap_err().status();
            assert!(status.code() == tonic::Code::InvalidArgument && status.message().contains(told), "{wrong}: {status}");
        }
    }

    /// Scenario: ranges from half an hour to a month. Guarantee: the parts are few, each is longer than the one before and ends with the
    /// range, the first is short, and the last is the range.
    #[test]
    fn parts_grow_to_the_range() {
        for (halves, count) in [(1_i64, 1), (2, 1), (7, 1), (8, 2), (32, 3), (48, 3), (1_440, 5)] {
            let range = TimeRange { start: 7, end: 7 + halves * FIRST_PART_MICROS / 2 };
            let parts = parts(range);
            assert_eq!((parts.len(), parts[count - 1]), (count, range), "{halves}");
            assert!(parts.iter().all(|part| part.end == range.end));
            assert!(parts.windows(2).all(|pair| pair[1].start < pair[0].start));
            assert!(parts[0].end - parts[0].start < PART_GROWTH * FIRST_PART_MICROS);
        }
    }
}
