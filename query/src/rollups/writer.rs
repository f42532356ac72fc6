//! The rollup of a file that compaction writes.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use meshlake_config::{Config, Tenant};
use meshlake_hops::rollup::{Outline, RollupBuilder};
use meshlake_hops::span_rollup::{SpanOutline, SpanRollupBuilder};
use meshlake_hops::trace_summary::TraceSummaryBuilder;
use meshlake_hops::{SPANS_MAX, TraceHops};
use meshlake_storage::{FileRollup, Promoted, Promotions, RollupError, Rollups, SpanFile, StoredRollup, trace_key};
use object_store::ObjectStore;

use super::correct::Places;
use super::{span_writer, trace_writer};
use crate::hops::TraceRows;
use crate::lookup::Lookups;
use crate::trace_id::TraceId;

/// Bytes for the footers of files that are looked into.
const CACHE_BYTES: usize = 16 << 20;
/// Spans of one trace that are held: of more, H takes the first ones.
const HELD_MAX: usize = 2 * SPANS_MAX;

/// Makes the rollups of lake files.
pub struct HopRollups {
    lookups: Arc<Lookups>,
}

impl std::fmt::Debug for HopRollups {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("HopRollups")
    }
}

impl HopRollups {
    /// For files in this object store, with as much memory for what is looked up as the configuration gives compaction.
    ///
    /// # Errors
    /// If the memory can't be limited.
    pub fn new(store: Arc<dyn ObjectStore>, config: &Config) -> Result<HopRollups, RollupError> {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(config.compaction.memory_limit.as_usize(), 1.0).build()?;
        Ok(HopRollups { lookups: Arc::new(Lookups::new(store, CACHE_BYTES, Arc::new(runtime))) })
    }
}

impl Rollups for HopRollups {
    fn begin(&self, promoted: &Arc<Vec<Promoted>>) -> Box<dyn FileRollup> {
        let (sums, spans, traces) = (TraceSums::default(), SpanRollupBuilder::new(), TraceSummaryBuilder::new());
        Box::new(HopRollup { lookups: self.lookups.clone(), promoted: promoted.clone(), sums, spans, traces })
    }
}

/// Sums of the hops of rows that come by trace.
#[derive(Default)]
pub(crate) struct TraceSums {
    pub(crate) builder: RollupBuilder,
    /// The traces, in the order of the rows.
    pub(crate) ids: Vec<TraceId>,
    worker: TraceHops,
    /// Of the last trace, of which more may come.
    held: Vec<RecordBatch>,
    /// Rows of it past [`HELD_MAX`].
    passed_over: usize,
}

fn trace_at(rows: &RecordBatch, row: usize) -> Result<TraceId> {
    let column = rows.column_by_name("trace_id").and_then(|column| column.as_fixed_size_binary_opt());
    let id = column.and_then(|column| TraceId::from_slice(column.value(row)));
    id.ok_or_else(|| DataFusionError::Internal("the column trace_id has another type".to_owned()))
}

impl TraceSums {
    /// Adds rows with the columns of [`crate::hops::SPAN_COLUMNS`] at least.
    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let Some(end) = rows.num_rows().checked_sub(1) else { return Ok(()) };
        let last = trace_at(rows, end)?;
        let mut whole = end;
        while whole > 0 && trace_at(rows, whole - 1)? == last {
            whole -= 1;
        }
        if whole > 0 || self.held.first().is_some_and(|held| trace_at(held, 0).is_ok_and(|id| id != last)) {
            self.held.push(rows.slice(0, whole));
            self.sum()?;
        }
        if self.held.iter().map(RecordBatch::num_rows).sum::<usize>() < HELD_MAX {
            self.held.push(rows.slice(whole, rows.num_rows() - whole));
        } else {
            self.passed_over += rows.num_rows() - whole;
        }
        Ok(())
    }

    /// Sums what is held.
    pub(crate) fn sum(&mut self) -> Result<()> {
        let TraceSums { builder, ids, worker, held, passed_over } = self;
        let rows = TraceRows::new(held.iter())?;
        let mut sums = builder.adder();
        rows.hops(worker, |id, hops, mut summary| {
            // Of the trace that was held, which is the first.
            summary.left_out += std::mem::take(passed_over);
            sums.add(id.0, hops, summary);
            ids.push(id);
            Ok(())
        })?;
        drop(rows);
        held.clear();
        Ok(())
    }
}

