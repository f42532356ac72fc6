//! Rows of `spans` back to OTLP: the inverse of how the collector decodes (P5).
//!
//! The order of attributes and the grouping of equal resources and scopes are free; here attributes of columns come first,
//! then those of the residual map in their order, and spans are ordered by start and span id.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, BinaryArray, FixedSizeBinaryArray, Int16Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int16Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use meshlake_storage::{ATTRIBUTE_COLUMNS, AttributeColumn, Found, ResidualMap, Scope};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use prost::Message;

use crate::error::QueryError;
use crate::nested::{Events, Links};
use crate::values::{AttributeValues, TextColumn, open};

const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
const STATUSES: [&str; 3] = ["unset", "ok", "error"];

/// Origins of a batch that a row is compared with before its own is decoded.
const ORIGINS_MAX: usize = 16;

/// All rows as one `TracesData`: ordered by start and span id, equal resources and scopes together, in the order in which
/// they first appear. Duplicate rows stay duplicate.
pub(crate) fn traces_data<'a>(batches: impl Iterator<Item = &'a RecordBatch>) -> Result<TracesData, QueryError> {
    let (mut rows, mut origins) = (Vec::new(), Vec::new());
    for batch in batches {
        let columns = SpanColumns::new(batch)?;
        // Rows with their origins. A trace has few.
        let mut known: Vec<(usize, usize)> = Vec::new();
        for row in 0..batch.num_rows() {
            let same = known.iter().find(|(other, _)| columns.are_of_one_origin(row, *other));
            let origin = same.map_or(origins.len(), |(_, origin)| *origin);
            if origin == origins.len() {
                origins.push(columns.origin(row)?);
                known.truncate(ORIGINS_MAX - 1);
                known.push((row, origin));
            }
            rows.push(Row { origin, span: columns.span(row)? });
        }
    }
    sort(&mut rows);
    Ok(group(rows, origins))
}

/// By start and span id. Rows of equal ones are ordered by all they say, so that the answer does not depend on where rows stand (P4):
/// only those are encoded for it.
fn sort(rows: &mut [Row]) {
    rows.sort_by(|first, second| first.place().cmp(&second.place()));
    for equal in rows.chunk_by_mut(|first, second| first.place() == second.place()) {
        if equal.len() > 1 {
            equal.sort_by_cached_key(|row| row.span.encode_to_vec());
        }
    }
}

/// One row, decoded.
struct Row {
    /// The position of what it comes from.
    origin: usize,
    span: Span,
}

/// What rows come from.
#[derive(Default)]
struct Origin {
    resource: Resource,
    resource_schema_url: String,
    scope: InstrumentationScope,
    scope_schema_url: String,
}

impl Row {
    /// What it is ordered by.
    fn place(&self) -> (u64, &[u8]) {
        (self.span.start_time_unix_nano, &self.span.span_id)
    }
}

/// Origins may be equal.
fn group(rows: Vec<Row>, mut origins: Vec<Origin>) -> TracesData {
    let mut groups = Groups::default();
    let mut places: Vec<Option<(usize, usize)>> = vec![None; origins.len()];
    for row in rows {
        let add = || groups.add(std::mem::take(&mut origins[row.origin]));
        let (resource, scope) = *places[row.origin].get_or_insert_with(add);
        groups.data.resource_spans[resource].scope_spans[scope].spans.push(row.span);
    }
    groups.data
}

/// Spans by their resources and scopes.
#[derive(Default)]
struct Groups {
    data: TracesData,
    resources: HashMap<(Vec<u8>, String), usize>,
    scopes: HashMap<(usize, Vec<u8>, String), usize>,
}

impl Groups {
    /// The positions of the resource, and of the scope in it, of spans of an origin.
    fn add(&mut self, origin: Origin) -> (usize, usize) {
        let key = (origin.resource.encode_to_vec(), origin.resource_schema_url.clone());
        let at = *self.resources.entry(key).or_insert(self.data.resource_spans.len());
        if at == self.data.resource_spans.len() {
            let resource = (origin.resource != Resource::default()).then_some(origin.resource);
            let schema_url = origin.resource_schema_url;
            self.data.resource_spans.push(ResourceSpans { resource, scope_spans: Vec::new(), schema_url });
        }
        let of_resource = &mut self.data.resource_spans[at].scope_spans;
        let key = (at, origin.scope.encode_to_vec(), origin.scope_schema_url.clone());
        let in_resource = *self.scopes.entry(key).or_insert(of_resource.len());
        if in_resource == of_resource.len() {
            let scope = (origin.scope != InstrumentationScope::default()).then_some(origin.scope);
            of_resource.push(ScopeSpans { scope, spans: Vec::new(), schema_url: origin.scope_schema_url });
        }
        (at, in_resource)
    }
}

/// A column that holds attributes.
struct Attributes<'a> {
    column: &'static AttributeColumn,
    values: AttributeValues<'a>,
}

