//! Critical paths: what the end-to-end time of a trace, or of many requests, consists of (see [`meshlake_hops::CriticalPath`]).
//!
//! Nothing is kept from one question to the next: whole traces are read, no more than the question allows, and what each segment
//! of their paths took is summed by whose time it is, the operation and the class.

mod answer;
mod question;
mod rows;
#[cfg(test)]
mod tests;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{col, lit};
use meshlake_hops::{Span, TraceHops};

use crate::sample;
use crate::trace_id::TraceId;
use crate::types::TimeRange;
use crate::view::View;
use rows::Rows;

pub use answer::{ClassTimes, CriticalPaths, PathChange, PathPart, PathRow, PathSegment, PathTotals, TracePath};
pub use question::PathQuery;

/// What a segment takes, with its texts.
const SEGMENT_BYTES: usize = 512;

/// The critical path of one trace; none if it has no spans.
pub(crate) async fn of_trace(view: &View, id: TraceId) -> Result<Option<TracePath>> {
    let memory = MemoryConsumer::new("critical path").register(&view.lookups.runtime.memory_pool);
    let mut found = None;
    let each = |id: TraceId, spans: &[Span<'_>]| {
        let path = TraceHops::new().critical_path(&id.0, spans);
        view.check_rows(path.segments.len())?;
        memory.try_resize(path.segments.len() * SEGMENT_BYTES)?;
        found = Some(TracePath::of(&path, spans));
        Ok(())
    };
    view.traces.each_spans(&[id], each).await?;
    Ok(found)
}

/// The critical paths of the range, summed; beside them those of the baseline.
pub(crate) async fn of_range(view: &View, query: &PathQuery) -> Result<CriticalPaths> {
    query.check()?;
    let memory = MemoryConsumer::new("critical paths").register(&view.lookups.runtime.memory_pool);
    let mut rows = Rows::default();
    let range = add(view, query, query.range, 0, &mut rows, &memory).await?;
    let baseline = match query.baseline {
        Some(range) => Some(add(view, query, range, 1, &mut rows, &memory).await?),
        None => None,
    };
    Ok(rows.answer(range, baseline, query.limit))
}

/// Adds the paths that start in one range to the rows, as the part `at` of each.
async fn add(
    view: &View,
    query: &PathQuery,
    range: TimeRange,
    at: usize,
    rows: &mut Rows,
    memory: &MemoryReservation,
) -> Result<PathTotals> {
    // A request has the name of its key span, which starts with it: traces without one in the range have no path to add.
    let named = query.operation.as_deref().map(|operation| col("name").eq(lit(operation)));
    let (ids, sample) = sample::traces_in(view, range, named, query.traces).await?;
    let mut totals = PathTotals { sample, ..PathTotals::default() };
    let mut worker = TraceHops::new();
    for chunk in ids.chunks() {
        let each = |id: TraceId, spans: &[Span<'_>]| {
            for path in query.paths(&mut worker, id, spans).iter().filter(|path| range.holds(path.start)) {
                totals.add(path);
                rows.add(at, path, spans);
            }
            memory.try_resize(rows.bytes())
        };
        view.traces.each_spans(chunk, each).await?;
    }
    Ok(totals)
}
