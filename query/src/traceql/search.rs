//! How a search in TraceQL finds the newest traces.
//!
//! The query is evaluated on whole traces, of which a span in the range may be in an answer. A trace starts no later than that
//! span, so rows are taken newest first, and the search ends as soon as enough traces that match start after the next row (see
//! [`crate::find`]). Their traces are looked up in the same order, a few, and then more; as soon as the first were not enough,
//! those that have not all the spans that the query asks for are left out before ([`Sieve`]). As long as most do not match, less is
//! read of them first ([`Glance`]), of many at once, for that costs about as much as of few; the newest that may match are then looked
//! up.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use meshlake_traceql::{Conditions, Pipeline, Shown, Spanset, Trace, Value, View as TraceView};

use super::columns::{SHAPE, of_query};
use super::glance::Glance;
use super::matching::{Filtered, Matching};
use super::needless::needless;
use super::sieve::Sieve;
use super::trace::BatchTrace;
use super::value::any_value;
use super::whole::WholeTraces;
use super::{FoundSpan, FoundSpanset, FoundTrace, TraceQlFound, TraceQlSearch, failed};
use crate::find::{is_after, newest_rows};
use crate::hops::TRACES_AT_ONCE;
use crate::lookup::{FoundRows, Needless};
use crate::partitions::by_turns;
use crate::rollups::Copies;
use crate::search::{Cursor, Order, TraceSummary};
use crate::spans::may_hold;
use crate::summary::{SUMMARY_COLUMNS, Summaries, SummaryColumns};
use crate::trace_id::TraceId;
use crate::types::TimeRange;
use crate::view::{View, starts_until};

/// Rows taken in the first round, for each trace asked for and at least: a second round is another scan, and for many rows more files have to
/// be read. And at least where a trace needs other spans, too, for few may have them, and a scan takes many rows about as fast as few.
const ROWS_PER_TRACE: usize = 3;
const ROWS_MIN: usize = 128;
const ROWS_MIN_SIEVED: usize = 16 * 1024;
/// By how much a round is larger than the one before, and most rows of one.
const ROUND_GROWTH: usize = 64;
const ROUND_MAX: usize = 256 * 1024;
/// By how much more traces of a round are looked up than before; by how much while none matched; and by how much at most where they are
/// glanced at first.
const STEP_GROWTH: usize = 4;
const STEP_GROWTH_UNFOUND: usize = 16;
const STEP_GROWTH_GLANCED: usize = 256;
/// Traces that are glanced at together: of all of them the same pages are read.
const GLANCED_AT_ONCE: usize = 2_048;
/// What a row, or a trace that was seen, takes.
const ROW_BYTES: usize = 48;

/// The newest traces that match.
pub(crate) async fn search(view: &View, search: &TraceQlSearch) -> Result<TraceQlFound> {
    let mut finder = Finder::new(view, search)?;
    let (attributes, found_by) = (&search.query.attributes, &finder.conditions.found_by);
    let mut upper = search.cursor.map_or(i64::MAX, |cursor| cursor.newest).min(search.range.end - 1);
    let range = TimeRange { start: search.range.start, end: upper.saturating_add(1) };
    let matching = Matching::new(view, attributes, found_by, range, Filtered::Finely).await?;
    let files = view.snapshot.files.between(range.start, range.end).filter(|file| may_hold(file, &view.tenant)).count();
    // Of the first round the range says it: each comparison goes through the column once more.
    let mut until = None;
    let rows_min = if finder.sieve.is_some() { ROWS_MIN_SIEVED } else { ROWS_MIN };
    let mut rows_max = (search.limit * ROWS_PER_TRACE).max(rows_min);
    loop {
        finder.rows.try_resize((rows_max + finder.seen.len()).saturating_mul(ROW_BYTES))?;
        let rows = by_turns(matching.rows(["trace_id", "start_time"], until.as_ref())?, files);
        let rows = newest_rows(rows, rows_max).await?;
        let exhausted = rows.len() < rows_max;
        let oldest = rows.last().map_or(i64::MIN, |(_, start)| *start);
        if finder.look_up(&rows).await? || exhausted {
            return finder.finish();
        }
        if finder.is_enough(oldest) {
            finder.leave(oldest);
            return finder.finish();
        }
        // Of spans of one microsecond all have to be taken at once.
        let more = rows_max.saturating_mul(ROUND_GROWTH);
        rows_max = if oldest == upper { more } else { rows_max.max(more.min(ROUND_MAX)) };
        upper = oldest;
        until = Some(starts_until(upper));
    }
}

