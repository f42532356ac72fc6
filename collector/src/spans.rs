//! `ExportTraceServiceRequest`, field by field, into the columns of a [`SpanBuilder`]: no struct and no string a span.

mod ids;
mod mesh;
mod recent;

use meshlake_config::Ingest;
use meshlake_storage::{ATTRIBUTE_COLUMNS, Accepted, AttributeValues, CLOCK_FLAG, Link, Row, SpanBuilder, TextKey, Value};
use thiserror::Error;

use self::ids::{Rejections, ids};
use self::mesh::{Identity, IdentitySource, NamedPeer};
use self::recent::Recent;
use crate::context::{ResourceContext, ScopeContext};
use crate::failure::Outcome;
use crate::keys::{Fit, TAGS, span_slot};
use crate::room::{ITEM_BYTES, Room, SPAN_BYTES};
use crate::value::KeyValue;
use crate::wire::{Fields, WireError};

/// Why a request can't be decoded.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no valid ExportTraceServiceRequest: {0}")]
pub(crate) struct SpansError(#[from] WireError);

const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
const STATUSES: [&str; 3] = ["unset", "ok", "error"];

fn enum_name(value: i32, names: &[&'static str], number: &mut String) -> &'static str {
    let named = usize::try_from(value).ok().and_then(|index| names.get(index));
    named.copied().unwrap_or_else(|| {
        *number = value.to_string();
        ""
    })
}

/// Columns whose values are looked at again once the attributes of a span are read.
#[derive(Clone, Copy, Debug)]
struct Columns {
    node_id: usize,
    component: usize,
    upstream_cluster: usize,
    response_flags: usize,
    http_status_code: usize,
    grpc_status_code: usize,
}

fn position(name: &str) -> usize {
    // A name that is not there is found by the first test that decodes anything.
    ATTRIBUTE_COLUMNS.iter().position(|column| column.name == name).unwrap_or(usize::MAX)
}

impl Columns {
    fn new() -> Columns {
        Columns {
            node_id: position("node_id"),
            component: position("component"),
            upstream_cluster: position("upstream_cluster"),
            response_flags: position("response_flags"),
            http_status_code: position("http_status_code"),
            grpc_status_code: position("grpc_status_code"),
        }
    }
}

/// Fields of a `Span` that stand in no column until it ends.
#[derive(Debug, Default)]
struct SpanFields<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    kind: i32,
    start: u64,
    end: u64,
    dropped: [u32; 3],
    status: i32,
    status_message: &'a [u8],
    flags: u32,
    origins: i64,
    tags: [Option<&'a [u8]>; TAGS],
    error_tag: bool,
    /// `istio.destination_canonical_service` and `istio.destination_namespace`, which waypoints write.
    destination: (Option<&'a [u8]>, Option<&'a [u8]>),
    /// `peer.service`.
    peer: Option<&'a [u8]>,
}

/// Decodes one request.
#[derive(Debug)]
pub(crate) struct SpansDecoder<'r> {
    settings: &'r Ingest,
    tenant: &'r str,
    received: i64,
    rows: &'r mut SpanBuilder,
    columns: Columns,
    identities: Recent<IdentitySource, Identity>,
    /// Of the span that was read last.
    identity: Identity,
    peers: Recent<TextKey, NamedPeer>,
    room: Room,
    accepted: u64,
    rejections: Rejections,
}

impl<'r> SpansDecoder<'r> {
    /// A decoder of a request of `tenant` that was received at a time, in microseconds since the epoch, and may take `room`.
    pub(crate) fn new(
        settings: &'r Ingest,
        tenant: &'r str,
        received: i64,
        room: Room,
        rows: &'r mut SpanBuilder,
    ) -> SpansDecoder<'r> {
        SpansDecoder {
            settings,
            tenant,
            received,
            rows,
            columns: Columns::new(),
            identities: Recent::default(),
            identity: Identity::default(),
            peers: Recent::default(),
            room,
            accepted: 0,
            rejections: Rejections::default(),
        }
    }

    /// Appends the spans of a request. After an error some of them may have been appended.
    pub(crate) fn request(mut self, message: &[u8]) -> Result<Accepted, SpansError> {
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            if number == 1 {
                self.resource_spans(field.bytes(number)?)?;
            }
        }
        Ok(Accepted { spans: self.accepted, rejected: self.rejections.count(), reason: self.rejections.text() })
    }

    fn resource_spans(&mut self, message: &[u8]) -> Result<(), WireError> {
        let mut resource = ResourceContext::default();
        self.identities = Recent::default();
        // The schema url comes after the spans that it holds for.
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => resource.read(field.bytes(number)?, self.rows, &mut self.room)?,
                3 => resource.set_schema_url(field.bytes(number)?, self.rows),
                _ => {}
            }
        }
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            if number == 2 {
                self.scope_spans(field.bytes(number)?, &resource)?;
            }
        }
        Ok(())
    }

    fn scope_spans<'a>(&mut self, message: &'a [u8], resource: &ResourceContext<'a>) -> Result<(), WireError> {
        let mut scope = ScopeContext::default();
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => scope.read(field.bytes(number)?, self.rows, &mut self.room)?,
                3 => scope.set_schema_url(field.bytes(number)?, self.rows),
                _ => {}
            }
        }
        let row_bytes = SPAN_BYTES + resource.residual_bytes + scope.attribute_bytes;
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            if number == 2 {
                self.room.take(row_bytes)?;
                self.span(field.bytes(number)?, resource, &scope)?;
            }
        }
        Ok(())
    }

    fn span<'a>(&mut self, message: &'a [u8], resource: &ResourceContext<'a>, scope: &ScopeContext) -> Result<(), WireError> {
        let mut span = SpanFields::default();
        self.read_span(message, &mut span)?;
        match ids(&span) {
            Ok((trace_id, span_id, parent_span_id)) => {
                resource.write(self.rows);
                scope.write(self.rows);
                self.optional_fields(&span);
                self.own_identity(&span, resource, scope);
                self.peer_identity(&span);
                self.end_row(&span, trace_id, span_id, parent_span_id);
                self.accepted += 1;
            }
            Err(reason) => {
                self.rows.truncate(self.rows.rows());
                self.rejections.add(reason);
            }
        }
        Ok(())
    }

    fn read_span<'a>(&mut self, message: &'a [u8], span: &mut SpanFields<'a>) -> Result<(), WireError> {
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => span.trace_id = field.bytes(number)?,
                2 => span.span_id = field.bytes(number)?,
                3 => span.trace_state = field.bytes(number)?,
                4 => span.parent_span_id = field.bytes(number)?,
                5 => span.name = field.bytes(number)?,
                6 => span.kind = field.varint(number)? as i32,
                7 => span.start = field.fixed64(number)?,
                8 => span.end = field.fixed64(number)?,
                9 => self.attribute(field.bytes(number)?, span)?,
                10 => span.dropped[0] = field.varint(number)? as u32,
                11 => self.event(field.bytes(number)?)?,
                12 => span.dropped[1] = field.varint(number)? as u32,
                13 => self.link(field.bytes(number)?)?,
                14 => span.dropped[2] = field.varint(number)? as u32,
                15 => status(field.bytes(number)?, span)?,
                16 => span.flags = field.fixed32(number)?,
                _ => {}
            }
        }
        Ok(())
    }

    #[inline]
    fn attribute<'a>(&mut self, message: &'a [u8], span: &mut SpanFields<'a>) -> Result<(), WireError> {
        // Nearly all. Apart, so that what is known to be text is in registers: an enum that is written to the stack in parts and
        // read whole waits for its parts.
        if let Some((key, text)) = KeyValue::short_text(message) {
            self.room.take(ITEM_BYTES)?;
            self.place(key, Value::Text(text), Some(text), span);
            return Ok(());
        }
        self.long_attribute(message, span)
    }

    #[inline(never)]
    fn long_attribute<'a>(&mut self, message: &'a [u8], span: &mut SpanFields<'a>) -> Result<(), WireError> {
        let attribute = KeyValue::parse(message, &mut self.room)?;
        self.place(attribute.key, attribute.value()?, attribute.borrowed_text()?, span);
        Ok(())
    }

    /// Puts an attribute of the span where it belongs. `text` is its value if that is text which lives as long as the request.
    #[inline(always)]
    fn place<'a>(&mut self, key: &[u8], value: Value<'_>, text: Option<&'a [u8]>, span: &mut SpanFields<'a>) {
        if let Some(slot) = span_slot(key)
            && let Some(fit) = slot.fit(value)
        {
            if slot.column < TAGS {
                if let (None, Some(tag)) = (span.tags[slot.column], text) {
                    span.tags[slot.column] = Some(tag);
                    return;
                }
            } else if let Some(source) = self.column(slot.column, fit) {
                span.origins |= ATTRIBUTE_COLUMNS[slot.column].origin_bits(source);
                return;
            }
        }
        note(span, key, value, text);
        self.rows.span_attributes.push(self.rows.rows(), key, value);
    }

    /// Sets a column of the row that is being built, unless it is taken, and tells by which source.
    #[inline]
    fn column(&mut self, column: usize, fit: Fit<'_>) -> Option<usize> {
        let row = self.rows.rows();
        let values = &mut self.rows.attributes[column];
        if values.is_set(row) {
            return None;
        }
        match (values, fit) {
            (AttributeValues::Text(column), Fit::Text(text, source)) => {
                column.push(row, text);
                Some(source)
            }
            (AttributeValues::Int(column), Fit::Int(int, source)) => {
                column.push(row, int);
                Some(source)
            }
            _ => None,
        }
    }

    fn event(&mut self, message: &[u8]) -> Result<(), WireError> {
        self.room.take(ITEM_BYTES)?;
        let (mut time, mut name, mut dropped) = (0, &[][..], 0);
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => time = field.fixed64(number)?,
                2 => name = field.bytes(number)?,
                3 => {
                    let attribute = KeyValue::parse(field.bytes(number)?, &mut self.room)?;
                    let (map, event) = self.rows.events.attributes();
                    map.push(event, attribute.key, attribute.value()?);
                }
                4 => dropped = field.varint(number)? as u32,
                _ => {}
            }
        }
        self.rows.events.push(self.rows.rows(), time, name, dropped);
        Ok(())
    }

    fn link(&mut self, message: &[u8]) -> Result<(), WireError> {
        self.room.take(ITEM_BYTES)?;
        let mut link = Link::default();
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => link.trace_id = field.bytes(number)?,
                2 => link.span_id = field.bytes(number)?,
                3 => link.trace_state = field.bytes(number)?,
                4 => {
                    let attribute = KeyValue::parse(field.bytes(number)?, &mut self.room)?;
                    let (map, item) = self.rows.links.attributes();
                    map.push(item, attribute.key, attribute.value()?);
                }
                5 => link.dropped = field.varint(number)? as u32,
                6 => link.flags = field.fixed32(number)?,
                _ => {}
            }
        }
        self.rows.links.push(self.rows.rows(), &link);
        Ok(())
    }

    /// Writes the fields that most spans leave at their default, which is null in a column.
    fn optional_fields(&mut self, span: &SpanFields<'_>) {
        let row = self.rows.rows();
        if !span.trace_state.is_empty() {
            self.rows.trace_state.push(row, span.trace_state);
        }
        if !span.status_message.is_empty() {
            self.rows.status_message.push(row, span.status_message);
        }
        if span.flags != 0 {
            self.rows.flags.push(row, span.flags.into());
        }
        let [attributes, events, links] = span.dropped;
        let rows = &mut *self.rows;
        let counts = [
            (&mut rows.dropped_attributes_count, attributes),
            (&mut rows.dropped_events_count, events),
            (&mut rows.dropped_links_count, links),
        ];
        for (column, count) in counts {
            if count != 0 {
                column.push(row, count.into());
            }
        }
    }

    fn end_row(&mut self, span: &SpanFields<'_>, trace_id: [u8; 16], span_id: [u8; 8], parent_span_id: Option<[u8; 8]>) {
        let row = self.rows.rows();
        let flags = text_key(self.rows, self.columns.response_flags);
        let outcome = Outcome {
            http: int(self.rows, self.columns.http_status_code),
            grpc: int(self.rows, self.columns.grpc_status_code),
            flags: flags.map(|key| attribute_text(self.rows, self.columns.response_flags, key)),
            error: span.error_tag || span.status == 2,
        };
        let error = outcome.failed();
        let same = self.identity.same;
        let tagged = (0..TAGS).filter(|index| same[*index]).map(|index| ATTRIBUTE_COLUMNS[index].origin_bits(1));
        let origins = tagged.fold(span.origins, |origins, bits| origins | bits);
        if let Some(flag) = self.suspect(span) {
            self.rows.flagged.push(row, flag.as_bytes());
        }
        let (mut kind_number, mut status_number) = (String::new(), String::new());
        let kind = enum_name(span.kind, &KINDS, &mut kind_number);
        let status = enum_name(span.status, &STATUSES, &mut status_number);
        self.rows.end_row(&Row {
            tenant: self.tenant,
            trace_id,
            span_id,
            parent_span_id,
            start: span.start,
            end: span.end,
            name: span.name,
            kind: if kind.is_empty() { &kind_number } else { kind },
            status: if status.is_empty() { &status_number } else { status },
            error,
            origins,
        });
    }

    /// Why a span's times can't be trusted: kept all the same, and flagged.
    fn suspect(&self, span: &SpanFields<'_>) -> Option<&'static str> {
        let start = (span.start / 1_000) as i64;
        let past = self.received.saturating_sub(self.settings.clock_past.as_micros() as i64);
        let future = self.received.saturating_add(self.settings.clock_future.as_micros() as i64);
        match (start < past || start > future, span.end < span.start) {
            (true, true) => Some("clock,end_before_start"),
            (true, false) => Some(CLOCK_FLAG),
            (false, true) => Some("end_before_start"),
            (false, false) => None,
        }
    }
}

