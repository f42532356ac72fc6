//! What one query sees: one tenant's spans in one snapshot.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col, lit};
use datafusion::scalar::ScalarValue;
use meshlake_config::Tenant;
use meshlake_hops::{Hop, TraceHops};
use meshlake_storage::{AttributeCounts, Snapshot, Summary};

use crate::error::{MAX_ROWS_SETTING, QueryError};
use crate::file_attributes::FileAttributes;
use crate::file_items::FileItems;
use crate::file_summaries::FileSummaries;
use crate::graph::KeptGraphs;
use crate::hops::{TraceIds, Traces, ids};
use crate::lookup::{FoundRows, Lookups};
use crate::partitions::together;
use crate::plain_texts::PlainTexts;
use crate::rollups::Summed;
use crate::spans::SpansTable;
use crate::trace_id::TraceId;
use crate::types::TimeRange;

/// The snapshot is taken once, so all parts of a query see the same spans (P2).
pub(crate) struct View {
    pub(crate) tenant: Tenant,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) table: Arc<SpansTable>,
    pub(crate) state: SessionState,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) summaries: Arc<FileSummaries<Summary>>,
    pub(crate) attribute_counts: Arc<FileSummaries<AttributeCounts>>,
    pub(crate) file_attributes: Arc<FileSummaries<FileAttributes>>,
    pub(crate) file_items: Arc<FileSummaries<FileItems>>,
    pub(crate) summed: Summed,
    pub(crate) graphs: Arc<KeptGraphs>,
    pub(crate) traces: Traces,
    pub(crate) max_rows: u64,
}

impl View {
    /// The table `spans`.
    pub(crate) fn spans(&self) -> Result<DataFrame> {
        self.scan(self.table.clone())
    }

    /// The table of a part of the snapshot.
    pub(crate) fn spans_of(&self, part: Snapshot) -> Result<DataFrame> {
        self.plain_spans_of(part, PlainTexts::default())
    }

    /// The same with plain texts.
    pub(crate) fn plain_spans_of(&self, part: Snapshot, plain: PlainTexts) -> Result<DataFrame> {
        self.scan(Arc::new(self.table.with(Arc::new(part)).with_plain(plain)))
    }

    fn scan(&self, table: Arc<SpansTable>) -> Result<DataFrame> {
        let plan = LogicalPlanBuilder::scan("spans", provider_as_source(table), None)?.build()?;
        Ok(DataFrame::new(self.state.clone(), plan))
    }

    /// Gives `each` all rows of the traces, in the range or not; see [`Lookups::find`].
    pub(crate) async fn each_of(
        &self,
        ids: Vec<TraceId>,
        columns: Option<&[&str]>,
        each: impl FnMut(FoundRows) -> Result<()>,
    ) -> Result<()> {
        self.lookups.find(&self.snapshot, &self.tenant, ids, columns, each).await
    }

    /// Gives `each` all hops of each trace that may have one in the range (see [`TimeRange::holds`]), those out of the range too,
    /// and what H left out.
    pub(crate) async fn each_trace(
        &self,
        range: TimeRange,
        mut each: impl FnMut(TraceId, &[Hop<'_>], meshlake_hops::Summary) -> Result<()>,
    ) -> Result<()> {
        let ids = self.traces_in(range, None).await?;
        let mut worker = TraceHops::new();
        for chunk in ids.chunks() {
            self.traces.each(chunk, &mut worker, &mut each).await?;
        }
        Ok(())
    }

    /// The traces with a span that may start in the range as hops do (see [`TimeRange::holds`]), and fulfils `also`.
    pub(crate) async fn traces_in(&self, range: TimeRange, also: Option<Expr>) -> Result<TraceIds> {
        // Spans know microseconds: in the first one may start some after it, and the last one is the end itself.
        let range = TimeRange { start: range.start, end: range.end.saturating_add(1) };
        let filter = also.into_iter().fold(starts_in(range), Expr::and);
        self.traces_of(self.spans()?.filter(filter)?).await
    }

    /// The traces of the rows of a scan that is filtered and projected at most.
    pub(crate) async fn traces_of(&self, rows: DataFrame) -> Result<TraceIds> {
        let rows = together(rows.select_columns(&["trace_id"])?).await?;
        ids(rows, &self.lookups.runtime.memory_pool).await
    }

    /// Fails where an answer has more rows than one may have.
    pub(crate) fn check_rows(&self, rows: usize) -> Result<()> {
        if rows as u64 > self.max_rows {
            return Err(QueryError::TooManyRows { limit: self.max_rows, setting: MAX_ROWS_SETTING }.into());
        }
        Ok(())
    }

    /// All rows of `frame`, for answers that are small unless names are without bound.
    pub(crate) async fn collect(&self, frame: DataFrame) -> Result<Vec<RecordBatch>> {
        let one_more = usize::try_from(self.max_rows).ok().map(|limit| limit.saturating_add(1));
        let batches = frame.limit(0, one_more)?.collect().await?;
        self.check_rows(batches.iter().map(RecordBatch::num_rows).sum())?;
        Ok(batches)
    }
}

impl From<QueryError> for datafusion::error::DataFusionError {
    fn from(error: QueryError) -> Self {
        datafusion::error::DataFusionError::External(Box::new(error))
    }
}

/// A moment as a literal; microseconds.
pub(crate) fn time(micros: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

/// `start_time` at the latest then; microseconds.
pub(crate) fn starts_until(latest: i64) -> Expr {
    col("start_time").lt_eq(time(latest))
}

/// `start_time` in the range.
pub(crate) fn starts_in(range: TimeRange) -> Expr {
    col("start_time").gt_eq(time(range.start)).and(col("start_time").lt(time(range.end)))
}
