//! What is in a lake file, counted when it is written: `_index/<name>.summary` (see [`super::json`]).
//!
//! Who asks for services and operations of a long time reads these instead of the files. A file without one, or with more
//! groups than [`GROUPS_MAX`], is read itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, RecordBatch};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use hashbrown::HashMap;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::log::index_path;
use super::{LakeError, json};
use crate::schema::column_index;
use crate::snapshot::SpanFile;

const VERSION: u32 = 1;
/// Groups past which a summary would be no small thing any more.
const GROUPS_MAX: usize = 20_000;
/// The columns by which spans are counted.
const BY: [&str; 5] = ["service", "namespace", "cluster", "name", "kind"];

/// Spans of one operation of one service in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCount {
    /// The service.
    pub service: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its cluster.
    pub cluster: Option<String>,
    /// The span's name.
    pub name: String,
    /// The span's kind.
    pub kind: String,
    /// Spans.
    pub spans: u64,
    /// Spans whose `error` is true.
    pub errors: u64,
}

/// What is in one file, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    version: u32,
    /// Every span of the file is in one of them.
    pub operations: Vec<OperationCount>,
}

type Group = [Option<String>; BY.len()];

/// A summary in the making.
#[derive(Debug, Default)]
pub(crate) struct Summarizer {
    groups: BTreeMap<Group, (u64, u64)>,
}

impl Summarizer {
    /// Counts rows.
    pub(crate) fn add(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let column = |name: &'static str| column_index(name).map(|index| rows.column(index));
        let missing = |name: &str| ArrowError::SchemaError(format!("spans: {name}"));
        let mut texts: Vec<&DictionaryArray<Int32Type>> = Vec::with_capacity(BY.len());
        for name in BY {
            texts.push(column(name).and_then(|column| column.as_dictionary_opt()).ok_or_else(|| missing(name))?);
        }
        let errors: &BooleanArray = column("error").and_then(|column| column.as_boolean_opt()).ok_or_else(|| missing("error"))?;
        // By keys, counted from 1, and 0 for null: they are hashed for each row.
        let mut counts = HashMap::<[u32; BY.len()], (u64, u64)>::new();
        for row in 0..rows.num_rows() {
            let key = |index: usize| texts[index].key(row).map_or(0, |key| key as u32 + 1);
            let (spans, failed) = counts.entry(std::array::from_fn(key)).or_default();
            *spans += 1;
            *failed += u64::from(errors.is_valid(row) && errors.value(row));
        }
        for (keys, (spans, failed)) in counts {
            if self.groups.len() > GROUPS_MAX {
                return Ok(());
            }
            let text = |index: usize| {
                let key = keys[index].checked_sub(1)?;
                Some(texts[index].values().as_string_opt::<i32>()?.value(key as usize).to_owned())
            };
            let group = self.groups.entry(std::array::from_fn(text)).or_default();
            *group = (group.0 + spans, group.1 + failed);
        }
        Ok(())
    }

    /// The summary, unless it is too large.
    pub(crate) fn finish(self) -> Option<Summary> {
        if self.groups.len() > GROUPS_MAX {
            return None;
        }
        let operation = |([service, namespace, cluster, name, kind], (spans, errors)): (Group, _)| OperationCount {
            service,
            namespace,
            cluster,
            name: name.unwrap_or_default(),
            kind: kind.unwrap_or_default(),
            spans,
            errors,
        };
        Some(Summary { version: VERSION, operations: self.groups.into_iter().map(operation).collect() })
    }
}

/// Where the summary of a file is.
pub(crate) fn summary_path(file: &str) -> Path {
    index_path(file, "summary")
}

impl Summary {
    /// Puts the summary of a file that is about to be committed.
    pub(crate) async fn put(&self, store: &dyn ObjectStore, file: &str) -> Result<(), LakeError> {
        json::put(store, &summary_path(file), self).await
    }

    /// Reads the summary of a file: none where it has none, or none that this program understands, for then the file itself
    /// tells.
    pub async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Summary> {
        Summary::from_bytes(&store.get(&summary_path(&file.path)).await.ok()?.bytes().await.ok()?)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Summary> {
        json::parse(bytes).filter(|summary: &Summary| summary.version == VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a summary as this version writes it. Guarantee: it stays readable by later versions.
    #[test]
    fn golden_summary() {
        let operation = OperationCount {
            service: Some("reviews".into()),
            namespace: Some("default".into()),
            cluster: None,
            name: "GET /".into(),
            kind: "server".into(),
            spans: 7,
            errors: 1,
        };
        let summary = Summary { version: VERSION, operations: vec![operation] };
        let golden = include_str!("../../tests/golden/summary-v1.json").trim();
        assert_eq!(serde_json::to_string(&summary).unwrap(), golden);
        assert_eq!(Summary::from_bytes(golden.as_bytes()), Some(summary));
        assert_eq!(Summary::from_bytes(golden.replace("\"version\":1", "\"version\":2").as_bytes()), None);
    }
}
