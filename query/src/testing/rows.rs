//! Spans as tests write them, and the batches they make.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int16Array, Int64Array, ListArray,
    MapArray, StringArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, Int32Type};
use arrow::record_batch::RecordBatch;
use meshlake_storage::{
    ATTRIBUTE_COLUMNS, Form, Scope, attribute_entry_fields, attribute_value_fields, event_fields, link_fields, list_item, places,
    spans_schema,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use prost::Message;

/// A span with what a test cares about; the rest is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SpanRow {
    pub tenant: String,
    pub trace: u128,
    pub span: u64,
    pub parent: Option<u64>,
    /// Nanoseconds.
    pub start: u64,
    pub duration: i64,
    pub name: String,
    pub kind: Option<&'static str>,
    pub status: Option<&'static str>,
    pub status_message: Option<String>,
    pub error: bool,
    pub service: Option<String>,
    pub namespace: Option<String>,
    pub cluster: Option<String>,
    pub version: Option<String>,
    pub zone: Option<String>,
    pub workload: Option<String>,
    pub pod: Option<String>,
    pub proxy: Option<&'static str>,
    pub peer_service: Option<String>,
    pub flags: Option<i64>,
    pub trace_state: Option<String>,
    pub attributes: Vec<KeyValue>,
    pub resource: Resource,
    pub resource_schema_url: Option<String>,
    pub scope_name: Option<String>,
    pub scope_attributes: Vec<KeyValue>,
    pub events: Vec<Event>,
    pub links: Vec<Link>,
    pub dropped_events: Option<i64>,
}

impl SpanRow {
    pub(crate) fn start_micros(&self) -> i64 {
        (self.start / 1000) as i64
    }
}

pub(crate) fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    key_value(key, Value::StringValue(value.to_owned()))
}

pub(crate) fn int(key: &str, value: i64) -> KeyValue {
    key_value(key, Value::IntValue(value))
}

/// The attributes of a row after those with a place have found it.
#[derive(Default)]
struct Placed {
    columns: Vec<Option<Value>>,
    origins: i64,
    rest: [Vec<KeyValue>; 3],
}

impl Placed {
    fn new(row: &SpanRow) -> Self {
        let mut placed = Placed { columns: vec![None; ATTRIBUTE_COLUMNS.len()], ..Placed::default() };
        let derived = [
            ("service", &row.service),
            ("namespace", &row.namespace),
            ("cluster", &row.cluster),
            ("version", &row.version),
            ("zone", &row.zone),
        ];
        for (name, value) in derived {
            let column = ATTRIBUTE_COLUMNS.iter().position(|column| column.name == name).unwrap();
            placed.columns[column] = value.clone().map(Value::StringValue);
        }
        row.attributes.iter().for_each(|attribute| placed.add(Scope::Span, 0, attribute));
        row.resource.attributes.iter().for_each(|attribute| placed.add(Scope::Resource, 1, attribute));
        row.scope_attributes.iter().for_each(|attribute| placed.add(Scope::Instrumentation, 2, attribute));
        placed
    }

    fn add(&mut self, scope: Scope, rest: usize, attribute: &KeyValue) {
        let value = attribute.value.as_ref().and_then(|value| value.value.clone());
        for place in places(scope, &attribute.key) {
            let column = &ATTRIBUTE_COLUMNS[place.column];
            let stands = match (column.sources[place.source].form, &value) {
                (Form::Text, Some(Value::StringValue(_))) => value.clone(),
                (Form::Int, Some(Value::IntValue(_))) => value.clone(),
                (Form::Decimal, Some(Value::StringValue(text))) => {
                    text.parse::<i64>().ok().filter(|number| number.to_string() == *text).map(Value::IntValue)
                }
                _ => None,
            };
            let derived = column.sources[0].form == Form::Derived;
            let free = if derived { self.columns[place.column] == stands } else { self.columns[place.column].is_none() };
            if stands.is_some() && free {
                self.columns[place.column] = stands;
                self.origins |= column.origin_bits(place.source);
                return;
            }
        }
        self.rest[rest].push(attribute.clone());
    }
}

