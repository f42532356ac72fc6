//! Sums of hops as SQL tables: `edges_1m`, `operations_1m`, and the same by hour and by day.
//!
//! A row is of a step that ends at `time`, which belongs to it: `(time - step, time]`. Latencies are histograms in the encoding of
//! [`meshlake_hops::Histogram`].

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryBuilder, Int64Builder, StringDictionaryBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
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
use meshlake_hops::Node;
use meshlake_hops::rollup::{Count, Latencies, Measures, Numbers, RollupKey, StepSums};
use meshlake_storage::{text_type, time_type};
use tokio::sync::mpsc::Sender;

use super::pieces::Summed;

/// The steps of tables: the end of their names, and minutes.
pub(crate) const STEPS: [(&str, u64); 3] = [("1m", 1), ("1h", 60), ("1d", 1_440)];
const MINUTE_MICROS: i64 = 60_000_000;
const BATCH_ROWS: usize = 8192;
const NODE_TEXTS: [&str; 7] = ["kind", "cluster", "namespace", "workload", "service", "version", "zone"];
const COUNTS: [(&str, Count); 11] = [
    ("requests", Count::Requests),
    ("errors", Count::Errors),
    ("calls", Count::Calls),
    ("attempts", Count::Attempts),
    ("messages", Count::Messages),
    ("unresolved", Count::Unresolved),
    ("assumed", Count::Assumed),
    ("request_bytes", Count::RequestBytes),
    ("response_bytes", Count::ResponseBytes),
    ("mtls", Count::MutualTls),
    ("plain_text", Count::PlainText),
];
const SIDES: [&str; 4] = ["caller_reports", "caller_errors", "callee_reports", "callee_errors"];
const LATENCIES: [&str; 3] = ["caller_latency", "callee_latency", "network"];

/// What a row is of, besides its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// A caller, a callee, the waypoint between them and the protocol.
    Edges,
    /// A callee and an operation.
    Operations,
}

impl Grouping {
    pub(crate) const ALL: [(&str, Grouping); 2] = [("edges", Grouping::Edges), ("operations", Grouping::Operations)];

    fn texts(self) -> Vec<String> {
        let end = |end: &str| NODE_TEXTS.map(|part| format!("{end}_{part}"));
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        match self {
            Grouping::Edges => {
                let vias = named(&["via_cluster", "via_namespace", "via_workload", "protocol"]);
                [end("caller").to_vec(), end("callee").to_vec(), vias].concat()
            }
            Grouping::Operations => [end("callee").to_vec(), named(&["operation"])].concat(),
        }
    }

    fn of(self, key: RollupKey<'_>) -> RollupKey<'_> {
        match self {
            Grouping::Edges => RollupKey { operation: "", ..key },
            Grouping::Operations => RollupKey { caller: Node::default(), via: None, protocol: "", ..key },
        }
    }

    /// The values of [`Grouping::texts`].
    fn values<'a>(self, key: &RollupKey<'a>) -> Vec<&'a str> {
        let end = |node: &Node<'a>| {
            let Node { kind, cluster, namespace, workload, service, version, zone, .. } = *node;
            [kind.as_str(), cluster, namespace, workload, service, version, zone]
        };
        match self {
            Grouping::Edges => {
                let via = key.via.unwrap_or_default();
                let vias = [via.cluster, via.namespace, via.workload, key.protocol];
                [&end(&key.caller)[..], &end(&key.callee), &vias].concat()
            }
            Grouping::Operations => [&end(&key.callee)[..], &[key.operation]].concat(),
        }
    }

    fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 2]> =
            LazyLock::new(|| [Grouping::Edges, Grouping::Operations].map(|grouping| Arc::new(schema(grouping))));
        SCHEMAS[self as usize].clone()
    }
}

fn schema(grouping: Grouping) -> Schema {
    let mut fields = vec![Field::new("time", time_type(), false)];
    fields.extend(grouping.texts().into_iter().map(|name| Field::new(name, text_type(), true)));
    fields.push(Field::new("callee_port", DataType::Int64, true));
    let counts = COUNTS.iter().map(|(name, _)| *name).chain(SIDES);
    fields.extend(counts.map(|name| Field::new(name, DataType::Int64, false)));
    fields.extend(LATENCIES.map(|name| Field::new(name, DataType::Binary, false)));
    Schema::new(fields)
}

