//! Traces that have not all the spans that a query asks for, told without a look at them.
//!
//! `{ A } >> { B }` finds rows of B; their traces match only if they have rows of A, too, which are parents. One scan of those tells
//! which traces have, and one of all parents' ids which of these are any, as far as all rows of a trace stand in the files that were
//! scanned; traces that other files or live spans may hold are let through.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use datafusion::error::{DataFusionError, Result};
use meshlake_storage::{Files, LiveBatch, Snapshot, SpanFile};
use meshlake_traceql::{Conditions, Named, Predicate, TracePredicate};

use super::matching::{Filtered, Matching};
use super::parents::traces_of_parents;
use super::passes::of_the_span;
use crate::hops::TraceIds;
use crate::lookup::{FoundRows, Needless};
use crate::trace_id::{TraceId, trace_ids};
use crate::types::TimeRange;
use crate::view::View;

/// Traces that are looked up in about the time of a scan of their file.
const TRACES_PER_FILE: usize = 128;

/// What lets traces through.
pub(super) struct Sieve {
    needs: Needs,
    /// The kinds of spans that are needed.
    kinds: Vec<Kind>,
    /// The traces that have a span of each kind in a range.
    scanned: Option<(TimeRange, Vec<TraceIds>)>,
}

/// Spans that are asked for.
#[derive(PartialEq)]
struct Kind {
    span: Predicate,
    /// Whether only those are that have children.
    is_parent: bool,
}

/// What spans a trace has to have.
enum Needs {
    All(Vec<Needs>),
    Any(Vec<Needs>),
    /// One of a kind, by its place.
    Kind(usize),
    /// None that it is not known to have.
    Nothing,
}

impl Needs {
    fn new(predicate: &TracePredicate, found_by: &Predicate, kinds: &mut Vec<Kind>) -> Needs {
        let mut each = |parts: &[TracePredicate]| parts.iter().map(|part| Needs::new(part, found_by, kinds)).collect();
        match predicate {
            TracePredicate::All(parts) => Needs::All(each(parts)),
            TracePredicate::Any(parts) => Needs::Any(each(parts)),
            TracePredicate::Has(span) | TracePredicate::Parent(span) if span == found_by => Needs::Nothing,
            TracePredicate::Has(span) => Needs::kind(of_the_span(span), false, kinds),
            TracePredicate::Parent(span) => Needs::kind(of_the_span(span), true, kinds),
        }
    }

    fn kind(span: Predicate, is_parent: bool, kinds: &mut Vec<Kind>) -> Needs {
        if span == Predicate::ANY_SPAN {
            return Needs::Nothing;
        }
        let kind = Kind { span, is_parent };
        let known = kinds.iter().position(|known| *known == kind);
        Needs::Kind(known.unwrap_or_else(|| {
            kinds.push(kind);
            kinds.len() - 1
        }))
    }

    /// Whether a trace may lack any of it: one that was found is of one kind at least.
    fn may_fail(&self) -> bool {
        match self {
            Needs::All(parts) => parts.iter().any(|part| matches!(part, Needs::Kind(_)) || part.may_fail()),
            Needs::Any(parts) => parts.iter().any(Needs::may_fail),
            Needs::Kind(_) | Needs::Nothing => false,
        }
    }

    fn hold(&self, has: &impl Fn(usize) -> bool) -> bool {
        match self {
            Needs::All(parts) => parts.iter().all(|part| part.hold(has)),
            Needs::Any(parts) => parts.iter().any(|part| part.hold(has)),
            Needs::Kind(kind) => has(*kind),
            Needs::Nothing => true,
        }
    }
}

impl Sieve {
    /// Nothing if every trace that is found has all spans.
    pub(super) fn new(conditions: &Conditions) -> Option<Sieve> {
        let mut kinds = Vec::new();
        let needs = Needs::new(&conditions.trace, &conditions.found_by, &mut kinds);
        needs.may_fail().then_some(Sieve { needs, kinds, scanned: None })
    }

    /// The traces that may match, of those that were found by rows that start within `starts`; microseconds. All, if so few are
    /// faster looked up. `attributes` are those of the query, by slot.
    pub(super) async fn sift(
        &mut self,
        view: &View,
        attributes: &[Named],
        ids: Vec<TraceId>,
        starts: RangeInclusive<i64>,
    ) -> Result<Vec<TraceId>> {
        let range = range_of_files(&view.snapshot, &starts);
        // Those that are scanned.
        let files = view.snapshot.files.between(range.start, range.end).count();
        let known = self.scanned.as_ref().is_some_and(|(known, _)| known.start <= range.start && range.end <= known.end);
        let scans: usize = self.kinds.iter().map(|kind| 1 + usize::from(kind.is_parent)).sum();
        if !known && ids.len() < files * scans * TRACES_PER_FILE {
            return Ok(ids);
        }
        if !known {
            self.scanned = None;
            match self.scan(view, attributes, range).await {
                Ok(have) => self.scanned = Some((range, have)),
                // Too many to be told apart: all are looked up, this time and later.
                Err(error) if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) => {
                    (self.needs, self.kinds) = (Needs::Nothing, Vec::new());
                    self.scanned = Some((TimeRange { start: i64::MIN, end: i64::MAX }, Vec::new()));
                    return Ok(ids);
                }
                Err(error) => return Err(error),
            }
        }
        self.leave(view, ids).await
    }

    /// Those that have what is needed in the range that was scanned, or may have spans out of it.
    async fn leave(&self, view: &View, ids: Vec<TraceId>) -> Result<Vec<TraceId>> {
        let Some((range, have)) = &self.scanned else { return Ok(ids) };
        let holds = |id: &TraceId| self.needs.hold(&|kind| have[kind].ids.binary_search(id).is_ok());
        let (mut left, others): (Vec<TraceId>, Vec<TraceId>) = ids.into_iter().partition(holds);
        left.extend(beyond(view, *range, others).await?);
        Ok(left)
    }

    async fn scan(&self, view: &View, attributes: &[Named], range: TimeRange) -> Result<Vec<TraceIds>> {
        let mut have = Vec::with_capacity(self.kinds.len());
        for kind in &self.kinds {
            let matching = Matching::new(view, attributes, &kind.span, range, Filtered::Finely).await?;
            have.push(if kind.is_parent {
                traces_of_parents(view, &matching, range).await?
            } else {
                view.traces_of(matching.rows(["trace_id"], None)?).await?
            });
        }
        Ok(have)
    }
}

