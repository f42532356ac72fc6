//! Traces of rows that stand in several batches.

use std::cell::OnceCell;
use std::cmp::Reverse;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_traceql::{Conditions, Event, InGraph, Link, Named, Owner, Query, Scope, SpanFacts, Trace, Value};

use super::placed::{Graphs, PlacedSpans};
use super::rows::{AllAttributes, SpanRows};
use crate::trace_id::TraceId;

/// A row: its trace, its batch, its place there.
pub(super) type Place = (TraceId, usize, usize);

/// Rows of batches, by trace.
pub(super) struct TraceRows<'a> {
    batches: Vec<SpanRows<'a>>,
    /// Only for `compare()`; by batch.
    all: Vec<AllAttributes<'a>>,
    /// Only for what reads the service graph.
    graphs: Option<Graphs<'a>>,
    pub(super) places: Vec<Place>,
    /// Of each place, once rows are by trace.
    facts: Vec<SpanFacts>,
    /// Traces of which there were copies of spans, in their order.
    copied: Vec<TraceId>,
}

impl<'a> TraceRows<'a> {
    /// `attributes` are those of the query, by slot; all others are opened for [`Trace::each_attribute`] only if that is asked for.
    pub(super) fn new(
        batches: impl IntoIterator<Item = &'a RecordBatch>,
        attributes: &'a [Named],
        all_attributes: bool,
    ) -> Result<TraceRows<'a>> {
        let (places, facts, copied) = (Vec::new(), Vec::new(), Vec::new());
        let mut rows = TraceRows { batches: Vec::new(), all: Vec::new(), graphs: None, places, facts, copied };
        for (number, batch) in batches.into_iter().enumerate() {
            rows.open(batch, attributes)?;
            let opened = &rows.batches[number];
            rows.places.extend((0..batch.num_rows()).map(|row| (opened.trace_id(row), number, row)));
            if all_attributes {
                rows.all.push(AllAttributes::new(batch)?);
            }
        }
        Ok(rows)
    }

    /// Rows of whole traces, with all that a query reads of them.
    pub(super) fn whole(
        batches: impl Iterator<Item = &'a RecordBatch> + Clone,
        query: &'a Query,
        conditions: &Conditions,
    ) -> Result<TraceRows<'a>> {
        let graphs = if conditions.reads_graph() { Some(Graphs::new(batches.clone())?) } else { None };
        Ok(TraceRows { graphs, ..TraceRows::new(batches, &query.attributes, conditions.all_attributes)? })
    }

    /// Adds a batch, of whose rows none has a place yet, and of which not every attribute is asked for.
    pub(super) fn open(&mut self, batch: &'a RecordBatch, attributes: &'a [Named]) -> Result<()> {
        self.batches.push(SpanRows::new(batch, attributes)?);
        Ok(())
    }

    /// The trace of rows that are of one.
    pub(super) fn trace<'r>(&'r self, places: &'r [Place]) -> BatchTrace<'r> {
        BatchTrace {
            batches: &self.batches,
            all: &self.all,
            graphs: None,
            placed: OnceCell::new(),
            places,
            facts: &[],
            copied: false,
        }
    }

    /// Whole traces, by their ids. Of copies of a span, which have its id and its kind, the one that ends last counts, of those the
    /// one that began last: else every copy would be a relative of its own.
    pub(super) fn traces(&mut self) -> impl Iterator<Item = BatchTrace<'_>> {
        // Batches are in this order already: their runs are merged.
        self.places.sort_by_key(|(id, ..)| *id);
        let mut spans: Vec<(Place, SpanFacts)> = Vec::with_capacity(self.places.len());
        for of_trace in self.places.chunk_by(|(a, ..), (b, ..)| a == b) {
            let first = spans.len();
            spans.extend(of_trace.iter().map(|place| (*place, self.batches[place.1].facts(place.2))));
            spans[first..].sort_unstable_by_key(|((_, batch, row), facts)| {
                let SpanFacts { id, kind, start, duration, .. } = *facts;
                (id, kind, Reverse((start.saturating_add_signed(duration), start)), *batch, *row)
            });
        }
        spans.dedup_by(|((trace, ..), facts), ((of, ..), known)| {
            let copy = (*trace, facts.id, facts.kind) == (*of, known.id, known.kind);
            self.copied.extend(copy.then_some(*trace));
            copy
        });
        (self.places, self.facts) = spans.into_iter().unzip();
        let TraceRows { batches, all, graphs, places, facts, copied } = &*self;
        let graphs = graphs.as_ref();
        let mut left = &facts[..];
        places.chunk_by(|(a, ..), (b, ..)| a == b).map(move |places| {
            let facts;
            (facts, left) = left.split_at(places.len());
            let copied = copied.binary_search(&places[0].0).is_ok();
            BatchTrace { batches, all, graphs, placed: OnceCell::new(), places, facts, copied }
        })
    }

    /// Each span as a trace of its own, in the order of the rows.
    pub(super) fn spans(&self) -> impl Iterator<Item = BatchTrace<'_>> {
        self.places.iter().map(|place| self.trace(std::slice::from_ref(place)))
    }
}

