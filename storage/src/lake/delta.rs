//! The Delta log: `lake/_delta_log/<version, 20 digits>.json`, each created once.
//!
//! Written by hand and not with deltalake-core: decision 0007. The source of names and shapes is PROTOCOL.md of the Delta
//! project, reader version 1 and writer version 2. Statistics are of the columns by which queries prune; what planning needs
//! besides stands in the tags of `add`, so that a start reads the log alone.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Fields};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::LakeError;
use crate::promoted::Promoted;
use crate::residual::ValueType;
use crate::schema::{Scope, spans_schema};

/// Where the table is in the object store.
pub(crate) const ROOT: &str = "lake";
/// The column, besides `tenant`, by which the table is partitioned: the day of the window.
const DATE: &str = "date";

/// One line of the log: exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn: Option<Txn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_info: Option<Value>,
}

/// How far a writer's fresh files of a window are in the lake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

pub(crate) type Tags = BTreeMap<String, Option<String>>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    pub path: String,
    pub partition_values: Tags,
    pub size: i64,
    /// Milliseconds.
    pub modification_time: i64,
    pub data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    pub path: String,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    pub data_change: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub min_reader_version: i32,
    pub min_writer_version: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Format {
    pub provider: String,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetaData {
    pub id: String,
    pub format: Format,
    pub schema_string: String,
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

impl MetaData {
    /// The promoted attributes that the schema lists, in order.
    pub(crate) fn promoted(&self) -> Vec<Promoted> {
        let schema: Value = serde_json::from_str(&self.schema_string).unwrap_or_default();
        let fields = schema.get("fields").and_then(Value::as_array);
        fields.into_iter().flatten().filter_map(promoted_of).collect()
    }

    /// The same table with these promoted attributes.
    pub(crate) fn with_promoted(&self, list: &[Promoted]) -> MetaData {
        MetaData { schema_string: schema(list).to_string(), ..self.clone() }
    }
}

/// Keys of the metadata of a promoted attribute's column.
const SCOPE: &str = "meshlake.scope";
const KEY: &str = "meshlake.key";

fn promoted_of(field: &Value) -> Option<Promoted> {
    let metadata = field.get("metadata")?;
    let scope = match metadata.get(SCOPE)?.as_str()? {
        "span" => Scope::Span,
        "resource" => Scope::Resource,
        _ => return None,
    };
    let value_type = match field.get("type")?.as_str()? {
        "string" => ValueType::String,
        "long" => ValueType::Int,
        "double" => ValueType::Double,
        "boolean" => ValueType::Bool,
        _ => return None,
    };
    Some(Promoted { scope, key: metadata.get(KEY)?.as_str()?.to_owned(), value_type })
}

fn promoted_field(promoted: &Promoted) -> Value {
    let scope = if promoted.scope == Scope::Span { "span" } else { "resource" };
    let mut described = field(&promoted.field());
    described["metadata"] = json!({SCOPE: scope, KEY: promoted.key});
    described
}

/// The actions that make the table. `random` becomes its id.
pub(crate) fn create(random: u128, now_ms: i64) -> Vec<Action> {
    let hex = format!("{random:032x}");
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    let meta_data = MetaData {
        id,
        format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
        schema_string: schema(&[]).to_string(),
        partition_columns: vec!["tenant".to_owned(), DATE.to_owned()],
        configuration: BTreeMap::new(),
        created_time: Some(now_ms),
    };
    vec![
        Action { protocol: Some(Protocol { min_reader_version: 1, min_writer_version: 2 }), ..Action::default() },
        Action { meta_data: Some(meta_data), ..Action::default() },
    ]
}

/// The partition of a file.
pub(crate) fn partition(tenant: &str, date: Option<String>) -> Tags {
    BTreeMap::from([("tenant".to_owned(), Some(tenant.to_owned())), (DATE.to_owned(), date)])
}

fn schema(promoted: &[Promoted]) -> Value {
    let mut fields: Vec<Value> = spans_schema().fields().iter().map(|column| field(column)).collect();
    fields.extend(promoted.iter().map(promoted_field));
    fields.push(json!({"name": DATE, "type": "date", "nullable": true, "metadata": {}}));
    json!({"type": "struct", "fields": fields})
}

fn field(field: &Field) -> Value {
    // Nullable throughout: Delta's constraints would only be checked by writers, of which we are the one.
    json!({"name": field.name(), "type": data_type(field.data_type()), "nullable": true, "metadata": {}})
}

fn structure(fields: &Fields) -> Value {
    json!({"type": "struct", "fields": fields.iter().map(|inner| field(inner)).collect::<Vec<_>>()})
}

fn data_type(arrow: &DataType) -> Value {
    match arrow {
        DataType::Boolean => json!("boolean"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Float64 => json!("double"),
        DataType::Binary | DataType::FixedSizeBinary(_) => json!("binary"),
        DataType::Timestamp(_, _) => json!("timestamp"),
        DataType::Dictionary(_, values) => data_type(values),
        DataType::Struct(fields) => structure(fields),
        DataType::List(item) => json!({"type": "array", "elementType": data_type(item.data_type()), "containsNull": true}),
        DataType::Map(entry, _) => match entry.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => json!({
                "type": "map",
                "keyType": data_type(entry[0].data_type()),
                "valueType": data_type(entry[1].data_type()),
                "valueContainsNull": true,
            }),
            _ => json!("string"),
        },
        _ => json!("string"),
    }
}

fn log_path(version: u64) -> Path {
    Path::from(format!("{ROOT}/_delta_log/{version:020}.json"))
}

/// The actions of a version; none if there is no such version yet.
pub(crate) async fn read(store: &dyn ObjectStore, version: u64) -> Result<Option<Vec<Action>>, LakeError> {
    let path = log_path(version);
    let bytes = match store.get(&path).await {
        Ok(found) => found.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let actions: Result<Vec<Action>, _> = lines.map(serde_json::from_slice).collect();
    actions.map(Some).map_err(|error| LakeError::Unreadable { path: path.to_string(), reason: error.to_string() })
}

/// Creates a version; false if somebody else has.
pub(crate) async fn create_version(store: &dyn ObjectStore, version: u64, actions: &[Action]) -> Result<bool, LakeError> {
    let path = log_path(version);
    let mut bytes = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut bytes, action)
            .map_err(|error| LakeError::Unreadable { path: path.to_string(), reason: error.to_string() })?;
        bytes.push(b'\n');
    }
    match store.put_opts(&path, bytes.into(), PutMode::Create.into()).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: the table as this version makes it. Guarantee: names and types that other readers see stay.
    #[test]
    fn golden_table() {
        let lines: Vec<String> = create(1, 2).iter().map(|action| serde_json::to_string(action).unwrap()).collect();
        assert_eq!(lines.join("\n"), include_str!("../../tests/golden/delta-v0.json").trim());
    }

    /// Scenario: promoted attributes of every type, as this version lists them. Guarantee: they stay readable, in their order, and the
    /// rest of the table's description stays as it was.
    #[test]
    fn golden_promoted() {
        let promoted = |scope, key: &str, value_type| Promoted { scope, key: key.to_owned(), value_type };
        let list = vec![
            promoted(Scope::Span, "app.user", ValueType::String),
            promoted(Scope::Resource, "replicas", ValueType::Int),
            promoted(Scope::Span, "share", ValueType::Double),
            promoted(Scope::Span, "cached", ValueType::Bool),
        ];
        let table = create(1, 2).into_iter().find_map(|action| action.meta_data).unwrap();
        let with_promoted = table.with_promoted(&list);
        assert_eq!(with_promoted.promoted(), list);
        assert_eq!(with_promoted.with_promoted(&[]), table);
        let base = spans_schema().fields().len();
        let schema: Value = serde_json::from_str(&with_promoted.schema_string).unwrap();
        let lines: Vec<String> = schema["fields"].as_array().unwrap()[base..].iter().map(Value::to_string).collect();
        assert_eq!(lines.join("\n"), include_str!("../../tests/golden/delta-promoted.json").trim());
    }
}
