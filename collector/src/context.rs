//! What the spans of one resource, and of one instrumentation scope, have in common: decoded once, written for each span.

use meshlake_storage::{ATTRIBUTE_COLUMNS, AttributeValues, MapColumn, SpanBuilder, TextKey};

use crate::keys::{Fit, resource_slot};
use crate::nested::Message;
use crate::room::{ITEM_BYTES, Room};
use crate::value::KeyValue;
use crate::wire::{Fields, WireError};

/// How Envoy names its SDK and its instrumentation scope.
const ENVOY: &[u8] = b"envoy";

/// Resource attributes that tell identity, by column name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResourceIdentity<'a> {
    pub service: Option<&'a [u8]>,
    pub service_namespace: Option<&'a [u8]>,
    pub version: Option<&'a [u8]>,
    pub cluster: Option<&'a [u8]>,
    pub namespace: Option<&'a [u8]>,
    /// The controller that owns the pod; of a CronJob's job, the CronJob.
    controller: Option<&'a [u8]>,
    job: Option<&'a [u8]>,
    pub pod: Option<&'a [u8]>,
    pub pod_address: Option<&'a [u8]>,
    pub node: Option<&'a [u8]>,
    pub zone: Option<&'a [u8]>,
    /// Whether a proxy made the spans.
    pub is_envoy: bool,
}

impl<'a> ResourceIdentity<'a> {
    fn note(&mut self, key: &[u8], value: &'a [u8]) {
        let field = match key {
            b"service.name" => &mut self.service,
            b"service.namespace" => &mut self.service_namespace,
            b"service.version" => &mut self.version,
            b"k8s.cluster.name" => &mut self.cluster,
            b"k8s.namespace.name" => &mut self.namespace,
            b"k8s.deployment.name" | b"k8s.statefulset.name" | b"k8s.daemonset.name" | b"k8s.cronjob.name" => &mut self.controller,
            b"k8s.job.name" => &mut self.job,
            b"k8s.pod.name" => &mut self.pod,
            b"k8s.pod.ip" => &mut self.pod_address,
            b"k8s.node.name" => &mut self.node,
            b"cloud.availability_zone" => &mut self.zone,
            b"telemetry.sdk.name" => {
                self.is_envoy |= value == ENVOY;
                return;
            }
            _ => return,
        };
        if !value.is_empty() {
            field.get_or_insert(value);
        }
    }

    /// The workload.
    pub(crate) fn workload(&self) -> Option<&'a [u8]> {
        self.controller.or(self.job)
    }
}

/// A resource.
#[derive(Debug, Default)]
pub(crate) struct ResourceContext<'a> {
    pub identity: ResourceIdentity<'a>,
    columns: Vec<(usize, TextKey)>,
    residual: Option<MapColumn>,
    /// Bytes of columns that the residual attributes and the entities take in each row.
    pub residual_bytes: usize,
    dropped: u32,
    schema_url: Option<TextKey>,
    /// An OTLP `Resource` that holds only the entity references.
    entities: Vec<u8>,
}

impl<'a> ResourceContext<'a> {
    pub(crate) fn set_schema_url(&mut self, url: &[u8], rows: &mut SpanBuilder) {
        self.schema_url = (!url.is_empty()).then(|| rows.resource_schema_url.intern(url));
    }

