//! Spans on their way into columns.
//!
//! The decoder writes each field of a span straight into the columns of a [`SpanBuilder`], without a struct between. A row is
//! what [`SpanBuilder::end_row`] has closed; [`SpanBuilder::truncate`] takes back rows, begun or closed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray, Int16Array, Int32Array, Int64Array, ListArray, RecordBatch,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::error::ArrowError;

use crate::attributes::ATTRIBUTE_COLUMNS;
use crate::columns::{BytesColumn, MapColumn, NumberColumn, Offsets, TextColumn, blank_text};
use crate::schema::{event_fields, link_fields, list_item, spans_schema};
use crate::snapshot::{LiveBatch, LiveSource};

/// A column of [`ATTRIBUTE_COLUMNS`].
#[derive(Debug)]
pub enum AttributeValues {
    /// Text.
    Text(TextColumn),
    /// Integers.
    Int(NumberColumn<i64>),
}

impl AttributeValues {
    /// Whether `row` has a value.
    #[inline]
    pub fn is_set(&self, row: usize) -> bool {
        match self {
            AttributeValues::Text(column) => column.key(row).is_some(),
            AttributeValues::Int(column) => column.is_set(row),
        }
    }
}

/// What every span has: the fields of a closed row that are not optional.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The tenant that sent the span.
    pub tenant: &'a str,
    /// 16 bytes, not all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, not all zero.
    pub span_id: [u8; 8],
    /// None for a root.
    pub parent_span_id: Option<[u8; 8]>,
    /// Nanoseconds since the epoch.
    pub start: u64,
    /// Nanoseconds since the epoch.
    pub end: u64,
    /// The operation.
    pub name: &'a [u8],
    /// `server`, `client`, …
    pub kind: &'a str,
    /// `unset`, `ok`, `error`.
    pub status: &'a str,
    /// Whether the request failed.
    pub error: bool,
    /// Which sources the attribute columns were filled from.
    pub origins: i64,
}

/// Some span, of which a test says what matters to it.
#[cfg(test)]
impl Default for Row<'_> {
    fn default() -> Self {
        Row {
            tenant: "default",
            trace_id: [1; 16],
            span_id: [1; 8],
            parent_span_id: None,
            start: 1,
            end: 2,
            name: b"a",
            kind: "server",
            status: "unset",
            error: false,
            origins: 0,
        }
    }
}

/// Span events, as a list column.
#[derive(Debug, Default)]
pub struct EventColumn {
    ends: Offsets,
    time: Vec<i64>,
    time_nanos: Vec<i16>,
    name: BytesColumn,
    attributes: MapColumn,
    dropped: Vec<i64>,
}

impl EventColumn {
    /// The map that takes the attributes of the next event, and the row in it to write to.
    pub fn attributes(&mut self) -> (&mut MapColumn, usize) {
        (&mut self.attributes, self.time.len())
    }

    /// Adds an event to `row`; its attributes are in [`EventColumn::attributes`] already.
    pub fn push(&mut self, row: usize, time: u64, name: &[u8], dropped: u32) {
        self.name.push_text(self.time.len(), name);
        self.time.push((time / 1_000) as i64);
        self.time_nanos.push((time % 1_000) as i16);
        self.dropped.push(i64::from(dropped));
        self.ends.set_end(row, self.time.len());
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        let events = self.ends.end();
        self.time.truncate(events);
        self.time_nanos.truncate(events);
        self.name.truncate(events);
        self.attributes.truncate(events);
        self.dropped.truncate(events);
    }

    fn memory(&self) -> usize {
        self.ends.memory() + self.time.capacity() * 18 + self.name.memory() + self.attributes.memory()
    }

    fn finish(self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let events = self.time.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(self.time).with_timezone("UTC")),
            Arc::new(Int16Array::from(self.time_nanos)),
            Arc::new(self.name.finish_text(events)?),
            self.attributes.finish(events)?,
            Arc::new(Int64Array::from(self.dropped)),
        ];
        list(self.ends, rows, StructArray::try_new(event_fields(), columns, None)?)
    }
}

/// The fields of a span link besides its attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link<'a> {
    /// As it came, whatever its length.
    pub trace_id: &'a [u8],
    /// As it came, whatever its length.
    pub span_id: &'a [u8],
    /// W3C tracestate.
    pub trace_state: &'a [u8],
    /// Attributes that the sender left out.
    pub dropped: u32,
    /// W3C trace flags and OTLP's own.
    pub flags: u32,
}

