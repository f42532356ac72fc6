//! Traces that have not all the spans that a query asks for, told without a look at them.
//!
//! `{ A } >> { B }` finds rows of B; their traces match only if they have rows of A, too, which are parents. One scan of those
//! tells which traces have, and one of all parents' ids which of these are any. Each file is scanned once, together with others
//! of about its time and with all live spans: that says all of a trace whose other rows stand there, too. Traces that files of
//! several scans may hold, or of none, are let through.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use meshlake_storage::{Snapshot, SpanFile};
use meshlake_traceql::{Conditions, Named, Predicate, TracePredicate};

use super::matching::Matching;
use super::parents::traces_of_parents;
use super::passes::of_the_span;
use crate::hops::TraceIds;
use crate::spans::may_hold;
use crate::trace_id::TraceId;
use crate::view::View;

/// Traces that are looked up in about the time of a scan of their file.
const TRACES_PER_FILE: usize = 128;

/// What lets traces through.
pub(super) struct Sieve {
    needs: Needs,
    /// The kinds of spans that are needed.
    kinds: Vec<Kind>,
    /// For each scan the traces that have a span of each kind.
    scans: Vec<Vec<TraceIds>>,
    /// By which of them a file was read, by its path; live spans are read by all.
    scanned: HashMap<String, usize>,
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
        needs.may_fail().then_some(Sieve { needs, kinds, scans: Vec::new(), scanned: HashMap::new() })
    }

    /// The traces that may match, of those that were found by rows that start within `starts`; microseconds. Files are not
    /// scanned for so few as are faster looked up. `attributes` are those of the query, by slot.
    pub(super) async fn sift(
        &mut self,
        view: &View,
        attributes: &[Named],
        ids: Vec<TraceId>,
        starts: RangeInclusive<i64>,
    ) -> Result<Vec<TraceId>> {
        let between = view.snapshot.files.between(*starts.start(), starts.end().saturating_add(1));
        let is_new = |file: &&Arc<SpanFile>| may_hold(file, &view.tenant) && !self.scanned.contains_key(&file.path);
        let files: Vec<Arc<SpanFile>> = between.filter(is_new).cloned().collect();
        let is_known = files.is_empty() && !self.scans.is_empty();
        let scans: usize = self.kinds.iter().map(|kind| 1 + usize::from(kind.is_parent)).sum();
        if !is_known && ids.len() >= files.len() * scans * TRACES_PER_FILE {
            match self.scan(view, attributes, files).await {
                // Too many to be told apart: all are looked up, this time and later.
                Err(error) if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) => {
                    (self.needs, self.kinds) = (Needs::Nothing, Vec::new());
                    self.scans.clear();
                    self.scanned.clear();
                }
                scanned => scanned?,
            }
        }
        Ok(if self.scans.is_empty() { ids } else { self.leave(view, ids) })
    }

    /// Those that have what is needed by one scan, or may have spans that it did not read.
    fn leave(&self, view: &View, ids: Vec<TraceId>) -> Vec<TraceId> {
        let holds = |id: &TraceId| {
            let mut scans = self.scans.iter();
            scans.any(|have| self.needs.hold(&|kind| have[kind].ids.binary_search(id).is_ok()))
        };
        let (mut left, others): (Vec<TraceId>, Vec<TraceId>) = ids.into_iter().partition(holds);
        left.extend(self.scattered(view, &others));
        left
    }

    /// The traces that files of several scans may hold, or of none.
    fn scattered(&self, view: &View, ids: &[TraceId]) -> Vec<TraceId> {
        let keys: Vec<[u8; 16]> = ids.iter().map(|id| id.0).collect();
        let mut of_scan: Vec<Option<usize>> = vec![None; ids.len()];
        let mut is_scattered = vec![false; ids.len()];
        for (file, positions) in view.snapshot.files.of_traces(&keys) {
            if !may_hold(&file, &view.tenant) {
                continue;
            }
            let scan = self.scanned.get(&file.path).copied();
            for position in positions {
                is_scattered[position] |= scan.is_none() || of_scan[position].is_some_and(|known| Some(known) != scan);
                of_scan[position] = scan;
            }
        }
        ids.iter().zip(is_scattered).filter_map(|(id, is_scattered)| is_scattered.then_some(*id)).collect()
    }

    /// Reads files that were not read yet, and all live spans.
    async fn scan(&mut self, view: &View, attributes: &[Named], files: Vec<Arc<SpanFile>>) -> Result<()> {
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        let part = Snapshot { files: Arc::new(files.into_iter().collect()), ..(*view.snapshot).clone() };
        let mut have = Vec::with_capacity(self.kinds.len());
        for kind in &self.kinds {
            let matching = Matching::of_part(view, &part, attributes, &kind.span).await?;
            have.push(if kind.is_parent {
                traces_of_parents(view, &matching, &part).await?
            } else {
                view.traces_of(matching.rows(["trace_id"], None)?).await?
            });
        }
        self.scanned.extend(paths.into_iter().map(|path| (path, self.scans.len())));
        self.scans.push(have);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshlake_storage::{TraceFilter, trace_key};
    use meshlake_traceql::View as TraceView;

    use super::super::tests::{SEARCHES, START_MICROS, query, store};
    use super::super::whole::WholeTraces;
    use super::*;
    use crate::testing::{START, SpanRow, TestSource, batch, tenant};

    /// Scenario: queries that ask for spans of several kinds, of traces that are scattered over files and live batches; some
    /// files, or all, are scanned. Guarantee: no trace that has all kinds is left out, and if all are scanned, every other.
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
            for most in [3, usize::MAX] {
                let (asked, ids) = (query.clone(), found.clone());
                let sift = async move |view: View| {
                    sieve.scans.clear();
                    sieve.scanned.clear();
                    let files = view.snapshot.files.iter().take(most).cloned().collect();
                    sieve.scan(&view, &asked.attributes, files).await?;
                    Ok((sieve.leave(&view, ids), sieve))
                };
                let left;
                (left, sieve) = engine.run(&tenant("a"), sift).await.unwrap();
                let left: BTreeSet<TraceId> = left.into_iter().collect();
                assert!(left.is_superset(&passing), "{query}");
                assert!(most < usize::MAX || left == passing, "{query}");
            }
        }
        assert!(sieves > 2, "{sieves}");
    }

    /// Two spans of tenant a; the second, which failed, is below the first, or below one that only another trace has.
    fn pair(trace: u64, is_below: bool) -> [SpanRow; 2] {
        let (tenant, start, span) = ("a".to_owned(), START + trace * 1_000_000, 1 + trace % 2);
        let left = SpanRow { tenant, trace: trace.into(), span, start, name: "left".to_owned(), ..SpanRow::default() };
        let parent = Some(if is_below { span } else { 3 - span });
        let right = SpanRow { span: 3, parent, name: "right".to_owned(), status: Some("error"), ..left.clone() };
        [left, right]
    }

    /// Two files that tell which traces they hold, 400 each, of which every seventh matches. The second span of one in 50 is
    /// live, and that of one in 60 in the other file.
    async fn two_files() -> TestSource {
        let (mut files, mut live) = ([Vec::new(), Vec::new()], Vec::new());
        for trace in 0..800 {
            let [left, right] = pair(trace, trace % 7 == 0);
            let file = usize::from(trace >= 400);
            files[file].push(left);
            match trace {
                trace if trace % 50 == 0 => live.push(right),
                // It starts when others of that file do.
                trace if trace % 60 == 0 => files[1 - file].push(SpanRow { start: START + (800 - trace) * 1_000_000, ..right }),
                _ => files[file].push(right),
            }
        }
        let mut source = TestSource::new();
        for rows in &files {
            source.add_lake_file(rows, true).await;
        }
        source.add_live(&live);
        let telling = |file: &Arc<SpanFile>| {
            let rows = files.iter().find(|rows| rows.iter().map(SpanRow::start_micros).min() == Some(file.start_min)).unwrap();
            let keys = rows.iter().map(|row| trace_key(&row.trace.to_be_bytes())).collect();
            Arc::new(SpanFile { traces: TraceFilter::new(keys).map(Arc::new), ..(**file).clone() })
        };
        source.snapshot.files = Arc::new(source.snapshot.files.iter().map(telling).collect());
        source
    }

    /// Scenario: traces that were found in one file, then in another, then in both, of which some have rows in both, or live.
    /// Guarantee: left are those that match, wherever their rows are, and besides only those that both files have rows of; each
    /// file is scanned once.
    #[tokio::test]
    async fn each_file_is_scanned_once() {
        let query = query("{ name = \"left\" } >> { status = error }");
        let mut sieve = Sieve::new(&query.conditions()).unwrap();
        let sift = async move |view: View| {
            let mut told = Vec::new();
            for traces in [400..800, 0..400, 0..800u64] {
                let ids = traces.clone().map(|trace| TraceId(u128::from(trace).to_be_bytes())).collect();
                let start = |trace: u64| START_MICROS + 1_000 * trace as i64;
                let starts = start(traces.start)..=start(traces.end - 1);
                let mut left = sieve.sift(&view, &query.attributes, ids, starts).await?;
                left.sort_unstable();
                told.push((traces, left, sieve.scans.len()));
            }
            Ok(told)
        };
        let told = two_files().await.engine().run(&tenant("a"), sift).await.unwrap();
        let is_in_both = |trace: &u64| trace.is_multiple_of(60) && !trace.is_multiple_of(50);
        for ((traces, left, scans), expected) in told.into_iter().zip([1, 2, 2]) {
            let matching = traces.filter(|trace| trace % 7 == 0 || is_in_both(trace));
            let matching: Vec<TraceId> = matching.map(|trace| TraceId(u128::from(trace).to_be_bytes())).collect();
            assert_eq!((left, scans), (matching, expected));
        }
    }
}