/// The range of all spans of those files and live batches that may have some that start within `starts`.
fn range_of_files(snapshot: &Snapshot, starts: &RangeInclusive<i64>) -> TimeRange {
    let files = snapshot.files.between(*starts.start(), starts.end().saturating_add(1));
    let live = snapshot.live.iter().map(|live| (live.start_min, live.start_max));
    let live = live.filter(|(first, last)| first <= starts.end() && last >= starts.start());
    let (first, last) = files
        .map(|file| (file.start_min, file.start_max))
        .chain(live)
        .fold((*starts.start(), *starts.end()), |(first, last), bounds| (first.min(bounds.0), last.max(bounds.1)));
    TimeRange { start: first, end: last.saturating_add(1) }
}

/// The traces that may have spans out of the range.
async fn beyond(view: &View, range: TimeRange, ids: Vec<TraceId>) -> Result<Vec<TraceId>> {
    let is_beyond = |first: i64, last: i64| first < range.start || last >= range.end;
    let keys: Vec<[u8; 16]> = ids.iter().map(|id| id.0).collect();
    let file_is_beyond = |file: &SpanFile| is_beyond(file.start_min, file.start_max);
    let in_files = view.snapshot.files.of_traces(&keys).into_iter().filter(|(file, _)| file_is_beyond(file));
    let mut found: HashSet<TraceId> = in_files.flat_map(|(_, places)| places).map(|place| ids[place]).collect();
    let live: Vec<LiveBatch> =
        view.snapshot.live.iter().filter(|live| is_beyond(live.start_min, live.start_max)).cloned().collect();
    let live = Snapshot { live, files: Files::default().into(), promotions: view.snapshot.promotions.clone() };
    let take = |parts: &[FoundRows]| {
        for batch in parts.iter().flat_map(|found| &found.batches) {
            found.extend(trace_ids(batch));
        }
        Ok(())
    };
    view.lookups.find_together(&live, &view.tenant, &ids, &["trace_id"], &Needless::default(), take).await?;
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshlake_traceql::View as TraceView;

    use super::super::tests::{ALL, SEARCHES, START_MICROS, query, store};
    use super::super::whole::WholeTraces;
    use super::*;
    use crate::testing::{batch, tenant};

    /// Scenario: queries that ask for spans of several kinds, of traces that are scattered over files and live batches, which are
    /// scanned in part, or all. Guarantee: no trace that has all kinds is left out, and if all is scanned, every other.
    #[tokio::test]
    async fn a_sieve_leaves_traces_that_have_all_kinds() {
        let (own, engine) = store(24).await;
        let rows = batch(&own);
        let mut sieves = 0;
        for query in SEARCHES.iter().map(|text| query(text)) {
            let conditions = query.conditions();
            let Some(mut sieve) = Sieve::new(&conditions) else { continue };
            sieves += 1;
            let (mut found, mut passing) = (Vec::new(), BTreeSet::new());
            for trace in WholeTraces::of_attributes([&rows], &query.attributes).unwrap().traces() {
                let view = TraceView::new(&trace);
                if view.order().iter().any(|span| conditions.found_by.passes(&view, *span as usize)) {
                    found.push(trace.trace_id());
                    passing.extend(conditions.trace.passes(&view).then_some(trace.trace_id()));
                }
            }
            assert!(passing.len() < found.len(), "{query}");
            let part = TimeRange { start: START_MICROS + 200_000_000, end: START_MICROS + 300_000_000 };
            for range in [part, ALL] {
                let (asked, ids) = (query.clone(), found.clone());
                let sift = async move |view: View| {
                    sieve.scanned = Some((range, sieve.scan(&view, &asked.attributes, range).await?));
                    Ok((sieve.leave(&view, ids).await?, sieve))
                };
                let left;
                (left, sieve) = engine.run(&tenant("a"), sift).await.unwrap();
                let left: BTreeSet<TraceId> = left.into_iter().collect();
                assert!(left.is_superset(&passing), "{query}");
                assert!(range != ALL || left == passing, "{query}");
            }
        }
        assert!(sieves > 2, "{sieves}");
    }
}
