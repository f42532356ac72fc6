use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, col};
use futures::TryStreamExt;
use meshlake_traceql::{Accumulator, Conditions, Grid, MetricsAnswer, Trace};

use super::columns::{IDS, SHAPE, START, of_query};
use super::filter::Filter;
use super::trace::TraceRows;
use super::{TraceQlMetrics, failed};
use crate::lookup::FoundRows;
use crate::types::TimeRange;
use crate::view::{View, starts_in};

/// The series.
pub(crate) async fn metrics(view: &View, query: &TraceQlMetrics) -> Result<MetricsAnswer> {
    let (series, grid, limits) = (query.series()?, query.grid()?, query.limits()?);
    let memory = MemoryConsumer::new("traceql: series").register(&view.lookups.runtime.memory_pool);
    let mut sums = Sums { accumulator: Accumulator::new(series, grid, limits), memory };
    let conditions = query.query.conditions();
    if conditions.each_span {
        of_spans(view, query, &conditions, range(&grid), &mut sums).await?;
    } else {
        of_traces(view, query, &conditions, range(&grid), &mut sums).await?;
    }
    let Sums { accumulator, memory: _memory } = sums;
    Ok(accumulator.finish())
}

/// The microseconds in which spans of the intervals may start: a little more than those.
fn range(grid: &Grid) -> TimeRange {
    let micros = |nanos: u64| (nanos / 1000) as i64;
    TimeRange { start: micros(grid.start()), end: micros(grid.end()).saturating_add(1) }
}

/// Series in the making.
struct Sums<'q> {
    accumulator: Accumulator<'q>,
    memory: MemoryReservation,
}

impl Sums<'_> {
    fn add<T: Trace>(&mut self, traces: impl Iterator<Item = T>) -> Result<()> {
        for trace in traces {
            self.accumulator.add(&trace).map_err(failed)?;
        }
        self.memory.try_resize(self.accumulator.bytes())
    }
}

/// Each span is a trace of its own: one scan.
async fn of_spans(
    view: &View,
    query: &TraceQlMetrics,
    conditions: &Conditions,
    range: TimeRange,
    sums: &mut Sums<'_>,
) -> Result<()> {
    let mut columns = of_query(&query.query, conditions);
    columns.extend(START);
    if query.exemplars > 0 {
        columns.extend(IDS);
    }
    let attributes = &query.query.attributes;
    let passes = Filter::new(view, attributes).coarse(&conditions.answer);
    let spans = view.spans()?.filter(passes.into_iter().fold(starts_in(range), Expr::and))?;
    let mut batches = spans.select(columns.into_iter().map(col).collect::<Vec<_>>())?.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        sums.add(TraceRows::new([&batch], attributes, false)?.spans())?;
    }
    Ok(())
}

/// Whole traces that have a span in the range that may count.
async fn of_traces(
    view: &View,
    query: &TraceQlMetrics,
    conditions: &Conditions,
    range: TimeRange,
    sums: &mut Sums<'_>,
) -> Result<()> {
    let mut columns = of_query(&query.query, conditions);
    columns.extend(SHAPE);
    let columns: Vec<&str> = columns.into_iter().collect();
    let attributes = &query.query.attributes;
    let ids = view.traces_in(range, Filter::new(view, attributes).fine(&conditions.answer)).await?;
    for chunk in ids.chunks() {
        let add = |parts: &[FoundRows]| {
            let batches = parts.iter().flat_map(|found| &found.batches);
            sums.add(TraceRows::new(batches, attributes, conditions.all_attributes)?.traces())
        };
        view.lookups.find_together(&view.snapshot, &view.tenant, chunk, &columns, add).await?;
    }
    Ok(())
}
