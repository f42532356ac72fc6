//! Traces in which a span of a kind is the parent of another, told by ids alone.
//!
//! Few rows of a file are below those spans: ids of parents are asked as they are decoded, and of the others the traces are not
//! read.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, FixedSizeBinaryArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_fixed_size_binary_array;
use datafusion::common::internal_err;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{ColumnarValue, Expr, Volatility, col, create_udf};
use futures::TryStreamExt;
use hashbrown::HashSet;
use meshlake_storage::Snapshot;

use super::columns::IDS;
use super::matching::Matching;
use crate::hops::TraceIds;
use crate::marks::Marks;
use crate::partitions::together;
use crate::trace_id::TraceId;
use crate::view::View;

/// A span, by its trace and its own id.
type SpanId = (TraceId, [u8; 8]);

/// Spans whose ids are asked for as rows are decoded, at most: of more, most traces have some, and the set of their ids is slow,
/// for it is larger than caches are.
const ASKED_MAX: usize = 128 * 1024;

/// What says of most other ids that they are not asked for: of as many as may be, one in 16 others passes.
type AskedMarks = Marks<21>;

/// The traces in which one of these spans is the parent of another in that part of the snapshot.
pub(super) async fn traces_of_parents(view: &View, spans: &Matching, part: &Snapshot) -> Result<TraceIds> {
    let memory = MemoryConsumer::new("traceql: parents").register(&view.lookups.runtime.memory_pool);
    let mut parents: Vec<SpanId> = Vec::new();
    let mut rows = together(spans.rows(IDS, None)?).await?;
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
    let mut rows = together(children(view, part, &parents, &memory)?).await?;
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

/// Each span of which one of these may be the parent, with the id of its parent.
fn children(view: &View, part: &Snapshot, parents: &[SpanId], memory: &MemoryReservation) -> Result<DataFrame> {
    let mut spans = view.spans_of(part.clone())?;
    if parents.len() <= ASKED_MAX {
        // The set of their ids is smaller than they are.
        memory.try_grow(size_of_val(parents) + AskedMarks::BYTES)?;
        spans = spans.filter(has_parent_of(parents))?;
    }
    spans.select_columns(&["trace_id", "parent_span_id"])
}

/// Whether the parent of a row has the id of one of these. Ids are hardly ever those of two traces.
fn has_parent_of(parents: &[SpanId]) -> Expr {
    let ids: HashSet<u64> = parents.iter().map(|(_, id)| u64::from_ne_bytes(*id)).collect();
    let marks = AskedMarks::new(ids.iter().copied());
    let holds = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let [spans] = arrays.as_slice() else { return internal_err!("{} columns instead of one", arrays.len()) };
        Ok(ColumnarValue::Array(Arc::new(are_in((&ids, &marks), as_fixed_size_binary_array(spans)?))))
    };
    let id = vec![DataType::FixedSizeBinary(8)];
    let function = create_udf("traceql_has_parent_of", id, DataType::Boolean, Volatility::Immutable, Arc::new(holds));
    function.call(vec![col("parent_span_id")])
}

/// Which spans are in a set; of those that are null that is not known.
fn are_in((ids, marks): (&HashSet<u64>, &AskedMarks), spans: &FixedSizeBinaryArray) -> BooleanArray {
    let (values, _) = spans.value_data().as_chunks::<8>();
    let is_in = |row: usize| {
        let id = u64::from_ne_bytes(values[row]);
        // A look into the set waits for memory.
        marks.may_hold(id) && ids.contains(&id)
    };
    BooleanArray::new(BooleanBuffer::collect_bool(spans.len(), is_in), spans.nulls().cloned())
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
