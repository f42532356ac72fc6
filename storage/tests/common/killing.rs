//! A disk and an object store whose process is killed, with SIGKILL, right before a step.

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use meshlake_storage::{Disk, DiskFile, LocalDisk};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;

use super::ledger::Ledger;

/// The steps of this process: whatever it changes on the disk.
#[derive(Clone, Debug)]
pub struct Steps {
    taken: Arc<Mutex<u64>>,
    last: u64,
    ledger: Ledger,
}

impl Steps {
    /// The process dies before step number `last + 1`.
    pub fn new(last: u64, ledger: Ledger) -> Steps {
        Steps { taken: Arc::default(), last, ledger }
    }

    pub fn taken(&self) -> u64 {
        *self.taken.lock()
    }

    fn step(&self, operation: &str, path: &str) {
        let mut taken = self.taken.lock();
        if *taken == self.last {
            self.ledger.write("died", &format!("{operation} {}", kind(path)));
            Command::new("kill").args(["-9", &std::process::id().to_string()]).status().unwrap();
            // Nobody else takes a step until the signal is there.
            loop {
                std::thread::park();
            }
        }
        *taken += 1;
    }
}

/// What sort of file it is: steps on files of one sort are the same step of different runs.
fn kind(path: &str) -> String {
    let from = ["journal", "fresh", "commits", "deletions", "lake", "writer.json", "store", "data"];
    let begin = from.iter().filter_map(|name| path.find(&format!("/{name}")).or(path.starts_with(name).then_some(0))).max();
    let path = path[begin.unwrap_or(0)..].trim_start_matches('/');
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    let is_name = |part: &&str| !part.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) && part.len() < 16;
    let mut parts: Vec<&str> = path.split('/').filter(is_name).collect();
    parts.extend(path.rsplit('/').next().and_then(|name| name.split_once('.')).map(|(_, end)| end).filter(|end| end.len() < 20));
    parts.join(" ")
}

/// The machine's disk.
#[derive(Clone, Debug)]
pub struct KillingDisk(pub Steps);

impl KillingDisk {
    fn step(&self, operation: &str, path: &FilePath) {
        self.0.step(operation, path.to_str().unwrap());
    }

    fn file(&self, path: &FilePath, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(KillingFile { disk: self.clone(), path: path.to_owned(), file })
    }
}

impl Disk for KillingDisk {
    fn create(&self, path: &FilePath) -> io::Result<Box<dyn DiskFile>> {
        self.step("create", path);
        Ok(self.file(path, LocalDisk.create(path)?))
    }

    fn create_direct(&self, path: &FilePath) -> io::Result<Box<dyn DiskFile>> {
        self.step("create", path);
        Ok(self.file(path, LocalDisk.create_direct(path)?))
    }

    fn open_at(&self, path: &FilePath, len: u64) -> io::Result<Box<dyn DiskFile>> {
        self.step("open", path);
        Ok(self.file(path, LocalDisk.open_at(path, len)?))
    }

    fn link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.step("link", to);
        LocalDisk.link(from, to)
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.step("rename", to);
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &FilePath) -> io::Result<()> {
        self.step("remove", path);
        LocalDisk.remove(path)
    }

    fn create_dir(&self, path: &FilePath) -> io::Result<()> {
        self.step("create folder", path);
        LocalDisk.create_dir(path)
    }

    // What a kill leaves does not depend on it: the power-loss test is about syncs.
    fn sync_dir(&self, path: &FilePath) -> io::Result<()> {
        LocalDisk.sync_dir(path)
    }
}

#[derive(Debug)]
struct KillingFile {
    disk: KillingDisk,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl DiskFile for KillingFile {
    /// In two steps.
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let (first, second) = all.split_at(all.len() / 2);
        for part in [first, second] {
            self.disk.step("append", &self.path);
            self.file.append(&mut [IoSlice::new(part)])?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

/// An object store in a folder, over a [`KillingDisk`]: it deletes by itself.
#[derive(Debug)]
pub struct KillingStore {
    pub inner: Arc<dyn ObjectStore>,
    pub steps: Steps,
}

impl fmt::Display for KillingStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "killing {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for KillingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let steps = self.steps.clone();
        self.inner.delete_stream(locations.inspect(move |path| steps.step("delete", path.as_ref().unwrap().as_ref())).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
