use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::Expr;
use meshlake_traceql::{Accumulator, Conditions, MetricsAnswer, Reach};

use super::candidates::Candidates;
use super::columns::{IDS, of_query};
use super::compared::{Compared, SharedSums};
use super::rooted::RootedSpans;
use super::summed::Summable;
use super::trace::{BatchTrace, TraceRows};
use super::{MetricsPart, TraceQlMetrics, exemplars, failed};
use crate::partitions::Partitions;
use crate::types::TimeRange;
use crate::view::View;

/// The series.
pub(crate) async fn metrics(view: &View, asked: &TraceQlMetrics) -> Result<MetricsAnswer> {
    let (grid, conditions) = (asked.grid()?, asked.query.conditions());
    let begin = || Sums::new(view, asked);
    let candidates = candidates(view, asked, &conditions, MetricsPart { after: grid.start(), until: grid.end() });
    let summed = match Summable::of(&asked.query, &grid) {
        Some(summable) => summable.series(&candidates, begin()?).await?,
        None => None,
    };
    let sums = match summed {
        Some(mut sums) if asked.exemplars > 0 => {
            exemplars::offer(&candidates, &mut sums.accumulator).await?;
            sums
        }
        Some(sums) => sums,
        None => scanned(&candidates, begin()?).await?,
    };
    let Sums { accumulator, memory: _memory } = sums;
    Ok(accumulator.finish())
}

/// Series of the parts of a range that were read, to which the next is added.
#[derive(Debug)]
pub struct MetricsSoFar(Sums);

/// What was read with one part more, and what it says.
pub(crate) async fn part(
    view: &View,
    asked: &TraceQlMetrics,
    part: MetricsPart,
    so_far: Option<MetricsSoFar>,
) -> Result<(MetricsSoFar, MetricsAnswer)> {
    let mut sums = match so_far {
        Some(MetricsSoFar(sums)) => sums,
        None => Sums::new(view, asked)?,
    };
    sums.accumulator.count_within(part.after, part.until);
    let sums = scanned(&candidates(view, asked, &asked.query.conditions(), part), sums).await?;
    let answer = sums.accumulator.so_far();
    Ok((MetricsSoFar(sums), answer))
}

/// The spans that may count in a part of the range.
fn candidates<'a>(view: &'a View, asked: &'a TraceQlMetrics, conditions: &'a Conditions, part: MetricsPart) -> Candidates<'a> {
    let query = &asked.query;
    let mut columns = of_query(query, conditions);
    if asked.exemplars > 0 {
        columns.extend(IDS);
    }
    Candidates { view, query, conditions, range: range(part), columns }
}

/// The series of spans, as each is.
async fn scanned(candidates: &Candidates<'_>, mut sums: Sums) -> Result<Sums> {
    let Candidates { conditions, query, .. } = candidates;
    match conditions.reach {
        Reach::Span => sums.add_spans(candidates, None).await?,
        Reach::Root if conditions.all_attributes => return compared(candidates, sums).await,
        Reach::Root => {
            let mut rooted = candidates.with_roots().await?;
            while let Some((partitions, roots)) = rooted.next().await? {
                let attributes = query.attributes.clone();
                let add = move |part: &mut Sums, rows: &RecordBatch| {
                    part.add(&mut RootedSpans::new(rows, &roots, &attributes)?.spans(), 1)
                };
                sums.add_apart(partitions, add).await?;
            }
        }
        Reach::Trace => candidates.traces(|traces| sums.add(traces, usize::MAX)).await?,
    }
    Ok(sums)
}

/// The series of `compare()`, into which all tasks count: of the values of an attribute the same ones are left out for all.
async fn compared(candidates: &Candidates<'_>, sums: Sums) -> Result<Sums> {
    let Candidates { conditions, query, .. } = candidates;
    let empty = sums.apart();
    let series = Arc::new(SharedSums::new(sums));
    let mut rooted = candidates.with_roots().await?;
    while let Some((partitions, roots)) = rooted.next().await? {
        let tasks = partitions.tasks();
        let begin = || Compared::new(query, conditions, series.clone(), tasks);
        let add = move |part: &mut Compared, rows: &RecordBatch| part.add(rows, &roots);
        partitions.each(begin, add).await?.iter_mut().try_for_each(Compared::close)?;
    }
    Ok(series.replace(empty))
}

/// The microseconds in which spans of a part may start: a little more than it has.
fn range(part: MetricsPart) -> TimeRange {
    let micros = |nanos: u64| (nanos / 1000) as i64;
    TimeRange { start: micros(part.after), end: micros(part.until).saturating_add(1) }
}

/// Series in the making.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) accumulator: Accumulator,
    pub(super) memory: MemoryReservation,
}

impl Sums {
    /// Of nothing.
    fn new(view: &View, asked: &TraceQlMetrics) -> Result<Sums> {
        let memory = MemoryConsumer::new("traceql: series").register(&view.lookups.runtime.memory_pool);
        Ok(Sums { accumulator: Accumulator::new(asked.series()?, asked.grid()?, asked.limits()?), memory })
    }

    /// Of nothing, like these.
    pub(super) fn apart(&self) -> Sums {
        Sums { accumulator: self.accumulator.apart(), memory: self.memory.new_empty() }
    }

    /// The spans of a scan, each for itself; only those of which `also` holds.
    pub(super) async fn add_spans(&mut self, candidates: &Candidates<'_>, also: Option<Expr>) -> Result<()> {
        let partitions = Partitions::of(vec![candidates.spans(also).await?]).await?;
        let attributes = candidates.query.attributes.clone();
        let add = move |part: &mut Sums, rows: &RecordBatch| part.add(&mut TraceRows::new([rows], &attributes)?.spans(), 1);
        self.add_apart(partitions, add).await
    }

    /// What `add` makes of the rows that each task reads.
    async fn add_apart(
        &mut self,
        partitions: Partitions,
        add: impl Fn(&mut Sums, &RecordBatch) -> Result<()> + Clone + Send + 'static,
    ) -> Result<()> {
        for Sums { accumulator, memory } in partitions.each(|| self.apart(), add).await? {
            self.accumulator.merge(accumulator);
            drop(memory);
            self.reserve()?;
        }
        Ok(())
    }

    /// Of each trace the first so many spans.
    pub(super) fn add(&mut self, traces: &mut dyn Iterator<Item = BatchTrace<'_>>, spans: usize) -> Result<()> {
        for trace in traces {
            self.accumulator.add_first(&trace, spans).map_err(failed)?;
        }
        self.reserve()
    }

    /// Reserves what they take.
    pub(super) fn reserve(&self) -> Result<()> {
        self.memory.try_resize(self.accumulator.bytes())
    }
}
