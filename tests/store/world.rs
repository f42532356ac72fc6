//! A store in this process, and what the test knows it must hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use meshlake_collector::Decoder;
use meshlake_config::{ByteSize, Config, Tenant};
use meshlake_query::{Engine, HopRollups, Selection, SqlConditions};
use meshlake_storage::{Content, Disk, Encoding, Frame, LocalDisk, Metrics, Snapshot, Store, open_object_store};
use prometheus_client::registry::Registry;
use tempfile::TempDir;

use super::Chance;

const YEARS: Duration = Duration::from_hours(100 * 365 * 24);
const PATIENCE: Duration = Duration::from_secs(20);

pub type TraceId = [u8; 16];

/// A span as a test makes it.
pub trait Sent: Clone + PartialEq {
    /// A request with these spans, each with its trace: OTLP in protobuf.
    fn request(spans: &[(TraceId, Self)]) -> Bytes;
}

/// The store, the engine over it, and the spans that were sent and not deleted.
pub struct World<S> {
    config: Config,
    running: Option<(Arc<Store>, Engine)>,
    pub present: BTreeMap<TraceId, Vec<S>>,
    /// Requests that hold no span of a deleted trace.
    sent: Vec<(Bytes, Vec<TraceId>)>,
    _folder: TempDir,
}

impl<S: Sent> World<S> {
    /// An empty store; it compacts at once, into files so small that traces lie in several.
    pub async fn new(chance: &mut Chance) -> World<S> {
        let file_size = chance.pick(&[20_000, 60_000, 1_000_000]);
        World::with_files_of(file_size, chance).await
    }

    /// The same with lake files of so many bytes. Those of a quarter and more are not merged again.
    pub async fn with_files_of(file_size: u64, chance: &mut Chance) -> World<S> {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        config.ingest.decode_threads = 2;
        config.ingest.clock_future = YEARS;
        // With the short one no span's clock is trusted, and no file has a window.
        config.ingest.clock_past = chance.pick(&[YEARS, YEARS, YEARS, Duration::from_hours(1)]);
        config.live.window = chance.pick(&[Duration::from_mins(10), Duration::from_hours(1)]);
        config.compaction.interval = Duration::from_millis(1);
        config.compaction.settle = Duration::ZERO;
        config.compaction.file_size = ByteSize::bytes(file_size);
        config.retention.age = YEARS;
        config.retention.delete_delay = PATIENCE;
        config.query.threads = 2;
        config.query.rollup_cache = ByteSize::bytes(chance.pick(&[0, 100_000, 100_000_000]));
        let mut world = World { config, running: None, present: BTreeMap::new(), sent: Vec::new(), _folder: folder };
        world.open(chance).await;
        world
    }

    async fn open(&mut self, chance: &mut Chance) {
        // Spans are flushed as they come, or when that is asked for.
        self.config.live.flush_size = ByteSize::bytes(chance.pick(&[0, 50_000_000]));
        let (config, disk): (_, Arc<dyn Disk>) = (&self.config, Arc::new(LocalDisk));
        let objects = open_object_store(config, disk.clone()).unwrap();
        let rollups = Arc::new(HopRollups::new(objects.clone(), config).unwrap());
        let (decoder, metrics) = (Arc::new(Decoder::new(config)), Metrics::new(&mut Registry::default()));
        let store = Store::open(config, disk, objects, decoder, Arc::new(SqlConditions::new()), rollups, metrics).await.unwrap();
        wait_until("the journal is replayed", || store.health().ready).await;
        let engine = Engine::new(store.clone(), &config.query).unwrap();
        self.running = Some((store, engine));
    }

    fn store(&self) -> &Arc<Store> {
        &self.running.as_ref().unwrap().0
    }

    pub fn engine(&self) -> &Engine {
        &self.running.as_ref().unwrap().1
    }

    fn snapshot(&self) -> Snapshot {
        self.store().snapshot().unwrap()
    }

    /// Sends spans in a request.
    pub async fn send(&mut self, spans: &[(TraceId, S)]) {
        let body = S::request(spans);
        self.post(Tenant::default(), body.clone()).await;
        self.sent.push((body, spans.iter().map(|(trace, _)| *trace).collect()));
        for (trace, span) in spans {
            let known = self.present.entry(*trace).or_default();
            if !known.contains(span) {
                known.push(span.clone());
            }
        }
    }

