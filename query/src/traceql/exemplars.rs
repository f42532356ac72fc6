//! Spans as examples of numbers that were made without a look at spans.
//!
//! Exemplars are the spans of the least trace ids. Files are sorted by them, so the first rows of a file are as good as all, as long as enough of
//! them match.

use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use futures::{StreamExt, stream};
use meshlake_traceql::Accumulator;

use super::candidates::Candidates;
use super::columns::{Columns, IDS, START};
use super::trace::TraceRows;
use crate::lookup::Lookups;
use crate::spans::may_hold;

/// Files that are looked into, and live batches.
const PLACES: usize = 16;
/// Rows of each.
const ROWS: usize = 1024;

/// Offers the first spans of some files and live batches of a range.
pub(super) async fn offer(candidates: &Candidates<'_>, accumulator: &mut Accumulator) -> Result<()> {
    let Candidates { view, query, range, .. } = candidates;
    let columns: Columns = candidates.columns.iter().copied().chain(START).chain(IDS).collect();
    let columns: Vec<&'static str> = columns.into_iter().collect();
    let mut offer = |rows: &RecordBatch| {
        TraceRows::new([rows], &query.attributes)?.spans().for_each(|span| accumulator.offer(&span));
        Ok::<_, DataFusionError>(())
    };
    for rows in spread(Lookups::live(&view.snapshot, &view.tenant, &columns)?) {
        offer(&rows.slice(0, rows.num_rows().min(ROWS)))?;
    }
    let files = view.snapshot.files.between(range.start, range.end).filter(|file| may_hold(file, &view.tenant));
    let reads = spread(files.cloned().collect()).map(|file| {
        let (lookups, tenant, columns) = (view.lookups.clone(), view.tenant.clone(), columns.clone());
        let promotions = view.snapshot.promotions.clone();
        let read = async move { lookups.first(&file, &tenant, &promotions, &columns, ROWS).await };
        async move { SpawnedTask::spawn(read).join().await }
    });
    let mut reads = stream::iter(reads).buffer_unordered(PLACES);
    while let Some(found) = reads.next().await {
        let found = found.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
        found.batches.iter().try_for_each(&mut offer)?;
    }
    Ok(())
}

/// Some of all, at the same distances.
fn spread<T>(all: Vec<T>) -> impl Iterator<Item = T> {
    let step = all.len().div_ceil(PLACES).max(1);
    all.into_iter().step_by(step)
}
