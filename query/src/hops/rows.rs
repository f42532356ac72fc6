//! Hops as rows: the columns of the table `hops`.
//!
//! Types are those of `spans`: no unsigned integers, no nanosecond timestamps. What no span tells is null.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BooleanBuilder, FixedSizeBinaryBuilder, Int16Builder, Int64Builder, ListBuilder, StringBuilder,
    StringDictionaryBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use meshlake_hops::{Direction, Hop, Node, Report, Side, Via};
use meshlake_storage::{text_type, time_type};

use crate::trace_id::TraceId;

/// The columns of either end, behind `caller_` and `callee_`.
const NODE_TEXTS: [&str; 7] = ["kind", "cluster", "namespace", "workload", "service", "version", "zone"];
/// What either end reports, behind the same.
const REPORT_TEXTS: [&str; 2] = ["error", "response_flags"];
const REPORT_INTS: [&str; 3] = ["latency", "http_status", "grpc_status"];
const TEXTS: [&str; 8] = ["direction", "side", "via_cluster", "via_namespace", "via_workload", "protocol", "method", "operation"];
const INTS: [&str; 7] = ["network", "request_bytes", "response_bytes", "attempt", "calls", "messages", "weight"];
const ENDS: [&str; 2] = ["caller", "callee"];

/// The schema of `hops`.
pub(crate) fn schema() -> SchemaRef {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        Field::new("time", time_type(), false),
        Field::new("time_nanos", DataType::Int16, false),
        Field::new("trace_id", DataType::FixedSizeBinary(16), false),
        Field::new("span_id", DataType::FixedSizeBinary(8), false),
    ];
    fields.extend(TEXTS.iter().map(|name| Field::new(*name, text_type(), true)));
    for end in ENDS {
        let texts = NODE_TEXTS.iter().chain(&REPORT_TEXTS);
        fields.extend(texts.map(|name| Field::new(format!("{end}_{name}"), text_type(), true)));
        let ints = ["port"].iter().chain(&REPORT_INTS);
        fields.extend(ints.map(|name| Field::new(format!("{end}_{name}"), DataType::Int64, true)));
    }
    fields.extend(INTS.iter().map(|name| Field::new(*name, DataType::Int64, true)));
    fields.push(Field::new("mtls", DataType::Boolean, true));
    fields.push(Field::new("flags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), false));
    Arc::new(Schema::new(fields))
});

type Texts = StringDictionaryBuilder<Int32Type>;

/// Rows of hops that grow.
pub(crate) struct HopRows {
    rows: usize,
    time: TimestampMicrosecondBuilder,
    time_nanos: Int16Builder,
    trace_id: FixedSizeBinaryBuilder,
    span_id: FixedSizeBinaryBuilder,
    texts: [Texts; TEXTS.len()],
    ends: [EndRows; ENDS.len()],
    ints: [Int64Builder; INTS.len()],
    mtls: BooleanBuilder,
    flags: ListBuilder<StringBuilder>,
}

impl HopRows {
    pub(crate) fn new() -> HopRows {
        HopRows {
            rows: 0,
            time: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            time_nanos: Int16Builder::new(),
            trace_id: FixedSizeBinaryBuilder::new(16),
            span_id: FixedSizeBinaryBuilder::new(8),
            texts: std::array::from_fn(|_| Texts::new()),
            ends: std::array::from_fn(|_| EndRows::new()),
            ints: std::array::from_fn(|_| Int64Builder::new()),
            mtls: BooleanBuilder::new(),
            flags: ListBuilder::new(StringBuilder::new()),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn add(&mut self, trace_id: TraceId, hop: &Hop<'_>) -> Result<(), ArrowError> {
        self.rows += 1;
        // As `start_time` and `start_nanos` of the key span.
        self.time.append_value((hop.time / 1000) as i64);
        self.time_nanos.append_value((hop.time % 1000) as i16);
        self.trace_id.append_value(trace_id.0)?;
        self.span_id.append_value(hop.key.span_id)?;
        let via = hop.via.unwrap_or_default();
        let Via { cluster, namespace, workload } = via;
        let direction = direction(hop.key.direction);
        let texts = [direction, side(hop.key.side), cluster, namespace, workload, hop.protocol, hop.method, hop.operation];
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.append_option(said(text)));
        let [caller, callee] = &mut self.ends;
        caller.add(&hop.caller, hop.caller_report.as_ref());
        callee.add(&hop.callee, hop.callee_report.as_ref());
        let ints = [
            hop.network.map(int),
            hop.request_bytes.map(int),
            hop.response_bytes.map(int),
            Some(hop.attempt.into()),
            Some(hop.calls.into()),
            Some(hop.messages.into()),
            hop.weight.map(int),
        ];
        self.ints.iter_mut().zip(ints).for_each(|(column, value)| column.append_option(value));
        self.mtls.append_option(hop.mtls);
        hop.flags.names().for_each(|name| self.flags.values().append_value(name));
        self.flags.append(true);
        Ok(())
    }

    /// The rows as a batch; none are left.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.time.finish()),
            Arc::new(self.time_nanos.finish()),
            Arc::new(self.trace_id.finish()),
            Arc::new(self.span_id.finish()),
        ];
        columns.extend(self.texts.iter_mut().map(text_column));
        self.ends.iter_mut().for_each(|end| columns.extend(end.finish()));
        columns.extend(self.ints.iter_mut().map(int_column));
        columns.push(Arc::new(self.mtls.finish()));
        columns.push(Arc::new(self.flags.finish()));
        RecordBatch::try_new(schema(), columns)
    }
}

/// The columns of one end.
struct EndRows {
    texts: [Texts; NODE_TEXTS.len() + REPORT_TEXTS.len()],
    ints: [Int64Builder; 1 + REPORT_INTS.len()],
}

impl EndRows {
    fn new() -> EndRows {
        EndRows { texts: std::array::from_fn(|_| Texts::new()), ints: std::array::from_fn(|_| Int64Builder::new()) }
    }

    fn add(&mut self, node: &Node<'_>, report: Option<&Report<'_>>) {
        let texts = [
            said(node.kind.as_str()),
            said(node.cluster),
            said(node.namespace),
            said(node.workload),
            said(node.service),
            said(node.version),
            said(node.zone),
            report.map(|report| report.error.as_str()),
            report.and_then(|report| said(report.response_flags)),
        ];
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.append_option(text));
        let ints = [
            node.port.map(i64::from),
            report.and_then(|report| report.latency).map(int),
            report.and_then(|report| report.http_status),
            report.and_then(|report| report.grpc_status),
        ];
        self.ints.iter_mut().zip(ints).for_each(|(column, value)| column.append_option(value));
    }

    fn finish(&mut self) -> impl Iterator<Item = ArrayRef> {
        self.texts.iter_mut().map(text_column).chain(self.ints.iter_mut().map(int_column))
    }
}

fn text_column(column: &mut Texts) -> ArrayRef {
    Arc::new(column.finish())
}

fn int_column(column: &mut Int64Builder) -> ArrayRef {
    Arc::new(column.finish())
}

fn said(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
        Side::Inner => "inner",
    }
}
