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
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, EntityRef};
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

    use super::*;
    use crate::testing::{Chance, SpanRow, TestSource, int, key_value, tenant, text};
    use crate::{Engine, TraceId};

    const TRACE: u128 = 0xabc;

    fn any_attribute(chance: &mut Chance) -> KeyValue {
        let list = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(1)) }, AnyValue::default()] };
        match chance.below(12) {
            0 => text("http.method", "GET"),
            1 => text("http.request.method", "PUT"),
            2 => int("http.status_code", 200),
            3 => text("http.status_code", "200"),
            4 => text("http.status_code", "0200"),
            5 => key_value("d", Value::DoubleValue(chance.below(9) as f64 / 2.0)),
            6 => key_value("b", Value::BoolValue(chance.below(2) == 0)),
            7 => key_value("raw", Value::BytesValue(vec![chance.below(256) as u8; 3])),
            8 => key_value("list", Value::ArrayValue(list)),
            9 => KeyValue { key: "empty".to_owned(), value: Some(AnyValue::default()), ..KeyValue::default() },
            10 => text("istio.canonical_service", chance.pick(&["reviews", "other"])),
            _ => text("service.name", chance.pick(&["reviews", "details"])),
        }
    }

    fn any_attributes(chance: &mut Chance) -> Vec<KeyValue> {
        let mut attributes: Vec<KeyValue> = Vec::new();
        for _ in 0..chance.below(6) {
            let attribute = any_attribute(chance);
            if attributes.iter().all(|known| known.key != attribute.key) {
                attributes.push(attribute);
            }
        }
        attributes
    }

    fn any_span(chance: &mut Chance) -> SpanRow {
        let event = |chance: &mut Chance| Event {
            time_unix_nano: chance.next() >> 1,
            name: "e".to_owned(),
            attributes: any_attributes(chance),
            dropped_attributes_count: chance.below(2) as u32,
        };
        let link = |chance: &mut Chance| Link {
            trace_id: vec![1; chance.below(17) as usize],
            span_id: vec![2; 8],
            trace_state: "s=1".to_owned(),
            attributes: any_attributes(chance),
            dropped_attributes_count: 3,
            flags: u32::MAX,
        };
        let entity = EntityRef { r#type: "service".to_owned(), id_keys: vec!["service.name".to_owned()], ..EntityRef::default() };
        SpanRow {
            tenant: "a".to_owned(),
            trace: TRACE,
            span: chance.next(),
            parent: (chance.below(2) == 0).then(|| chance.next()),
            start: chance.pick(&[0, 1, 1_767_225_600_123_456_789, u64::MAX]),
            duration: chance.pick(&[0, -5, 77, i64::MAX]),
            name: "op".to_owned(),
            kind: Some(chance.pick(&["unspecified", "server", "consumer", "9"])),
            status: Some(chance.pick(&["unset", "error", "7"])),
            status_message: chance.pick(&[None, Some("boom".to_owned())]),
            service: Some("reviews".to_owned()),
            flags: Some(chance.pick(&[0, 0x301, i64::from(u32::MAX)])),
            trace_state: Some("k=v".to_owned()),
            attributes: any_attributes(chance),
            resource: Resource {
                attributes: any_attributes(chance),
                dropped_attributes_count: chance.below(2) as u32,
                entity_refs: chance.pick(&[vec![], vec![entity]]),
            },
            resource_schema_url: Some(chance.pick(&["", "https://a/1"]).to_owned()),
            scope_name: Some(chance.pick(&["", "lib"]).to_owned()),
            scope_attributes: chance.pick(&[vec![], vec![int("i", 1), text("t", "x")]]),
            events: (0..chance.below(3)).map(|_| event(chance)).collect(),
            links: (0..chance.below(3)).map(|_| link(chance)).collect(),
            dropped_events: Some(4),
            ..SpanRow::default()
        }
    }

    fn sorted(mut attributes: Vec<KeyValue>) -> Vec<KeyValue> {
        attributes.sort_by_key(|attribute| attribute.key.clone());
        attributes
    }

    /// What the span says, with its resource and scope, in one comparable value.
    fn expected(row: &SpanRow) -> (Resource, String, InstrumentationScope, Span) {
        let named = |names: &[&str], text: &str| {
            names.iter().position(|name| *name == text).map_or_else(|| text.parse().unwrap(), |at| at as i32)
        };
        let status =
            Status { code: named(&STATUSES, row.status.unwrap()), message: row.status_message.clone().unwrap_or_default() };
        let scope = InstrumentationScope {
            name: row.scope_name.clone().unwrap(),
            attributes: sorted(row.scope_attributes.clone()),
            ..InstrumentationScope::default()
        };
        let span = Span {
            trace_id: row.trace.to_be_bytes().to_vec(),
            span_id: row.span.to_be_bytes().to_vec(),
            parent_span_id: row.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
            trace_state: "k=v".to_owned(),
            flags: row.flags.unwrap() as u32,
            name: "op".to_owned(),
            kind: named(&KINDS, row.kind.unwrap()),
            start_time_unix_nano: row.start,
            end_time_unix_nano: row.start.wrapping_add(row.duration as u64),
            attributes: sorted(row.attributes.clone()),
            events: row.events.clone(),
            links: row.links.clone(),
            dropped_events_count: 4,
            status: (status != Status::default()).then_some(status),
            ..Span::default()
        };
        let resource = Resource { attributes: sorted(row.resource.attributes.clone()), ..row.resource.clone() };
        (resource, row.resource_schema_url.clone().unwrap(), scope, span)
    }

    fn flat(data: &TracesData) -> Vec<(Resource, String, InstrumentationScope, Span)> {
        let mut all = Vec::new();
        for of_resource in &data.resource_spans {
            let mut resource = of_resource.resource.clone().unwrap_or_default();
            resource.attributes = sorted(resource.attributes);
            for of_scope in &of_resource.scope_spans {
                let mut scope = of_scope.scope.clone().unwrap_or_default();
                scope.attributes = sorted(scope.attributes);
                for span in &of_scope.spans {
                    let span = Span { attributes: sorted(span.attributes.clone()), ..span.clone() };
                    all.push((resource.clone(), of_resource.schema_url.clone(), scope.clone(), span));
                }
            }
        }
        all
    }

    async fn trace(engine: &Engine, name: &str, id: u128) -> Option<TracesData> {
        engine.trace(&tenant(name), TraceId(id.to_be_bytes())).await.unwrap()
    }

    fn by_span(
        mut all: Vec<(Resource, String, InstrumentationScope, Span)>,
    ) -> Vec<(Resource, String, InstrumentationScope, Span)> {
        all.sort_by_key(|(_, _, _, span)| (span.span_id.clone(), span.encode_to_vec()));
        all
    }

    /// Scenario: a trace of arbitrary spans over two files, one shared with another tenant that has the same trace id, and
    /// live batches, among other traces. Guarantee: all its spans read back as they were, each once, nothing of others (P5, P8).
    #[tokio::test]
    async fn a_trace_reads_back_as_it_came() {
        for seed in 0..20 {
            let mut chance = Chance(seed);
            let rows: Vec<SpanRow> = (0..40).map(|_| any_span(&mut chance)).collect();
            let noise = crate::testing::random_rows(&mut chance, "a", 200);
            let foreign = SpanRow { tenant: "b".to_owned(), ..any_span(&mut chance) };
            let mut source = TestSource::new();
            source.add_file(&[&rows[..15], &noise[..300]].concat()).await;
            source.add_file(&[&rows[15..30], &noise[300..400], std::slice::from_ref(&foreign)].concat()).await;
            source.add_live(&[&rows[30..], &noise[400..], &[foreign]].concat());
            let engine = source.engine();
            let data = trace(&engine, "a", TRACE).await.unwrap();
            assert_eq!(by_span(flat(&data)), by_span(rows.iter().map(expected).collect()), "seed {seed}");
            assert_eq!(flat(&trace(&engine, "b", TRACE).await.unwrap()).len(), 2);
            assert!(trace(&engine, "a", 1).await.is_none());
            assert!(trace(&engine, "c", TRACE).await.is_none());
        }
    }

    /// Scenario: the same spans in other batches and files, in another order. Guarantee: the answer is the same message (P4).
    #[tokio::test]
    async fn a_trace_is_the_same_wherever_its_spans_stand() {
        let mut chance = Chance(77);
        let mut rows: Vec<SpanRow> = (0..30).map(|_| any_span(&mut chance)).collect();
        rows.push(rows[3].clone());
        let mut one = TestSource::new();
        one.add_live(&rows);
        rows.reverse();
        let mut other = TestSource::new();
        other.add_file(&rows[..11]).await;
        other.add_live(&rows[11..]);
        let (one, other) = (trace(&one.engine(), "a", TRACE).await, trace(&other.engine(), "a", TRACE).await);
        assert_eq!(one.as_ref().map(|data| flat(data).len()), Some(31));
        assert_eq!(one, other);
    }

    /// Scenario: resources that differ in a zero's sign and in types, and more of them than rows are compared
    /// with. Guarantee: each is one of its own, with its spans.
    #[tokio::test]
    async fn resources_that_are_almost_equal_stay_apart() {
        let double = |value: f64| key_value("d", Value::DoubleValue(value));
        let mut resources = vec![vec![double(0.0)], vec![double(-0.0)], vec![int("d", 0)], vec![text("d", "0")], vec![]];
        resources.extend((0..2 * ORIGINS_MAX as i64).map(|number| vec![int("n", number)]));
        let row = |span: usize| SpanRow {
            tenant: "a".to_owned(),
            trace: TRACE,
            span: span as u64,
            resource: Resource { attributes: resources[span % resources.len()].clone(), ..Resource::default() },
            ..any_span(&mut Chance(1))
        };
        let rows: Vec<SpanRow> = (0..3 * resources.len()).map(row).collect();
        let mut source = TestSource::new();
        source.add_live(&rows);
        let data = trace(&source.engine(), "a", TRACE).await.unwrap();
        assert_eq!(data.resource_spans.len(), resources.len());
        assert_eq!(by_span(flat(&data)), by_span(rows.iter().map(expected).collect()));
    }
}
