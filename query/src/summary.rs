//! Whole traces in a few numbers, folded from their spans.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int16Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;

use crate::error::QueryError;
use crate::search::{ServiceSpans, TraceSummary};
use crate::trace_id::TraceId;
use crate::values::TextColumn;

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
        let missing = || QueryError::Internal("columns of spans are missing or have another type".to_owned());
        fold(batch, &mut self.0).ok_or_else(missing)
    }

    /// The summaries of all traces that had a span.
    pub(crate) fn finish(self) -> HashMap<TraceId, TraceSummary> {
        self.0.into_iter().map(|(id, folded)| (id, folded.finish(id))).collect()
    }
}

/// None where a column is missing or has another type.
fn fold(batch: &RecordBatch, traces: &mut HashMap<TraceId, Folded>) -> Option<()> {
    let trace_ids = batch.column_by_name("trace_id")?.as_fixed_size_binary_opt()?;
    let span_ids = batch.column_by_name("span_id")?.as_fixed_size_binary_opt()?;
    let parents = batch.column_by_name("parent_span_id")?;
    let starts = batch.column_by_name("start_time")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let nanos = batch.column_by_name("start_nanos")?.as_primitive_opt::<Int16Type>()?;
    let durations = batch.column_by_name("duration")?.as_primitive_opt::<Int64Type>()?;
    let names = TextColumn::new(batch.column_by_name("name")?)?;
    let services = TextColumn::new(batch.column_by_name("service")?)?;
    let errors = batch.column_by_name("error")?.as_boolean_opt()?;
    for row in 0..batch.num_rows() {
        let start = i128::from(starts.value(row)) * 1000 + i128::from(nanos.value(row));
        let end = start + i128::from(durations.value(row).max(0));
        let id = TraceId::from_slice(trace_ids.value(row))?;
        let error = u64::from(errors.value(row));
        let trace = traces.entry(id).or_insert_with(|| Folded::new(start, end));
        trace.start = trace.start.min(start);
        trace.end = trace.end.max(end);
        trace.spans += 1;
        trace.errors += error;
        if let Some(service) = services.get(row) {
            let (spans, errors) = trace.services.entry(service.to_owned()).or_default();
            *spans += 1;
            *errors += error;
        }
        if parents.is_null(row) {
            let name = names.get(row).unwrap_or_default().to_owned();
            trace.add_root((start, span_ids.value(row).to_vec(), services.get(row).map(str::to_owned), name));
        }
    }
    Some(())
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
        let mut services: Vec<ServiceSpans> = self.services.into_iter().map(service).collect();
        services.sort_by(|a, b| b.spans.cmp(&a.spans).then_with(|| a.service.cmp(&b.service)));
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