/// A trace.
pub(super) struct BatchTrace<'r> {
    batches: &'r [SpanRows<'r>],
    all: &'r [AllAttributes<'r>],
    graphs: Option<&'r Graphs<'r>>,
    /// Computed when first asked for.
    placed: OnceCell<Box<PlacedSpans>>,
    /// At least one.
    pub(super) places: &'r [Place],
    /// Of each place, if they were read before.
    facts: &'r [SpanFacts],
    /// Whether there were copies of its spans.
    pub(super) copied: bool,
}

impl<'r> BatchTrace<'r> {
    fn at(&self, span: usize) -> (&'r SpanRows<'r>, usize) {
        let (_, batch, row) = self.places[span];
        (&self.batches[batch], row)
    }

    pub(super) fn trace_id(&self) -> TraceId {
        self.places[0].0
    }
}

impl Trace for BatchTrace<'_> {
    fn id(&self) -> [u8; 16] {
        self.trace_id().0
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn facts(&self, span: usize) -> SpanFacts {
        let read = || {
            let (rows, row) = self.at(span);
            rows.facts(row)
        };
        self.facts.get(span).copied().unwrap_or_else(read)
    }

    fn name(&self, span: usize) -> &str {
        let (rows, row) = self.at(span);
        rows.name.and_then(|column| column.get(row)).unwrap_or_default()
    }

    fn status_message(&self, span: usize) -> &str {
        let (rows, row) = self.at(span);
        rows.status_message.and_then(|column| column.get(row)).unwrap_or_default()
    }

    fn service_name(&self, span: usize) -> Option<&str> {
        let (rows, row) = self.at(span);
        rows.service_name.and_then(|column| column.get(row))
    }

    fn instrumentation(&self, span: usize) -> (&str, &str) {
        let (rows, row) = self.at(span);
        let [name, version] =
            [rows.scope_name, rows.scope_version].map(|column| column.and_then(|column| column.get(row)).unwrap_or_default());
        (name, version)
    }

    fn attribute(&self, span: usize, owner: Owner, attribute: &Named) -> Value<'_> {
        let (rows, row) = self.at(span);
        rows.attribute(row, owner, attribute)
    }

    fn events(&self, span: usize) -> usize {
        let (rows, row) = self.at(span);
        rows.events.as_ref().map_or(0, |events| events.items(row).len())
    }

    fn event(&self, span: usize, event: usize) -> Event<'_> {
        let (rows, row) = self.at(span);
        let Some(events) = &rows.events else { return Event { name: "", since_start: 0 } };
        let item = events.items(row).start + event;
        let since_start = events.time(item).wrapping_sub(rows.facts(row).start) as i64;
        Event { name: events.name(item), since_start }
    }

    fn links(&self, span: usize) -> usize {
        let (rows, row) = self.at(span);
        rows.links.as_ref().map_or(0, |links| links.items(row).len())
    }

    /// An id of a wrong length is zero.
    fn link(&self, span: usize, link: usize) -> Link {
        let (rows, row) = self.at(span);
        let Some(links) = &rows.links else { return Link { trace_id: [0; 16], span_id: [0; 8] } };
        let (trace_id, span_id) = links.ids(links.items(row).start + link);
        Link { trace_id: trace_id.try_into().unwrap_or_default(), span_id: span_id.try_into().unwrap_or_default() }
    }

    fn in_graph(&self, span: usize) -> InGraph<'_> {
        let Some(graphs) = self.graphs else { return InGraph::default() };
        let SpanFacts { id, kind, .. } = self.facts(span);
        self.placed.get_or_init(|| Box::new(graphs.of(self.trace_id()))).get(id, kind)
    }

    fn each_attribute(&self, span: usize, show: &mut dyn FnMut(Scope, &str, Value<'_>)) {
        let (_, batch, row) = self.places[span];
        if let Some(all) = self.all.get(batch) {
            all.each(row, show);
        }
    }
}