/// The columns of a batch that hold attributes of a scope, without those in which no row has a value: most of them.
fn attributes_of(batch: &RecordBatch, scope: Scope) -> Result<Vec<Attributes<'_>>, QueryError> {
    let mut attributes = Vec::new();
    for column in ATTRIBUTE_COLUMNS.iter().filter(|column| column.scope == scope) {
        let values = open(batch, column.name, AttributeValues::new)?;
        if !values.is_empty() {
            attributes.push(Attributes { column, values });
        }
    }
    Ok(attributes)
}

/// The columns of a batch, opened.
struct SpanColumns<'a> {
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    parent_span_id: &'a FixedSizeBinaryArray,
    start_time: &'a TimestampMicrosecondArray,
    start_nanos: &'a Int16Array,
    duration: &'a Int64Array,
    name: TextColumn<'a>,
    kind: TextColumn<'a>,
    status: TextColumn<'a>,
    status_message: TextColumn<'a>,
    trace_state: TextColumn<'a>,
    flags: &'a Int64Array,
    origins: &'a Int64Array,
    span_attributes: Vec<Attributes<'a>>,
    resource_attributes: Vec<Attributes<'a>>,
    span_map: ResidualMap<'a>,
    resource_map: ResidualMap<'a>,
    scope_map: ResidualMap<'a>,
    events: Events<'a>,
    links: Links<'a>,
    dropped_attributes: &'a Int64Array,
    dropped_events: &'a Int64Array,
    dropped_links: &'a Int64Array,
    resource_dropped: &'a Int64Array,
    resource_schema_url: TextColumn<'a>,
    resource_entities: &'a BinaryArray,
    scope_name: TextColumn<'a>,
    scope_version: TextColumn<'a>,
    scope_dropped: &'a Int64Array,
    scope_schema_url: TextColumn<'a>,
}

pub(crate) fn number(array: &Int64Array, row: usize) -> i64 {
    if array.is_valid(row) { array.value(row) } else { 0 }
}

fn text(column: &TextColumn, row: usize) -> String {
    column.get(row).unwrap_or_default().to_owned()
}

/// The number of a name, or the number that stands in its place.
fn enumeration(names: &[&str], text: Option<&str>) -> Result<i32, QueryError> {
    let text = text.unwrap_or(names[0]);
    let named = names.iter().position(|name| *name == text).map(|index| index as i32);
    named.or_else(|| text.parse().ok()).ok_or_else(|| QueryError::Internal(format!("`{text}` is none of {names:?} and no number")))
}

pub(crate) fn nanoseconds(micros: i64, nanos: i16) -> u64 {
    (micros as u64).wrapping_mul(1000).wrapping_add(nanos as u64)
}

