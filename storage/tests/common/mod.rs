//! What the tests of the store share: requests whose spans can be told apart, and disks and object stores that fail.

#![allow(dead_code)] // Each test file uses a part of it.

pub mod blocks;
pub mod faulty;
pub mod killing;
pub mod ledger;
pub mod lossy;
pub mod objects;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::TryStreamExt;
use meshlake_config::{ByteSize, Config};
use meshlake_storage::{Accepted, Answer, Disk, Frame, LocalDisk, Metrics, OpenError, Refused, Store};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;

use blocks::Blocks;

/// Random numbers that a seed repeats (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True one time in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// Settings of a store in `folder/data` that flushes only when it closes. Whatever it is, retention keeps it.
pub fn config(folder: &Path) -> Config {
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    config.ingest.decode_threads = 2;
    config.retention.age = Duration::from_secs(100 * 365 * 24 * 3_600);
    config
}

/// Settings of a store that flushes after each group of requests.
pub fn eager(folder: &Path) -> Config {
    let mut config = config(folder);
    config.live.flush_size = ByteSize::bytes(0);
    config
}

/// Settings of a store that flushes after each group of requests and merges what it flushed at once, into small files.
/// Files that nobody should read any more go after `delete_delay`.
pub fn compacting(folder: &Path, delete_delay: Duration) -> Config {
    let mut config = eager(folder);
    config.compaction.interval = Duration::from_millis(1);
    config.compaction.settle = Duration::ZERO;
    config.compaction.file_size = ByteSize::bytes(60_000);
    config.compaction.cpu_percent = 100;
    config.retention.delete_delay = delete_delay;
    config
}

pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

pub fn local() -> Arc<dyn Disk> {
    Arc::new(LocalDisk)
}

/// Opens a store and waits until the journal is replayed.
pub async fn open(config: &Config, disk: Arc<dyn Disk>, objects: Arc<dyn ObjectStore>) -> Result<Arc<Store>, OpenError> {
    let store = Store::open(
        config,
        disk,
        objects,
        Arc::new(Blocks),
        Arc::new(Blocks),
        Arc::new(Blocks),
        Metrics::new(&mut Registry::default()),
    )
    .await?;
    wait_until("the journal is replayed", || store.health().ready).await;
    Ok(store)
}

pub async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Sends a request and waits for its answer; none if the store died meanwhile.
pub async fn try_append(store: &Store, frame: Frame) -> Option<Answer> {
    match store.append(frame) {
        Ok(answer) => answer.await.ok(),
        Err(refused) => Some(Err(refused)),
    }
}

pub async fn append(store: &Store, frame: Frame) -> Answer {
    try_append(store, frame).await.unwrap()
}

/// Sends blocks, which must be acknowledged.
pub async fn append_blocks(store: &Store, blocks: impl IntoIterator<Item = u64>) {
    for block in blocks {
        let spans = blocks::spans(block).len() as u64;
        assert_eq!(append(store, blocks::request(block)).await, Ok(Accepted { spans, ..Accepted::default() }), "block {block}");
    }
}

pub fn is_unavailable(answer: &Answer) -> bool {
    matches!(answer, Err(Refused::Unavailable(_)))
}

/// A command that runs one test of this file alone, in a process of its own.
pub fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).stdout(Stdio::null());
    command
}

/// The objects in a folder.
pub async fn objects(store: &dyn ObjectStore, folder: &str) -> Vec<String> {
    let found = store.list(Some(&folder.into())).map_ok(|object| object.location.to_string());
    let mut found: Vec<String> = found.try_collect().await.unwrap();
    found.sort();
    found
}

/// Ends a store in order; its folder can be opened again.
pub async fn close(store: Arc<Store>) {
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
}