/// Traces that match, and how much of them was looked at.
struct Finder<'a> {
    view: &'a View,
    search: &'a TraceQlSearch,
    pipeline: &'a Pipeline,
    conditions: Conditions,
    shown: Vec<Shown>,
    columns: Vec<&'static str>,
    sieve: Option<Sieve>,
    glance: Option<Glance>,
    /// What is not read of files, once these were asked.
    needless: Option<Needless>,
    /// Traces that are looked up next.
    step: usize,
    /// Those that were looked at, and the newest row of each.
    seen: HashMap<TraceId, i64>,
    /// How many traces matched.
    matched: u64,
    /// Start of the newest row of a trace that may come on a later page, if there is any; microseconds.
    left: Option<i64>,
    /// The newest, at most as many as are asked for, and what they take.
    found: Vec<(FoundTrace, usize)>,
    inspected_traces: u64,
    inspected_bytes: u64,
    /// Of rows and traces seen.
    rows: MemoryReservation,
    /// Of what was found.
    memory: MemoryReservation,
}

impl<'a> Finder<'a> {
    fn new(view: &'a View, search: &'a TraceQlSearch) -> Result<Finder<'a>> {
        let pipeline = search.pipeline()?;
        let conditions = search.query.conditions();
        let sieve = Sieve::new(&conditions);
        let mut columns = of_query(&search.query, &conditions);
        columns.extend(SHAPE);
        columns.extend(SUMMARY_COLUMNS);
        let reservation = |name: &str| MemoryConsumer::new(name).register(&view.lookups.runtime.memory_pool);
        Ok(Finder {
            view,
            search,
            pipeline,
            shown: pipeline.shown(),
            columns: columns.into_iter().collect(),
            glance: Glance::new(&search.query, pipeline, &conditions),
            conditions,
            sieve,
            needless: None,
            step: first_step(search.limit),
            seen: HashMap::new(),
            matched: 0,
            left: None,
            found: Vec::new(),
            inspected_traces: 0,
            inspected_bytes: 0,
            rows: reservation("traceql: rows"),
            memory: reservation("traceql: found traces"),
        })
    }

    /// Looks at the traces of rows, which are the newest first, until enough are found; whether they are.
    async fn look_up(&mut self, mut rows: &[(TraceId, i64)]) -> Result<bool> {
        while let Some((_, newest)) = rows.first() {
            if self.is_enough(*newest) {
                self.leave(*newest);
                return Ok(true);
            }
            let (mut ids, count) = self.unseen(rows);
            let (taken, left) = rows.split_at(count);
            rows = left;
            // Where the first traces are enough, most match.
            if self.inspected_traces > 0
                && let (Some(sieve), Some((_, oldest))) = (self.sieve.as_mut(), taken.last())
            {
                ids = sieve.sift(self.view, &self.search.query.attributes, ids, *oldest..=*newest).await?;
            }
            let glances = self.seldom_matches();
            if !glances {
                self.look_into(ids).await?;
            } else if self.glance_at(ids).await? {
                return Ok(true);
            }
            self.step = if glances && !self.seldom_matches() {
                // Now most match, and all of a step are looked into.
                first_step(self.search.limit)
            } else {
                self.step.saturating_mul(self.step_growth())
            };
        }
        Ok(false)
    }

    /// Whether so few traces match, as far as that can be told, that less is read of all of them first.
    fn seldom_matches(&self) -> bool {
        let is_likely_seldom = self.sieve.is_some() || self.inspected_traces > 0;
        self.glance.is_some() && is_likely_seldom && 2 * self.matched <= self.inspected_traces
    }

    /// By how much the next step is larger.
    fn step_growth(&self) -> usize {
        if self.seldom_matches() {
            let traces_per_match = self.inspected_traces.checked_div(self.matched);
            return traces_per_match.map_or(usize::MAX, |traces| traces as usize).clamp(STEP_GROWTH, STEP_GROWTH_GLANCED);
        }
        if self.matched == 0 && self.search.cursor.is_none() { STEP_GROWTH_UNFOUND } else { STEP_GROWTH }
    }

    /// Looks at those traces that may match, the newest first, until enough are found; whether they are.
    async fn glance_at(&mut self, mut ids: Vec<TraceId>) -> Result<bool> {
        let newest = |seen: &HashMap<TraceId, i64>, id: &TraceId| seen.get(id).copied().unwrap_or(i64::MAX);
        ids.sort_unstable_by_key(|id| (Reverse(newest(&self.seen, id)), *id));
        let needless = self.needless().await;
        let mut most = first_step(self.search.limit);
        let mut later = ids.into_iter();
        let mut ids: Vec<TraceId> = later.by_ref().take(GLANCED_AT_ONCE).collect();
        while let (Some(glance), Some(first)) = (&self.glance, ids.first()) {
            let newest = newest(&self.seen, first);
            if self.is_enough(newest) {
                self.leave(newest);
                return Ok(true);
            }
            let of = (self.pipeline, self.search.query.attributes.as_slice());
            let glanced = glance.at(self.view, of, (&ids, most), &needless).await?;
            self.inspected_bytes += glanced.bytes as u64;
            self.inspected_traces += (ids.len() - glanced.left.len() - glanced.ids.len()) as u64;
            self.look_into(glanced.ids).await?;
            ids = glanced.left;
            ids.extend(later.by_ref().take(GLANCED_AT_ONCE - ids.len()));
            most = most.saturating_mul(STEP_GROWTH);
        }
        Ok(false)
    }

    /// Looks at traces, as many at once as fit in memory.
    async fn look_into(&mut self, mut ids: Vec<TraceId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        // For the first ones that costs more than it spares.
        let is_first = self.inspected_traces == 0 && self.needless.is_none();
        let needless = if is_first { Needless::default() } else { self.needless().await };
        self.inspected_traces += ids.len() as u64;
        let (view, columns) = (self.view, self.columns.clone());
        // Traces of near ids are near each other in files.
        ids.sort_unstable();
        for ids in ids.chunks(TRACES_AT_ONCE) {
            let ids = self.may_be_long(ids).await?;
            let take = |parts: &[FoundRows]| self.take(parts);
            view.lookups.find_together(&view.snapshot, &view.tenant, &ids, &columns, &needless, take).await?;
        }
        Ok(())
    }

    /// Those of the traces that are not known, without a look at their spans, to be shorter or longer than asked for.
    async fn may_be_long(&self, ids: &[TraceId]) -> Result<Vec<TraceId>> {
        if self.search.min_duration.is_none() && self.search.max_duration.is_none() {
            return Ok(ids.to_vec());
        }
        let told = self.view.summed.told(ids, Copies::LeftOut).await?;
        Ok(ids.iter().filter(|id| told.get(id).is_none_or(|summary| self.is_long(summary))).copied().collect())
    }

    /// What need not be read of files, asked when it is first needed.
    async fn needless(&mut self) -> Needless {
        if self.needless.is_none() {
            let TraceQlSearch { query, range, .. } = self.search;
            self.needless = Some(needless(self.view, &query.attributes, &self.conditions, *range).await);
        }
        self.needless.clone().unwrap_or_default()
    }

    /// The traces of the first rows that were not seen yet, as many as are looked up next, and how many rows that are.
    fn unseen(&mut self, rows: &[(TraceId, i64)]) -> (Vec<TraceId>, usize) {
        let mut ids = Vec::new();
        for (place, (id, start)) in rows.iter().enumerate() {
            if ids.len() == self.step {
                return (ids, place);
            }
            if let Entry::Vacant(unseen) = self.seen.entry(*id) {
                unseen.insert(*start);
                ids.push(*id);
            }
        }
        (ids, rows.len())
    }

    /// Whether enough traces start later, in microseconds: no other can be among the newest then.
    fn is_enough(&self, than: i64) -> bool {
        let later = self.found.iter().filter(|(found, _)| found.summary.start.div_euclid(1000) > than);
        later.count() >= self.search.limit
    }

    /// Rows that start then, or before, are for later pages.
    fn leave(&mut self, newest: i64) {
        self.left = self.left.max(Some(newest));
    }

    /// Looks at whole traces, and keeps the newest that match.
    fn take(&mut self, parts: &[FoundRows]) -> Result<()> {
        self.inspected_bytes += parts.iter().map(FoundRows::bytes).sum::<usize>() as u64;
        let batches: Vec<&RecordBatch> = parts.iter().flat_map(|found| &found.batches).collect();
        let columns = batches.iter().map(|batch| SummaryColumns::new(batch)).collect::<Result<Vec<_>, _>>()?;
        let traces = WholeTraces::new(batches.into_iter(), &self.search.query, &self.conditions)?;
        for trace in traces.traces() {
            if let Some(found) = self.found_in(&trace, &columns)? {
                self.matched += 1;
                let bytes = found.bytes();
                self.memory.try_grow(bytes)?;
                self.found.push((found, bytes));
            }
        }
        self.found.sort_by_key(|(found, _)| (Reverse(found.summary.start), found.summary.trace_id));
        for (left, _) in self.found.split_off(self.search.limit.min(self.found.len())) {
            self.left = self.left.max(self.seen.get(&left.summary.trace_id).copied());
        }
        self.memory.try_resize(self.found.iter().map(|(_, bytes)| bytes).sum())
    }

    /// What matches in a trace.
    fn found_in(&self, trace: &BatchTrace<'_>, columns: &[SummaryColumns<'_>]) -> Result<Option<FoundTrace>> {
        let TraceQlSearch { min_duration, max_duration, range, .. } = self.search;
        // Most traces do not match: to sum them up costs as much as to tell that.
        if (min_duration.is_some() || max_duration.is_some())
            && !summary_of(trace, columns).is_some_and(|summary| self.is_long(&summary))
        {
            return Ok(None);
        }
        let view = TraceView::new(trace);
        let spansets = view.pipeline(self.pipeline).map_err(failed)?;
        let starts_in_range = |span: usize| {
            let start = (trace.facts(span).start / 1000) as i64;
            range.start <= start && start < range.end
        };
        if !view.is_found(self.pipeline, &spansets, starts_in_range) {
            return Ok(None);
        }
        let is_behind = |summary: &TraceSummary| is_after(self.search.cursor, summary.start, summary.trace_id);
        let Some(summary) = summary_of(trace, columns).filter(is_behind) else { return Ok(None) };
        let spansets = spansets.iter().map(|spanset| self.spanset(trace, &view, spanset)).collect();
        Ok(Some(FoundTrace { summary, spansets }))
    }

    /// Whether a trace is as long as asked for.
    fn is_long(&self, summary: &TraceSummary) -> bool {
        let TraceQlSearch { min_duration, max_duration, .. } = self.search;
        let duration = u128::try_from(summary.duration).unwrap_or(0);
        min_duration.is_none_or(|least| duration >= least.as_nanos()) && max_duration.is_none_or(|most| duration <= most.as_nanos())
    }

    fn spanset<'t>(&self, trace: &BatchTrace<'t>, view: &TraceView<'t, BatchTrace<'t>>, spanset: &Spanset<'t>) -> FoundSpanset {
        let shown = match self.search.spans_per_spanset {
            0 => spanset.spans.len(),
            most => most.min(spanset.spans.len()),
        };
        FoundSpanset {
            matched: spanset.spans.len(),
            attributes: spanset.attributes.iter().map(|(key, value)| (key.clone(), any_value(value))).collect(),
            spans: spanset.spans[..shown].iter().map(|span| self.span(trace, view, *span as usize)).collect(),
        }
    }

    fn span<'t>(&self, trace: &BatchTrace<'t>, view: &TraceView<'t, BatchTrace<'t>>, span: usize) -> FoundSpan {
        let facts = trace.facts(span);
        let mut attributes = Vec::new();
        for shown in &self.shown {
            let (key, value) = (shown.attribute.key(), shown.value(view, span));
            if value != Value::Nil && attributes.iter().all(|(known, _)| known != key) {
                attributes.push((key.to_owned(), any_value(&value)));
            }
        }
        let start = i64::try_from(facts.start).unwrap_or(i64::MAX);
        FoundSpan { id: facts.id, name: trace.name(span).to_owned(), start, duration: facts.duration, attributes }
    }

    fn finish(self) -> Result<TraceQlFound> {
        let traces: Vec<FoundTrace> = self.found.into_iter().map(|(found, _)| found).collect();
        let spans = traces.iter().flat_map(|trace| &trace.spansets).map(|spanset| spanset.spans.len());
        self.view.check_rows(spans.sum())?;
        let (inspected_traces, inspected_bytes) = (self.inspected_traces, self.inspected_bytes);
        let full = traces.last().filter(|_| traces.len() == self.search.limit);
        let cursor = |(newest, FoundTrace { summary, .. }): (i64, &FoundTrace)| Cursor {
            order: Order::Start,
            key: summary.start,
            trace_id: summary.trace_id,
            newest,
        };
        let next = self.left.zip(full).map(cursor);
        Ok(TraceQlFound { traces, next, inspected_traces, inspected_bytes })
    }
}

/// Traces that are looked up first, if so many are asked for: each starts a little before its row.
fn first_step(limit: usize) -> usize {
    limit + limit / 2
}

fn summary_of(trace: &BatchTrace<'_>, columns: &[SummaryColumns<'_>]) -> Option<TraceSummary> {
    let mut summaries = Summaries::default();
    trace.places.iter().for_each(|(_, batch, row)| summaries.add_row(&columns[*batch], *row));
    summaries.finish().remove(&trace.trace_id())
}