/// Span links, as a list column.
#[derive(Debug, Default)]
pub struct LinkColumn {
    ends: Offsets,
    trace_id: BytesColumn,
    span_id: BytesColumn,
    trace_state: BytesColumn,
    attributes: MapColumn,
    dropped: Vec<i64>,
    flags: Vec<i64>,
}

impl LinkColumn {
    /// The map that takes the attributes of the next link, and the row in it to write to.
    pub fn attributes(&mut self) -> (&mut MapColumn, usize) {
        (&mut self.attributes, self.flags.len())
    }

    /// Adds a link to `row`; its attributes are in [`LinkColumn::attributes`] already.
    pub fn push(&mut self, row: usize, link: &Link<'_>) {
        let item = self.flags.len();
        self.trace_id.push(item, link.trace_id);
        self.span_id.push(item, link.span_id);
        self.trace_state.push_text(item, link.trace_state);
        self.dropped.push(i64::from(link.dropped));
        self.flags.push(i64::from(link.flags));
        self.ends.set_end(row, item + 1);
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        let links = self.ends.end();
        self.trace_id.truncate(links);
        self.span_id.truncate(links);
        self.trace_state.truncate(links);
        self.attributes.truncate(links);
        self.dropped.truncate(links);
        self.flags.truncate(links);
    }

    fn memory(&self) -> usize {
        let bytes = self.trace_id.memory() + self.span_id.memory() + self.trace_state.memory();
        bytes + self.ends.memory() + self.attributes.memory() + self.flags.capacity() * 16
    }

    fn finish(self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let links = self.flags.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.trace_id.finish_bytes(links)?),
            Arc::new(self.span_id.finish_bytes(links)?),
            Arc::new(self.trace_state.finish_text(links)?),
            self.attributes.finish(links)?,
            Arc::new(Int64Array::from(self.dropped)),
            Arc::new(Int64Array::from(self.flags)),
        ];
        list(self.ends, rows, StructArray::try_new(link_fields(), columns, None)?)
    }
}

/// A list column, null where there is no item.
fn list(mut ends: Offsets, rows: usize, items: StructArray) -> Result<ArrayRef, ArrowError> {
    ends.pad(rows);
    let nulls = NullBuffer::from_iter((0..rows).map(|row| !ends.range(row).is_empty()));
    let field = list_item(items.fields().clone());
    Ok(Arc::new(ListArray::try_new(field, ends.finish(rows), Arc::new(items), Some(nulls))?))
}

/// The columns of `spans` while they grow.
///
/// The public columns are written by the decoder at row [`SpanBuilder::rows`], the row that is being built; the rest by
/// [`SpanBuilder::end_row`]. Memory is proportional to what was written.
#[derive(Debug, Default)]
#[allow(missing_docs)] // The columns are documented in `schema.rs`.
pub struct SpanBuilder {
    rows: usize,
    tenant: TextColumn,
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    parent_span_id: Vec<u8>,
    parent_valid: Validity,
    start_time: Vec<i64>,
    start_nanos: Vec<i16>,
    duration: Vec<i64>,
    name: TextColumn,
    kind: TextColumn,
    status: TextColumn,
    error: Vec<bool>,
    origins: Vec<i64>,
    pub status_message: TextColumn,
    pub flagged: TextColumn,
    pub flags: NumberColumn<i64>,
    pub trace_state: TextColumn,
    pub workload: TextColumn,
    pub pod: TextColumn,
    pub node: TextColumn,
    pub proxy: TextColumn,
    pub peer_service: TextColumn,
    pub peer_namespace: TextColumn,
    pub peer_port: NumberColumn<i32>,
    pub peer_kind: TextColumn,
    /// One for each of [`ATTRIBUTE_COLUMNS`].
    pub attributes: Attributes,
    pub span_attributes: MapColumn,
    pub resource_attributes: MapColumn,
    pub events: EventColumn,
    pub links: LinkColumn,
    pub dropped_attributes_count: NumberColumn<i64>,
    pub dropped_events_count: NumberColumn<i64>,
    pub dropped_links_count: NumberColumn<i64>,
    pub resource_dropped_attributes_count: NumberColumn<i64>,
    pub resource_schema_url: TextColumn,
    resource_entities: BytesColumn,
    pub scope_name: TextColumn,
    pub scope_version: TextColumn,
    pub scope_attributes: MapColumn,
    pub scope_dropped_attributes_count: NumberColumn<i64>,
    pub scope_schema_url: TextColumn,
}

#[derive(Debug)]
struct Validity(BooleanBufferBuilder);

impl Default for Validity {
    fn default() -> Self {
        Validity(BooleanBufferBuilder::new(0))
    }
}

