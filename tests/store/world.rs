//! A store in this process, and what the test knows it must hold.

use std::collections::{BTreeMap, BTreeSet};
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

    /// What it is called.
    fn name(&self) -> &str;

    /// When it starts: nanoseconds since the epoch.
    fn start(&self) -> u64;
}

/// Microseconds, as the store tells moments.
fn start(span: &impl Sent) -> i64 {
    (span.start() / 1_000) as i64
}

/// The store, the engine over it, and the spans that were sent and are not gone.
pub struct World<S> {
    config: Config,
    running: Option<(Arc<Store>, Engine)>,
    pub present: BTreeMap<TraceId, Vec<S>>,
    /// Requests of which no span is gone.
    sent: Vec<(Bytes, Vec<(TraceId, S)>)>,
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
        self.sent.push((body, spans.to_vec()));
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
            4 if chance.one_in(2) => {
                self.delete_any(chance).await;
                Some("deleted a trace")
            }
            4 => {
                self.delete_some(chance).await;
                Some("deleted spans")
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

    /// Deletes the spans of a trace that were sent so far.
    pub async fn delete(&mut self, trace: TraceId) {
        self.erase(Selection::Trace(format!("{:032x}", u128::from_be_bytes(trace)))).await;
        self.forget(|of, _| *of == trace);
    }

    /// Deletes the spans that were sent so far, have some span's name and start not long before or after it: of most traces a part.
    pub async fn delete_some(&mut self, chance: &mut Chance) {
        let count = self.present.values().map(Vec::len).sum::<usize>() as u64;
        let Some(span) = self.present.values().flatten().nth(chance.below(count + 1) as usize) else { return };
        let (name, at) = (span.name().to_owned(), start(span));
        let range = at - chance.below(600_000_000) as i64..at + 1 + chance.below(600_000_000) as i64;
        let condition = format!("name = '{name}'");
        self.erase(Selection::Where { condition, start: Some(range.start), end: Some(range.end) }).await;
        self.forget(|_, span| span.name() == name && range.contains(&start(span)));
    }

    /// Deletes spans, and waits until nobody sees them.
    async fn erase(&self, selection: Selection) {
        self.store().compaction().resume();
        let (deletions, tenant) = (self.engine().deletions().clone(), Tenant::default());
        let id = deletions.request(&tenant, selection).await.unwrap().id;
        let began = Instant::now();
        while deletions.receipt(&tenant, &id).await.unwrap().unwrap().hidden.is_none() {
            assert!(began.elapsed() < PATIENCE, "not within 20 s: the spans are hidden");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn forget(&mut self, is_gone: impl Fn(&TraceId, &S) -> bool) {
        self.present.iter_mut().for_each(|(trace, spans)| spans.retain(|span| !is_gone(trace, span)));
        self.present.retain(|_, spans| !spans.is_empty());
        self.sent.retain(|(_, spans)| !spans.iter().any(|(trace, span)| is_gone(trace, span)));
    }

    /// Puts all spans into lake files, and has room for the newer windows only until the oldest are gone. That is by bytes, not by age, so that no time
    /// that passes takes more. Nothing if clocks are not trusted: then no file has a window.
    pub async fn retain(&mut self, chance: &mut Chance) {
        self.settle().await;
        let files = self.windows();
        let Some(windows) = files.iter().map(|(window, _)| *window).collect::<Option<BTreeSet<i64>>>() else { return };
        let oldest = 1 + chance.below((windows.len() as u64 / 3).max(1)) as usize;
        let Some(oldest) = windows.into_iter().nth(oldest) else { return };
        let is_kept = |(window, _): &&(Option<i64>, u64)| *window >= Some(oldest);
        let room = files.iter().filter(is_kept).map(|(_, size)| size).sum();
        self.reopen_with_room(room, chance).await;
        wait_until("the oldest windows are gone", || self.windows().iter().all(|file| is_kept(&file))).await;
        self.reopen_with_room(0, chance).await;
        self.forget(|_, span| start(span) < oldest);
    }

    async fn reopen_with_room(&mut self, bytes: u64, chance: &mut Chance) {
        self.close().await;
        self.config.retention.size = ByteSize::bytes(bytes);
        self.open(chance).await;
    }

    /// Where the windows of the tenant's files begin, microseconds, and how many bytes each has.
    fn windows(&self) -> Vec<(Option<i64>, u64)> {
        let (snapshot, tenant) = (self.snapshot(), Tenant::default());
        let own = snapshot.files.iter().filter(|file| file.tenants.iter().any(|name| name == tenant.as_str()));
        own.map(|file| (file.window, file.size)).collect()
    }
}

async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
