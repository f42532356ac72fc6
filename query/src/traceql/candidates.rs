//! What a query is evaluated on, where all of a range has to be seen.

use std::sync::Arc;

use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::scalar::ScalarValue;
use meshlake_traceql::{Conditions, Intrinsic, Query};

use super::columns::{Columns, SHAPE, START};
use super::matching::{Filtered, Matching};
use super::needless::needless;
use super::rooted::Roots;
use super::trace::BatchTrace;
use super::whole::WholeTraces;
use crate::hops::TraceIds;
use crate::lookup::FoundRows;
use crate::partitions::Partitions;
use crate::trace_id::TraceId;
use crate::types::TimeRange;
use crate::view::View;

/// What says of which trace a span is, and when it began.
const OF_TRACE: [&str; 3] = ["trace_id", "start_time", "start_nanos"];
/// Traces of which the roots are held at once, a few dozen megabytes.
const ROOTS_AT_ONCE: usize = 256 * 1024;

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
    /// The spans, for who asks each for itself, from one scan; only those of which `also` holds.
    pub(super) async fn spans(&self, also: Option<Expr>) -> Result<DataFrame> {
        let columns: Columns = self.columns.iter().copied().chain(START).collect();
        self.matching(Filtered::Coarsely).await?.rows(columns, also.as_ref())
    }

    /// The same for who reads all attributes: of columns in which nothing stands, some may be missing.
    pub(super) async fn sparing(&self) -> Result<Partitions> {
        let Candidates { view, query, conditions, range, columns } = self;
        let columns: Columns = columns.iter().copied().chain(START).collect();
        let matching = Matching::sparing(view, &query.attributes, &conditions.answer, *range, Filtered::Coarsely).await?;
        matching.partitions(&columns, None).await
    }

    /// The rows and the first roots of their traces, from two scans and lookups of the roots.
    pub(super) async fn with_roots(&self) -> Result<Rooted<'_>> {
        let intrinsics = &self.conditions.intrinsics;
        let asks = intrinsics.iter().any(|intrinsic| intrinsic.is_of_trace() || *intrinsic == Intrinsic::ParentId);
        // Where the query asks for roots itself, a span must say, too, whether it is one.
        let shape: &[&str] = if asks { &SHAPE } else { &OF_TRACE };
        let columns: Columns = self.columns.iter().copied().chain(shape.iter().copied()).collect();
        let Candidates { view, query, conditions, range, .. } = self;
        let matching = if conditions.all_attributes {
            Matching::sparing(view, &query.attributes, &conditions.answer, *range, Filtered::Finely).await?
        } else {
            self.matching(Filtered::Finely).await?
        };
        let traces = view.traces_of(matching.rows(["trace_id"], None)?).await?;
        Ok(Rooted { view, matching, columns, traces, given: 0 })
    }

    async fn matching(&self, filtered: Filtered) -> Result<Matching> {
        Matching::new(self.view, &self.query.attributes, &self.conditions.answer, self.range, filtered).await
    }

    /// Gives `each` whole traces, all that are looked up at once.
    pub(super) async fn traces(&self, mut each: impl FnMut(&mut dyn Iterator<Item = BatchTrace<'_>>) -> Result<()>) -> Result<()> {
        let (view, query) = (self.view, self.query);
        let columns: Columns = self.columns.iter().copied().chain(SHAPE).collect();
        let columns: Vec<&str> = columns.into_iter().collect();
        let needless = needless(view, &query.attributes, self.conditions, self.range).await;
        let ids = view.traces_of(self.matching(Filtered::Finely).await?.rows(["trace_id"], None)?).await?;
        for chunk in ids.chunks() {
            let take = |parts: &[FoundRows]| {
                let batches = parts.iter().flat_map(|found| &found.batches);
                each(&mut WholeTraces::new(batches, query, self.conditions)?.traces())
            };
            view.lookups.find_together(&view.snapshot, &view.tenant, chunk, &columns, &needless, take).await?;
        }
        Ok(())
    }
}

/// Rows with the roots of their traces.
pub(super) struct Rooted<'a> {
    view: &'a View,
    matching: Matching,
    columns: Columns,
    traces: TraceIds,
    /// How many of them were given.
    given: usize,
}

impl Rooted<'_> {
    /// The rows of the next traces, in partitions, and their roots. If the query reads all attributes, columns may be missing in which
    /// nothing stands.
    pub(super) async fn next(&mut self) -> Result<Option<(Partitions, Arc<Roots>)>> {
        let Rooted { view, matching, columns, traces, given } = self;
        let Some(chunk) = traces.ids[*given..].chunks(ROOTS_AT_ONCE).next() else { return Ok(None) };
        *given += chunk.len();
        let roots = Roots::of(view, chunk).await?;
        let also = if chunk.len() < traces.ids.len() { between(chunk) } else { None };
        Ok(Some((matching.partitions(columns, also.as_ref()).await?, Arc::new(roots))))
    }
}

/// The rows of the traces from the first to the last of these.
fn between(ids: &[TraceId]) -> Option<Expr> {
    let [first, last] = [ids.first()?, ids.last()?].map(|id| lit(ScalarValue::FixedSizeBinary(16, Some(id.0.to_vec()))));
    Some(col("trace_id").gt_eq(first).and(col("trace_id").lt_eq(last)))
}
