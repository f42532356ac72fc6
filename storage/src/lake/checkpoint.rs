//! Checkpoints of the log: `lake/_delta_log/<version>.checkpoint.parquet`, and `_last_checkpoint`, which names the newest.
//!
//! PROTOCOL.md of the Delta project, "Checkpoints": one row an action that still counts.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::LakeError;
use super::delta::{self, Action, ROOT};
use super::state::{LakeState, date};

/// Commits between two checkpoints.
pub(crate) const INTERVAL: u64 = 50;

fn last_path() -> Path {
    Path::from(format!("{ROOT}/_delta_log/_last_checkpoint"))
}

fn path(version: u64) -> Path {
    Path::from(format!("{ROOT}/_delta_log/{version:020}.checkpoint.parquet"))
}

fn unreadable(path: &Path, reason: &dyn std::fmt::Display) -> LakeError {
    LakeError::Unreadable { path: path.to_string(), reason: reason.to_string() }
}

fn schema() -> Arc<Schema> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let boolean = |name: &str| Field::new(name, DataType::Boolean, true);
    let structure = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(Fields::from(fields)), true);
    let map = |name: &str| {
        let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
        Field::new(name, DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false), true)
    };
    let list = |name: &str| Field::new(name, DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true);
    Arc::new(Schema::new(vec![
        structure("txn", vec![text("appId"), long("version"), long("lastUpdated")]),
        structure(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                long("size"),
                long("modificationTime"),
                boolean("dataChange"),
                text("stats"),
                map("tags"),
            ],
        ),
        structure("remove", vec![text("path"), long("deletionTimestamp"), boolean("dataChange")]),
        structure(
            "metaData",
            vec![
                text("id"),
                structure("format", vec![text("provider"), map("options")]),
                text("schemaString"),
                list("partitionColumns"),
                map("configuration"),
                long("createdTime"),
            ],
        ),
        structure("protocol", vec![int("minReaderVersion"), int("minWriterVersion")]),
    ]))
}

/// The actions that make the state.
async fn actions(store: &dyn ObjectStore, state: &LakeState) -> Result<Vec<Action>, LakeError> {
    // The protocol never changes, and stands in the first version or in an earlier checkpoint.
    let first = match delta::read(store, 0).await? {
        Some(actions) => actions,
        None => read(store).await?.map(|(_, actions)| actions).unwrap_or_default(),
    };
    let mut actions: Vec<Action> = first.into_iter().filter(|action| action.protocol.is_some()).collect();
    actions.extend(state.meta_data.clone().map(|meta_data| Action { meta_data: Some(meta_data), ..Action::default() }));
    let txns = state.watermarks.iter().map(|(app_id, version)| delta::Txn {
        app_id: app_id.clone(),
        version: *version as i64,
        last_updated: None,
    });
    actions.extend(txns.map(|txn| Action { txn: Some(txn), ..Action::default() }));
    let removes = state.removed.iter().map(|(path, at)| delta::Remove {
        path: path.strip_prefix("lake/").unwrap_or(path).to_owned(),
        deletion_timestamp: Some(at / 1_000),
        data_change: false,
    });
    actions.extend(removes.map(|remove| Action { remove: Some(remove), ..Action::default() }));
    let adds = state.files.values().map(|file| file.to_add(file.file.window.and_then(date)));
    actions.extend(adds.map(|add| Action { add: Some(delta::Add { data_change: false, ..add }), ..Action::default() }));
    Ok(actions)
}

/// Writes the checkpoint of a version, whose state this is.
pub(crate) async fn write(store: &dyn ObjectStore, version: u64, state: &LakeState) -> Result<(), LakeError> {
    let actions = actions(store, state).await?;
    let schema = schema();
    let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(actions.len().max(1)).build_decoder()?;
    decoder.serialize(&actions)?;
    let mut file = ArrowWriter::try_new(Vec::new(), schema, None)?;
    if let Some(batch) = decoder.flush()? {
        file.write(&batch)?;
    }
    store.put_opts(&path(version), file.into_inner()?.into(), PutMode::Overwrite.into()).await?;
    let last = json!({"version": version, "size": actions.len()}).to_string();
    store.put_opts(&last_path(), last.into_bytes().into(), PutMode::Overwrite.into()).await?;
    Ok(())
}

/// The version of the newest checkpoint.
pub(crate) async fn newest(store: &dyn ObjectStore) -> Result<Option<u64>, LakeError> {
    let last = match store.get(&last_path()).await {
        Ok(found) => found.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let last: Value = serde_json::from_slice(&last).map_err(|error| unreadable(&last_path(), &error))?;
    let version = last.get("version").and_then(Value::as_u64).ok_or_else(|| unreadable(&last_path(), &"it names no version"))?;
    Ok(Some(version))
}

async fn read(store: &dyn ObjectStore) -> Result<Option<(u64, Vec<Action>)>, LakeError> {
    let Some(version) = newest(store).await? else { return Ok(None) };
    let path = path(version);
    let bytes = store.get(&path).await?.bytes().await?;
    let mut actions = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        actions.extend(rows(&batch?).map_err(|error| unreadable(&path, &error))?);
    }
    Ok(Some((version, actions)))
}

fn rows(batch: &RecordBatch) -> Result<Vec<Action>, Box<dyn std::error::Error>> {
    let mut lines = LineDelimitedWriter::new(Vec::new());
    lines.write(batch)?;
    lines.finish()?;
    let lines = lines.into_inner();
    Ok(lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect::<Result<_, _>>()?)
}

/// The state of the newest checkpoint.
pub(crate) async fn load(store: &dyn ObjectStore) -> Result<Option<LakeState>, LakeError> {
    let Some((version, actions)) = read(store).await? else { return Ok(None) };
    let mut state = LakeState::default();
    state.apply(&actions);
    state.next = version + 1;
    Ok(Some(state))
}
