//! The table `hops` of one tenant: one row a hop, computed from whole traces where it is read.
//!
//! Filters on `time` and `trace_id` alone say which traces are read: the key span of a hop that fulfils them is a row of `spans` that does. Without
//! any, all traces are read, within the limits of every query (P6).

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, col};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use meshlake_hops::{Hop, TraceHops};
use tokio::sync::mpsc::Sender;

use super::rows::{self, HopRows};
use super::traces::{self, Traces};
use crate::spans::SpansTable;

const BATCH_ROWS: usize = 8192;

/// The table.
pub(crate) struct HopsTable {
    spans: Arc<SpansTable>,
    traces: Traces,
}

impl HopsTable {
    /// Of the same tenant and snapshot as `spans`.
    pub(crate) fn new(spans: Arc<SpansTable>, traces: Traces) -> HopsTable {
        HopsTable { spans, traces }
    }
}

impl fmt::Debug for HopsTable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HopsTable").field("spans", &self.spans).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for HopsTable {
    fn schema(&self) -> SchemaRef {
        rows::schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Inexact: a trace has hops out of a range that one of its spans is in.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut spans = LogicalPlanBuilder::scan("spans", provider_as_source(self.spans.clone()), None)?;
        for filter in filters {
            if let Some(filter) = of_key_span(filter)? {
                spans = spans.filter(filter)?;
            }
        }
        let ids = spans.project(vec![col("trace_id")])?.distinct()?.build()?;
        let scan = HopsScan { schema: rows::schema(), ids: state.create_physical_plan(&ids).await?, traces: self.traces.clone() };
        Ok(Arc::new(StreamingTableExec::try_new(rows::schema(), vec![Arc::new(scan)], projection, [], false, limit)?))
    }
}

/// What a filter of hops says of their key spans, as a filter of `spans`; none where it asks about more than these tell.
fn of_key_span(filter: &Expr) -> Result<Option<Expr>> {
    if !filter.column_refs().iter().all(|column| matches!(column.name.as_str(), "time" | "trace_id")) {
        return Ok(None);
    }
    let renamed = filter.clone().transform(|part| {
        Ok(match part {
            Expr::Column(column) if column.name == "time" => Transformed::yes(col("start_time")),
            Expr::Column(column) => Transformed::yes(col(column.name)),
            part => Transformed::no(part),
        })
    })?;
    Ok(Some(renamed.data))
}

/// One scan of the table.
struct HopsScan {
    schema: SchemaRef,
    /// Gives the ids of the traces.
    ids: Arc<dyn ExecutionPlan>,
    traces: Traces,
}

impl fmt::Debug for HopsScan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HopsScan").field("ids", &self.ids).finish_non_exhaustive()
    }
}

impl PartitionStream for HopsScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(self.schema.clone(), 1);
        stream.spawn(run(self.ids.clone(), self.traces.clone(), context, stream.tx()));
        stream.build()
    }
}

/// Sends the hops of the traces, until all are sent or nobody takes them any more.
async fn run(
    ids: Arc<dyn ExecutionPlan>,
    traces: Traces,
    context: Arc<TaskContext>,
    out: Sender<Result<RecordBatch>>,
) -> Result<()> {
    let ids = traces::ids(execute_stream(ids, context.clone())?, context.memory_pool()).await?;
    let (mut worker, mut rows) = (TraceHops::new(), HopRows::new());
    for chunk in ids.chunks() {
        let mut full = Vec::new();
        let add = |id, hops: &[Hop<'_>], _| {
            for hop in hops {
                rows.add(id, hop)?;
                if rows.len() == BATCH_ROWS {
                    full.push(rows.finish()?);
                }
            }
            Ok(())
        };
        traces.each(chunk, &mut worker, add).await?;
        full.push(rows.finish()?);
        for batch in full {
            if out.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