impl<'a> SpanColumns<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self, QueryError> {
        let id = |name| open(batch, name, |column| column.as_fixed_size_binary_opt());
        let int = |name| open(batch, name, |column| column.as_primitive_opt::<Int64Type>());
        let text = |name| open(batch, name, TextColumn::new);
        let map = |scope: Scope| open(batch, scope.residual_column(), ResidualMap::new);
        Ok(SpanColumns {
            trace_id: id("trace_id")?,
            span_id: id("span_id")?,
            parent_span_id: id("parent_span_id")?,
            start_time: open(batch, "start_time", |column| column.as_primitive_opt::<TimestampMicrosecondType>())?,
            start_nanos: open(batch, "start_nanos", |column| column.as_primitive_opt::<Int16Type>())?,
            duration: int("duration")?,
            name: text("name")?,
            kind: text("kind")?,
            status: text("status")?,
            status_message: text("status_message")?,
            trace_state: text("trace_state")?,
            flags: int("flags")?,
            origins: int("origins")?,
            span_attributes: attributes_of(batch, Scope::Span)?,
            resource_attributes: attributes_of(batch, Scope::Resource)?,
            span_map: map(Scope::Span)?,
            resource_map: map(Scope::Resource)?,
            scope_map: map(Scope::Instrumentation)?,
            events: open(batch, "events", |column| Events::new(column.as_list_opt()?))?,
            links: open(batch, "links", |column| Links::new(column.as_list_opt()?))?,
            dropped_attributes: int("dropped_attributes_count")?,
            dropped_events: int("dropped_events_count")?,
            dropped_links: int("dropped_links_count")?,
            resource_dropped: int("resource_dropped_attributes_count")?,
            resource_schema_url: text("resource_schema_url")?,
            resource_entities: open(batch, "resource_entities", |column| column.as_binary_opt())?,
            scope_name: text("scope_name")?,
            scope_version: text("scope_version")?,
            scope_dropped: int("scope_dropped_attributes_count")?,
            scope_schema_url: text("scope_schema_url")?,
        })
    }

    fn origin(&self, row: usize) -> Result<Origin, QueryError> {
        Ok(Origin {
            resource: self.resource(row)?,
            resource_schema_url: text(&self.resource_schema_url, row),
            scope: InstrumentationScope {
                name: text(&self.scope_name, row),
                version: text(&self.scope_version, row),
                attributes: map_attributes(&self.scope_map, row)?,
                dropped_attributes_count: number(self.scope_dropped, row) as u32,
            },
            scope_schema_url: text(&self.scope_schema_url, row),
        })
    }

    /// Whether two rows say the same of what they come from; to compare them takes less than to decode one.
    fn are_of_one_origin(&self, row: usize, other: usize) -> bool {
        let texts = [&self.resource_schema_url, &self.scope_name, &self.scope_version, &self.scope_schema_url];
        let entities = |row: usize| self.resource_entities.is_valid(row).then(|| self.resource_entities.value(row));
        let resource = |row: usize| self.entries(&self.resource_attributes, &self.resource_map, row);
        are_same(resource(row), resource(other))
            && texts.iter().all(|text| text.get(row) == text.get(other))
            && entities(row) == entities(other)
            && are_same(self.scope_map.entries(row), self.scope_map.entries(other))
            && number(self.resource_dropped, row) == number(self.resource_dropped, other)
            && number(self.scope_dropped, row) == number(self.scope_dropped, other)
    }

    fn resource(&self, row: usize) -> Result<Resource, QueryError> {
        let mut resource = Resource::default();
        if self.resource_entities.is_valid(row) {
            resource = Resource::decode(self.resource_entities.value(row)).map_err(QueryError::internal)?;
        }
        resource.attributes = self.attributes(&self.resource_attributes, &self.resource_map, row)?;
        resource.dropped_attributes_count = number(self.resource_dropped, row) as u32;
        Ok(resource)
    }

    fn span(&self, row: usize) -> Result<Span, QueryError> {
        let start = nanoseconds(self.start_time.value(row), self.start_nanos.value(row));
        let parent = self.parent_span_id.is_valid(row).then(|| self.parent_span_id.value(row).to_vec());
        let status = Status { message: text(&self.status_message, row), code: enumeration(&STATUSES, self.status.get(row))? };
        Ok(Span {
            trace_id: self.trace_id.value(row).to_vec(),
            span_id: self.span_id.value(row).to_vec(),
            trace_state: text(&self.trace_state, row),
            parent_span_id: parent.unwrap_or_default(),
            flags: number(self.flags, row) as u32,
            name: text(&self.name, row),
            kind: enumeration(&KINDS, self.kind.get(row))?,
            start_time_unix_nano: start,
            end_time_unix_nano: start.wrapping_add(self.duration.value(row) as u64),
            attributes: self.attributes(&self.span_attributes, &self.span_map, row)?,
            dropped_attributes_count: number(self.dropped_attributes, row) as u32,
            events: self.events.row(row)?,
            dropped_events_count: number(self.dropped_events, row) as u32,
            links: self.links.row(row)?,
            dropped_links_count: number(self.dropped_links, row) as u32,
            status: (status != Status::default()).then_some(status),
        })
    }

    fn attributes(&self, columns: &[Attributes], map: &ResidualMap, row: usize) -> Result<Vec<KeyValue>, QueryError> {
        self.entries(columns, map, row).map(|(key, value)| key_value(key, value)).collect()
    }

    /// Attributes of a row with their keys: those of columns first.
    fn entries<'b>(
        &self,
        columns: &'b [Attributes],
        map: &'b ResidualMap,
        row: usize,
    ) -> impl Iterator<Item = (&'b str, Option<Found<'b>>)> {
        let origins = number(self.origins, row);
        let from_columns = columns.iter().filter_map(move |attributes| {
            let source = attributes.column.source(origins)?;
            Some((source.key, Some(attributes.values.get(row, source.form)?)))
        });
        from_columns.chain(map.entries(row))
    }
}

/// Whether attributes are the same to the bit: zero is not the same as its negative.
fn are_same<'a>(
    first: impl Iterator<Item = (&'a str, Option<Found<'a>>)>,
    second: impl Iterator<Item = (&'a str, Option<Found<'a>>)>,
) -> bool {
    let bits = |(key, value): (&'a str, Option<Found<'a>>)| (key, value, value.and_then(Found::as_double).map(f64::to_bits));
    first.map(bits).eq(second.map(bits))
}

pub(crate) fn map_attributes(map: &ResidualMap, row: usize) -> Result<Vec<KeyValue>, QueryError> {
    map.entries(row).map(|(key, value)| key_value(key, value)).collect()
}

fn key_value(key: &str, found: Option<Found>) -> Result<KeyValue, QueryError> {
    let any = |value| Some(AnyValue { value: Some(value) });
    let value = match found {
        None => None,
        Some(Found::Text(text)) => any(Value::StringValue(text.to_owned())),
        Some(Found::Decimal(value)) => any(Value::StringValue(value.to_string())),
        Some(Found::Int(value)) => any(Value::IntValue(value)),
        Some(Found::Double(value)) => any(Value::DoubleValue(value)),
        Some(Found::Bool(value)) => any(Value::BoolValue(value)),
        Some(Found::Other(bytes)) => Some(AnyValue::decode(bytes).map_err(QueryError::internal)?),
    };
    Ok(KeyValue { key: key.to_owned(), value, ..KeyValue::default() })
}

#[cfg(test)]
mod tests;