    async fn post(&self, tenant: Tenant, body: Bytes) {
        let received = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        let frame = Frame { tenant, content: Content::Protobuf, encoding: Encoding::Identity, received, body };
        let accepted = self.store().append(frame).unwrap().await.unwrap().unwrap();
        assert_eq!((accepted.rejected, accepted.reason), (0, None));
    }

    /// Sends a request once more, byte for byte.
    pub async fn send_again(&self, chance: &mut Chance) {
        if let Some((body, _)) = self.sent.get(chance.below(self.sent.len() as u64 + 1) as usize) {
            self.post(Tenant::default(), body.clone()).await;
        }
    }

    /// Another tenant sends the same: no answer of the first tenant may tell.
    pub async fn send_as_another(&self, chance: &mut Chance) {
        if let Some((body, _)) = self.sent.get(chance.below(self.sent.len() as u64 + 1) as usize) {
            self.post(Tenant::parse("another").unwrap(), body.clone()).await;
        }
    }

    /// One of the things that happen to a store beside what it is sent; what it was. Nothing in four of ten cases.
    pub async fn happen(&mut self, chance: &mut Chance) -> Option<&'static str> {
        match chance.below(10) {
            0 => {
                self.flush().await;
                Some("flushed")
            }
            1 | 2 => {
                self.settle().await;
                Some("settled")
            }
            3 => {
                self.restart(chance).await;
                Some("restarted")
            }
            4 => {
                self.delete_any(chance).await;
                Some("deleted")
            }
            5 => {
                self.pause_or_resume(chance);
                Some("paused or resumed")
            }
            _ => None,
        }
    }

    /// Puts live spans into fresh files.
    pub async fn flush(&self) {
        // A deletion asks for that; nobody has this trace.
        let nobody = Selection::Trace(format!("{:032x}", 1));
        self.engine().deletions().request(&Tenant::default(), nobody).await.unwrap();
        wait_until("live spans are flushed", || self.snapshot().live.is_empty()).await;
    }

    /// Puts all spans into lake files.
    pub async fn settle(&self) {
        self.store().compaction().resume();
        self.flush().await;
        wait_until("fresh files are compacted", || {
            let (snapshot, status) = (self.snapshot(), self.store().compaction().status());
            let is_merged = snapshot.files.iter().all(|file| file.is_in_lake());
            snapshot.live.is_empty() && is_merged && status.backlog_files == 0 && !status.merging
        })
        .await;
    }

    /// How many lake files there are.
    pub fn lake_files(&self) -> usize {
        self.snapshot().files.iter().filter(|file| file.is_in_lake()).count()
    }

    pub fn pause_or_resume(&self, chance: &mut Chance) {
        let compaction = self.store().compaction();
        if chance.one_in(2) {
            compaction.pause()
        } else {
            compaction.resume()
        };
    }

    /// Ends the store in order, and opens it again.
    pub async fn restart(&mut self, chance: &mut Chance) {
        self.close().await;
        self.open(chance).await;
    }

    pub async fn close(&mut self) {
        if let Some((store, engine)) = self.running.take() {
            drop(engine);
            tokio::task::spawn_blocking(move || store.close()).await.unwrap();
        }
    }

    /// Deletes some trace, if there is one.
    pub async fn delete_any(&mut self, chance: &mut Chance) {
        if let Some(trace) = self.present.keys().nth(chance.below(self.present.len() as u64 + 1) as usize).copied() {
            self.delete(trace).await;
        }
    }

    /// Deletes the spans of a trace that were sent so far, and waits until nobody sees them.
    pub async fn delete(&mut self, trace: TraceId) {
        self.store().compaction().resume();
        let (deletions, tenant) = (self.engine().deletions().clone(), Tenant::default());
        let selection = Selection::Trace(format!("{:032x}", u128::from_be_bytes(trace)));
        let id = deletions.request(&tenant, selection).await.unwrap().id;
        let began = Instant::now();
        while deletions.receipt(&tenant, &id).await.unwrap().unwrap().hidden.is_none() {
            assert!(began.elapsed() < PATIENCE, "not within 20 s: the trace is hidden");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.present.remove(&trace);
        self.sent.retain(|(_, traces)| !traces.contains(&trace));
    }
}

async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
