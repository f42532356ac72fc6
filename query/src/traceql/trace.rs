//! Traces of rows that stand in batches.

use std::borrow::Cow;
use std::cell::OnceCell;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_traceql::{Event, InGraph, Link, Named, Owner, Scope, SpanFacts, Trace, Value};

use super::placed::{Graphs, PlacedSpans};
use super::rows::{AllAttributes, SpanRows};
use crate::trace_id::TraceId;

/// A row: its trace, its batch, its place there.
pub(super) type Place = (TraceId, usize, usize);

/// Rows of batches, each of which is looked at on its own, or with some others.
pub(super) struct TraceRows<'a> {
    batches: Vec<SpanRows<'a>>,
    pub(super) places: Vec<Place>,
}

impl<'a> TraceRows<'a> {
    /// `attributes` are those of the query, by slot.
    pub(super) fn new(batches: impl IntoIterator<Item = &'a RecordBatch>, attributes: &'a [Named]) -> Result<TraceRows<'a>> {
        let mut rows = TraceRows { batches: Vec::new(), places: Vec::new() };
        for (number, batch) in batches.into_iter().enumerate() {
            rows.open(batch, attributes)?;
            let opened = &rows.batches[number];
            rows.places.extend((0..batch.num_rows()).map(|row| (opened.trace_id(row), number, row)));
        }
        Ok(rows)
    }

    /// Adds a batch, of whose rows none has a place yet.
    pub(super) fn open(&mut self, batch: &'a RecordBatch, attributes: &'a [Named]) -> Result<()> {
        self.batches.push(SpanRows::new(batch, attributes)?);
        Ok(())
    }

    /// The trace of rows that are of one.
    pub(super) fn trace<'r>(&'r self, places: &'r [Place]) -> BatchTrace<'r> {
        BatchTrace {
            batches: &self.batches,
            all: &[],
            graphs: None,
            placed: OnceCell::new(),
            places: Cow::Borrowed(places),
            facts: Vec::new(),
            copied: false,
        }
    }

    /// Each span as a trace of its own, in the order of the rows.
    pub(super) fn spans(&self) -> impl Iterator<Item = BatchTrace<'_>> {
        self.places.iter().map(|place| self.trace(std::slice::from_ref(place)))
    }
}

/// A trace.
pub(super) struct BatchTrace<'r> {
    pub(super) batches: &'r [SpanRows<'r>],
    /// Only for `compare()`; by batch.
    pub(super) all: &'r [AllAttributes<'r>],
    /// Only for what reads the service graph.
    pub(super) graphs: Option<&'r Graphs<'r>>,
    /// Computed when first asked for.
    pub(super) placed: OnceCell<Box<PlacedSpans>>,
    /// At least one.
    pub(super) places: Cow<'r, [Place]>,
    /// Of each place, if they were read before.
    pub(super) facts: Vec<SpanFacts>,
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
