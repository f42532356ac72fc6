//! What a query is evaluated on, where all of a range has to be seen.

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use futures::TryStreamExt;
use meshlake_traceql::{Conditions, Query};

use super::columns::{Columns, ROOT, SHAPE, START};
use super::matching::{Filtered, Matching};
use super::rooted::RootedSpans;
use super::trace::{BatchTrace, TraceRows};
use crate::hops::TRACES_AT_ONCE;
use crate::lookup::FoundRows;
use crate::trace_id::TraceId;
use crate::types::TimeRange;
use crate::values::open;
use crate::view::View;

/// The spans of a range that may matter to a query, and their traces.
pub(super) struct Candidates<'a> {
    pub view: &'a View,
    pub query: &'a Query,
    pub conditions: &'a Conditions,
    /// In which spans start.
    pub range: TimeRange,
    /// What is read of each span.
    pub columns: Columns,
}

impl Candidates<'_> {
    /// Gives `each` the spans of a batch, each as a trace of its own, from one scan; only those of which `also` holds.
    pub(super) async fn spans(
        &self,
        also: Option<Expr>,
        mut each: impl FnMut(&mut dyn Iterator<Item = BatchTrace<'_>>) -> Result<()>,
    ) -> Result<()> {
        let columns: Columns = self.columns.iter().copied().chain(START).collect();
        let matching = self.matching(Filtered::Coarsely).await?;
        let mut batches = matching.rows(columns, also.as_ref())?.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            each(&mut TraceRows::new([&batch], &self.query.attributes, false)?.spans())?;
        }
        Ok(())
    }

    /// Gives `each` spans of a batch, each as a trace of itself and the first root of its own, from one scan and lookups of the roots.
    pub(super) async fn spans_with_roots(
        &self,
        mut each: impl FnMut(&mut dyn Iterator<Item = BatchTrace<'_>>) -> Result<()>,
    ) -> Result<()> {
        let (view, query, all) = (self.view, self.query, self.conditions.all_attributes);
        // Whether it is a root itself, a span must say, too.
        let columns: Columns = self.columns.iter().copied().chain(SHAPE).collect();
        let of_roots: Vec<&str> = SHAPE.into_iter().chain(ROOT).collect();
        let mut batches = self.matching(Filtered::Finely).await?.rows(columns, None)?.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            for ids in trace_ids(&batch)?.chunks(TRACES_AT_ONCE) {
                let take = |parts: &[FoundRows]| {
                    let traces = parts.iter().flat_map(|found| &found.batches);
                    each(&mut RootedSpans::new(&batch, traces, &query.attributes, all)?.spans())
                };
                view.lookups.find_together(&view.snapshot, &view.tenant, ids, &of_roots, take).await?;
            }
        }
        Ok(())
    }

    async fn matching(&self, filtered: Filtered) -> Result<Matching> {
        Matching::new(self.view, &self.query.attributes, &self.conditions.answer, self.range, filtered).await
    }

    /// Gives `each` whole traces, all that are looked up at once.
    pub(super) async fn traces(&self, mut each: impl FnMut(&mut dyn Iterator<Item = BatchTrace<'_>>) -> Result<()>) -> Result<()> {
        let (view, query) = (self.view, self.query);
        let columns: Columns = self.columns.iter().copied().chain(SHAPE).collect();
        let columns: Vec<&str> = columns.into_iter().collect();
        let ids = view.traces_of(self.matching(Filtered::Finely).await?.rows(["trace_id"], None)?).await?;
        for chunk in ids.chunks() {
            let take = |parts: &[FoundRows]| {
                let batches = parts.iter().flat_map(|found| &found.batches);
                each(&mut TraceRows::new(batches, &query.attributes, self.conditions.all_attributes)?.traces())
            };
            view.lookups.find_together(&view.snapshot, &view.tenant, chunk, &columns, take).await?;
        }
        Ok(())
    }
}

/// The traces of rows, each once, by id.
fn trace_ids(rows: &RecordBatch) -> Result<Vec<TraceId>> {
    let column = open(rows, "trace_id", |column| column.as_fixed_size_binary_opt())?;
    let mut ids: Vec<TraceId> = column.iter().flatten().filter_map(TraceId::from_slice).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
