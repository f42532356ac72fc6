use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use meshlake_traceql::{Accumulator, Grid, MetricsAnswer, Reach};

use super::candidates::Candidates;
use super::columns::{IDS, of_query};
use super::compared::Compared;
use super::rooted::{RootedSpans, Roots};
use super::summed::Summable;
use super::trace::BatchTrace;
use super::{TraceQlMetrics, exemplars, failed};
use crate::types::TimeRange;
use crate::view::View;

/// The series.
pub(crate) async fn metrics(view: &View, asked: &TraceQlMetrics) -> Result<MetricsAnswer> {
    let (series, grid, limits) = (asked.series()?, asked.grid()?, asked.limits()?);
    let (query, conditions) = (&asked.query, &asked.query.conditions());
    let mut columns = of_query(query, conditions);
    if asked.exemplars > 0 {
        columns.extend(IDS);
    }
    let candidates = Candidates { view, query, conditions, range: range(&grid), columns };
    let begin = || {
        let memory = MemoryConsumer::new("traceql: series").register(&view.lookups.runtime.memory_pool);
        Sums { accumulator: Accumulator::new(series, grid, limits), memory }
    };
    let summed = match Summable::of(query, &grid) {
        Some(summable) => summable.series(&candidates, begin()).await?,
        None => None,
    };
    let sums = match summed {
        Some(mut sums) if asked.exemplars > 0 => {
            exemplars::offer(&candidates, &mut sums.accumulator).await?;
            sums
        }
        Some(sums) => sums,
        None => scanned(&candidates, begin()).await?,
    };
    let Sums { accumulator, memory: _memory } = sums;
    Ok(accumulator.finish())
}

/// The series of spans, as each is.
async fn scanned<'q>(candidates: &Candidates<'_>, mut sums: Sums<'q>) -> Result<Sums<'q>> {
    let Candidates { conditions, query, .. } = candidates;
    match conditions.reach {
        Reach::Span => candidates.spans(None, |spans| sums.add(spans, 1)).await?,
        Reach::Root if conditions.all_attributes => {
            let mut held = Compared::new(query, conditions, sums.accumulator.intervals());
            candidates.spans_with_roots(|spans, roots| held.add(spans, roots, &mut sums)).await?;
            held.close(&mut sums.accumulator);
            sums.memory.try_resize(sums.accumulator.bytes())?;
        }
        Reach::Root => {
            let add =
                |spans: &RecordBatch, roots: &Roots| sums.add(&mut RootedSpans::new(spans, roots, &query.attributes)?.spans(), 1);
            candidates.spans_with_roots(add).await?;
        }
        Reach::Trace => candidates.traces(|traces| sums.add(traces, usize::MAX)).await?,
    }
    Ok(sums)
}

/// The microseconds in which spans of the intervals may start: a little more than those.
fn range(grid: &Grid) -> TimeRange {
    let micros = |nanos: u64| (nanos / 1000) as i64;
    TimeRange { start: micros(grid.start()), end: micros(grid.end()).saturating_add(1) }
}

/// Series in the making.
pub(super) struct Sums<'q> {
    pub(super) accumulator: Accumulator<'q>,
    pub(super) memory: MemoryReservation,
}

impl Sums<'_> {
    /// Of each trace the first so many spans.
    pub(super) fn add(&mut self, traces: &mut dyn Iterator<Item = BatchTrace<'_>>, spans: usize) -> Result<()> {
        for trace in traces {
            self.accumulator.add_first(&trace, spans).map_err(failed)?;
        }
        self.memory.try_resize(self.accumulator.bytes())
    }
}
