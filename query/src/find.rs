//! How a search finds its traces.
//!
//! **By start.** The key is the start of the whole trace, which only a lookup of all its spans tells. But a trace starts no
//! later than its matching spans, so the newest matching rows bound it: rows are taken newest first, a few at a time, the
//! traces they belong to are looked up, and the search ends as soon as enough traces start after the last row taken, for
//! then no trace unseen can come before them. Scanned are only `start_time` and the columns asked about.
//!
//! **By duration.** Nothing bounds the duration of a trace from one of its spans, so all matching traces are measured, in one
//! aggregation over three columns of their spans.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::{JoinType, Result, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::logical_expr::{Expr, ScalarUDF, cast, col, lit, when};

use crate::attribute::attribute_text;
use crate::error::QueryError;
use crate::lookup::FoundRows;
use crate::rollups::Copies;
use crate::search::{Cursor, Order, Search, SearchPage, TraceSummary};
use crate::summary::{SUMMARY_COLUMNS, Summaries};
use crate::trace_id::{TraceId, trace_ids};
use crate::view::{View, starts_in, starts_until};

const LIMIT_MAX: usize = 1000;
/// Rows taken in the first round, for each trace asked for, and by how much a round is larger than the one before.
const ROWS_PER_TRACE: usize = 8;
const ROUND_GROWTH: usize = 4;

/// One page of the search.
pub(crate) async fn search(view: &View, attribute: &Arc<ScalarUDF>, search: &Search) -> Result<SearchPage> {
    check(search)?;
    let matching = matching(attribute, search)?;
    match search.order_by {
        Order::Start => newest(view, search, matching).await,
        Order::Duration => longest(view, search, matching).await,
    }
}

fn check(search: &Search) -> Result<(), QueryError> {
    if search.limit == 0 || search.limit > LIMIT_MAX {
        return Err(QueryError::invalid(format!("limit is {}; it is from 1 to {LIMIT_MAX}", search.limit)));
    }
    search.range.check()?;
    if search.cursor.is_some_and(|cursor| cursor.order != search.order_by) {
        return Err(QueryError::invalid("the cursor is of a search in another order"));
    }
    Ok(())
}

/// What a span must fulfil.
fn matching(attribute: &Arc<ScalarUDF>, search: &Search) -> Result<Expr> {
    let nanoseconds = |duration: std::time::Duration| lit(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX));
    let mut filter = starts_in(search.range);
    let equal = [
        ("service", search.service.as_deref()),
        ("name", search.operation.as_deref()),
        ("status", search.status.map(|status| status.as_str())),
    ];
    for (column, value) in equal {
        if let Some(value) = value {
            filter = filter.and(col(column).eq(lit(value)));
        }
    }
    if let Some(least) = search.min_duration {
        filter = filter.and(col("duration").gt_eq(nanoseconds(least)));
    }
    if let Some(most) = search.max_duration {
        filter = filter.and(col("duration").lt_eq(nanoseconds(most)));
    }
    for (key, value) in &search.attributes {
        filter = filter.and(attribute_text(attribute, key)?.eq(lit(value.as_str())));
    }
    Ok(filter)
}

/// A trace with a matching span.
struct Candidate {
    summary: TraceSummary,
    /// Start of its latest matching span, microseconds.
    newest_match: i64,
}

async fn newest(view: &View, search: &Search, matching: Expr) -> Result<SearchPage> {
    let mut upper = search.cursor.map_or(i64::MAX, |cursor| cursor.newest).min(search.range.end - 1);
    let mut rows_max = (search.limit * ROWS_PER_TRACE).max(128);
    let mut seen: HashMap<TraceId, Candidate> = HashMap::new();
    loop {
        let rows = view.spans()?.filter(matching.clone().and(starts_until(upper)))?;
        let rows = newest_rows(rows, rows_max).await?;
        let exhausted = rows.len() < rows_max;
        let oldest = rows.last().map_or(i64::MIN, |(_, start)| *start);
        look_up(view, rows, &mut seen).await?;
        let left = |candidate: &Candidate| is_after(search.cursor, candidate.summary.start, candidate.summary.trace_id);
        let certain = |candidate: &&Candidate| left(candidate) && candidate.summary.start.div_euclid(1000) > oldest;
        if exhausted || seen.values().filter(certain).count() > search.limit {
            let oldest = if exhausted { i64::MIN } else { oldest };
            return Ok(newest_page(seen.into_values().filter(left).collect(), search.limit, oldest));
        }
        upper = oldest;
        rows_max = rows_max.saturating_mul(ROUND_GROWTH);
    }
}

