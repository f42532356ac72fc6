//! The attributes of a lake file, counted when it is written: `_index/<name>.attributes` (see [`super::json`]).
//!
//! Beside the [`super::Summary`], so that who asks for services does not read them. A file without one is read itself.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::log::index_path;
use super::{LakeError, json};
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
        json::put(store, &attributes_path(file), &Versioned { version: VERSION, counts: self }).await
    }

    /// Reads the attributes of a file: none where they are not kept, or not as this program understands, for then the file itself
    /// tells.
    pub async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<AttributeCounts> {
        AttributeCounts::from_bytes(&store.get(&attributes_path(&file.path)).await.ok()?.bytes().await.ok()?)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<AttributeCounts> {
        let found: Versioned<AttributeCounts> = json::parse(bytes)?;
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
        let (document, _checksum) = std::str::from_utf8(&written).unwrap().split_once('\n').unwrap();
        assert_eq!(document, golden);
        assert_eq!(AttributeCounts::read(&store, &file).await.as_ref(), Some(&counts));
        store.put(&path, golden.into()).await.unwrap();
        assert_eq!(AttributeCounts::read(&store, &file).await, Some(counts));
        store.put(&path, golden.replace("\"version\":1", "\"version\":2").into()).await.unwrap();
        assert_eq!(AttributeCounts::read(&store, &file).await, None);
    }
}
