//! The hops of many traces, a few thousand traces at a time.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::TryStreamExt;
use meshlake_config::Tenant;
use meshlake_hops::{Hop, Span, Summary, TraceHops};
use meshlake_storage::Snapshot;

use super::columns::{SPAN_COLUMNS, SpanColumns};
use crate::lookup::{FoundRows, Lookups, Needless};
use crate::trace_id::TraceId;

/// Traces looked up at once: enough that the pages of a file are read once, or nearly, and few enough for the memory of a query and
/// for the others, which wait while their hops are computed.
pub(crate) const TRACES_AT_ONCE: usize = 1_024;

/// The whole traces of one tenant in one snapshot (P8).
#[derive(Clone)]
pub(crate) struct Traces {
    pub(crate) tenant: Tenant,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) lookups: Arc<Lookups>,
}

/// Ids of traces, and the memory that they take.
pub(crate) struct TraceIds {
    /// Sorted, each once.
    pub(crate) ids: Vec<TraceId>,
    pub(crate) memory: MemoryReservation,
}

/// The distinct ids in rows of one column, `trace_id`. In files rows of one trace stand together.
pub(crate) async fn ids(mut rows: SendableRecordBatchStream, pool: &Arc<dyn MemoryPool>) -> Result<TraceIds> {
    let memory = MemoryConsumer::new("hops: trace ids").register(pool);
    let mut found = TraceIds { ids: Vec::new(), memory };
    while let Some(batch) = rows.try_next().await? {
        let mut ids: Vec<TraceId> =
            batch.column(0).as_fixed_size_binary().iter().flatten().filter_map(TraceId::from_slice).collect();
        ids.dedup();
        found.memory.try_grow(ids.len() * size_of::<TraceId>())?;
        found.ids.extend(ids);
    }
    found.ids.sort_unstable();
    found.ids.dedup();
    Ok(found)
}

impl TraceIds {
    /// Leaves at most so many: those with the smallest last eight bytes, which are random where senders keep to W3C's Trace
    /// Context. So it is the same sample for every question, and none that has to do with what the traces are.
    pub(crate) fn sample(&mut self, most: usize) {
        if self.ids.len() > most {
            self.ids.select_nth_unstable_by_key(most, |id| (u128::from_be_bytes(id.0) as u64, *id));
            self.ids.truncate(most);
            self.ids.sort_unstable();
        }
    }

    /// As many as are looked up at once.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[TraceId]> {
        self.ids.chunks(TRACES_AT_ONCE)
    }
}

