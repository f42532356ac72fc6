//! Where all files but the journal are kept: a folder or an S3-compatible bucket, behind one [`ObjectStore`].
//!
//! Why not object_store's own local file system for both directions: it syncs nothing, so a file that was put may be empty or
//! gone after power loss. A put here is staged, synced, linked under its name, and the folder is synced (P1).

use std::fmt;
use std::fs::DirEntry;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use meshlake_config::{Config, S3};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use tracing::warn;

use crate::disk::{Disk, DiskFile, create_dir_all};

/// What was staged longer ago was staged by a process that died: a put takes no hour.
const STAGED_AGE_MAX: Duration = Duration::from_secs(3_600);

/// Opens the object store that `storage.url` names.
///
/// # Errors
/// If the folder can't be created or the settings of the bucket are no use. A bucket is not contacted yet.
pub fn open_object_store(config: &Config, disk: Arc<dyn Disk>) -> Result<Arc<dyn ObjectStore>> {
    let url = config.storage.url.as_str();
    match url.strip_prefix("s3://") {
        Some(bucket) => open_bucket(bucket, &config.storage.s3),
        None => {
            let folder =
                if url.is_empty() { config.data_dir.join("store") } else { PathBuf::from(url.trim_start_matches("file://")) };
            Ok(Arc::new(FolderStore::open(&folder, disk)?))
        }
    }
}

fn open_bucket(bucket: &str, s3: &S3) -> Result<Arc<dyn ObjectStore>> {
    let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_allow_http(s3.allow_http)
        .with_virtual_hosted_style_request(!s3.path_style);
    if !s3.endpoint.is_empty() {
        builder = builder.with_endpoint(&s3.endpoint);
    }
    if !s3.region.is_empty() {
        builder = builder.with_region(&s3.region);
    }
    if !s3.access_key_id.is_empty() {
        builder = builder.with_access_key_id(&s3.access_key_id).with_secret_access_key(s3.secret_access_key.expose());
    }
    let store = builder.build()?;
    Ok(if prefix.is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) })
}

/// An [`ObjectStore`] in a folder, whose puts survive power loss once they return.
#[derive(Debug)]
pub struct FolderStore {
    inner: LocalFileSystem,
    root: PathBuf,
    disk: Arc<dyn Disk>,
    /// The number of the next staged file. Begins anywhere, so that no two processes that share the folder count alike.
    staged: AtomicU64,
}

impl fmt::Display for FolderStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "folder {}", self.root.display())
    }
}

fn failed(source: io::Error) -> Error {
    Error::Generic { store: "folder", source: Box::new(source) }
}

fn not_offered(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.into(), implementer: "folder".into() }
}

