//! Sums of hops and spans as SQL tables: `edges_1m`, `operations_1m`, `spans_1m`, and the same by hour and by day.
//!
//! A row is of a step that ends at `time`, which belongs to it: `(time - step, time]`. Latencies are histograms in the encoding of
//! [`meshlake_hops::Histogram`].

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use tokio::sync::mpsc::Sender;

use super::hop_table::{self, Grouping};
use super::pieces::Summed;
use super::span_table;

/// The steps of tables: the end of their names, and minutes.
pub(crate) const STEPS: [(&str, u64); 3] = [("1m", 1), ("1h", 60), ("1d", 1_440)];
pub(super) const MINUTE_MICROS: i64 = 60_000_000;
pub(super) const BATCH_ROWS: usize = 8192;

/// What the rows of a table are of, besides their step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    Hops(Grouping),
    /// Spans: service as it was sent, name, kind and status.
    Spans,
}

impl Rows {
    /// With the beginnings of the tables' names.
    pub(crate) const ALL: [(&str, Rows); 3] =
        [("edges", Rows::Hops(Grouping::Edges)), ("operations", Rows::Hops(Grouping::Operations)), ("spans", Rows::Spans)];

    fn schema(self) -> SchemaRef {
        match self {
            Rows::Hops(grouping) => grouping.schema(),
            Rows::Spans => span_table::schema(),
        }
    }
}

/// One of the tables, of one tenant in one snapshot.
pub(crate) struct RollupTable {
    summed: Summed,
    rows: Rows,
    /// Minutes.
    step: u64,
}

impl RollupTable {
    pub(crate) fn new(summed: Summed, rows: Rows, step: u64) -> RollupTable {
        RollupTable { summed, rows, step }
    }
}

impl fmt::Debug for RollupTable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RollupTable").field("rows", &self.rows).field("step", &self.step).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for RollupTable {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Inexact: bounds of the time say which minutes are read.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let minutes = minutes(filters, self.step);
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema().fields().len()).collect());
        let (summed, schema) = (self.summed.clone(), self.schema());
        let scan = RollupScan { schema, summed, rows: self.rows, step: self.step, minutes, columns };
        Ok(Arc::new(StreamingTableExec::try_new(self.schema(), vec![Arc::new(scan)], projection, [], false, limit)?))
    }
}

/// The minutes of the steps that end where the filters let them.
fn minutes(filters: &[Expr], step: u64) -> RangeInclusive<u64> {
    let (mut low, mut high) = (0i64, i64::MAX);
    for filter in filters {
        let (least, most) = bounds(filter).unwrap_or((0, i64::MAX));
        (low, high) = (low.max(least), high.min(most));
    }
    let length = MINUTE_MICROS as u64 * step;
    let (first, last) = ((low as u64).div_ceil(length).max(1), high.max(0) as u64 / length);
    (first - 1) * step + 1..=last.saturating_mul(step)
}

/// The least and the greatest `time` that fulfil a filter; none where it says nothing of that kind. Microseconds.
fn bounds(filter: &Expr) -> Option<(i64, i64)> {
    let is_time = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == "time");
    let micros = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(micros), _), _) => Some(*micros),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let (left, right) = (bounds(left).unwrap_or((0, i64::MAX)), bounds(right).unwrap_or((0, i64::MAX)));
            Some((left.0.max(right.0), left.1.min(right.1)))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, micros) = match (is_time(left), is_time(right)) {
                (true, false) => (*op, micros(right)?),
                (false, true) => (op.swap()?, micros(left)?),
                _ => return None,
            };
            match op {
                Operator::Eq => Some((micros, micros)),
                Operator::Gt => Some((micros.saturating_add(1), i64::MAX)),
                Operator::GtEq => Some((micros, i64::MAX)),
                Operator::Lt => Some((0, micros.saturating_sub(1))),
                Operator::LtEq => Some((0, micros)),
                _ => None,
            }
        }
        Expr::Between(between) if !between.negated && is_time(&between.expr) => {
            Some((micros(&between.low).unwrap_or(0), micros(&between.high).unwrap_or(i64::MAX)))
        }
        _ => None,
    }
}

/// One scan of a table.
#[derive(Clone)]
pub(super) struct RollupScan {
    pub(super) schema: SchemaRef,
    pub(super) summed: Summed,
    rows: Rows,
    /// Minutes.
    pub(super) step: u64,
    pub(super) minutes: RangeInclusive<u64>,
    /// The columns that are looked at: others may have any values.
    pub(super) columns: Vec<usize>,
}

impl fmt::Debug for RollupScan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RollupScan").field("rows", &self.rows).field("minutes", &self.minutes).finish_non_exhaustive()
    }
}

impl PartitionStream for RollupScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(self.schema.clone(), 1);
        stream.spawn(run(self.clone(), context, stream.tx()));
        stream.build()
    }
}

async fn run(scan: RollupScan, context: Arc<TaskContext>, out: Sender<Result<RecordBatch>>) -> Result<()> {
    let memory = MemoryConsumer::new("rollups").register(context.memory_pool());
    match scan.rows {
        Rows::Hops(grouping) => hop_table::run(scan, grouping, memory, out).await,
        Rows::Spans => span_table::run(scan, memory, out).await,
    }
}
