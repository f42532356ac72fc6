use arrow::compute::{concat_batches, filter_record_batch, is_null};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::{StreamExt, TryStreamExt, stream};
use hashbrown::HashMap;
use meshlake_storage::spans_schema;
use meshlake_traceql::Named;

use super::columns::{ROOT, SHAPE};
use super::rows::SpanRows;
use super::trace::{BatchTrace, Place, TraceRows};
use crate::lookup::{FoundRows, Needless, compact};
use crate::trace_id::TraceId;
use crate::values::open;
use crate::view::View;

/// Traces looked up at once: of each only the roots stay in memory.
const TRACES_AT_ONCE: usize = 4 * 1024;
/// Lookups at once: most traces of one are in one file, which one task reads, and while the roots of some are put together, others
/// read.
const LOOKUPS_AT_ONCE: usize = 4;

/// The first roots of traces.
pub(super) struct Roots {
    /// Roots, with the columns of [`SHAPE`] and [`ROOT`], but for their durations: whoever asks for those asks for whole traces.
    pub(super) batch: RecordBatch,
    /// Of each trace the row of its first root, if it has one.
    first: HashMap<TraceId, usize>,
    _memory: MemoryReservation,
}

impl Roots {
    /// Those of the traces, wherever they are.
    pub(super) async fn of(view: &View, ids: &[TraceId]) -> Result<Roots> {
        let columns: Vec<&str> = SHAPE.into_iter().filter(|column| *column != "duration").chain(ROOT).collect();
        let memory = MemoryConsumer::new("traceql: roots").register(&view.lookups.runtime.memory_pool);
        let lookups: Vec<_> = ids.chunks(TRACES_AT_ONCE).map(|ids| all_roots(view, ids, &columns, &memory)).collect();
        let batches: Vec<RecordBatch> = stream::iter(lookups).buffered(LOOKUPS_AT_ONCE).try_concat().await?;
        let batch = match batches.first() {
            Some(first) => concat_batches(&first.schema(), &batches)?,
            None => RecordBatch::new_empty(spans_schema()),
        };
        let first = first_roots(&batch)?;
        Ok(Roots { batch, first, _memory: memory })
    }
}

/// All roots of the traces, wherever they are.
async fn all_roots(view: &View, ids: &[TraceId], columns: &[&str], memory: &MemoryReservation) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    let take = |parts: &[FoundRows]| {
        for batch in parts.iter().flat_map(|found| &found.batches) {
            let roots = filter_record_batch(batch, &is_null(open(batch, "parent_span_id", Some)?)?)?;
            if roots.num_rows() == 0 {
                continue;
            }
            let roots = compact(roots)?;
            // Twice, for they are put together.
            memory.try_grow(2 * roots.get_array_memory_size() + roots.num_rows() * size_of::<(TraceId, usize)>())?;
            batches.push(roots);
        }
        Ok(())
    };
    view.lookups.find_together(&view.snapshot, &view.tenant, ids, columns, &Needless::default(), take).await?;
    Ok(batches)
}

/// The root of each trace that started first, by start and id.
fn first_roots(roots: &RecordBatch) -> Result<HashMap<TraceId, usize>> {
    let rows = SpanRows::new(roots, &[])?;
    let key = |row: usize| {
        let facts = rows.facts(row);
        (facts.start, facts.id)
    };
    let mut first: HashMap<TraceId, usize> = HashMap::with_capacity(roots.num_rows());
    for row in 0..roots.num_rows() {
        let known = first.entry(rows.trace_id(row)).or_insert(row);
        if key(row) < key(*known) {
            *known = row;
        }
    }
    Ok(first)
}

/// Spans, each with the first root of its trace, if it has one.
pub(super) struct RootedSpans<'a> {
    rows: TraceRows<'a>,
    /// The places of both, and how many of them count.
    pairs: Vec<([Place; 2], usize)>,
}

impl<'a> RootedSpans<'a> {
    /// The rows of `spans`. `attributes` are those of the query, by slot.
    pub(super) fn new(spans: &'a RecordBatch, roots: &'a Roots, attributes: &'a [Named]) -> Result<RootedSpans<'a>> {
        let mut rows = TraceRows::new([spans], attributes)?;
        rows.open(&roots.batch, attributes)?;
        // Rows of a trace stand together.
        let mut last: Option<(TraceId, Option<usize>)> = None;
        let pair = |place: &Place| {
            let known = last.filter(|(id, _)| *id == place.0);
            let (id, root) = known.unwrap_or_else(|| (place.0, roots.first.get(&place.0).copied()));
            last = Some((id, root));
            root.map_or(([*place; 2], 1), |root| ([*place, (id, 1, root)], 2))
        };
        Ok(RootedSpans { pairs: rows.places.iter().map(pair).collect(), rows })
    }

    /// Each as a trace of the two: the span first. In the order of the rows.
    pub(super) fn spans(&self) -> impl Iterator<Item = BatchTrace<'_>> {
        (0..self.len()).map(|row| self.span(row))
    }

    /// A row as such a trace.
    pub(super) fn span(&self, row: usize) -> BatchTrace<'_> {
        let (pair, count) = &self.pairs[row];
        self.rows.trace(&pair[..*count])
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// The row of the root of a row's trace.
    pub(super) fn root(&self, row: usize) -> Option<usize> {
        let ([_, (.., root)], count) = &self.pairs[row];
        (*count == 2).then_some(*root)
    }
}