impl Traces {
    /// Gives `each` the hops of each of the traces, by their ids, and what H left out; see [`Traces::each_spans`].
    pub(crate) async fn each(
        &self,
        ids: &[TraceId],
        worker: &mut TraceHops,
        mut each: impl FnMut(TraceId, &[Hop<'_>], Summary) -> Result<()>,
    ) -> Result<()> {
        let each = |parts: &[FoundRows]| TraceRows::new(parts.iter().flat_map(|found| &found.batches))?.hops(worker, &mut each);
        self.lookups.find_together(&self.snapshot, &self.tenant, ids, SPAN_COLUMNS, &Needless::default(), each).await
    }

    /// Gives `each` the spans of each of the traces, by their ids. Where all at once are too much for the memory of queries, half
    /// of them and then the others.
    pub(crate) async fn each_spans(&self, ids: &[TraceId], mut each: impl FnMut(TraceId, &[Span<'_>]) -> Result<()>) -> Result<()> {
        let each = |parts: &[FoundRows]| spans_of(parts.iter().flat_map(|found| &found.batches), &mut each);
        self.lookups.find_together(&self.snapshot, &self.tenant, ids, SPAN_COLUMNS, &Needless::default(), each).await
    }
}

/// The spans of whole traces whose rows stand anywhere in the batches.
fn spans_of<'b>(
    batches: impl Iterator<Item = &'b RecordBatch>,
    mut each: impl FnMut(TraceId, &[Span<'_>]) -> Result<()>,
) -> Result<()> {
    let rows = TraceRows::new(batches)?;
    let mut memory = SpanMemory::default();
    for (id, trace) in rows.traces() {
        each(id, rows.read(trace, &mut memory))?;
    }
    Ok(())
}

/// A row: its trace, its batch, its place there.
type Place = (TraceId, usize, usize);

/// Rows of many batches, by trace.
pub(crate) struct TraceRows<'b> {
    columns: Vec<SpanColumns<'b>>,
    /// Sorted.
    rows: Vec<Place>,
}

impl<'b> TraceRows<'b> {
    pub(crate) fn new(batches: impl Iterator<Item = &'b RecordBatch>) -> Result<TraceRows<'b>> {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for batch in batches {
            let opened = SpanColumns::new(batch)?;
            rows.extend((0..batch.num_rows()).map(|row| (opened.trace_id(row), columns.len(), row)));
            columns.push(opened);
        }
        rows.sort_unstable();
        Ok(TraceRows { columns, rows })
    }

    /// Gives `each` the hops of each of the traces, by their ids, and what H left out.
    pub(crate) fn hops<'s>(
        &'s self,
        worker: &mut TraceHops,
        mut each: impl FnMut(TraceId, &[Hop<'s>], Summary) -> Result<()>,
    ) -> Result<()> {
        // Those of one trace after the other, in the same memory. That of spans is enough for the longest; of a trace of very many H
        // takes some only.
        let longest = self.traces().map(|(_, trace)| trace.len()).max().unwrap_or(0);
        let (mut memory, mut hops) = (SpanMemory::of(longest), Vec::new());
        for (id, trace) in self.traces() {
            hops.clear();
            let summary = worker.append(&id.0, self.read(trace, &mut memory), &mut hops);
            each(id, &hops, summary)?;
        }
        Ok(())
    }

    /// The rows of each trace.
    pub(crate) fn traces(&self) -> impl Iterator<Item = (TraceId, &[Place])> {
        self.rows.chunk_by(|(a, ..), (b, ..)| a == b).filter_map(|rows| Some((rows.first()?.0, rows)))
    }

    /// The rows of a trace.
    pub(crate) fn trace(&self, id: TraceId) -> &[Place] {
        let rows = &self.rows[self.rows.partition_point(|(of, ..)| *of < id)..];
        &rows[..rows.partition_point(|(of, ..)| *of == id)]
    }

    /// What H reads of rows.
    pub(crate) fn spans(&self, rows: &[Place]) -> Vec<Span<'_>> {
        let mut memory = SpanMemory::default();
        self.read(rows, &mut memory);
        memory.spans
    }

    /// The same in memory that is used again.
    fn read<'s, 'm>(&'s self, rows: &[Place], memory: &'m mut SpanMemory<'s>) -> &'m [Span<'s>] {
        let mut end = 0;
        // In files they stand next to each other.
        for rows in rows.chunk_by(|(_, a, row), (_, b, next)| a == b && row + 1 == *next) {
            let Some((_, batch, first)) = rows.first() else { continue };
            let columns = &self.columns[*batch];
            memory.begin(*batch, end);
            let (over, new) = memory.take(end, rows.len());
            columns.read_over(*first, over);
            columns.read(*first + over.len(), new);
            end += rows.len();
        }
        &memory.spans[..end]
    }
}

/// Spans of one trace after the other. Those of one batch of rows have much alike, which is not written again.
#[derive(Default)]
struct SpanMemory<'s> {
    spans: Vec<Span<'s>>,
    /// What the spans from `since` on are of; those before are of other batches.
    batch: Option<usize>,
    since: usize,
}

impl<'s> SpanMemory<'s> {
    /// For so many spans.
    fn of(spans: usize) -> SpanMemory<'s> {
        SpanMemory { spans: Vec::with_capacity(spans), ..SpanMemory::default() }
    }

    /// Leaves no span from `at` on that is of another batch.
    fn begin(&mut self, batch: usize, at: usize) {
        if self.batch != Some(batch) || at < self.since {
            self.spans.truncate(at);
            (self.batch, self.since) = (Some(batch), at);
        }
    }

    /// So many from `at` on: those that are of the batch, and others that say nothing yet.
    fn take(&mut self, at: usize, count: usize) -> (&mut [Span<'s>], &mut [Span<'s>]) {
        let known = self.spans.len().clamp(at, at + count);
        self.spans.resize(self.spans.len().max(at + count), Span::default());
        self.spans[at..at + count].split_at_mut(known - at)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::*;
    use crate::testing::{START, SpanRow, batch, int, text};

    /// Scenario: traces of which one stands in two batches, one after the other in the same memory, long and short; columns that all
    /// rows of one batch have alike and those of the other not, and what only some rows say. Guarantee: each span is what its row
    /// alone says.
    #[test]
    fn spans_are_those_of_their_rows() {
        let row = |trace, span, cluster: Option<&str>| SpanRow {
            trace,
            span,
            start: START + span,
            name: format!("operation {span}"),
            kind: Some(["server", "client"][span as usize % 2]),
            cluster: cluster.map(str::to_owned),
            proxy: (span % 3 == 0).then_some("sidecar"),
            ..SpanRow::default()
        };
        let told = |span: SpanRow| SpanRow {
            attributes: vec![
                text("http.method", "GET"),
                int("http.status_code", 200),
                text("istio.source_workload", "web"),
                text("db.name", "orders"),
                text("peer.service", "orders"),
            ],
            resource: Resource { attributes: vec![text("k8s.pod.ip", "10.0.0.1")], ..Resource::default() },
            pod: Some("pod".to_owned()),
            ..span
        };
        let one = [told(row(1, 1, Some("a"))), row(1, 2, Some("a")), told(row(2, 3, Some("a"))), row(3, 4, Some("a"))];
        let two = [row(3, 5, Some("b")), told(row(3, 6, None)), row(4, 7, None), row(5, 8, None), row(5, 9, Some("b"))];
        let batches = [batch(&one), batch(&two)];
        let rows = TraceRows::new(batches.iter()).unwrap();
        let (mut memory, mut spans) = (SpanMemory::default(), 0);
        for (_, trace) in rows.traces().chain(rows.traces()) {
            let expected: Vec<Span<'_>> = trace.iter().map(|(_, batch, row)| rows.columns[*batch].span(*row)).collect();
            assert_eq!(rows.read(trace, &mut memory), expected);
            assert_eq!(rows.spans(trace), expected);
            spans += expected.len();
        }
        assert_eq!(spans, 2 * (one.len() + two.len()));
    }
}