struct HopRollup {
    lookups: Arc<Lookups>,
    promoted: Arc<Vec<Promoted>>,
    sums: TraceSums,
    spans: SpanRollupBuilder,
    traces: TraceSummaryBuilder,
}

#[async_trait]
impl FileRollup for HopRollup {
    fn add(&mut self, rows: &RecordBatch) -> Result<(), RollupError> {
        span_writer::add(&mut self.spans, rows)?;
        trace_writer::add(&mut self.traces, rows)?;
        Ok(self.sums.add(rows)?)
    }

    async fn finish(mut self: Box<Self>, file: &Arc<SpanFile>, before: Vec<Arc<SpanFile>>) -> Result<StoredRollup, RollupError> {
        self.sums.sum()?;
        let TraceSums { mut builder, ids, .. } = self.sums;
        let spans = self.spans.finish();
        let tenant = file.tenants.first().and_then(|tenant| Tenant::parse(tenant).ok()).ok_or("a file of no tenant")?;
        let mut promotions = Promotions::default();
        promotions.list = self.promoted;
        let places = Places { lookups: self.lookups, tenant, promotions: Arc::new(promotions) };
        let (files, shared) = shared(&ids, &before);
        if !shared.is_empty() {
            places.correct(&mut builder, &places.files(files), &places.files([file.clone()]), &shared).await?;
        }
        let rollup = builder.finish();
        // Those of spans stand behind those of hops: see `Outline::sections`.
        let sections = rollup.encode().into_iter().chain(spans.encode()).collect();
        Ok(StoredRollup { sections, traces: self.traces.finish(), bounds: bounds(&rollup.outline, &spans.outline) })
    }
}

/// Of the files those that may hold one of the traces, and of the traces those that one of them may hold; both as they stood.
pub(crate) fn shared(ids: &[TraceId], files: &[Arc<SpanFile>]) -> (Vec<Arc<SpanFile>>, Vec<TraceId>) {
    let keys: Vec<u64> = ids.iter().map(|id| trace_key(&id.0)).collect();
    let (mut found, mut marks) = (Vec::new(), vec![false; ids.len()]);
    for file in files {
        let mut any = file.traces.is_none();
        match &file.traces {
            Some(traces) => traces.select_keys(&keys, |position| (any, marks[position]) = (true, true)),
            None => marks.fill(true),
        }
        found.extend(any.then(|| file.clone()));
    }
    let shared = ids.iter().zip(marks).filter(|(_, mark)| *mark).map(|(id, _)| *id).collect();
    (found, shared)
}

/// The minutes that rollups say anything about.
fn bounds(hops: &Outline, spans: &SpanOutline) -> [u64; 2] {
    let parts = hops.parts.iter().map(|part| (part.first, part.last)).chain([(spans.first, spans.last)]);
    let minutes: Vec<(u64, u64)> = parts.filter(|(_, last)| *last > 0).collect();
    [minutes.iter().map(|(first, _)| *first).min().unwrap_or(0), minutes.iter().map(|(_, last)| *last).max().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use meshlake_hops::rollup::LeftOut;

    use super::*;
    use crate::testing::{START, SpanRow, batch};

    /// Scenario: a trace of more rows than are held, which come in several batches, and another after it. Guarantee: what was
    /// passed over is counted as left out of the first, and nothing of the second.
    #[test]
    fn what_is_not_held_is_left_out() {
        let row = |trace, span| SpanRow { trace, span, start: START + span, kind: Some("server"), ..SpanRow::default() };
        let large = batch(&(1..=SPANS_MAX as u64).map(|span| row(1, span)).collect::<Vec<_>>());
        let mut sums = TraceSums::default();
        for rows in [&large, &large, &large, &batch(&[row(2, 1)])] {
            sums.add(rows).unwrap();
        }
        sums.sum().unwrap();
        let rollup = sums.builder.finish();
        let left_out = rollup.outline.parts[0].left_out(&(0..=u64::MAX));
        assert_eq!((sums.ids.len(), left_out), (2, LeftOut { unnamed: 0, spans: SPANS_MAX as i64 }));
    }
}
