//! The store: opens a data folder, takes requests in, lets queries read, and closes in order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use futures::TryStreamExt;
use meshlake_config::Config;
use object_store::{ObjectStore, ObjectStoreExt, path::Path as ObjectPath};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::commit::{Commit, CommitError};
use crate::dedupe::Dedupe;
use crate::disk::{Disk, create_dir_all};
use crate::frame::Frame;
use crate::fresh::{self, FlushError};
use crate::ingest::{Answer, Decode, JournalWriter, Refused, Request, Rotation, decode_groups, now};
use crate::journal::Journal;
use crate::lake::{Backlog, Compaction, Compactor, Conditions, DeletionError, Deletions, Lake, LakeError, Rollups, Shared};
use crate::live::{Generation, Live};
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::writer::{Writer, lock};

/// Requests that wait for the journal at most; what is behind them waits in the connections.
const QUEUE_REQUESTS: usize = 65_536;
/// Pause after a failed flush, doubled up to the maximum.
const FLUSH_RETRY: Duration = Duration::from_millis(250);
const FLUSH_RETRY_MAX: Duration = Duration::from_secs(15);
/// Attempts of a flush while closing; after the last, the spans stay in the journal for the next start.
const CLOSING_ATTEMPTS: u32 = 4;

/// Why a store did not open.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder can't be created, read or written.
    #[error("can't use data folder {folder}: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Another process has it.
    #[error("data folder {0} is in use by another process")]
    InUse(PathBuf),
    /// The object store failed.
    #[error("can't use the object store: {0}")]
    Store(#[from] object_store::Error),
    /// The object store failed while a file was checked.
    #[error("can't read {path}, so that it is not known whether it is whole: {source}")]
    Unknown {
        /// Where it is in the object store.
        path: String,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A commit record is unreadable.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The lake's log is unreadable.
    #[error("can't read the lake: {0}")]
    Lake(#[from] LakeError),
    /// A deletion that is not finished is unreadable.
    #[error("can't read the deletions: {0}")]
    Deletions(#[from] DeletionError),
}

/// What a start finds of earlier runs.
#[derive(Debug)]
struct Recovered {
    /// Segments that no commit covers: to be replayed.
    segments: Vec<u64>,
    dedupe: Dedupe,
    next_number: u64,
}

impl Recovered {
    fn new(journal: &Journal, writer: &str, commits: &[(Commit, i64)], lake: &Lake, config: &Config) -> io::Result<Recovered> {
        let covered: HashMap<u64, u64> = commits.iter().map(|(commit, _)| (commit.generation, commit.journal_bytes)).collect();
        let mut segments = Vec::new();
        for number in journal.segments()? {
            match covered.get(&number) {
                // The process died between the commit and the end of the segment.
                Some(&end) => journal.retire(number, &journal.hashes(number, end)?)?,
                None => {
                    journal.settle(number)?;
                    segments.push(number);
                }
            }
        }
        let retired = journal.retired()?;
        let mut dedupe = Dedupe::new(config.ingest.dedupe_window, config.ingest.dedupe_max_requests as usize);
        for &number in &retired {
            let seen = journal.seen(number).unwrap_or_default();
            for hash in seen.hashes {
                dedupe.insert(number, seen.newest, hash);
            }
        }
        // A number that the lake's watermarks have passed must not come again.
        let merged = lake.read(|state| state.last_generation(writer));
        let numbers = covered.keys().chain(&segments).chain(&retired).chain(&merged);
        let next_number = numbers.max().map_or(1, |last| last + 1);
        Ok(Recovered { segments, dedupe, next_number })
    }
}

/// Removes files of this writer that no commit names: a crash came between the file and the commit.
async fn remove_orphans(
    objects: &Arc<dyn ObjectStore>,
    writer: &str,
    commits: &[(Commit, i64)],
) -> Result<(), object_store::Error> {
    let named: HashSet<&str> = commits.iter().flat_map(|(commit, _)| &commit.files).map(|file| file.path.as_str()).collect();
    let folder = ObjectPath::from(format!("fresh/{writer}"));
    let found: Vec<_> = objects.list(Some(&folder)).map_ok(|object| object.location).try_collect().await?;
    for path in found.iter().filter(|path| !named.contains(path.as_ref())) {
        info!(%path, "removing a file that was never committed");
        objects.delete(path).await?;
    }
    Ok(())
}

/// The flush thread: turns complete generations into files, one at a time, in order.
#[derive(Debug)]
struct Flusher {
    journal: Arc<Journal>,
    live: Arc<Live>,
    objects: Arc<dyn ObjectStore>,
    backlog: Arc<Backlog>,
    writer: String,
    /// When this process began.
    start: String,
    window: i64,
    status: Arc<Status>,
    metrics: Metrics,
    runtime: Handle,
    /// The last thread to end holds the folder until then, also if nobody waits for it.
    _lock: Arc<File>,
}

impl Flusher {
    fn run(&self, complete: &Receiver<Arc<Generation>>) {
        let mut given_up = false;
        for generation in complete {
            let mut pause = FLUSH_RETRY;
            let settled = self.live.settled_with(generation.number);
            for attempt in 0.. {
                let Err(failure) = self.flush(&generation, settled) else { break };
                self.metrics.flush_failures.inc();
                error!(generation = generation.number, attempt, error = %failure, "can't flush; the spans stay live and in the journal");
                *self.status.failing.lock() = Some(format!("can't flush: {failure}"));
                if self.status.closing.load(Ordering::Acquire) && (given_up || attempt >= CLOSING_ATTEMPTS) {
                    given_up = true;
                    warn!(generation = generation.number, "giving up: the next start replays it from the journal");
                    break;
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(FLUSH_RETRY_MAX);
            }
        }
    }

    fn flush(&self, generation: &Generation, settled: u64) -> Result<(), FlushError> {
        let began = Instant::now();
        let flush = fresh::flush(&self.objects, &self.writer, generation, &self.start, self.window, settled);
        let commit = self.runtime.block_on(flush)?;
        let (spans, bytes) = commit.files.iter().fold((0, 0), |(rows, size), file| (rows + file.rows, size + file.size));
        // In this order: see `Follower::show`, which may run in between.
        self.backlog.add_own(&commit, now());
        self.live.replace(generation.number, commit.files.iter().cloned());
        *self.status.failing.lock() = None;
        if let Err(error) = self.journal.retire(generation.number, &generation.seen()) {
            // The commit is what counts: the next start retires the segment.
            warn!(segment = generation.number, %error, "can't retire a journal segment");
        }
        self.metrics.flushed_spans.inc_by(spans);
        self.metrics.flushed_bytes.inc_by(bytes);
        self.metrics.flush.observe(began.elapsed().as_secs_f64());
        info!(generation = generation.number, spans, bytes, seconds = began.elapsed().as_secs_f32(), "flushed");
        Ok(())
    }
}

/// What the threads tell each other and those who ask.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub ready: AtomicBool,
    pub closing: AtomicBool,
    /// When a request was refused for want of room; microseconds.
    pub refused: AtomicI64,
    failing: Mutex<Option<String>>,
    unreadable: Mutex<Vec<String>>,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether everything that was acknowledged can be queried: the journal is replayed.
    pub ready: bool,
    /// Whether all threads of the store run; if not, only a new process helps.
    pub alive: bool,
    /// What is wrong, for the person who looks; empty if nothing is.
    pub problems: Vec<String>,
}

/// A data folder: durable ingest and consistent reads.
///
/// Threads of its own write the journal, decode and flush; [`Store::close`] ends them in order.
#[derive(Debug)]
pub struct Store {
    live: Arc<Live>,
    objects: Arc<dyn ObjectStore>,
    backlog: Arc<Backlog>,
    deletions: Arc<Deletions>,
    compaction: Arc<Compaction>,
    status: Arc<Status>,
    requests: RwLock<Option<Sender<Request>>>,
    /// The compaction thread ends when it is dropped.
    compacting: Mutex<Option<Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Arc<File>,
}

impl Store {
    /// Opens the data folder of `config`, which is created if needed. Returns before the journal is replayed: until then
    /// [`Store::health`] is not ready and requests are refused. Must be called within a tokio runtime, which then serves the
    /// object store's I/O of the flush.
    ///
    /// # Errors
    /// If the folder or the object store can't be used.
    pub async fn open(
        config: &Config,
        disk: Arc<dyn Disk>,
        objects: Arc<dyn ObjectStore>,
        decode: Arc<dyn Decode>,
        conditions: Arc<dyn Conditions>,
        rollups: Arc<dyn Rollups>,
        metrics: Metrics,
    ) -> Result<Arc<Store>, OpenError> {
        let folder = &config.data_dir;
        let failed = |source| OpenError::Folder { folder: folder.clone(), source };
        create_dir_all(disk.as_ref(), folder).map_err(failed)?;
        let lock = lock(folder)?;
        let writer = Writer::load(folder, disk.as_ref()).map_err(failed)?;
        let journal = Arc::new(Journal::open(folder.join("journal"), disk, writer.seed).map_err(failed)?);
        // The commits first: one that goes meanwhile names files of which the lake has the spans (P2).
        let commits = Commit::read_all(objects.as_ref(), Some(&writer.id)).await?;
        let lake = Arc::new(Lake::open(objects.clone()).await?);
        remove_orphans(&objects, &writer.id, &commits).await?;
        let recovered = Recovered::new(&journal, &writer.id, &commits, &lake, config).map_err(failed)?;
        let backlog = Arc::new(Backlog::new(Some(&writer.id)));
        commits.iter().for_each(|(commit, since)| backlog.add_own(commit, *since));
        let covered = lake.read(|state| backlog.take_covered(state));
        let mut files = backlog.files();
        files.extend(lake.read(|state| state.files.values().map(|file| file.file.clone()).collect::<Vec<_>>()));
        info!(folder = %folder.display(), writer = writer.id, files = files.len(), replay = recovered.segments.len(), "opened");
        let live = Arc::new(Live::new(files, lake.read(|state| state.promotions.clone()), decode_threads(config)));
        let newest = commits.iter().map(|(commit, _)| commit.generation).max();
        live.resume(newest.unwrap_or(0), recovered.segments.iter().copied());
        if let Some(newest) = newest {
            backlog.settle(writer.id.as_str().into(), live.settled_with(newest));
        }
        let deletions = deletions(&objects, conditions, &live, &backlog, writer.id.clone()).await?;
        let (compaction, status) = (Arc::new(Compaction::of(config.compaction.enabled, backlog.clone())), Arc::default());
        let shared = Shared {
            lake,
            live: live.clone(),
            objects: objects.clone(),
            backlog: backlog.clone(),
            deletions: deletions.clone(),
            compaction: compaction.clone(),
            rollups,
            journal: Some(journal.clone()),
            status: Arc::clone(&status),
            metrics: metrics.clone(),
        };
        let start = format!("{:x}", now());
        let mut compactor = Compactor::new(config, shared, format!("{}-{start}", writer.id), &covered);
        compactor.follow().await?;
        let store = Store {
            live,
            objects,
            backlog,
            deletions,
            compaction,
            status,
            requests: RwLock::default(),
            compacting: Mutex::default(),
            threads: Mutex::default(),
            lock: Arc::new(lock),
        };
        let flusher = store.flusher(config, writer.id, start, &journal, &metrics);
        store.start(config, &journal, recovered, &decode, flusher, compactor).map_err(failed)?;
        Ok(Arc::new(store))
    }

    fn start(
        &self,
        config: &Config,
        journal: &Arc<Journal>,
        recovered: Recovered,
        decode: &Arc<dyn Decode>,
        flusher: Flusher,
        compactor: Compactor,
    ) -> io::Result<()> {
        let (requests, waiting) = crossbeam_channel::bounded(QUEUE_REQUESTS);
        let (groups, durable) = crossbeam_channel::unbounded();
        let (complete, completed) = crossbeam_channel::unbounded();
        let mut threads = self.threads.lock();
        let mut spawn = |name: &str, run: Box<dyn FnOnce() + Send>| -> io::Result<()> {
            threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(run)?);
            Ok(())
        };
        let journal_writer = JournalWriter {
            journal: journal.clone(),
            live: self.live.clone(),
            dedupe: recovered.dedupe,
            rotation: Rotation::new(config),
            metrics: flusher.metrics.clone(),
            next_number: recovered.next_number,
            forgotten: BTreeSet::new(),
            groups,
            complete,
        };
        let status = self.status.clone();
        let replayed = move |unreadable| {
            *status.unreadable.lock() = unreadable;
            status.ready.store(true, Ordering::Release);
        };
        let segments = recovered.segments;
        spawn("journal", Box::new(move || journal_writer.run(&segments, replayed, &waiting)))?;
        for shard in 0..decode_threads(config) {
            let (decode, live, durable) = (decode.clone(), self.live.clone(), durable.clone());
            spawn("decode", Box::new(move || decode_groups(decode.as_ref(), shard, &live, &durable)))?;
        }
        let (compacting, stop) = crossbeam_channel::bounded(0);
        spawn("compact", Box::new(move || compactor.run(&stop)))?;
        *self.compacting.lock() = Some(compacting);
        spawn("flush", Box::new(move || flusher.run(&completed)))?;
        *self.requests.write() = Some(requests);
        Ok(())
    }

    fn flusher(&self, config: &Config, writer: String, start: String, journal: &Arc<Journal>, metrics: &Metrics) -> Flusher {
        Flusher {
            journal: journal.clone(),
            live: self.live.clone(),
            objects: self.objects.clone(),
            backlog: self.backlog.clone(),
            writer,
            start,
            window: config.live.window.as_micros() as i64,
            status: self.status.clone(),
            metrics: metrics.clone(),
            runtime: Handle::current(),
            _lock: self.lock.clone(),
        }
    }

    /// Takes a request in. The answer comes when its spans are durable and in every snapshot taken from then on (P1).
    ///
    /// # Errors
    /// [`Refused::Unavailable`] at once if there is no room or the store is not serving.
    pub fn append(&self, frame: Frame) -> Result<oneshot::Receiver<Answer>, Refused> {
        let unavailable = |why: &str| Err(Refused::Unavailable(why.to_owned()));
        if !self.status.ready.load(Ordering::Acquire) {
            return unavailable("replaying the journal");
        }
        let (answer, answered) = oneshot::channel();
        match self.requests.read().as_ref().map(|requests| requests.try_send(Request { frame, answer })) {
            Some(Ok(())) => Ok(answered),
            Some(Err(TrySendError::Full(_))) => unavailable("too many requests wait for the journal"),
            Some(Err(TrySendError::Disconnected(_))) | None => unavailable("shutting down"),
        }
    }

    /// A consistent view of everything that is acknowledged.
    ///
    /// # Errors
    /// If the live spans do not make a batch, which is a defect of this crate.
    pub fn snapshot(&self) -> Result<Snapshot, ArrowError> {
        self.live.snapshot()
    }

    /// What is to be deleted, and what was.
    pub fn deletions(&self) -> &Arc<Deletions> {
        &self.deletions
    }

    /// Whether fresh files are merged into the lake by this process.
    pub fn compaction(&self) -> &Arc<Compaction> {
        &self.compaction
    }

    /// Where the files of a snapshot are.
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Notes that a request was refused for want of room: compaction waits until it is quiet.
    pub fn note_refusal(&self) {
        self.status.refused.store(now(), Ordering::Relaxed);
    }

    /// How the store is.
    pub fn health(&self) -> Health {
        let ready = self.status.ready.load(Ordering::Acquire);
        let mut problems = self.status.unreadable.lock().clone();
        problems.extend(self.status.failing.lock().iter().cloned());
        if !ready {
            problems.insert(0, "replaying the journal".to_owned());
        }
        let alive = self.status.closing.load(Ordering::Acquire) || !self.threads.lock().iter().any(JoinHandle::is_finished);
        if !alive {
            problems
                .push("a thread of the store has died: restart the process; the journal has all that was acknowledged".to_owned());
        }
        Health { ready, alive, problems }
    }

    /// Ends ingest: what was taken in is answered and flushed, then the threads end. Blocks until then. What can't be flushed
    /// stays in the journal.
    pub fn close(&self) {
        self.status.closing.store(true, Ordering::Release);
        self.requests.write().take();
        self.compacting.lock().take();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                error!("a storage thread panicked");
            }
        }
    }
}

/// Deletions that cover what is in files and in memory when they are asked for.
async fn deletions(
    objects: &Arc<dyn ObjectStore>,
    conditions: Arc<dyn Conditions>,
    live: &Arc<Live>,
    backlog: &Arc<Backlog>,
    writer: String,
) -> Result<Arc<Deletions>, DeletionError> {
    let (live, backlog) = (live.clone(), backlog.clone());
    let cover = move || {
        let settled = backlog.settled_generations();
        let mut last: BTreeMap<String, u64> = settled.into_iter().map(|(writer, last)| (writer.to_string(), last)).collect();
        if let Some(newest) = live.newest() {
            last.insert(writer.clone(), newest);
            live.flush_soon();
        }
        last
    };
    let deletions = Deletions::new(objects.clone(), conditions, cover);
    deletions.load().await?;
    Ok(Arc::new(deletions))
}

fn decode_threads(config: &Config) -> usize {
    match config.ingest.decode_threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).max(1),
        threads => threads as usize,
    }
}
