//! An object store that fails.

use std::fmt;
use std::future::ready;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;
use tokio::sync::{RwLock, Semaphore};

/// Operations that are numbered from 0, some of which fail.
#[derive(Debug, Default)]
pub struct Numbered {
    next: AtomicU64,
    failing: Mutex<Range<u64>>,
}

impl Numbered {
    /// Those of a range of numbers fail, counted from here on.
    pub fn fail(&self, numbers: Range<u64>) {
        self.next.store(0, Ordering::SeqCst);
        *self.failing.lock() = numbers;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    fn begin(&self) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        if self.failing.lock().contains(&number) { Err(wanted()) } else { Ok(()) }
    }
}

/// An object store whose puts fail, get lost on the way back, or wait, and whose reads wait, as the test wants it.
#[derive(Debug)]
pub struct Unsteady {
    inner: Arc<dyn ObjectStore>,
    /// So many puts fail, without an effect.
    pub failing: AtomicU64,
    /// So many puts of commit records succeed, and their answer is an error all the same.
    pub lost_answers: AtomicU64,
    /// Each put of a commit record takes one.
    pub permits: Semaphore,
    /// Fresh files are not read while a test holds it for writing.
    pub fresh: RwLock<()>,
    /// Reads and listings.
    pub reads: Numbered,
    /// Puts, copies and deletions.
    pub writes: Numbered,
}

impl Unsteady {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Unsteady> {
        let permits = Semaphore::new(1_000);
        Arc::new(Unsteady {
            inner,
            failing: AtomicU64::new(0),
            lost_answers: AtomicU64::new(0),
            permits,
            fresh: RwLock::new(()),
            reads: Numbered::default(),
            writes: Numbered::default(),
        })
    }

    /// Puts of commit records wait until permits are added.
    pub fn hold(&self) {
        self.permits.forget_permits(usize::MAX >> 4);
    }

    async fn may_read(&self, location: &Path) -> Result<()> {
        if location.as_ref().starts_with("fresh/") {
            drop(self.fresh.read().await);
        }
        self.reads.begin()
    }
}

impl fmt::Display for Unsteady {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "unsteady {}", self.inner)
    }
}

fn wanted() -> Error {
    Error::Generic { store: "unsteady", source: "fails as the test wants it".into() }
}

fn take(count: &AtomicU64) -> Result<()> {
    match count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => Err(wanted()),
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl ObjectStore for Unsteady {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        take(&self.failing)?;
        self.writes.begin()?;
        let commit = location.as_ref().starts_with("commits/");
        if commit {
            self.permits.acquire().await.unwrap().forget();
        }
        let result = self.inner.put_opts(location, payload, opts).await?;
        if commit {
            take(&self.lost_answers)?;
        }
        Ok(result)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.may_read(location).await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.may_read(location).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.writes.begin() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(error) => stream::once(ready(Err(error))).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.reads.begin() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(ready(Err(error))).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.writes.begin()?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