/// The rows as a batch of `spans`.
pub(crate) fn batch(rows: &[SpanRow]) -> RecordBatch {
    let placed: Vec<Placed> = rows.iter().map(Placed::new).collect();
    let column = |field: &FieldRef| column(field, rows, &placed);
    RecordBatch::try_new(spans_schema(), spans_schema().fields().iter().map(column).collect()).unwrap()
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<DictionaryArray<Int32Type>>())
}

fn ids<const N: usize>(values: impl Iterator<Item = Option<[u8; N]>>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, N as i32).unwrap())
}

fn ints(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn times(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values.map(|time| (time / 1000) as i64)).with_timezone("UTC"))
}

fn nanos(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int16Array::from_iter_values(values.map(|time| (time % 1000) as i16)))
}

fn column(field: &FieldRef, rows: &[SpanRow], placed: &[Placed]) -> ArrayRef {
    let each = rows.iter();
    let attribute = ATTRIBUTE_COLUMNS.iter().position(|column| column.name == field.name());
    if let Some(index) = attribute {
        return attribute_column(field, placed, index);
    }
    match field.name().as_str() {
        "tenant" => texts(each.map(|row| Some(row.tenant.as_str()))),
        "trace_id" => ids(each.map(|row| Some(row.trace.to_be_bytes()))),
        "span_id" => ids(each.map(|row| Some(row.span.to_be_bytes()))),
        "parent_span_id" => ids(each.map(|row| row.parent.map(u64::to_be_bytes))),
        "start_time" => times(each.map(|row| row.start)),
        "start_nanos" => nanos(each.map(|row| row.start)),
        "duration" => ints(each.map(|row| Some(row.duration))),
        "name" => texts(each.map(|row| Some(row.name.as_str()))),
        "kind" => texts(each.map(|row| Some(row.kind.unwrap_or("unspecified")))),
        "status" => texts(each.map(|row| Some(row.status.unwrap_or("unset")))),
        "status_message" => texts(each.map(|row| row.status_message.as_deref())),
        "error" => Arc::new(each.map(|row| Some(row.error)).collect::<BooleanArray>()),
        "flags" => ints(each.map(|row| row.flags)),
        "trace_state" => texts(each.map(|row| row.trace_state.as_deref())),
        "workload" => texts(each.map(|row| row.workload.as_deref())),
        "pod" => texts(each.map(|row| row.pod.as_deref())),
        "proxy" => texts(each.map(|row| row.proxy)),
        "peer_service" => texts(each.map(|row| row.peer_service.as_deref())),
        "origins" => ints(placed.iter().map(|placed| Some(placed.origins))),
        "span_attributes" => map(placed.iter().map(|placed| &placed.rest[0])),
        "resource_attributes" => map(placed.iter().map(|placed| &placed.rest[1])),
        "scope_attributes" => map(placed.iter().map(|placed| &placed.rest[2])),
        "events" => list(event_fields(), each.map(|row| row.events.len()), events(rows)),
        "links" => list(link_fields(), each.map(|row| row.links.len()), links(rows)),
        "dropped_events_count" => ints(each.map(|row| row.dropped_events)),
        "resource_dropped_attributes_count" => ints(each.map(|row| Some(i64::from(row.resource.dropped_attributes_count)))),
        "resource_schema_url" => texts(each.map(|row| row.resource_schema_url.as_deref())),
        "resource_entities" => entities(rows),
        "scope_name" => texts(each.map(|row| row.scope_name.as_deref())),
        _ => new_null_array(field.data_type(), rows.len()),
    }
}

fn attribute_column(field: &FieldRef, placed: &[Placed], index: usize) -> ArrayRef {
    if field.data_type() == &DataType::Int64 {
        return ints(placed.iter().map(|placed| match placed.columns[index] {
            Some(Value::IntValue(value)) => Some(value),
            _ => None,
        }));
    }
    texts(placed.iter().map(|placed| match &placed.columns[index] {
        Some(Value::StringValue(value)) => Some(value.as_str()),
        _ => None,
    }))
}

