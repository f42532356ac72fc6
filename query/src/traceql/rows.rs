//! Rows of `spans` as TraceQL reads spans. Texts are borrowed from the batch.

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeBinaryArray, Int16Array, Int64Array, TimestampMicrosecondArray,
};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_storage::{ATTRIBUTE_COLUMNS, ResidualMap, Scope, places};
use meshlake_traceql::{Kind, Named, Owner, Scope as Asked, SpanFacts, Status, Value};

use super::columns::{ORIGINS, of_scope, scopes};
use super::value::value;
use crate::error::QueryError;
use crate::nested::{Events, Links};
use crate::otlp::nanoseconds;
use crate::trace_id::TraceId;
use crate::values::{AttributeValues, TextColumn, ValueSource, open};

/// The columns of a batch that TraceQL may read, opened. Of those that it has not, everything is missing.
pub(super) struct SpanRows<'a> {
    trace_id: Option<&'a FixedSizeBinaryArray>,
    span_id: Option<&'a FixedSizeBinaryArray>,
    parent_span_id: Option<&'a FixedSizeBinaryArray>,
    start_time: Option<&'a TimestampMicrosecondArray>,
    start_nanos: Option<&'a Int16Array>,
    duration: Option<&'a Int64Array>,
    kind: Option<Enumeration<'a, Kind>>,
    status: Option<Enumeration<'a, Status>>,
    pub(super) name: Option<TextColumn<'a>>,
    pub(super) status_message: Option<TextColumn<'a>>,
    pub(super) service_name: Option<TextColumn<'a>>,
    pub(super) scope_name: Option<TextColumn<'a>>,
    pub(super) scope_version: Option<TextColumn<'a>>,
    pub(super) events: Option<Events<'a>>,
    pub(super) links: Option<Links<'a>>,
    /// By slot.
    attributes: Vec<Sources<'a>>,
}

/// Where an attribute stands in each scope of the table.
#[derive(Default)]
struct Sources<'a> {
    span: Option<ValueSource<'a>>,
    resource: Option<ValueSource<'a>>,
    instrumentation: Option<ValueSource<'a>>,
}

/// A column of names of few values.
struct Enumeration<'a, T> {
    rows: &'a DictionaryArray<Int32Type>,
    values: Vec<T>,
}

impl<'a, T: Copy> Enumeration<'a, T> {
    /// The first of `names` stands for what has no name.
    fn new(column: &'a ArrayRef, names: &[(&str, T)]) -> Option<Enumeration<'a, T>> {
        let rows = column.as_dictionary_opt::<Int32Type>()?;
        let unnamed = names.first()?.1;
        let named = |text: Option<&str>| text.and_then(|text| named(text, names)).unwrap_or(unnamed);
        Some(Enumeration { rows, values: rows.values().as_string_opt::<i32>()?.iter().map(named).collect() })
    }

    fn get(&self, row: usize) -> Option<T> {
        self.values.get(self.rows.key(row)?).copied()
    }
}

/// What has a name.
pub(super) fn named<T: Copy>(text: &str, names: &[(&str, T)]) -> Option<T> {
    names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

/// A column, unless the batch has none of that name.
fn optional<'a, T>(batch: &'a RecordBatch, name: &str, of: impl Fn(&'a ArrayRef) -> Option<T>) -> Result<Option<T>, QueryError> {
    batch.column_by_name(name).map(|_| open(batch, name, of)).transpose()
}

impl<'a> SpanRows<'a> {
    /// `attributes` are those of the query, by slot.
    pub(super) fn new(batch: &'a RecordBatch, attributes: &'a [Named]) -> Result<SpanRows<'a>> {
        let id = |name| optional(batch, name, |column| column.as_fixed_size_binary_opt());
        let text = |name| optional(batch, name, TextColumn::new);
        Ok(SpanRows {
            trace_id: id("trace_id")?,
            span_id: id("span_id")?,
            parent_span_id: id("parent_span_id")?,
            start_time: optional(batch, "start_time", |column| column.as_primitive_opt())?,
            start_nanos: optional(batch, "start_nanos", |column| column.as_primitive_opt())?,
            duration: optional(batch, "duration", |column| column.as_primitive_opt())?,
            kind: optional(batch, "kind", |column| Enumeration::new(column, &Kind::NAMES))?,
            status: optional(batch, "status", |column| Enumeration::new(column, &Status::NAMES))?,
            name: text("name")?,
            status_message: text("status_message")?,
            service_name: text("service_name")?,
            scope_name: text("scope_name")?,
            scope_version: text("scope_version")?,
            events: optional(batch, "events", |column| Events::new(column.as_list_opt()?))?,
            links: optional(batch, "links", |column| Links::new(column.as_list_opt()?))?,
            attributes: attributes.iter().map(|named| Sources::new(batch, named)).collect::<Result<_>>()?,
        })
    }

    pub(super) fn trace_id(&self, row: usize) -> TraceId {
        TraceId(id(self.trace_id, row))
    }

    pub(super) fn span_id(&self, row: usize) -> [u8; 8] {
        id(self.span_id, row)
    }

    pub(super) fn facts(&self, row: usize) -> SpanFacts {
        SpanFacts {
            id: self.span_id(row),
            parent_id: id(self.parent_span_id, row),
            start: self.start(row),
            duration: self.duration.map_or(0, |column| column.value(row)),
            kind: self.kind(row),
            status: self.status(row),
        }
    }

    /// Nanoseconds since 1970.
    pub(super) fn start(&self, row: usize) -> u64 {
        let micros = self.start_time.map_or(0, |column| column.value(row));
        let nanos = self.start_nanos.map_or(0, |column| column.value(row));
        nanoseconds(micros, nanos)
    }

    pub(super) fn kind(&self, row: usize) -> Kind {
        self.kind.as_ref().and_then(|column| column.get(row)).unwrap_or(Kind::Unspecified)
    }

    pub(super) fn status(&self, row: usize) -> Status {
        self.status.as_ref().and_then(|column| column.get(row)).unwrap_or(Status::Unset)
    }

    pub(super) fn attribute(&self, row: usize, owner: Owner, named: &Named) -> Value<'a> {
        let sources = self.attributes.get(named.slot);
        let source = match owner {
            Owner::Span => sources.and_then(|sources| sources.span.as_ref()),
            Owner::Resource => sources.and_then(|sources| sources.resource.as_ref()),
            Owner::Instrumentation => sources.and_then(|sources| sources.instrumentation.as_ref()),
            Owner::Event(event) => {
                let first = |events: &Events<'a>| first(events.attributes(), events.items(row).start + event, &named.name);
                return self.events.as_ref().map_or(Value::Nil, first);
            }
            Owner::Link(link) => {
                let first = |links: &Links<'a>| first(links.attributes(), links.items(row).start + link, &named.name);
                return self.links.as_ref().map_or(Value::Nil, first);
            }
        };
        source.and_then(|source| source.find(row, Some)).map_or(Value::Nil, value)
    }
}

