//! Whole traces in a few numbers, folded from their spans.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Int16Array, Int64Array, TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;

use crate::error::QueryError;
use crate::search::{ServiceSpans, TraceSummary};
use crate::trace_id::TraceId;
use crate::values::{TextColumn, open};

/// The columns that [`Summaries`] needs.
pub(crate) const SUMMARY_COLUMNS: &[&str] =
    &["trace_id", "span_id", "parent_span_id", "start_time", "start_nanos", "duration", "name", "error", "service"];

/// A trace while its spans come in, in any order.
struct Folded {
    start: i128,
    end: i128,
    spans: u64,
    errors: u64,
    /// By start, span id, service, name: of several roots the first, whatever the order of rows (P4).
    root: Option<(i128, Vec<u8>, Option<String>, String)>,
    services: BTreeMap<String, (u64, u64)>,
}

/// Traces while their spans come in.
#[derive(Default)]
pub(crate) struct Summaries(HashMap<TraceId, Folded>);

impl Summaries {
    /// Adds the spans of a batch.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let columns = SummaryColumns::new(batch)?;
        (0..batch.num_rows()).for_each(|row| self.add_row(&columns, row));
        Ok(())
    }

    /// Adds a span.
    pub(crate) fn add_row(&mut self, columns: &SummaryColumns<'_>, row: usize) {
        let start = columns.start(row);
        let end = start + i128::from(columns.durations.value(row).max(0));
        let Some(id) = TraceId::from_slice(columns.trace_ids.value(row)) else { return };
        let error = u64::from(columns.errors.value(row));
        let trace = self.0.entry(id).or_insert_with(|| Folded::new(start, end));
        trace.start = trace.start.min(start);
        trace.end = trace.end.max(end);
        trace.spans += 1;
        trace.errors += error;
        let service = columns.services.get(row);
        if let Some(service) = service {
            let (spans, errors) = trace.services.entry(service.to_owned()).or_default();
            *spans += 1;
            *errors += error;
        }
        if columns.parents.is_null(row) {
            let name = columns.names.get(row).unwrap_or_default().to_owned();
            trace.add_root((start, columns.span_ids.value(row).to_vec(), service.map(str::to_owned), name));
        }
    }

    /// The summaries of all traces that had a span.
    pub(crate) fn finish(self) -> HashMap<TraceId, TraceSummary> {
        self.0.into_iter().map(|(id, folded)| (id, folded.finish(id))).collect()
    }
}

/// [`SUMMARY_COLUMNS`] of a batch, opened.
pub(crate) struct SummaryColumns<'a> {
    pub(crate) trace_ids: &'a FixedSizeBinaryArray,
    pub(crate) span_ids: &'a FixedSizeBinaryArray,
    pub(crate) parents: &'a ArrayRef,
    starts: &'a TimestampMicrosecondArray,
    nanos: &'a Int16Array,
    pub(crate) durations: &'a Int64Array,
    pub(crate) names: TextColumn<'a>,
    pub(crate) services: TextColumn<'a>,
    pub(crate) errors: &'a BooleanArray,
}

impl<'a> SummaryColumns<'a> {
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<Self, QueryError> {
        Ok(SummaryColumns {
            trace_ids: open(batch, "trace_id", |column| column.as_fixed_size_binary_opt())?,
            span_ids: open(batch, "span_id", |column| column.as_fixed_size_binary_opt())?,
            parents: open(batch, "parent_span_id", Some)?,
            starts: open(batch, "start_time", |column| column.as_primitive_opt())?,
            nanos: open(batch, "start_nanos", |column| column.as_primitive_opt())?,
            durations: open(batch, "duration", |column| column.as_primitive_opt())?,
            names: open(batch, "name", TextColumn::new)?,
            services: open(batch, "service", TextColumn::new)?,
            errors: open(batch, "error", |column| column.as_boolean_opt())?,
        })
    }

    /// When the span of a row starts, nanoseconds since the epoch.
    pub(crate) fn start(&self, row: usize) -> i128 {
        i128::from(self.starts.value(row)) * 1000 + i128::from(self.nanos.value(row))
    }
}

impl Folded {
    fn new(start: i128, end: i128) -> Self {
        Folded { start, end, spans: 0, errors: 0, root: None, services: BTreeMap::new() }
    }

    fn add_root(&mut self, root: (i128, Vec<u8>, Option<String>, String)) {
        if self.root.as_ref().is_none_or(|known| root < *known) {
            self.root = Some(root);
        }
    }

    fn finish(self, trace_id: TraceId) -> TraceSummary {
        let service = |(service, (spans, errors))| ServiceSpans { service, spans, errors };
        let services = ServiceSpans::sorted(self.services.into_iter().map(service));
        let (root_service, root_operation) = match self.root {
            Some((_, _, service, name)) => (service, Some(name)),
            None => (None, None),
        };
        TraceSummary {
            trace_id,
            root_service,
            root_operation,
            start: saturated(self.start),
            duration: saturated(self.end - self.start),
            spans: self.spans,
            errors: self.errors,
            services,
        }
    }
}

/// Times past the year 2262 stand at the end of what 64 bits can say.
fn saturated(nanoseconds: i128) -> i64 {
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}
