//! The schema of `spans`: one row a span, the same in live batches, fresh files and the lake (P9).
//!
//! Names are what people type in SQL. No unsigned types and no nanosecond timestamps: some readers have neither. An OTLP
//! time is `start_time` (microseconds) and `start_nanos` (the remainder, 0 to 999); the end is start plus `duration`,
//! modulo 2^64, so every pair of `fixed64` times reads back as it was sent (P5).

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::attributes::ATTRIBUTE_COLUMNS;

/// Whose attributes a column or map holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The span.
    Span,
    /// The resource.
    Resource,
    /// The instrumentation scope; its attributes have no columns of their own.
    #[serde(rename = "scope")]
    Instrumentation,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 3] = [Scope::Span, Scope::Resource, Scope::Instrumentation];

    /// The column that holds the residual attributes of this scope.
    pub const fn residual_column(self) -> &'static str {
        match self {
            Scope::Span => "span_attributes",
            Scope::Resource => "resource_attributes",
            Scope::Instrumentation => "scope_attributes",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "span" => Ok(Scope::Span),
            "resource" => Ok(Scope::Resource),
            "scope" => Ok(Scope::Instrumentation),
            _ => Err(format!("`{text}` is no scope; it is span, resource or scope")),
        }
    }
}

/// Text with few distinct values: dictionary-encoded.
pub fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Microseconds since the epoch, UTC.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}

/// The value of a residual attribute: exactly one field is set. `other` is an OTLP `AnyValue` in protobuf: bytes, arrays,
/// nested maps and the empty value.
pub fn attribute_value_fields() -> Fields {
    Fields::from(vec![
        Field::new("string", DataType::Utf8, true),
        Field::new("int", DataType::Int64, true),
        Field::new("double", DataType::Float64, true),
        Field::new("bool", DataType::Boolean, true),
        Field::new("other", DataType::Binary, true),
    ])
}

/// The key-value entry of a residual map.
pub fn attribute_entry_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Struct(attribute_value_fields()), true),
    ])
}

/// A residual map: attributes that have no column of their own, in the order in which they came.
pub fn attribute_map_type() -> DataType {
    let entries = Field::new("key_value", DataType::Struct(attribute_entry_fields()), false);
    DataType::Map(Arc::new(entries), false)
}

/// The fields of one span event.
pub fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time", time_type(), false),
        Field::new("time_nanos", DataType::Int16, false),
        Field::new("name", DataType::Utf8, false),
        Field::new("attributes", attribute_map_type(), true),
        Field::new("dropped_attributes_count", DataType::Int64, false),
    ])
}

/// The fields of one span link. Ids are kept as they came, whatever their length.
pub fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Binary, false),
        Field::new("span_id", DataType::Binary, false),
        Field::new("trace_state", DataType::Utf8, false),
        Field::new("attributes", attribute_map_type(), true),
        Field::new("dropped_attributes_count", DataType::Int64, false),
        Field::new("flags", DataType::Int64, false),
    ])
}

/// The item of a list column.
pub fn list_item(fields: Fields) -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(fields), false))
}

/// The schema of `spans`.
pub fn spans_schema() -> SchemaRef {
    SCHEMA.clone()
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, text_type(), true);
    let int = |name: &str| Field::new(name, DataType::Int64, true);
    let mut fields = vec![
        Field::new("tenant", text_type(), false),
        Field::new("trace_id", DataType::FixedSizeBinary(16), false),
        Field::new("span_id", DataType::FixedSizeBinary(8), false),
        // Null for a root: no parent, or one of only zero bytes.
        Field::new("parent_span_id", DataType::FixedSizeBinary(8), true),
        Field::new("start_time", time_type(), false),
        Field::new("start_nanos", DataType::Int16, false),
        // Nanoseconds; negative where the span ends before it starts.
        Field::new("duration", DataType::Int64, false),
        Field::new("name", text_type(), false),
        // unspecified, internal, server, client, producer, consumer; else the number.
        Field::new("kind", text_type(), false),
        // unset, ok, error; else the number.
        Field::new("status", text_type(), false),
        text("status_message"),
        // By the code where there is one, else by the status: crate `collector`, module `failure`.
        Field::new("error", DataType::Boolean, false),
        // Why a kept span is suspect: clock, end_before_start, or both with a comma.
        text("flagged"),
        int("flags"),
        text("trace_state"),
        text("workload"),
        text("pod"),
        text("node"),
        // sidecar, gateway, waypoint; null for application spans.
        text("proxy"),
        text("peer_service"),
        text("peer_namespace"),
        Field::new("peer_port", DataType::Int32, true),
        // service, passthrough, blackhole, dynamic_dns, inbound, waypoint: what `upstream_cluster` names.
        text("peer_kind"),
    ];
    fields.extend(ATTRIBUTE_COLUMNS.iter().map(|column| if column.is_int() { int(column.name) } else { text(column.name) }));
    fields.extend([
        Field::new("origins", DataType::Int64, false),
        Field::new("span_attributes", attribute_map_type(), true),
        Field::new("resource_attributes", attribute_map_type(), true),
        Field::new("events", DataType::List(list_item(event_fields())), true),
        Field::new("links", DataType::List(list_item(link_fields())), true),
        int("dropped_attributes_count"),
        int("dropped_events_count"),
        int("dropped_links_count"),
        int("resource_dropped_attributes_count"),
        text("resource_schema_url"),
        // An OTLP `Resource` in protobuf that holds only its `entity_refs`.
        Field::new("resource_entities", DataType::Binary, true),
        text("scope_name"),
        text("scope_version"),
        Field::new("scope_attributes", attribute_map_type(), true),
        int("scope_dropped_attributes_count"),
        text("scope_schema_url"),
    ]);
    Arc::new(Schema::new(fields))
});

/// Position of a column in [`spans_schema`]; none for a name that is no column.
pub fn column_index(name: &str) -> Option<usize> {
    SCHEMA.index_of(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented_type(data_type: &DataType) -> &'static str {
        match data_type {
            DataType::Dictionary(..) => "text",
            DataType::Int16 | DataType::Int32 | DataType::Int64 => "integer",
            DataType::Boolean => "boolean",
            DataType::Timestamp(..) => "time",
            DataType::FixedSizeBinary(16) => "16 bytes",
            DataType::FixedSizeBinary(8) => "8 bytes",
            DataType::Binary => "bytes",
            DataType::Map(..) => "map",
            DataType::List(_) => "list",
            other => panic!("{other}"),
        }
    }

    /// Scenario: the tables of the users' page. Guarantee: each column is named once, with its type, and each attribute
    /// column with every key that it comes from.
    #[test]
    fn every_column_is_documented() {
        let page = include_str!("../../docs/spans.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let mut documented: Vec<_> = rows.map(|(name, rest)| (name, rest.split(" | ").next().unwrap_or_default(), rest)).collect();
        documented.sort_unstable();
        let mut columns: Vec<_> =
            SCHEMA.fields().iter().map(|field| (field.name().as_str(), documented_type(field.data_type()))).collect();
        columns.sort_unstable();
        assert_eq!(documented.iter().map(|(name, data_type, _)| (*name, *data_type)).collect::<Vec<_>>(), columns);
        for column in ATTRIBUTE_COLUMNS {
            let (.., row) = documented.iter().find(|(name, ..)| *name == column.name).unwrap();
            for source in column.sources.iter().filter(|source| !source.key.is_empty()) {
                assert!(row.contains(&format!("`{}`", source.key)), "{}: {}", column.name, source.key);
            }
        }
    }
}
