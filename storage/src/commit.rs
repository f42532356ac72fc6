//! Commit records: which files hold which generation of which writer.
//!
//! `commits/<writer>/<generation, 20 digits>.json`, created once and never changed. The files of a generation exist for
//! readers from the moment its record does; a file without a record is what a crash left behind. Writers share nothing.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::snapshot::SpanFile;

const VERSION: u32 = 1;
const FOLDER: &str = "commits";
/// Commit records that are read at once.
pub(crate) const READS: usize = 16;

/// A commit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    /// Of this format.
    pub version: u32,
    /// Who flushed: the id of the data folder.
    pub writer: String,
    /// The generation, and the number of the journal segment that it covers.
    pub generation: u64,
    /// Bytes of that segment that it covers; what is behind them was refused.
    pub journal_bytes: u64,
    pub files: Vec<SpanFile>,
    /// The last generation up to which all of this writer are committed; this one, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
}

/// Why a commit record could not be read or written.
#[derive(Debug, Error)]
pub enum CommitError {
    /// The object store failed.
    #[error("object store: {0}")]
    Store(#[from] object_store::Error),
    /// The record is not one that this program understands.
    #[error("commit record {path}: {reason}")]
    Unreadable {
        /// Where it is in the object store.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process writes under the same id.
    #[error("commit record {0} exists and names other files: does another process use a copy of this data folder?")]
    Conflict(String),
}

impl Commit {
    pub(crate) fn new(writer: &str, generation: u64, journal_bytes: u64, files: Vec<SpanFile>) -> Commit {
        Commit { version: VERSION, writer: writer.to_owned(), generation, journal_bytes, files, settled: None }
    }

    /// The last generation up to which all of this writer are committed. Generations are not always committed in order.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.unwrap_or(self.generation)
    }

    /// Makes the files of the record exist. When this returns, the record is in the object store.
    pub(crate) async fn create(&self, store: &dyn ObjectStore) -> Result<(), CommitError> {
        let path = record_path(&self.writer, self.generation);
        let record = serde_json::to_vec(self).map_err(|error| unreadable(&path, &error))?;
        match store.put_opts(&path, record.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(()),
            // An earlier attempt may have got through although its answer was lost.
            Err(object_store::Error::AlreadyExists { .. }) if Commit::read(store, &path).await? == *self => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => Err(CommitError::Conflict(path.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the place of the record of this generation. Only while nothing runs on the store.
    pub(crate) async fn replace(&self, store: &dyn ObjectStore) -> Result<(), CommitError> {
        let path = record_path(&self.writer, self.generation);
        let record = serde_json::to_vec(self).map_err(|error| unreadable(&path, &error))?;
        store.put_opts(&path, record.into(), PutMode::Overwrite.into()).await?;
        Ok(())
    }

    pub(crate) async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Commit, CommitError> {
        let record = store.get(path).await?.bytes().await?;
        let commit: Commit = serde_json::from_slice(&record).map_err(|error| unreadable(path, &error))?;
        match commit.version {
            VERSION => Ok(commit),
            other => Err(unreadable(path, &format!("version {other}: this program reads version {VERSION}"))),
        }
    }

    /// The records of a writer, or of all, each writer's in order and with the time at which it was put (microseconds).
    pub(crate) async fn read_all(store: &dyn ObjectStore, writer: Option<&str>) -> Result<Vec<(Commit, i64)>, CommitError> {
        let folder = writer.map_or_else(|| FOLDER.to_owned(), |writer| format!("{FOLDER}/{writer}"));
        let found: BTreeMap<Path, i64> = list(store, &folder).await?.into_iter().collect();
        let reads = futures::stream::iter(found).map(|(path, since)| async move {
            match Commit::read(store, &path).await {
                // Its writer has merged its files meanwhile.
                Err(CommitError::Store(object_store::Error::NotFound { .. })) => Ok(None),
                read => read.map(|commit| Some((commit, since))),
            }
        });
        let commits: Vec<Option<(Commit, i64)>> = reads.buffered(READS).try_collect().await?;
        Ok(commits.into_iter().flatten().collect())
    }
}

/// The records in a folder, and when each was put.
async fn list(store: &dyn ObjectStore, folder: &str) -> Result<HashMap<Path, i64>, CommitError> {
    let found = store.list(Some(&Path::from(folder))).try_filter(|object| ready(object.location.extension() == Some("json")));
    Ok(found.map_ok(|object| (object.location, object.last_modified.timestamp_micros())).try_collect().await?)
}

/// The records of writers other than `own`, and when each was put.
pub(crate) async fn list_others(store: &dyn ObjectStore, own: Option<&str>) -> Result<HashMap<Path, i64>, CommitError> {
    let own = own.map(|own| Path::from(format!("{FOLDER}/{own}")));
    let mut found = list(store, FOLDER).await?;
    found.retain(|path, _| own.as_ref().is_none_or(|own| !path.prefix_matches(own)));
    Ok(found)
}

/// Where a record is.
pub(crate) fn record_path(writer: &str, generation: u64) -> Path {
    Path::from(format!("{FOLDER}/{writer}/{generation:020}.json"))
}

fn unreadable(path: &Path, reason: &dyn std::fmt::Display) -> CommitError {
    CommitError::Unreadable { path: path.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use std::sync::Arc;

    fn commit() -> Commit {
        let file = SpanFile {
            path: "fresh/w/1-a.parquet".into(),
            size: 10,
            rows: 2,
            start_min: 1,
            start_max: 2,
            end_max: 3,
            tenants: vec!["default".into()],
            ..SpanFile::default()
        };
        Commit::new("w", 1, 99, vec![file])
    }

    /// Scenario: a record as this version writes it. Guarantee: it stays readable by later versions.
    #[test]
    fn golden_record() {
        assert_eq!(serde_json::to_string(&commit()).unwrap(), include_str!("../tests/golden/commit-v1.json").trim());
    }

    /// Scenario: a commit is tried again after its answer was lost; another one takes its number. Guarantee: the first is
    /// the same commit, the second is refused.
    #[tokio::test]
    async fn created_once() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        commit().create(&store).await.unwrap();
        commit().create(&store).await.unwrap();
        assert!(matches!(Commit::new("w", 1, 99, vec![]).create(&store).await, Err(CommitError::Conflict(_))));
        let all: Vec<Commit> = Commit::read_all(&store, None).await.unwrap().into_iter().map(|(commit, _)| commit).collect();
        assert_eq!(all, [commit()]);
    }
}
