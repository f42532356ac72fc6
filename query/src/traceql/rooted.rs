use std::collections::HashMap;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_traceql::Named;

use super::trace::{BatchTrace, Place, TraceRows};
use crate::trace_id::TraceId;

/// Spans, each with the first root of its trace, if it has one.
pub(super) struct RootedSpans<'a> {
    rows: TraceRows<'a>,
    /// The places of both, and how many of them count.
    pairs: Vec<([Place; 2], usize)>,
}

impl<'a> RootedSpans<'a> {
    /// The rows of `spans` that are of the traces of which `traces` has all rows. See [`TraceRows::new`] for the rest.
    pub(super) fn new(
        spans: &'a RecordBatch,
        traces: impl IntoIterator<Item = &'a RecordBatch>,
        attributes: &'a [Named],
        all_attributes: bool,
    ) -> Result<RootedSpans<'a>> {
        let mut rows = TraceRows::new([spans], attributes, all_attributes)?;
        let own = std::mem::take(&mut rows.places);
        for batch in traces {
            rows.open(batch, attributes)?;
        }
        let roots = first_roots(&rows);
        let pair = |place: Place| match roots.get(&place.0)? {
            Some(root) => Some(([place, *root], 2)),
            None => Some(([place; 2], 1)),
        };
        Ok(RootedSpans { pairs: own.into_iter().filter_map(pair).collect(), rows })
    }

    /// Each as a trace of the two: the span first.
    pub(super) fn spans(&self) -> impl Iterator<Item = BatchTrace<'_>> {
        self.pairs.iter().map(|(pair, count)| self.rows.trace(&pair[..*count]))
    }
}

/// The root of each trace that started first, by start and id.
fn first_roots(rows: &TraceRows<'_>) -> HashMap<TraceId, Option<Place>> {
    let key = |place: Place| {
        let facts = rows.facts(place);
        (facts.start, facts.id)
    };
    let mut roots: HashMap<TraceId, Option<Place>> = HashMap::new();
    for place in &rows.places {
        let first = roots.entry(place.0).or_default();
        let is_root = rows.facts(*place).parent_id == [0; 8];
        if is_root && first.is_none_or(|first| key(*place) < key(first)) {
            *first = Some(*place);
        }
    }
    roots
}
