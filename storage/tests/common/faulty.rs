//! A disk on which single operations fail.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use meshlake_storage::{Disk, DiskFile, LocalDisk};
use parking_lot::Mutex;

/// What can be done to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    OpenAt,
    Link,
    Rename,
    Remove,
    CreateDir,
    SyncDir,
    Append,
    Sync,
}

/// A disk, except for operations that were told to fail. A failing append writes half of its bytes first.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    faults: Arc<Mutex<VecDeque<(Operation, &'static str)>>>,
}

impl Default for FaultyDisk {
    fn default() -> Self {
        FaultyDisk::over(LocalDisk)
    }
}

impl FaultyDisk {
    pub fn over(disk: impl Disk + 'static) -> FaultyDisk {
        FaultyDisk { inner: Arc::new(disk), faults: Arc::default() }
    }

    /// The next operation of this kind on a path that contains `part` fails.
    pub fn fail(&self, operation: Operation, part: &'static str) {
        self.faults.lock().push_back((operation, part));
    }

    /// Faults that have not come up yet.
    pub fn left(&self) -> usize {
        self.faults.lock().len()
    }

    fn check(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let mut faults = self.faults.lock();
        let path = path.to_string_lossy();
        match faults.iter().position(|(fails, part)| *fails == operation && path.contains(part)) {
            Some(fault) => {
                faults.remove(fault);
                Err(io::Error::new(io::ErrorKind::StorageFull, format!("{operation:?} fails as the test wants it")))
            }
            None => Ok(()),
        }
    }

    fn wrap(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { disk: self.clone(), path: path.to_owned(), file })
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.check(Operation::Create, path)?;
        Ok(self.wrap(path, self.inner.create(path)?))
    }

    fn create_direct(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.check(Operation::Create, path)?;
        Ok(self.wrap(path, self.inner.create_direct(path)?))
    }

    fn open_at(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        self.check(Operation::OpenAt, path)?;
        Ok(self.wrap(path, self.inner.open_at(path, len)?))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Link, to)?;
        self.inner.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Operation::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::Remove, path)?;
        self.inner.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::CreateDir, path)?;
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Operation::SyncDir, path)?;
        self.inner.sync_dir(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    path: std::path::PathBuf,
    file: Box<dyn DiskFile>,
}

impl DiskFile for FaultyFile {
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        if let Err(error) = self.disk.check(Operation::Append, &self.path) {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.file.append(&mut [IoSlice::new(&all[..all.len() / 2])])?;
            return Err(error);
        }
        self.file.append(slices)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.check(Operation::Sync, &self.path)?;
        self.file.sync()
    }
}
