//! Whole traces, of rows that stand in several batches.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Reverse;
use std::ops::Range;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_traceql::{Conditions, Named, Query, SpanFacts};

use super::placed::Graphs;
use super::rows::{AllAttributes, SpanRows};
use super::trace::{BatchTrace, Place};
use crate::trace_id::TraceId;

/// Rows of batches, by trace. A trace is put together when it is asked for: its spans are by their ids, and of copies of a span, which
/// have its id and its kind, the one that ends last counts, of those the one that began last: else every copy would be a relative of
/// its own.
pub(super) struct WholeTraces<'a> {
    batches: Vec<SpanRows<'a>>,
    /// Only for `compare()`; by batch.
    all: Vec<AllAttributes<'a>>,
    /// Only for what reads the service graph.
    graphs: Option<Graphs<'a>>,
    /// By trace; those of one in the order of their rows.
    runs: Vec<Run>,
}

/// Rows of a trace that stand next to each other in a batch.
struct Run {
    id: TraceId,
    batch: usize,
    rows: Range<usize>,
}

impl<'a> WholeTraces<'a> {
    /// With all that a query reads.
    pub(super) fn new(
        batches: impl Iterator<Item = &'a RecordBatch> + Clone,
        query: &'a Query,
        conditions: &Conditions,
    ) -> Result<WholeTraces<'a>> {
        let graphs = if conditions.reads_graph() { Some(Graphs::new(batches.clone())?) } else { None };
        // Asked for by `compare()` only.
        let of_all = batches.clone().filter(|_| conditions.all_attributes);
        let all = of_all.map(AllAttributes::new).collect::<Result<_>>()?;
        Ok(WholeTraces { all, graphs, ..WholeTraces::of_attributes(batches, &query.attributes)? })
    }

    /// With these attributes of a query, by slot, and nothing of others.
    pub(super) fn of_attributes(
        batches: impl IntoIterator<Item = &'a RecordBatch>,
        attributes: &'a [Named],
    ) -> Result<WholeTraces<'a>> {
        let mut traces = WholeTraces { batches: Vec::new(), all: Vec::new(), graphs: None, runs: Vec::new() };
        for batch in batches {
            traces.add(SpanRows::new(batch, attributes)?, batch.num_rows());
        }
        // Batches of files are in this order already: their runs are merged.
        traces.runs.sort_by_key(|run| run.id);
        Ok(traces)
    }

    fn add(&mut self, batch: SpanRows<'a>, rows: usize) {
        let (number, first) = (self.batches.len(), self.runs.len());
        for row in 0..rows {
            let id = batch.trace_id(row);
            match self.runs[first..].last_mut() {
                Some(run) if run.id == id => run.rows.end = row + 1,
                _ => self.runs.push(Run { id, batch: number, rows: row..row + 1 }),
            }
        }
        self.batches.push(batch);
    }

    /// All, by their ids.
    pub(super) fn traces(&self) -> impl Iterator<Item = BatchTrace<'_>> {
        self.runs.chunk_by(|one, other| one.id == other.id).map(|runs| self.together(runs))
    }

    /// That trace, if there are rows of it.
    pub(super) fn trace(&self, id: TraceId) -> Option<BatchTrace<'_>> {
        let runs = self.runs_of(id);
        (!runs.is_empty()).then(|| self.together(runs))
    }

    /// Whether there are rows of that trace.
    pub(super) fn holds(&self, id: TraceId) -> bool {
        !self.runs_of(id).is_empty()
    }

    fn runs_of(&self, id: TraceId) -> &[Run] {
        let from = &self.runs[self.runs.partition_point(|run| run.id < id)..];
        &from[..from.iter().take_while(|run| run.id == id).count()]
    }

    /// The trace of all these runs.
    fn together(&self, runs: &[Run]) -> BatchTrace<'_> {
        let rows = runs.iter().flat_map(|run| run.rows.clone().map(|row| (run.id, run.batch, row)));
        let rows: Vec<Place> = rows.collect();
        let id = |(_, batch, row): &Place| u64::from_be_bytes(self.batches[*batch].span_id(*row));
        // Small keys are sorted, not what is known of spans.
        let mut order: Vec<(u64, usize)> = rows.iter().map(id).zip(0..).collect();
        order.sort_unstable();
        let places: Vec<Place> = order.iter().map(|(_, at)| rows[*at]).collect();
        let facts: Vec<SpanFacts> = places.iter().map(|(_, batch, row)| self.batches[*batch].facts(*row)).collect();
        let all = places.len();
        let may_be_copies = order.windows(2).any(|two| two[0].0 == two[1].0);
        let (places, facts) = if may_be_copies { without_copies(places, facts) } else { (places, facts) };
        BatchTrace {
            batches: &self.batches,
            all: &self.all,
            graphs: self.graphs.as_ref(),
            placed: OnceCell::new(),
            copied: places.len() < all,
            places: Cow::Owned(places),
            facts,
        }
    }
}

/// The spans of a trace, each once.
fn without_copies(places: Vec<Place>, facts: Vec<SpanFacts>) -> (Vec<Place>, Vec<SpanFacts>) {
    let mut spans: Vec<(Place, SpanFacts)> = places.into_iter().zip(facts).collect();
    spans.sort_unstable_by_key(|((_, batch, row), facts)| {
        let SpanFacts { id, kind, start, duration, .. } = *facts;
        (id, kind, Reverse((start.saturating_add_signed(duration), start)), *batch, *row)
    });
    spans.dedup_by(|(_, copy), (_, known)| (copy.id, copy.kind) == (known.id, known.kind));
    spans.into_iter().unzip()
}
