//! Traces in which a span of a kind is the parent of another, told by ids alone.

use arrow::array::{Array, AsArray};
use arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::TryStreamExt;
use meshlake_storage::Snapshot;

use super::columns::IDS;
use super::matching::Matching;
use crate::hops::TraceIds;
use crate::trace_id::TraceId;
use crate::view::View;

/// A span, by its trace and its own id.
type SpanId = (TraceId, [u8; 8]);

/// The traces in which one of these spans is the parent of another in that part of the snapshot.
pub(super) async fn traces_of_parents(view: &View, spans: &Matching, part: &Snapshot) -> Result<TraceIds> {
    let memory = MemoryConsumer::new("traceql: parents").register(&view.lookups.runtime.memory_pool);
    let mut parents: Vec<SpanId> = Vec::new();
    let mut rows = spans.rows(IDS, None)?.execute_stream().await?;
    while let Some(batch) = rows.try_next().await? {
        // Twice, as those below, for they may be moved as they grow.
        memory.try_grow(2 * batch.num_rows() * size_of::<SpanId>())?;
        parents.extend(span_ids(&batch));
    }
    let mut ids: Vec<TraceId> = Vec::new();
    if parents.is_empty() {
        return Ok(TraceIds { ids, memory });
    }
    parents.sort_unstable();
    let mut rows = children(view, part)?.execute_stream().await?;
    while let Some(batch) = rows.try_next().await? {
        let known = ids.len();
        add_parents(&parents, &batch, &mut ids);
        memory.try_grow(2 * (ids.len() - known) * size_of::<TraceId>())?;
    }
    ids.sort_unstable();
    ids.dedup();
    memory.try_resize(ids.len() * size_of::<TraceId>())?;
    Ok(TraceIds { ids, memory })
}

/// Each span with the id of its parent.
fn children(view: &View, part: &Snapshot) -> Result<DataFrame> {
    view.spans_of(part.clone())?.select_columns(&["trace_id", "parent_span_id"])
}

/// Adds the traces of rows of which one of these spans, which are sorted, is the parent.
fn add_parents(parents: &[SpanId], children: &RecordBatch, ids: &mut Vec<TraceId>) {
    // Rows of a trace stand together, and most traces have none of these.
    let mut last: Option<(TraceId, &[SpanId])> = None;
    for (id, parent) in span_ids(children) {
        let (_, of_trace) = last.filter(|(known, _)| *known == id).unwrap_or_else(|| (id, of(parents, id)));
        last = Some((id, of_trace));
        if ids.last() != Some(&id) && of_trace.binary_search(&(id, parent)).is_ok() {
            ids.push(id);
        }
    }
}

/// Those of a trace.
fn of(spans: &[SpanId], id: TraceId) -> &[SpanId] {
    let from = &spans[spans.partition_point(|(trace, _)| *trace < id)..];
    &from[..from.partition_point(|(trace, _)| *trace == id)]
}

/// What the two columns of rows say; those without the second are left out.
fn span_ids(rows: &RecordBatch) -> impl Iterator<Item = SpanId> {
    let [traces, spans] = [0, 1].map(|column| rows.column(column).as_fixed_size_binary());
    let (traces, _) = traces.value_data().as_chunks::<16>();
    let (ids, _) = spans.value_data().as_chunks::<8>();
    let has_id = (0..rows.num_rows()).filter(|row| spans.is_valid(*row));
    has_id.map(|row| (TraceId(traces[row]), ids[row]))
}
