//! Sums of hops as rows of the tables `edges_*` and `operations_*`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryBuilder, Int64Builder, StringDictionaryBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use meshlake_hops::Node;
use meshlake_hops::rollup::{Count, Grain, Latencies, Measures, Numbers, RollupKey, StepSums};
use meshlake_storage::{text_type, time_type};
use tokio::sync::mpsc::Sender;

use super::table::{BATCH_ROWS, MINUTE_MICROS, RollupScan};

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

    /// The rows that it is made of.
    fn grain(self) -> Grain {
        match self {
            Grouping::Edges => Grain::Keys,
            Grouping::Operations => Grain::Operations,
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

    pub(super) fn schema(self) -> SchemaRef {
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

/// Sends the rows, until all are sent or nobody takes them any more.
pub(super) async fn run(
    scan: RollupScan,
    grouping: Grouping,
    memory: MemoryReservation,
    out: Sender<Result<RecordBatch>>,
) -> Result<()> {
    let RollupScan { schema, summed, step, minutes, .. } = scan;
    let (mut sums, mut scratch) = (StepSums::new(), Measures::default());
    for piece in summed.minutes(minutes).await? {
        let (open, mut numbers) = (piece.rows(&summed, grouping.grain(), |_| None).await?, Numbers::default());
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
