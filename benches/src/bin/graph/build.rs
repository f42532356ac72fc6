//! Builds a store: first the spans are taken in, then they are merged, so that the CPU of each is known.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, ensure};
use bytes::Bytes;
use meshlake_benches::{Cpu, History, LocalStore, Process, Sent};
use meshlake_config::Config;
use meshlake_storage::Snapshot;
use tokio::sync::mpsc;

use crate::{config, feed::Feed, files};

/// Requests that are encoded ahead of the store.
const REQUESTS_AHEAD: usize = 64;
/// How often it is told how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long nothing more may come into the lake.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// Data folder; it must not be there, or be empty
    data_dir: PathBuf,

    #[command(flatten)]
    history: History,
}

/// Tells now and then how far the work is.
struct Progress {
    began: Instant,
    told: Instant,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, told: now }
    }

    fn tell(&mut self, what: &str, done: u64, all: u64) {
        if self.told.elapsed() < PROGRESS {
            return;
        }
        self.told = Instant::now();
        let seconds = self.began.elapsed().as_secs_f64();
        let (done, all) = (done as f64 / 1e6, all as f64 / 1e6);
        eprintln!("{what}: {done:.1} of {all:.1} M spans in {seconds:.0} s");
    }

    fn finish(&self, what: &str, spans: u64, cpu: f64) {
        let (seconds, millions) = (self.began.elapsed().as_secs_f64(), spans as f64 / 1e6);
        println!("{what}: {millions:.2} M spans in {seconds:.1} s, {cpu:.1} CPU-seconds, {:.2} a million spans", cpu / millions);
    }
}

pub(crate) async fn build(args: &Build) -> anyhow::Result<()> {
    let Build { data_dir, history } = args;
    let is_empty = !data_dir.exists() || data_dir.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    ensure!(is_empty, "cannot build a store in {}: it is no empty folder", data_dir.display());
    let sent = ingest(&config(data_dir), *history).await?;
    println!("{} traces, {} of {} edges between services walked", sent.traces, sent.walked, sent.edges);
    let mut compacting = config(data_dir);
    compacting.compaction.enabled = true;
    compacting.compaction.interval = Duration::from_secs(1);
    compacting.compaction.settle = Duration::ZERO;
    compacting.retention.delete_delay = Duration::ZERO;
    let spans_bytes = compact(&compacting, sent.spans).await?;
    files::print(&data_dir.join("store"), sent.spans, spans_bytes)
}

/// Takes a history in that ends now. All of it is in fresh files then.
async fn ingest(config: &Config, history: History) -> anyhow::Result<Sent> {
    let opened = LocalStore::open(config).await?;
    let (mut progress, before) = (Progress::new(), Process::own().cpu()?);
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let (sender, mut requests) = mpsc::channel(REQUESTS_AHEAD);
    let generator = thread::spawn(move || generate(history, end, &sender));
    let mut feed = Feed::new(&opened);
    while let Some(body) = requests.recv().await {
        feed.add(body).await?;
        progress.tell("ingest", feed.accepted(), history.spans());
    }
    feed.finish().await?;
    let accepted = feed.accepted();
    let (sent, generators) = generator.join().map_err(|_| anyhow!("the generator panicked"))??;
    ensure!(accepted == sent.spans, "{} spans were sent and {accepted} accepted", sent.spans);
    opened.close().await?;
    let cpu = Process::own().cpu()?.since(before).total() - generators.total();
    progress.finish("ingest", sent.spans, cpu);
    println!("  besides {:.1} CPU-seconds of the generator", generators.total());
    Ok(sent)
}

/// Sends the requests of a history, and tells what that took of this thread.
fn generate(history: History, end: u64, requests: &mpsc::Sender<Bytes>) -> anyhow::Result<(Sent, Cpu)> {
    let thread = Process::own_thread();
    let before = thread.cpu()?;
    let sent = history.each(end, |body| requests.blocking_send(body).context("the store takes no more requests"))?;
    Ok((sent, thread.cpu()?.since(before)))
}

/// Merges all fresh files into the lake and waits until they are deleted. Returns the bytes of the lake files.
async fn compact(config: &Config, spans: u64) -> anyhow::Result<u64> {
    let before = Process::own().cpu()?;
    let opened = LocalStore::open(config).await?;
    let store = config.data_dir.join("store");
    let (mut progress, mut merged, mut changed) = (Progress::new(), 0, Instant::now());
    while !opened.is_in_lake()? || files::kinds(&store)?.keys().any(|kind| kind.starts_with("fresh/")) {
        let (now_merged, _) = in_lake(&opened.store.snapshot()?);
        if now_merged != merged {
            (merged, changed) = (now_merged, Instant::now());
        }
        ensure!(changed.elapsed() < PATIENCE, "no span came into the lake for {} s", PATIENCE.as_secs());
        progress.tell("compaction", merged, spans);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let (rows, bytes) = in_lake(&opened.store.snapshot()?);
    ensure!(rows == spans, "{spans} spans were accepted and {rows} are in the lake");
    let of_rollups = opened.rollups.cpu().as_secs_f64();
    opened.close().await?;
    progress.finish("compaction", spans, Process::own().cpu()?.since(before).total());
    println!("  of these {of_rollups:.1} for rollups, {:.2} a million spans", of_rollups / (spans as f64 / 1e6));
    Ok(bytes)
}

/// Spans in files of the lake, and the bytes of these.
pub(crate) fn in_lake(snapshot: &Snapshot) -> (u64, u64) {
    let files = snapshot.files.iter().filter(|file| file.is_in_lake());
    files.fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.size))
}
