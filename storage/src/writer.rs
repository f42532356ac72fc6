//! Whose data folder it is: `writer.json` and `lock`.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::store::OpenError;

/// Who flushes, and the seed of the journal's hashes: `writer.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Writer {
    pub id: String,
    pub seed: u64,
}

impl Writer {
    fn new() -> Writer {
        // Std's hasher keys are the operating system's randomness.
        let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
        Writer { id: format!("{:016x}", random()), seed: random() }
    }

    pub(crate) fn load(folder: &Path, disk: &dyn Disk) -> io::Result<Writer> {
        let path = folder.join("writer.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                // Whoever named it may have been killed before the name was durable.
                disk.sync_dir(folder)?;
                serde_json::from_slice(&bytes).map_err(io::Error::from)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let writer = Writer::new();
                let part = folder.join("writer.json.part");
                if part.exists() {
                    disk.remove(&part)?;
                }
                let mut file = disk.create(&part)?;
                file.append(&mut [io::IoSlice::new(&serde_json::to_vec(&writer)?)])?;
                file.sync()?;
                disk.rename(&part, &path)?;
                disk.sync_dir(folder)?;
                Ok(writer)
            }
            Err(error) => Err(error),
        }
    }
}

/// Holds the data folder against other processes.
pub(crate) fn lock(folder: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Folder { folder: folder.to_owned(), source };
    let file = File::options().create(true).append(true).open(folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::LocalDisk;

    /// Scenario: `writer.json` as this version writes it. Guarantee: it stays readable, and the ids in it stay.
    #[test]
    fn golden_writer() {
        let golden = include_str!("../tests/golden/writer-v1.json").trim();
        let writer: Writer = serde_json::from_str(golden).unwrap();
        assert_eq!((writer.id.as_str(), writer.seed), ("00000000000000a1", u64::MAX));
        assert_eq!(serde_json::to_string(&writer).unwrap(), golden);
    }

    /// Scenario: a folder is opened for the first time, after a crash in the middle of that, and again. Guarantee: it gets an
    /// id of its own, once.
    #[test]
    fn a_folder_keeps_its_writer() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        std::fs::write(folders[0].path().join("writer.json.part"), "{").unwrap();
        let load = |folder: usize| Writer::load(folders[folder].path(), &LocalDisk).unwrap();
        let first = load(0);
        assert_eq!((load(0).id, load(0).seed), (first.id.clone(), first.seed));
        assert_ne!(load(1).id, first.id);
    }
}