/// Makes the names in `folder` survive power loss, for whoever made the last of them may have been killed before they did, and
/// removes what was staged by it. Other processes may use the folder meanwhile.
fn recover(folder: &FilePath, disk: &dyn Disk) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            recover(&entry.path(), disk)?;
        } else if is_staged(&entry.path()) && is_left_over(&entry)? {
            match disk.remove(&entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    disk.sync_dir(folder)
}

/// Whether nobody has written to a staged file for long; not if it is gone, for then it has its name.
fn is_left_over(entry: &DirEntry) -> io::Result<bool> {
    match entry.metadata() {
        Ok(metadata) => Ok(metadata.modified()?.elapsed().is_ok_and(|age| age > STAGED_AGE_MAX)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file has the form of name that staged content has.
fn is_staged(path: &FilePath) -> bool {
    let suffix = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('#'));
    suffix.is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl FolderStore {
    /// Opens the store in `folder`, which is created if needed.
    ///
    /// # Errors
    /// If the folder can't be created or read.
    pub fn open(folder: &FilePath, disk: Arc<dyn Disk>) -> Result<FolderStore> {
        create_dir_all(disk.as_ref(), folder).map_err(failed)?;
        let root = folder.canonicalize().map_err(failed)?;
        let inner = LocalFileSystem::new_with_prefix(&root)?;
        recover(&root, disk.as_ref()).map_err(failed)?;
        let staged = AtomicU64::new(RandomState::new().hash_one(std::process::id()));
        Ok(FolderStore { inner, root, disk, staged })
    }

    /// Stages the content under a name that object_store does not list, syncs it, and gives it its name.
    fn put_file(&self, location: &Path, payload: &PutPayload, mode: &PutMode) -> Result<()> {
        let mut staged = self.stage(location)?;
        let put = staged.append(payload).and_then(|()| staged.name(mode));
        staged.remove();
        put
    }

    /// A name for what will have the name `path`, in object_store's own form, which its listings leave out.
    fn part(&self, path: &FilePath) -> PathBuf {
        PathBuf::from(format!("{}#{}", path.display(), self.staged.fetch_add(1, Ordering::Relaxed)))
    }

    /// Begins a file.
    fn stage(&self, location: &Path) -> Result<Staged> {
        let path = self.inner.path_to_filesystem(location)?;
        create_dir_all(self.disk.as_ref(), path.parent().unwrap_or(&self.root)).map_err(failed)?;
        loop {
            let part = self.part(&path);
            match self.disk.create(&part) {
                Ok(file) => return Ok(Staged { disk: self.disk.clone(), part, path, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// A file that has not its name yet.
#[derive(Debug)]
struct Staged {
    disk: Arc<dyn Disk>,
    part: PathBuf,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl Staged {
    fn append(&mut self, payload: &PutPayload) -> Result<()> {
        let mut slices: Vec<_> = payload.iter().map(|bytes| IoSlice::new(bytes)).collect();
        self.file.append(&mut slices).map_err(failed)
    }

    /// Gives the file its name: once this returns, it is there after power loss.
    fn name(&mut self, mode: &PutMode) -> Result<()> {
        self.file.sync().map_err(failed)?;
        let named = match mode {
            PutMode::Overwrite => self.disk.rename(&self.part, &self.path),
            PutMode::Create => self.disk.link(&self.part, &self.path),
            PutMode::Update(_) => return Err(not_offered("conditional update")),
        };
        let named = named.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::AlreadyExists { path: self.path.display().to_string(), source: Box::new(source) }
            }
            _ => failed(source),
        });
        // Also where the name exists: the put that made it may have failed at this point.
        let folder = self.path.parent().unwrap_or(&self.path);
        self.disk.sync_dir(folder).map_err(failed).and(named)
    }

    fn remove(&self) {
        remove_staged(self.disk.as_ref(), &self.part);
    }
}

/// Removes a staged name, if it is still there.
fn remove_staged(disk: &dyn Disk, part: &FilePath) {
    if part.exists()
        && let Err(error) = disk.remove(part)
    {
        warn!(path = %part.display(), %error, "can't remove a staged file");
    }
}

#[async_trait]
impl MultipartUpload for Staged {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Not later: parts are in the order of these calls.
        let appended = self.append(&data);
        async { appended }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let named = self.name(&PutMode::Overwrite);
        self.remove();
        named?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        self.remove();
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        // Callers are threads of their own that may block: the flush, the compaction.
        self.put_file(location, &payload, &opts.mode)?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(self.stage(location)?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    /// Each range by itself: to read what is between two of them, as from a store that is far away, costs more than a second read.
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    /// By a second name, for what is put never changes.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if options.mode != CopyMode::Overwrite {
            return Err(not_offered("copy to what does not exist"));
        }
        let file = self.inner.path_to_filesystem(from)?;
        let path = self.inner.path_to_filesystem(to)?;
        let folder = path.parent().unwrap_or(&self.root);
        create_dir_all(self.disk.as_ref(), folder).map_err(failed)?;
        let part = self.part(&path);
        self.disk.link(&file, &part).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: from.to_string(), source: Box::new(source) },
            _ => failed(source),
        })?;
        let renamed = self.disk.rename(&part, &path);
        // It stays where both are names of one file.
        remove_staged(self.disk.as_ref(), &part);
        renamed.and_then(|()| self.disk.sync_dir(folder)).map_err(failed)
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(not_offered("rename"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::LocalDisk;
    use std::fs::{self, File};
    use std::time::SystemTime;

    /// Scenario: files as a crash and others leave them. Guarantee: what was staged long ago is removed, all else stays.
    #[test]
    fn only_old_staged_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        let names = ["a/old.parquet#12", "a/new.parquet#1", "a/b.parquet", "a/c#d1", "#", "e#"];
        for name in names {
            fs::write(folder.path().join(name), "x").unwrap();
            let file = File::options().append(true).open(folder.path().join(name)).unwrap();
            let age = Duration::from_secs(if name.contains("new") { 60 } else { 7_200 });
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        FolderStore::open(folder.path(), Arc::new(LocalDisk)).unwrap();
        let left: Vec<_> = names.into_iter().filter(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, names[1..]);
    }
}