/// One of the tables, of one tenant in one snapshot.
pub(crate) struct RollupTable {
    summed: Summed,
    grouping: Grouping,
    /// Minutes.
    step: u64,
}

impl RollupTable {
    pub(crate) fn new(summed: Summed, grouping: Grouping, step: u64) -> RollupTable {
        RollupTable { summed, grouping, step }
    }
}

impl fmt::Debug for RollupTable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RollupTable").field("grouping", &self.grouping).field("step", &self.step).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for RollupTable {
    fn schema(&self) -> SchemaRef {
        self.grouping.schema()
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
        let scan =
            RollupScan { schema: self.schema(), summed: self.summed.clone(), grouping: self.grouping, step: self.step, minutes };
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
struct RollupScan {
    schema: SchemaRef,
    summed: Summed,
    grouping: Grouping,
    step: u64,
    minutes: RangeInclusive<u64>,
}

impl fmt::Debug for RollupScan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RollupScan").field("grouping", &self.grouping).field("minutes", &self.minutes).finish_non_exhaustive()
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

/// Sends the rows, until all are sent or nobody takes them any more.
async fn run(scan: RollupScan, context: Arc<TaskContext>, out: Sender<Result<RecordBatch>>) -> Result<()> {
    let RollupScan { schema, summed, grouping, step, minutes } = scan;
    let memory = MemoryConsumer::new("rollups").register(context.memory_pool());
    let (mut sums, mut scratch) = (StepSums::new(), Measures::default());
    for piece in summed.minutes(minutes).await? {
        let (open, mut numbers) = (piece.rows(&summed, |_| None).await?, Numbers::default());
        open.minutes(&mut scratch, |minute, key, measures| {
            sums.add(minute.div_ceil(step), (&open.keys, &mut numbers), key, measures, |key| grouping.of(key));
        })?;
        memory.try_resize(sums.bytes())?;
        tokio::task::yield_now().await;
    }
    for rows in sums.rows().chunks(BATCH_ROWS) {
        if out.send(batch(&schema, grouping, step, rows)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn batch(schema: &SchemaRef, grouping: Grouping, step: u64, rows: &[(u64, RollupKey<'_>, &Measures)]) -> Result<RecordBatch> {
    let mut time = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let mut texts: Vec<StringDictionaryBuilder<Int32Type>> =
        grouping.texts().iter().map(|_| StringDictionaryBuilder::new()).collect();
    let mut port = Int64Builder::new();
    let mut counts: [Int64Builder; COUNTS.len() + SIDES.len()] = std::array::from_fn(|_| Int64Builder::new());
    let mut latencies: [BinaryBuilder; LATENCIES.len()] = std::array::from_fn(|_| BinaryBuilder::new());
    let mut bytes = Vec::new();
    for (number, key, measures) in rows {
        time.append_value((number * step) as i64 * MINUTE_MICROS);
        let values = grouping.values(key);
        texts.iter_mut().zip(values).for_each(|(column, text)| column.append_option((!text.is_empty()).then_some(text)));
        port.append_option(key.callee.port.map(i64::from));
        let (caller, callee) = (&measures.caller, &measures.callee);
        let sides = [caller.reports, caller.errors() as i64, callee.reports, callee.errors() as i64];
        let numbers = COUNTS.iter().map(|(_, count)| measures.count(*count) as i64).chain(sides);
        counts.iter_mut().zip(numbers).for_each(|(column, number)| column.append_value(number));
        let of: [&Latencies; 3] = [&caller.latency, &callee.latency, &measures.network];
        for (column, latency) in latencies.iter_mut().zip(of) {
            bytes.clear();
            latency.histogram().encode(&mut bytes);
            column.append_value(&bytes);
        }
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(time.finish())];
    columns.extend(texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.push(Arc::new(port.finish()));
    columns.extend(counts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.extend(latencies.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