/// The columns of [`ATTRIBUTE_COLUMNS`], in their order.
#[derive(Debug)]
pub struct Attributes(Vec<AttributeValues>);

impl Default for Attributes {
    fn default() -> Self {
        let new =
            |int| if int { AttributeValues::Int(NumberColumn::default()) } else { AttributeValues::Text(TextColumn::default()) };
        Attributes(ATTRIBUTE_COLUMNS.iter().map(|column| new(column.is_int())).collect())
    }
}

impl std::ops::Index<usize> for Attributes {
    type Output = AttributeValues;

    #[inline]
    fn index(&self, column: usize) -> &AttributeValues {
        &self.0[column]
    }
}

impl std::ops::IndexMut<usize> for Attributes {
    #[inline]
    fn index_mut(&mut self, column: usize) -> &mut AttributeValues {
        &mut self.0[column]
    }
}

impl SpanBuilder {
    /// Closed rows; also the row that is being built.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Copies the residual attributes of a resource, kept as the first row of `map`, to the row that is being built.
    pub fn push_resource_attributes(&mut self, map: &MapColumn) {
        self.resource_attributes.push_first_of(self.rows, map);
    }

    /// Copies the attributes of an instrumentation scope, kept as the first row of `map`, to the row that is being built.
    pub fn push_scope_attributes(&mut self, map: &MapColumn) {
        self.scope_attributes.push_first_of(self.rows, map);
    }

    /// Sets the entity references of the row that is being built: an OTLP `Resource` in protobuf that holds nothing else.
    pub fn push_resource_entities(&mut self, resource: &[u8]) {
        self.resource_entities.push(self.rows, resource);
    }

    /// Closes the row that is being built.
    pub fn end_row(&mut self, row: &Row<'_>) {
        let index = self.rows;
        self.tenant.push(index, row.tenant.as_bytes());
        self.trace_id.extend_from_slice(&row.trace_id);
        self.span_id.extend_from_slice(&row.span_id);
        self.parent_span_id.extend_from_slice(&row.parent_span_id.unwrap_or_default());
        self.parent_valid.0.append(row.parent_span_id.is_some());
        self.start_time.push((row.start / 1_000) as i64);
        self.start_nanos.push((row.start % 1_000) as i16);
        self.duration.push(row.end.wrapping_sub(row.start) as i64);
        self.name.push(index, row.name);
        self.kind.push(index, row.kind.as_bytes());
        self.status.push(index, row.status.as_bytes());
        self.error.push(row.error);
        self.origins.push(row.origins);
        self.rows += 1;
    }

    /// Takes back all rows from `rows` on, and whatever was written to the row that is being built.
    pub fn truncate(&mut self, rows: usize) {
        self.rows = rows;
        self.trace_id.truncate(rows * 16);
        self.span_id.truncate(rows * 8);
        self.parent_span_id.truncate(rows * 8);
        self.parent_valid.0.truncate(rows);
        self.start_time.truncate(rows);
        self.start_nanos.truncate(rows);
        self.duration.truncate(rows);
        self.error.truncate(rows);
        self.origins.truncate(rows);
        self.texts_mut().into_iter().for_each(|column| column.truncate(rows));
        self.numbers_mut().into_iter().for_each(|column| column.truncate(rows));
        self.maps_mut().into_iter().for_each(|column| column.truncate(rows));
        for column in &mut self.attributes.0 {
            match column {
                AttributeValues::Text(column) => column.truncate(rows),
                AttributeValues::Int(column) => column.truncate(rows),
            }
        }
        self.peer_port.truncate(rows);
        self.resource_entities.truncate(rows);
        self.events.truncate(rows);
        self.links.truncate(rows);
    }

    /// Bytes of memory.
    pub fn memory(&mut self) -> usize {
        let texts: usize = self.texts_mut().iter().map(|column| column.memory()).sum();
        let numbers: usize = self.numbers_mut().iter().map(|column| column.memory()).sum();
        let maps: usize = self.maps_mut().iter().map(|column| column.memory()).sum();
        let attribute = |column: &AttributeValues| match column {
            AttributeValues::Text(column) => column.memory(),
            AttributeValues::Int(column) => column.memory(),
        };
        let attributes: usize = self.attributes.0.iter().map(attribute).sum();
        let other = self.peer_port.memory() + self.resource_entities.memory() + self.events.memory() + self.links.memory();
        let ids = self.trace_id.capacity() + self.span_id.capacity() + self.parent_span_id.capacity();
        texts + numbers + maps + attributes + other + ids + self.duration.capacity() * 28
    }