    /// Reads a `Resource`; one that comes twice is merged.
    pub(crate) fn read(&mut self, message: &'a [u8], rows: &mut SpanBuilder, room: &mut Room) -> Result<(), WireError> {
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => self.attribute(field.bytes(number)?, rows, room)?,
                2 => self.dropped = field.varint(number)? as u32,
                3 => self.entity(field.bytes(number)?, room)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn attribute(&mut self, message: &'a [u8], rows: &mut SpanBuilder, room: &mut Room) -> Result<(), WireError> {
        let attribute = KeyValue::parse(message, room)?;
        let value = attribute.value()?;
        if let Some(text) = attribute.borrowed_text()? {
            self.identity.note(attribute.key, text);
        }
        if let Some(slot) = resource_slot(attribute.key)
            && let Some(Fit::Text(text, _)) = slot.fit(value)
            && !self.columns.iter().any(|(column, _)| *column == slot.column)
            && let AttributeValues::Text(column) = &mut rows.attributes[slot.column]
        {
            debug_assert_eq!(ATTRIBUTE_COLUMNS[slot.column].sources.len(), 1, "resource columns have one source");
            self.columns.push((slot.column, column.intern(text)));
            return Ok(());
        }
        self.residual_bytes += message.len() + ITEM_BYTES;
        self.residual.get_or_insert_default().push(0, attribute.key, value);
        Ok(())
    }

    fn entity(&mut self, message: &[u8], room: &mut Room) -> Result<(), WireError> {
        room.take(ITEM_BYTES)?;
        let valid = Message::EntityRef.is_valid(message, room)?;
        let message = if valid { message.to_vec() } else { Message::EntityRef.repaired(message)? };
        prost::encoding::bytes::encode(3, &message, &mut self.entities);
        self.residual_bytes += message.len() + ITEM_BYTES;
        Ok(())
    }

    /// Writes the resource to the row that is being built.
    pub(crate) fn write(&self, rows: &mut SpanBuilder) {
        let row = rows.rows();
        for &(column, key) in &self.columns {
            if let AttributeValues::Text(column) = &mut rows.attributes[column] {
                column.push_key(row, key);
            }
        }
        if let Some(residual) = &self.residual {
            rows.push_resource_attributes(residual);
        }
        if self.dropped != 0 {
            rows.resource_dropped_attributes_count.push(row, self.dropped.into());
        }
        if let Some(url) = self.schema_url {
            rows.resource_schema_url.push_key(row, url);
        }
        if !self.entities.is_empty() {
            rows.push_resource_entities(&self.entities);
        }
    }
}

/// An instrumentation scope.
#[derive(Debug, Default)]
pub(crate) struct ScopeContext {
    name: Option<TextKey>,
    /// Whether a proxy made the spans.
    pub is_envoy: bool,
    version: Option<TextKey>,
    attributes: Option<MapColumn>,
    /// Bytes of columns that the attributes take in each row.
    pub attribute_bytes: usize,
    dropped: u32,
    schema_url: Option<TextKey>,
}

impl ScopeContext {
    pub(crate) fn set_schema_url(&mut self, url: &[u8], rows: &mut SpanBuilder) {
        self.schema_url = (!url.is_empty()).then(|| rows.scope_schema_url.intern(url));
    }

    /// Reads an `InstrumentationScope`; one that comes twice is merged.
    pub(crate) fn read(&mut self, message: &[u8], rows: &mut SpanBuilder, room: &mut Room) -> Result<(), WireError> {
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => {
                    let name = field.bytes(number)?;
                    self.is_envoy = name == ENVOY;
                    self.name = (!name.is_empty()).then(|| rows.scope_name.intern(name));
                }
                2 => {
                    let version = Some(field.bytes(number)?).filter(|version| !version.is_empty());
                    self.version = version.map(|version| rows.scope_version.intern(version));
                }
                3 => {
                    let message = field.bytes(number)?;
                    let attribute = KeyValue::parse(message, room)?;
                    self.attribute_bytes += message.len() + ITEM_BYTES;
                    self.attributes.get_or_insert_default().push(0, attribute.key, attribute.value()?);
                }
                4 => self.dropped = field.varint(number)? as u32,
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the scope to the row that is being built.
    pub(crate) fn write(&self, rows: &mut SpanBuilder) {
        let row = rows.rows();
        if let Some(name) = self.name {
            rows.scope_name.push_key(row, name);
        }
        if let Some(version) = self.version {
            rows.scope_version.push_key(row, version);
        }
        if let Some(attributes) = &self.attributes {
            rows.push_scope_attributes(attributes);
        }
        if self.dropped != 0 {
            rows.scope_dropped_attributes_count.push(row, self.dropped.into());
        }
        if let Some(url) = self.schema_url {
            rows.scope_schema_url.push_key(row, url);
        }
    }
}
