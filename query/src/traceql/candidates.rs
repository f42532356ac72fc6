//! What a query is evaluated on, where all of a range has to be seen.

use datafusion::error::Result;
use datafusion::logical_expr::{Expr, col};
use futures::TryStreamExt;
use meshlake_traceql::{Conditions, Query};

use super::columns::{Columns, SHAPE, START};
use super::filter::Filter;
use super::trace::{BatchTrace, TraceRows};
use crate::lookup::FoundRows;
use crate::types::TimeRange;
use crate::view::{View, starts_in};

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
        let passes = Filter::new(self.view, &self.query.attributes).coarse(&self.conditions.answer);
        let filter = passes.into_iter().chain(also).fold(starts_in(self.range), Expr::and);
        let columns: Vec<Expr> = self.columns.iter().copied().chain(START).collect::<Columns>().into_iter().map(col).collect();
        let mut batches = self.view.spans()?.filter(filter)?.select(columns)?.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            each(&mut TraceRows::new([&batch], &self.query.attributes, false)?.spans())?;
        }
        Ok(())
    }

    /// Gives `each` whole traces, all that are looked up at once.
    pub(super) async fn traces(&self, mut each: impl FnMut(&mut dyn Iterator<Item = BatchTrace<'_>>) -> Result<()>) -> Result<()> {
        let (view, query) = (self.view, self.query);
        let columns: Columns = self.columns.iter().copied().chain(SHAPE).collect();
        let columns: Vec<&str> = columns.into_iter().collect();
        let passes = Filter::new(view, &query.attributes).fine(&self.conditions.answer);
        let ids = view.traces_in(self.range, passes).await?;
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