/// The page, and where the next one has to begin: no later than any matching span of a trace that was not given.
fn newest_page(mut candidates: Vec<Candidate>, limit: usize, oldest: i64) -> SearchPage {
    candidates.sort_by_key(|candidate| (Reverse(candidate.summary.start), candidate.summary.trace_id));
    let rest = candidates.split_off(limit.min(candidates.len()));
    let newest = rest.iter().map(|candidate| candidate.newest_match).max().map(|newest| newest.max(oldest));
    let traces: Vec<TraceSummary> = candidates.into_iter().map(|candidate| candidate.summary).collect();
    let next = newest.zip(traces.last()).map(|(newest, last)| Cursor {
        order: Order::Start,
        key: last.start,
        trace_id: last.trace_id,
        newest,
    });
    SearchPage { traces, next }
}

/// Whether a trace comes after the cursor's.
pub(crate) fn is_after(cursor: Option<Cursor>, key: i64, trace_id: TraceId) -> bool {
    cursor.is_none_or(|cursor| key < cursor.key || (key == cursor.key && trace_id > cursor.trace_id))
}

/// Trace id and start of the newest of the rows, newest first.
pub(crate) async fn newest_rows(rows: DataFrame, rows_max: usize) -> Result<Vec<(TraceId, i64)>> {
    let frame = rows.select_columns(&["trace_id", "start_time"])?;
    let frame = frame.sort(vec![col("start_time").sort(false, false)])?;
    let batches = frame.limit(0, Some(rows_max))?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        let starts = batch.column(1).as_primitive::<TimestampMicrosecondType>().values();
        rows.extend(trace_ids(batch).zip(starts.iter().copied()));
    }
    Ok(rows)
}

/// Adds the summaries of the traces not seen yet.
async fn look_up(view: &View, rows: Vec<(TraceId, i64)>, seen: &mut HashMap<TraceId, Candidate>) -> Result<()> {
    let mut new: HashMap<TraceId, i64> = HashMap::new();
    for (id, start) in rows {
        if !seen.contains_key(&id) {
            new.entry(id).or_insert(start);
        }
    }
    for (id, summary) in summaries(view, new.keys().copied().collect()).await? {
        if let Some(newest_match) = new.get(&id).copied() {
            seen.insert(id, Candidate { summary, newest_match });
        }
    }
    Ok(())
}

/// Those that stand beside a file, and those that have to be made of spans.
async fn summaries(view: &View, mut ids: Vec<TraceId>) -> Result<HashMap<TraceId, TraceSummary>> {
    let mut told = view.summed.told(&ids, Copies::Counted).await?;
    ids.retain(|id| !told.contains_key(id));
    if ids.is_empty() {
        return Ok(told);
    }
    let mut summaries = Summaries::default();
    let add = |found: FoundRows| {
        let added: Result<(), QueryError> = found.batches.iter().try_for_each(|batch| summaries.add(batch));
        Ok(added?)
    };
    view.each_of(ids, Some(SUMMARY_COLUMNS), add).await?;
    told.extend(summaries.finish());
    Ok(told)
}

async fn longest(view: &View, search: &Search, matching: Expr) -> Result<SearchPage> {
    let mut keys = longest_traces(view, search, matching).await?;
    let more = keys.len() > search.limit;
    keys.truncate(search.limit);
    let mut summaries = summaries(view, keys.iter().map(|(id, _)| *id).collect()).await?;
    let last = keys.last().copied();
    let traces: Vec<TraceSummary> = keys.into_iter().filter_map(|(id, _)| summaries.remove(&id)).collect();
    let next = last.filter(|_| more).map(|(trace_id, key)| Cursor { order: Order::Duration, key, trace_id, newest: 0 });
    Ok(SearchPage { traces, next })
}

