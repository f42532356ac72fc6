//! The attributes of a lake file, counted when it is written: `_index/<name>.attributes`, JSON.
//!
//! Beside the [`super::Summary`], so that who asks for services does not read them. A file without one is read itself.

use std::sync::Arc;

use arrow::error::ArrowError;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};

use super::LakeError;
use super::log::index_path;
use crate::counter::AttributeCounts;
use crate::snapshot::SpanFile;

const VERSION: u32 = 1;

/// What the file has.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    counts: T,
}

/// Where the attributes of a file are.
pub(crate) fn attributes_path(file: &str) -> Path {
    index_path(file, "attributes")
}

impl AttributeCounts {
    /// Puts the attributes of a file that is about to be committed.
    ///
    /// # Errors
    /// Those of the object store.
    pub async fn put(&self, store: &dyn ObjectStore, file: &str) -> Result<(), LakeError> {
        let bytes = serde_json::to_vec(&Versioned { version: VERSION, counts: self });
        let bytes = bytes.map_err(|error| ArrowError::JsonError(error.to_string()))?;
        store.put_opts(&attributes_path(file), bytes.into(), PutMode::Overwrite.into()).await?;
        Ok(())
    }

    /// Reads the attributes of a file: none where they are not kept, or not as this program understands, for then the file itself
    /// tells.
    pub async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<AttributeCounts> {
        let bytes = store.get(&attributes_path(&file.path)).await.ok()?.bytes().await.ok()?;
        let found: Versioned<AttributeCounts> = serde_json::from_slice(&bytes).ok()?;
        (found.version == VERSION).then_some(found.counts)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::counter::AttributeCount;
    use crate::residual::ValueType;
    use crate::schema::Scope;

    /// Scenario: attributes as this version writes them. Guarantee: they stay readable by later versions, and those of another
    /// version are not taken for these.
    #[tokio::test]
    async fn golden_attributes() {
        let attribute = |scope, key: &str, value_type, lower_bounds, values: &[(&str, u64)]| AttributeCount {
            scope,
            key: key.to_owned(),
            value_type,
            spans: 7,
            residual: 3,
            lower_bounds,
            values: values.iter().map(|(value, spans)| ((*value).to_owned(), *spans)).collect(),
        };
        let counts = AttributeCounts {
            complete: true,
            attributes: vec![
                attribute(Scope::Span, "http.method", ValueType::String, false, &[("GET", 4), ("PUT", 3)]),
                attribute(Scope::Resource, "weight", ValueType::Double, true, &[("0.5", 2)]),
                attribute(Scope::Instrumentation, "flags", ValueType::Other, false, &[]),
            ],
        };
        let golden = include_str!("../../tests/golden/attributes-v1.json").trim();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let file = SpanFile { path: "lake/data/2026-01-01/w-1.parquet".to_owned(), ..SpanFile::default() };
        counts.put(store.as_ref(), &file.path).await.unwrap();
        let path = Path::from("lake/_index/w-1.attributes");
        let written = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(std::str::from_utf8(&written).unwrap(), golden);
        assert_eq!(AttributeCounts::read(&store, &file).await, Some(counts));
        store.put(&path, golden.replace("\"version\":1", "\"version\":2").into()).await.unwrap();
        assert_eq!(AttributeCounts::read(&store, &file).await, None);
    }
}