/// The first value of a key.
fn first<'a>(map: &ResidualMap<'a>, item: usize, key: &str) -> Value<'a> {
    let found = map.entries(item).filter(|(of, _)| *of == key).find_map(|(_, found)| found);
    found.map_or(Value::Nil, value)
}

/// An id; zero for null.
fn id<const N: usize>(column: Option<&FixedSizeBinaryArray>, row: usize) -> [u8; N] {
    let column = column.filter(|column| column.is_valid(row) && column.value_length() == N as i32);
    column.and_then(|column| column.value_data().as_chunks().0.get(row)).copied().unwrap_or([0; N])
}

impl<'a> Sources<'a> {
    fn new(batch: &'a RecordBatch, named: &'a Named) -> Result<Sources<'a>> {
        let mut sources = Sources::default();
        for scope in scopes(named.scope) {
            let columns: Option<Vec<&ArrayRef>> = of_scope(*scope, &named.name).map(|name| batch.column_by_name(name)).collect();
            let Some(columns) = columns else { continue };
            let places = |scope| places(scope, &named.name).collect();
            let source = ValueSource::new(columns, places, std::slice::from_ref(scope), &named.name)?;
            match scope {
                Scope::Span => sources.span = Some(source),
                Scope::Resource => sources.resource = Some(source),
                Scope::Instrumentation => sources.instrumentation = Some(source),
            }
        }
        Ok(sources)
    }
}

/// Every attribute of the spans of a batch. In columns that it has not, nothing stands.
pub(super) struct AllAttributes<'a> {
    origins: &'a Int64Array,
    /// By position in [`ATTRIBUTE_COLUMNS`].
    pub(super) columns: Vec<Option<AttributeValues<'a>>>,
    pub(super) maps: Vec<(Asked, ResidualMap<'a>)>,
    pub(super) events: Option<Events<'a>>,
    pub(super) links: Option<Links<'a>>,
}

impl<'a> AllAttributes<'a> {
    pub(super) fn new(batch: &'a RecordBatch) -> Result<AllAttributes<'a>> {
        let column = |column: &meshlake_storage::AttributeColumn| optional(batch, column.name, AttributeValues::new);
        let mut maps = Vec::new();
        for scope in Scope::ALL {
            maps.extend(optional(batch, scope.residual_column(), ResidualMap::new)?.map(|map| (asked(scope), map)));
        }
        Ok(AllAttributes {
            origins: open(batch, ORIGINS, |column| column.as_primitive_opt())?,
            columns: ATTRIBUTE_COLUMNS.iter().map(column).collect::<Result<_, QueryError>>()?,
            maps,
            events: optional(batch, "events", |column| Events::new(column.as_list_opt()?))?,
            links: optional(batch, "links", |column| Links::new(column.as_list_opt()?))?,
        })
    }

    /// What the columns of a row are made from.
    pub(super) fn origins(&self, row: usize) -> i64 {
        if self.origins.is_valid(row) { self.origins.value(row) } else { 0 }
    }

    /// Shows those of a row.
    pub(super) fn each(&self, row: usize, show: &mut dyn FnMut(Asked, &str, Value<'_>)) {
        let origins = self.origins(row);
        for (column, values) in ATTRIBUTE_COLUMNS.iter().zip(&self.columns) {
            let Some(source) = column.source(origins) else { continue };
            if let Some(found) = values.as_ref().and_then(|values| values.get(row, source.form)) {
                show(asked(column.scope), source.key, value(found));
            }
        }
        let mut of_map = |scope, map: &ResidualMap<'a>, item| {
            map.entries(item).for_each(|(key, found)| show(scope, key, found.map_or(Value::Nil, value)));
        };
        self.maps.iter().for_each(|(scope, map)| of_map(*scope, map, row));
        if let Some(events) = &self.events {
            events.items(row).for_each(|item| of_map(Asked::Event, events.attributes(), item));
        }
        if let Some(links) = &self.links {
            links.items(row).for_each(|item| of_map(Asked::Link, links.attributes(), item));
        }
    }
}

pub(super) fn asked(scope: Scope) -> Asked {
    match scope {
        Scope::Span => Asked::Span,
        Scope::Resource => Asked::Resource,
        Scope::Instrumentation => Asked::Instrumentation,
    }
}