/// Id and duration of the longest matching traces after the cursor, one more than a page has.
async fn longest_traces(view: &View, search: &Search, matching: Expr) -> Result<Vec<(TraceId, i64)>> {
    let found = view.spans()?.filter(matching)?.select(vec![col("trace_id").alias("found")])?.distinct()?;
    let start = cast(col("start_time"), DataType::Int64) * lit(1000i64) + cast(col("start_nanos"), DataType::Int64);
    let length = when(col("duration").gt(lit(0i64)), col("duration")).otherwise(lit(0i64))?;
    let spans = vec![col("trace_id"), start.clone().alias("first"), (start + length).alias("last")];
    let joined = view.spans()?.select(spans)?.join(found, JoinType::LeftSemi, &["trace_id"], &["found"], None)?;
    let measured = joined.aggregate(vec![col("trace_id")], vec![(max(col("last")) - min(col("first"))).alias("length")])?;
    let after = match search.cursor {
        Some(cursor) => {
            let id = ScalarValue::FixedSizeBinary(16, Some(cursor.trace_id.0.to_vec()));
            let same = col("length").eq(lit(cursor.key)).and(col("trace_id").gt(lit(id)));
            measured.filter(col("length").lt(lit(cursor.key)).or(same))?
        }
        None => measured,
    };
    let sorted = after.sort(vec![col("length").sort(false, false), col("trace_id").sort(true, false)])?;
    let batches = sorted.limit(0, Some(search.limit + 1))?.collect().await?;
    let mut keys = Vec::new();
    for batch in &batches {
        let lengths = batch.column(1).as_primitive::<Int64Type>().values();
        keys.extend(trace_ids(batch).zip(lengths.iter().copied()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use object_store::ObjectStoreExt;
    use object_store::path::Path;

    use super::*;
    use crate::search::{ServiceSpans, Status};
    use crate::testing::{Chance, START, SpanRow, TestSource, random_rows, scatter, tenant};
    use crate::types::TimeRange;
    use crate::{Engine, QueryError, SpanSource};

    const SECOND: i64 = 1_000_000;

    fn any() -> Search {
        Search {
            service: None,
            operation: None,
            min_duration: None,
            max_duration: None,
            status: None,
            attributes: Vec::new(),
            range: TimeRange { start: 0, end: i64::MAX },
            limit: 7,
            order_by: Order::Start,
            cursor: None,
        }
    }

    fn has(row: &SpanRow, key: &str, expected: &str) -> bool {
        use opentelemetry_proto::tonic::common::v1::any_value::Value;
        let value = |attribute: &opentelemetry_proto::tonic::common::v1::KeyValue| match attribute.value.clone()?.value? {
            Value::StringValue(text) => Some(text),
            Value::IntValue(value) => Some(value.to_string()),
            _ => None,
        };
        row.attributes.iter().any(|attribute| attribute.key == key && value(attribute).as_deref() == Some(expected))
    }

    fn matches(row: &SpanRow, search: &Search) -> bool {
        let at_least = search.min_duration.is_none_or(|least| row.duration >= least.as_nanos() as i64);
        let at_most = search.max_duration.is_none_or(|most| row.duration <= most.as_nanos() as i64);
        let start = row.start_micros();
        search.service.as_ref().is_none_or(|service| row.service.as_ref() == Some(service))
            && search.operation.as_ref().is_none_or(|operation| row.name == *operation)
            && search.status.is_none_or(|status| row.status == Some(status.as_str()))
            && search.attributes.iter().all(|(key, value)| has(row, key, value))
            && at_least
            && at_most
            && (search.range.start..search.range.end).contains(&start)
    }

    fn summary(trace_id: TraceId, rows: &[&SpanRow]) -> TraceSummary {
        let start = rows.iter().map(|row| row.start).min().unwrap() as i64;
        let end = rows.iter().map(|row| row.start as i64 + row.duration.max(0)).max().unwrap();
        let root = rows.iter().filter(|row| row.parent.is_none()).min_by_key(|row| (row.start, row.span));
        let names: std::collections::BTreeSet<&String> = rows.iter().filter_map(|row| row.service.as_ref()).collect();
        let of = |service: &String| rows.iter().filter(|row| row.service.as_ref() == Some(service)).copied().collect::<Vec<_>>();
        let errors = |rows: &[&SpanRow]| rows.iter().filter(|row| row.error).count() as u64;
        let services = names.into_iter().map(|name| ServiceSpans {
            service: name.clone(),
            spans: of(name).len() as u64,
            errors: errors(&of(name)),
        });
        let mut services: Vec<ServiceSpans> = services.collect();
        services.sort_by_key(|service| std::cmp::Reverse(service.spans));
        TraceSummary {
            trace_id,
            root_service: root.and_then(|root| root.service.clone()),
            root_operation: root.map(|root| root.name.clone()),
            start,
            duration: end - start,
            spans: rows.len() as u64,
            errors: errors(rows),
            services,
        }
    }

    /// What the search should find: all of it, in order, by looking at every span.
    fn oracle(rows: &[SpanRow], search: &Search) -> Vec<TraceSummary> {
        let mut traces: BTreeMap<u128, Vec<&SpanRow>> = BTreeMap::new();
        rows.iter().for_each(|row| traces.entry(row.trace).or_default().push(row));
        let found = traces.iter().filter(|(_, rows)| rows.iter().any(|row| matches(row, search)));
        let mut found: Vec<TraceSummary> = found.map(|(id, rows)| summary(TraceId(id.to_be_bytes()), rows)).collect();
        found.sort_by_key(|trace| {
            let key = if search.order_by == Order::Start { trace.start } else { trace.duration };
            (std::cmp::Reverse(key), trace.trace_id)
        });
        found
    }

    async fn all_pages(engine: &Engine, search: &Search) -> Vec<TraceSummary> {
        let mut search = search.clone();
        let mut traces = Vec::new();
        loop {
            let page = engine.search(&tenant("a"), &search).await.unwrap();
            assert!(page.traces.len() <= search.limit);
            traces.extend(page.traces);
            let Some(next) = page.next else { return traces };
            search.cursor = Some(next.to_string().parse().unwrap());
        }
    }

    /// Lake files with summaries of traces beside them, of which those of the second are damaged, and live spans; some traces are
    /// in several of them.
    async fn summed(rows: &[SpanRow], other: &[SpanRow]) -> TestSource {
        let mut source = TestSource::new();
        let place = |row: &SpanRow| if row.span.is_multiple_of(11) { row.span % 4 } else { (row.trace % 3) as u64 };
        for at in 0..3 {
            source.add_summed_file(&rows.iter().filter(|row| place(row) == at).cloned().collect::<Vec<_>>()).await;
        }
        source.add_summed_file(other).await;
        source.add_live(&rows.iter().filter(|row| place(row) == 3).cloned().collect::<Vec<_>>());
        let (store, path) = (source.object_store().clone(), Path::from("lake/_index/1.trace-summaries"));
        let mut bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let end = bytes.len() - 1;
        bytes[end] ^= 1;
        store.put(&path, bytes.into()).await.unwrap();
        source
    }

    /// Scenario: searches by every condition, in both orders, page by page, over live batches and files with another tenant's
    /// traces between, and over lake files with summaries of traces. Guarantee: the pages together are what looking at every span
    /// finds, in order, each trace once.
    #[tokio::test]
    async fn a_search_finds_what_looking_at_every_span_finds() {
        let mut chance = Chance(11);
        let mut rows = random_rows(&mut chance, "a", 250);
        // A trace that lasts the whole time, and one of equal starts.
        let long = rows[0].trace;
        rows.iter_mut().filter(|row| row.span % 9 == 0).for_each(|row| row.trace = long);
        rows.iter_mut().filter(|row| row.span % 7 == 0).for_each(|row| row.start = START + 500_000_000_000);
        let other = random_rows(&mut chance, "b", 100);
        let summed = summed(&rows, &other).await.engine();
        let engine = scatter(&mut chance, &[rows.clone(), other].concat()).await.engine();
        let second_0 = (START / 1000) as i64;
        let searches = [
            any(),
            Search { service: Some("reviews".to_owned()), ..any() },
            Search { service: Some("reviews".to_owned()), operation: Some("db".to_owned()), limit: 3, ..any() },
            Search { status: Some(Status::Error), min_duration: Some(Duration::from_millis(1500)), ..any() },
            Search { max_duration: Some(Duration::from_millis(30)), limit: 1, ..any() },
            Search {
                attributes: vec![("http.status_code".to_owned(), "503".to_owned()), ("retries".to_owned(), "2".to_owned())],
                ..any()
            },
            Search { range: TimeRange { start: second_0 + 100 * SECOND, end: second_0 + 300 * SECOND }, ..any() },
            Search { range: TimeRange { start: second_0 + 500 * SECOND, end: second_0 + 500 * SECOND + 1 }, limit: 20, ..any() },
            Search { service: Some("nobody".to_owned()), ..any() },
            Search { limit: 1000, ..any() },
        ];
        for search in searches {
            for order_by in [Order::Start, Order::Duration] {
                let search = Search { order_by, ..search.clone() };
                let expected = oracle(&rows, &search);
                assert_eq!(all_pages(&engine, &search).await, expected, "{search:?}");
                assert_eq!(all_pages(&summed, &search).await, expected, "with summaries: {search:?}");
            }
        }
    }

    /// Scenario: limits, ranges and cursors that cannot be. Guarantee: refused as the user's mistake.
    #[tokio::test]
    async fn wrong_searches_are_refused() {
        let engine = crate::testing::TestSource::new().engine();
        let cursor = Cursor { order: Order::Duration, key: 1, trace_id: TraceId([0; 16]), newest: 2 };
        for search in [
            Search { limit: 0, ..any() },
            Search { limit: 1001, ..any() },
            Search { range: TimeRange { start: 5, end: 5 }, ..any() },
            Search { cursor: Some(cursor), ..any() },
        ] {
            let answer = engine.search(&tenant("a"), &search).await;
            assert!(matches!(answer, Err(QueryError::Invalid { .. })), "{answer:?}");
        }
        for text in ["", "s", "x0", &"s".repeat(65), "é", &format!("s{}", "é".repeat(32))] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