    fn texts_mut(&mut self) -> [&mut TextColumn; 18] {
        [
            &mut self.tenant,
            &mut self.name,
            &mut self.kind,
            &mut self.status,
            &mut self.status_message,
            &mut self.flagged,
            &mut self.trace_state,
            &mut self.workload,
            &mut self.pod,
            &mut self.node,
            &mut self.proxy,
            &mut self.peer_service,
            &mut self.peer_namespace,
            &mut self.peer_kind,
            &mut self.resource_schema_url,
            &mut self.scope_name,
            &mut self.scope_version,
            &mut self.scope_schema_url,
        ]
    }

    fn numbers_mut(&mut self) -> [&mut NumberColumn<i64>; 6] {
        [
            &mut self.flags,
            &mut self.dropped_attributes_count,
            &mut self.dropped_events_count,
            &mut self.dropped_links_count,
            &mut self.resource_dropped_attributes_count,
            &mut self.scope_dropped_attributes_count,
        ]
    }

    fn maps_mut(&mut self) -> [&mut MapColumn; 3] {
        [&mut self.span_attributes, &mut self.resource_attributes, &mut self.scope_attributes]
    }

    /// The closed rows as a batch of [`spans_schema`]; none if there is no row.
    ///
    /// # Errors
    /// If the columns do not make a valid batch, which is a defect of this crate.
    pub fn finish(self) -> Result<Option<LiveBatch>, ArrowError> {
        let rows = self.rows;
        let (Some(&start_min), Some(&start_max)) = (self.start_time.iter().min(), self.start_time.iter().max()) else {
            return Ok(None);
        };
        let blank = blank_text(rows)?;
        let text = |column: TextColumn| column.finish(rows, &blank);
        let int = |column: NumberColumn<i64>| -> Result<ArrayRef, ArrowError> {
            let (values, nulls) = column.finish(rows);
            Ok(Arc::new(Int64Array::try_new(values, nulls)?))
        };
        let ids = |bytes: Vec<u8>, width, nulls| -> Result<ArrayRef, ArrowError> {
            Ok(Arc::new(FixedSizeBinaryArray::try_new(width, Buffer::from_vec(bytes), nulls)?))
        };
        let mut parent_valid = self.parent_valid.0;
        let (ports, no_port) = self.peer_port.finish(rows);
        let mut columns: Vec<ArrayRef> = vec![
            text(self.tenant)?,
            ids(self.trace_id, 16, None)?,
            ids(self.span_id, 8, None)?,
            ids(self.parent_span_id, 8, Some(NullBuffer::new(parent_valid.finish())))?,
            Arc::new(TimestampMicrosecondArray::from(self.start_time).with_timezone("UTC")),
            Arc::new(Int16Array::from(self.start_nanos)),
            Arc::new(Int64Array::from(self.duration)),
            text(self.name)?,
            text(self.kind)?,
            text(self.status)?,
            text(self.status_message)?,
            Arc::new(BooleanArray::from(self.error)),
            text(self.flagged)?,
            int(self.flags)?,
            text(self.trace_state)?,
            text(self.workload)?,
            text(self.pod)?,
            text(self.node)?,
            text(self.proxy)?,
            text(self.peer_service)?,
            text(self.peer_namespace)?,
            Arc::new(Int32Array::try_new(ports, no_port)?),
            text(self.peer_kind)?,
        ];
        for column in self.attributes.0 {
            columns.push(match column {
                AttributeValues::Text(column) => text(column)?,
                AttributeValues::Int(column) => int(column)?,
            });
        }
        columns.extend([
            Arc::new(Int64Array::from(self.origins)) as ArrayRef,
            self.span_attributes.finish(rows)?,
            self.resource_attributes.finish(rows)?,
            self.events.finish(rows)?,
            self.links.finish(rows)?,
            int(self.dropped_attributes_count)?,
            int(self.dropped_events_count)?,
            int(self.dropped_links_count)?,
            int(self.resource_dropped_attributes_count)?,
            text(self.resource_schema_url)?,
            Arc::new(self.resource_entities.finish_bytes(rows)?),
            text(self.scope_name)?,
            text(self.scope_version)?,
            self.scope_attributes.finish(rows)?,
            int(self.scope_dropped_attributes_count)?,
            text(self.scope_schema_url)?,
        ]);
        let batch = RecordBatch::try_new(spans_schema(), columns)?;
        Ok(Some(LiveBatch { batch, start_min, start_max, source: LiveSource::default(), first_row: 0 }))
    }
}