fn entities(rows: &[SpanRow]) -> ArrayRef {
    let of_row = |row: &SpanRow| {
        let entities = Resource { entity_refs: row.resource.entity_refs.clone(), ..Resource::default() };
        (!entities.entity_refs.is_empty()).then(|| entities.encode_to_vec())
    };
    Arc::new(rows.iter().map(of_row).collect::<BinaryArray>())
}

fn map<'a>(rows: impl Iterator<Item = &'a Vec<KeyValue>>) -> ArrayRef {
    let rows: Vec<&Vec<KeyValue>> = rows.collect();
    let all: Vec<&KeyValue> = rows.iter().copied().flatten().collect();
    let value = |entry: &&KeyValue| entry.value.as_ref().and_then(|value| value.value.clone());
    let other = |entry: &&KeyValue| {
        let any = entry.value.as_ref()?;
        let other =
            !matches!(any.value, Some(Value::StringValue(_) | Value::IntValue(_) | Value::DoubleValue(_) | Value::BoolValue(_)));
        other.then(|| any.encode_to_vec())
    };
    let strings = all.iter().map(|entry| if let Some(Value::StringValue(text)) = value(entry) { Some(text) } else { None });
    let ints = all.iter().map(|entry| if let Some(Value::IntValue(value)) = value(entry) { Some(value) } else { None });
    let doubles = all.iter().map(|entry| if let Some(Value::DoubleValue(value)) = value(entry) { Some(value) } else { None });
    let bools = all.iter().map(|entry| if let Some(Value::BoolValue(value)) = value(entry) { Some(value) } else { None });
    let values: Vec<ArrayRef> = vec![
        Arc::new(strings.collect::<StringArray>()),
        Arc::new(ints.collect::<Int64Array>()),
        Arc::new(doubles.collect::<Float64Array>()),
        Arc::new(bools.collect::<BooleanArray>()),
        Arc::new(all.iter().map(other).collect::<BinaryArray>()),
    ];
    let keys = StringArray::from_iter_values(all.iter().map(|entry| entry.key.as_str()));
    let values = StructArray::new(attribute_value_fields(), values, None);
    let entries = StructArray::new(attribute_entry_fields(), vec![Arc::new(keys), Arc::new(values)], None);
    let DataType::Map(entry, ordered) = meshlake_storage::attribute_map_type() else { panic!("no map") };
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.len()));
    let nulls = rows.iter().map(|row| !row.is_empty()).collect::<NullBuffer>();
    Arc::new(MapArray::new(entry, offsets, entries, Some(nulls), ordered))
}

fn list(fields: Fields, lengths: impl Iterator<Item = usize>, columns: Vec<ArrayRef>) -> ArrayRef {
    let items = StructArray::new(fields.clone(), columns, None);
    Arc::new(ListArray::new(list_item(fields), OffsetBuffer::from_lengths(lengths), Arc::new(items), None))
}

fn events(rows: &[SpanRow]) -> Vec<ArrayRef> {
    let all: Vec<&Event> = rows.iter().flat_map(|row| &row.events).collect();
    let all = || all.iter().copied();
    vec![
        times(all().map(|event| event.time_unix_nano)),
        nanos(all().map(|event| event.time_unix_nano)),
        Arc::new(StringArray::from_iter_values(all().map(|event| event.name.as_str()))),
        map(all().map(|event| &event.attributes)),
        ints(all().map(|event| Some(i64::from(event.dropped_attributes_count)))),
    ]
}

fn links(rows: &[SpanRow]) -> Vec<ArrayRef> {
    let all: Vec<&Link> = rows.iter().flat_map(|row| &row.links).collect();
    let all = || all.iter().copied();
    vec![
        Arc::new(BinaryArray::from_iter_values(all().map(|link| &link.trace_id))),
        Arc::new(BinaryArray::from_iter_values(all().map(|link| &link.span_id))),
        Arc::new(StringArray::from_iter_values(all().map(|link| link.trace_state.as_str()))),
        map(all().map(|link| &link.attributes)),
        ints(all().map(|link| Some(i64::from(link.dropped_attributes_count)))),
        ints(all().map(|link| Some(i64::from(link.flags)))),
    ]
}
