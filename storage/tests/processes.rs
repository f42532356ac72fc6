//! Compactors as processes of their own, beside a server and beside each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::blocks::{Blocks, stored, stored_numbers};
use common::ledger::Ledger;
use common::{append_blocks, child, close, compacting, eager, local, objects, open, wait_until};
use futures::StreamExt;
use futures::stream::BoxStream;
use meshlake_config::{ByteSize, Config};
use meshlake_storage::{LoneCompactor, Metrics, Selection, check, open_object_store};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use prometheus_client::registry::Registry;
use tempfile::TempDir;

const FOLDER: &str = "MESHLAKE_COMPACTOR_FOLDER";
const MEETS: &str = "MESHLAKE_COMPACTOR_MEETS";

/// An object store that says in a ledger what is put and deleted. Before the first commit to the lake it waits until another
/// process is as far, if it is to.
#[derive(Debug)]
struct Meeting {
    inner: Arc<dyn ObjectStore>,
    ledger: Ledger,
    meets: AtomicBool,
}

impl fmt::Display for Meeting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "meeting {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Meeting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let commits = location.as_ref().starts_with("lake/_delta_log/") && opts.mode == PutMode::Create;
        if commits && !location.as_ref().ends_with("00000.json") && self.meets.swap(false, Ordering::SeqCst) {
            self.ledger.write("commits", location.as_ref());
            wait_until("the other one commits too", || self.ledger.read("commits").len() == 2).await;
        }
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
        let ledger = self.ledger.clone();
        self.inner.delete_stream(locations.inspect(move |path| ledger.write("deletes", path.as_ref().unwrap().as_ref())).boxed())
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

/// A server that flushes at once and leaves compaction to others.
fn server(folder: &FilePath) -> Config {
    let mut config = eager(folder);
    config.compaction.enabled = false;
    config.compaction.interval = Duration::from_millis(5);
    // Longer than it takes the tests to read what a snapshot names.
    config.retention.delete_delay = Duration::from_secs(5);
    config
}

/// The process: it compacts once where the test says so.
#[test]
fn compactor() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    let mut config = compacting(&folder, Duration::from_secs(5));
    config.compaction.file_size = ByteSize::mib(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let inner = open_object_store(&config, local()).unwrap();
    let meets = AtomicBool::new(std::env::var_os(MEETS).is_some());
    let files = Arc::new(Meeting { inner, ledger: Ledger::in_folder(&folder), meets });
    let metrics = Metrics::new(&mut Registry::default());
    let (compactor, _stop) =
        runtime.block_on(LoneCompactor::open(&config, files, Arc::new(Blocks), Arc::new(Blocks), metrics)).unwrap();
    compactor.run_once().unwrap();
}

fn compact(folder: &FilePath, meets: bool) -> std::process::Child {
    let mut command = child("compactor");
    command.env(FOLDER, folder);
    if meets {
        command.env(MEETS, "yes");
    }
    command.spawn().unwrap()
}

/// The watermarks in a log, each with the versions that move it: an `appId`, a generation.
fn watermarks(folder: &FilePath) -> Vec<(String, i64)> {
    let log = folder.join("data/store/lake/_delta_log").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let lines = log.filter(|path| path.extension().is_some_and(|end| end == "json")).flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect::<Vec<_>>()
    });
    let mut found: Vec<(String, i64)> = lines
        .filter(|action| action["txn"].is_object())
        .map(|action| (action["txn"]["appId"].as_str().unwrap().to_owned(), action["txn"]["version"].as_i64().unwrap()))
        .collect();
    found.sort();
    found
}