fn status<'a>(message: &'a [u8], span: &mut SpanFields<'a>) -> Result<(), WireError> {
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            2 => span.status_message = field.bytes(number)?,
            3 => span.status = field.varint(number)? as i32,
            _ => {}
        }
    }
    Ok(())
}

/// Notes what residual attributes say of the outcome and the peer.
fn note<'a>(span: &mut SpanFields<'a>, key: &[u8], value: Value<'_>, text: Option<&'a [u8]>) {
    match key {
        b"error" => span.error_tag |= matches!(value, Value::Bool(true) | Value::Text(b"true")),
        b"istio.destination_canonical_service" => span.destination.0 = text,
        b"istio.destination_namespace" => span.destination.1 = text,
        b"peer.service" => span.peer = text,
        _ => {}
    }
}

fn text_key(rows: &SpanBuilder, column: usize) -> Option<TextKey> {
    if let AttributeValues::Text(values) = &rows.attributes[column] { values.key(rows.rows()) } else { None }
}

fn attribute_text(rows: &SpanBuilder, column: usize, key: TextKey) -> &[u8] {
    if let AttributeValues::Text(values) = &rows.attributes[column] { values.text(key) } else { &[] }
}

fn int(rows: &SpanBuilder, column: usize) -> Option<i64> {
    if let AttributeValues::Int(values) = &rows.attributes[column] { values.get(rows.rows()) } else { None }
}