/// Scenario: a server that does not compact has flushed; two processes merge the same window and come to its commit at the same
/// time. Guarantee: one of them commits, the other one's files are removed; each file is merged once, the running server reads
/// every span once, and its folder is sound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_merge_one_window() {
    let folder = TempDir::new().unwrap();
    let config = server(folder.path());
    let files = open_object_store(&config, local()).unwrap();
    let store = open(&config, local(), files.clone()).await.unwrap();
    append_blocks(&store, 0..12).await;
    wait_until("all is flushed", || store.snapshot().unwrap().live.is_empty()).await;
    let ledger = Ledger::in_folder(folder.path());
    let mut both = [compact(folder.path(), true), compact(folder.path(), true)];
    assert!(both.iter_mut().all(|process| process.wait().unwrap().success()));
    let met = ledger.read("commits");
    assert_eq!((met.len(), &met[0]), (2, &met[1]), "they did not meet");
    let removed: BTreeSet<String> = ledger.read("deletes").into_iter().filter(|path| path.starts_with("lake/data/")).collect();
    assert!(!removed.is_empty(), "the loser removed nothing");
    let moved = watermarks(folder.path());
    let distinct: BTreeSet<_> = moved.iter().collect();
    assert_eq!(distinct.len(), moved.len(), "merged twice: {moved:?}");
    wait_until("the server follows", || store.snapshot().unwrap().files.iter().all(|file| file.is_in_lake())).await;
    assert_eq!(stored(&store).await, (0..12).collect::<Vec<_>>());
    let mut named: Vec<String> = store.snapshot().unwrap().files.iter().map(|file| file.path.clone()).collect();
    named.sort();
    assert_eq!(objects(files.as_ref(), "lake/data").await, named);
    // A filter, a summary, the attributes, the rollup and the summaries of traces beside each.
    assert_eq!(objects(files.as_ref(), "lake/_index").await.len(), 5 * named.len());
    // Its own files and records are the server's to delete.
    assert!(ledger.read("deletes").iter().all(|path| !path.starts_with("commits/")));
    wait_until("files and records go", || {
        let left = |folder| futures::executor::block_on(objects(files.as_ref(), folder)).len();
        (left("fresh"), left("commits")) == (0, 1)
    })
    .await;
    close(store).await;
    let report = check(&config, local(), files).await.unwrap();
    assert!(report.problems.is_empty() && report.leftovers.is_empty(), "{report}");
}

/// Scenario: a server that does not compact takes spans and a deletion; compactors come and go meanwhile, most of them killed.
/// Guarantee: the server reads every span once at any time, the deletion is carried out by whoever merges, and the folder is sound
/// at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compactors_come_and_go() {
    let folder = TempDir::new().unwrap();
    let config = server(folder.path());
    let files = open_object_store(&config, local()).unwrap();
    let store = open(&config, local(), files.clone()).await.unwrap();
    let tenant = meshlake_config::Tenant::parse(common::blocks::tenant(3)).unwrap();
    for block in 0..24 {
        append_blocks(&store, [block]).await;
        let mut process = compact(folder.path(), false);
        if block == 12 {
            let selection = Selection::Where { condition: "3".into(), start: None, end: None };
            store.deletions().request(&tenant, selection).await.unwrap();
        }
        let mut numbers = stored_numbers(&store).await;
        let all = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), all, "spans are there twice");
        tokio::time::sleep(Duration::from_millis(20 + block * 11 % 90)).await;
        if block % 4 != 0 {
            process.kill().unwrap();
        }
        process.wait().unwrap();
    }
    wait_until("all is flushed", || store.snapshot().unwrap().live.is_empty()).await;
    let done = async || store.deletions().receipts(&tenant).await.unwrap()[0].hidden.is_some();
    // Once at least: what was flushed last may not be merged, though the deletion is done.
    loop {
        let mut both = [compact(folder.path(), false), compact(folder.path(), false)];
        assert!(both.iter_mut().all(|process| process.wait().unwrap().success()));
        if done().await {
            break;
        }
    }
    wait_until("the server follows", || store.snapshot().unwrap().files.iter().all(|file| file.is_in_lake())).await;
    assert_eq!(stored(&store).await, (0..24).filter(|block| *block != 3).collect::<Vec<_>>());
    close(store).await;
    let report = check(&config, local(), files).await.unwrap();
    assert!(report.problems.is_empty(), "{report}");
}
