//! Compaction: settled windows of fresh files become lake files, old files go.
//!
//! The hand-over of a window, and what a crash leaves between its steps:
//!
//! 1. filters and files are put: nobody names them, [`Compactor::sweep`] removes them;
//! 2. one commit adds them, takes out the lake files they replace, and moves the watermarks: from here on the fresh files
//!    are covered, for whoever starts next;
//! 3. the snapshot swaps fresh files for lake files in one step;
//! 4. after `retention.delete_delay` the replaced files are deleted, then their commit records: whoever starts next does so.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use meshlake_config::Config;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

use super::deletion::{Deletions, Doomed};
use super::log::{Change, Lake, beside, list};
use super::merge::{Dropped, Input, Merge};
use super::output::{Finished, Output};
use super::state::{LakeFile, date, watermark};
use super::{LakeError, delta};
use crate::commit::{Commit, record_path};
use crate::ingest::now;
use crate::journal::Journal;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::promoted::{Promoted, Promotion};
use crate::snapshot::SpanFile;
use crate::sorted::SortedRows;
use crate::store::Status;

/// For how long the log is kept behind its newest checkpoint: no process is so far behind.
const LOG_AGE: Duration = Duration::from_hours(7 * 24);
/// Files that are merged at once: each takes memory.
const RUNS_MAX: usize = 32;
/// How long no request must have been refused before merges go on.
const QUIET: Duration = Duration::from_secs(5);
/// How often a span is rewritten at most.
const REWRITES_MAX: u32 = 3;
/// What nobody named for so long was left behind by a crash: a merge takes no day.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3_600);

/// A fresh file that is not in the lake.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub writer: Arc<str>,
    pub generation: u64,
    /// When it was committed, or found at the start; microseconds.
    pub since: i64,
    pub file: Arc<SpanFile>,
}

/// The writer and generation of a commit record.
pub(super) type RecordKey = (Arc<str>, u64);

impl Fresh {
    fn watermark(&self) -> String {
        watermark(&self.writer, self.file.window)
    }

    fn is_covered(&self, doomed: &Doomed) -> bool {
        doomed.covers_fresh(&self.writer, self.generation, &self.file)
    }

    fn record(&self) -> RecordKey {
        (self.writer.clone(), self.generation)
    }
}

/// The fresh files that wait to be merged, and the commit records that name them.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    fresh: Vec<Fresh>,
    /// How many files of each record still exist.
    records: BTreeMap<RecordKey, usize>,
    /// For each writer, the last generation up to which all are committed.
    settled: HashMap<Arc<str>, u64>,
}

impl Backlog {
    /// Adds what a commit names, as far as it is not in `lake`; returns the files that are.
    pub(crate) fn add(&self, commit: &Commit, lake: &Lake) -> Vec<Fresh> {
        let writer: Arc<str> = commit.writer.as_str().into();
        let since = now();
        let fresh =
            |file: &SpanFile| Fresh { writer: writer.clone(), generation: commit.generation, since, file: Arc::new(file.clone()) };
        let covered = |fresh: &Fresh| lake.read(|state| state.covers(&fresh.writer, fresh.generation, fresh.file.window));
        let (covered, waiting): (Vec<Fresh>, Vec<Fresh>) = commit.files.iter().map(fresh).partition(covered);
        let mut state = self.0.lock();
        state.records.insert((writer.clone(), commit.generation), commit.files.len());
        let settled = state.settled.entry(writer).or_default();
        *settled = commit.settled().max(*settled);
        state.fresh.extend(waiting);
        covered
    }

    /// For each writer, the last generation up to which all are committed.
    pub(crate) fn settled_generations(&self) -> HashMap<Arc<str>, u64> {
        self.0.lock().settled.clone()
    }

    /// The files that no commit to come is older than, so that a watermark can pass them.
    fn settled(&self) -> Vec<Fresh> {
        let state = self.0.lock();
        let settled = |fresh: &&Fresh| state.settled.get(&fresh.writer).is_some_and(|settled| fresh.generation <= *settled);
        state.fresh.iter().filter(settled).cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<Fresh> {
        self.0.lock().fresh.clone()
    }

    /// All files that wait.
    pub(crate) fn files(&self) -> Vec<Arc<SpanFile>> {
        self.0.lock().fresh.iter().map(|fresh| fresh.file.clone()).collect()
    }

    fn remove(&self, paths: &HashSet<&str>) {
        self.0.lock().fresh.retain(|fresh| !paths.contains(fresh.file.path.as_str()));
    }

    /// Notes that a file is deleted.
    fn deleted(&self, record: &RecordKey) {
        if let Some(files) = self.0.lock().records.get_mut(record) {
            *files = files.saturating_sub(1);
        }
    }

    /// Records all of whose files are deleted. A writer's last one stays: it says which generation is the next.
    fn empty_records(&self) -> Vec<RecordKey> {
        let state = self.0.lock();
        let is_last = |record: &RecordKey| {
            state.records.range((record.0.clone(), record.1 + 1)..).next().is_none_or(|(next, _)| next.0 != record.0)
        };
        let empty = state.records.iter().filter(|(record, files)| **files == 0 && !is_last(record));
        empty.map(|(record, _)| record.clone()).collect()
    }

    fn forget(&self, record: &RecordKey) {
        self.0.lock().records.remove(record);
    }
}

/// When and how much.
#[derive(Clone, Copy, Debug)]
struct Settings {
    interval: Duration,
    settle: i64,
    max_age: i64,
    file_size: u64,
    cpu_percent: u32,
    retention_age: i64,
    retention_size: u64,
    delete_delay: i64,
    promotion: Promotion,
}

impl Settings {
    fn new(config: &Config) -> Settings {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let (compaction, retention) = (&config.compaction, &config.retention);
        Settings {
            interval: compaction.interval,
            settle: micros(compaction.settle),
            max_age: micros(compaction.max_age),
            file_size: compaction.file_size.as_u64(),
            cpu_percent: compaction.cpu_percent,
            retention_age: micros(retention.age),
            retention_size: retention.size.as_u64(),
            delete_delay: micros(retention.delete_delay),
            promotion: Promotion { max: compaction.promoted_max as usize, percent: compaction.promoted_percent },
        }
    }
}

/// What is merged into what.
#[derive(Debug)]
pub(super) struct Plan {
    pub window: Option<i64>,
    pub fresh: Vec<Fresh>,
    /// Files of the lake.
    pub lake: Vec<LakeFile>,
    /// Whether it has waited for `compaction.max_age`.
    pub overdue: bool,
}

/// What compaction shares with the rest of the store.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub lake: Arc<Lake>,
    pub live: Arc<Live>,
    pub objects: Arc<dyn ObjectStore>,
    pub backlog: Arc<Backlog>,
    pub deletions: Arc<Deletions>,
    pub journal: Arc<Journal>,
    pub status: Arc<Status>,
    pub metrics: Metrics,
}

/// The compaction thread.
#[derive(Debug)]
pub(crate) struct Compactor {
    pub(super) shared: Shared,
    runtime: Handle,
    writer: String,
    /// Names of files of this process begin with it.
    name: String,
    settings: Settings,
    merges: u64,
    /// The next version when the snapshot was last changed.
    shown: u64,
    /// Fresh files that are covered, and when they may be deleted.
    pub(super) covered: BTreeMap<String, (i64, RecordKey)>,
    /// Lake files that a deletion covers and that hold none of its spans: by deletion and path.
    pub(super) clean: HashSet<(String, String)>,
    swept: Option<Instant>,
}

impl Compactor {
    /// A compactor for the writer of this data folder; must be made within a tokio runtime, which serves its I/O.
    pub(crate) fn new(config: &Config, shared: Shared, writer: String, start: &str, covered: Vec<Fresh>) -> Compactor {
        let settings = Settings::new(config);
        let name = format!("{writer}-{start}");
        let runtime = Handle::current();
        let shown = shared.lake.read(|state| state.next);
        let mut compactor = Compactor {
            shared,
            runtime,
            writer,
            name,
            settings,
            merges: 0,
            shown,
            covered: BTreeMap::new(),
            clean: HashSet::new(),
            swept: None,
        };
        compactor.cover(&covered);
        compactor
    }

    /// Works until `stop` is disconnected.
    pub(crate) fn run(mut self, stop: &Receiver<()>) {
        while matches!(stop.recv_timeout(self.settings.interval), Err(RecvTimeoutError::Timeout)) {
            // Until then there are generations of which nobody knows yet.
            if !self.shared.status.ready.load(Ordering::Acquire) {
                continue;
            }
            let runtime = self.runtime.clone();
            if let Err(error) = runtime.block_on(self.work())
                && !self.is_closing()
            {
                self.shared.metrics.compaction_failures.inc();
                error!(%error, "compaction failed; it is tried again, and queries read the fresh files meanwhile");
            }
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.shared.status.closing.load(Ordering::Acquire)
    }

    /// Whether requests were refused a moment ago: they need the memory and the processors that a merge takes.
    pub(super) fn is_pressed(&self) -> bool {
        now() - self.shared.status.refused.load(Ordering::Relaxed) < QUIET.as_micros() as i64
    }

    /// All there is to do now.
    pub(crate) async fn work(&mut self) -> Result<(), LakeError> {
        self.refresh().await?;
        while let Some(plan) = self.plan()
            && !self.is_closing()
            && (plan.overdue || !self.is_pressed())
        {
            self.try_merge(plan).await?;
        }
        self.erase().await?;
        self.retain().await?;
        self.delete().await?;
        self.finish_deletions().await?;
        if self.swept.is_none_or(|swept| swept.elapsed() > ORPHAN_AGE / 24) {
            self.sweep().await?;
            self.swept = Some(Instant::now());
        }
        Ok(())
    }

    /// Merges, unless somebody else did.
    pub(super) async fn try_merge(&mut self, plan: Plan) -> Result<(), LakeError> {
        match self.merge(plan).await {
            Err(LakeError::Conflict) => self.refresh().await,
            Err(LakeError::Stopped) => Ok(()),
            merged => merged,
        }
    }

    /// Takes in what other processes committed.
    async fn refresh(&mut self) -> Result<(), LakeError> {
        self.shared.lake.refresh().await?;
        self.show();
        Ok(())
    }

    /// The snapshot reads the files of the lake's version, and the fresh files that it covers no more. Whoever committed them:
    /// a commit of our own may have taken in others on its way.
    fn show(&mut self) {
        let (version, covered, files, promotions) = self.shared.lake.read(|state| {
            let covered = |fresh: &Fresh| state.covers(&fresh.writer, fresh.generation, fresh.file.window);
            let covered: Vec<Fresh> = self.shared.backlog.all().into_iter().filter(covered).collect();
            let files: Vec<_> = state.files.values().map(|file| file.file.clone()).collect();
            (state.next, covered, files, state.promotions())
        });
        if std::mem::replace(&mut self.shown, version) == version {
            return;
        }
        let paths: HashSet<&str> = covered.iter().map(|fresh| fresh.file.path.as_str()).collect();
        self.shared.metrics.lake_files.set(files.len() as i64);
        self.shared.live.swap(&paths, files, promotions);
        self.shared.backlog.remove(&paths);
        self.cover(&covered);
    }

    /// Notes that the lake has the spans of fresh files.
    fn cover(&mut self, covered: &[Fresh]) {
        let until = now() + self.settings.delete_delay;
        self.covered.extend(covered.iter().map(|fresh| (fresh.file.path.clone(), (until, fresh.record()))));
    }

    /// A window to merge, the oldest first.
    fn plan(&self) -> Option<Plan> {
        let mut windows = BTreeMap::<Option<i64>, Vec<Fresh>>::new();
        for fresh in self.shared.backlog.settled() {
            windows.entry(fresh.file.window).or_default().push(fresh);
        }
        self.shared.metrics.backlog_files.set(windows.values().map(Vec::len).sum::<usize>() as i64);
        let doomed = self.shared.deletions.doomed();
        let is_doomed = |fresh: &Fresh| doomed.iter().any(|doomed| fresh.is_covered(doomed));
        let now = now();
        let due = |files: &Vec<Fresh>| {
            let newest = files.iter().map(|fresh| fresh.since).max().unwrap_or(now);
            let oldest = files.iter().map(|fresh| fresh.since).min().unwrap_or(now);
            let bytes: u64 = files.iter().map(|fresh| fresh.file.size).sum();
            // Files enough for a lake file need not wait: they are not written again.
            let settled = now - newest >= self.settings.settle || now - oldest >= self.settings.max_age;
            settled || bytes >= self.settings.file_size || files.iter().any(is_doomed)
        };
        let (window, fresh) = windows.into_iter().find(|(_, files)| due(files))?;
        let mut fresh = in_order(fresh);
        let mut bytes = 0;
        let fit = fresh.iter().take(RUNS_MAX).take_while(|fresh| {
            bytes += fresh.file.size;
            bytes <= self.settings.file_size + self.settings.file_size / 4
        });
        let fit = fit.count().max(1);
        fresh.truncate(fit);
        let small = self.shared.lake.read(|state| {
            let small = |file: &&LakeFile| {
                file.file.window == window && file.file.size < self.settings.file_size / 4 && file.rewrites + 1 < REWRITES_MAX
            };
            state.files.values().filter(small).take(RUNS_MAX / 4).cloned().collect()
        });
        let overdue = fresh.iter().any(|fresh| now - fresh.since >= self.settings.max_age);
        Some(Plan { window, fresh, lake: small, overdue })
    }

    async fn merge(&mut self, plan: Plan) -> Result<(), LakeError> {
        let began = Instant::now();
        // Before the deletions are looked at: see `Deletions::request`.
        let written = now();
        let inputs = self.inputs(&plan);
        self.merges += 1;
        let mut output = Output {
            store: &self.shared.objects,
            name: format!("{}-{:06}", self.name, self.merges),
            window: plan.window,
            rewrites: plan.lake.iter().map(|file| file.rewrites + 1).max().unwrap_or(0),
            written,
            file_size: self.settings.file_size as usize,
            promoted: self.shared.lake.read(|state| state.promoted.clone()),
            open: None,
            done: Vec::new(),
        };
        let from = inputs.len();
        let rewritten = self.rewrite(inputs, plan.overdue, &mut output).await;
        let done = std::mem::take(&mut output.done);
        let (duplicates, dropped) = match rewritten {
            Ok(rewritten) => rewritten,
            Err(error) => {
                output.abort().await;
                self.discard(&done).await;
                return Err(error);
            }
        };
        let change = self.change(&plan, &done);
        self.note_dropped(&dropped, None).await?;
        if let Err(error) = self.shared.lake.commit(&change).await {
            // Of other errors it is not known whether the commit is there: the sweep looks again later.
            if matches!(error, LakeError::Conflict) {
                self.discard(&done).await;
            }
            return Err(error);
        }
        self.show();
        self.note_dropped(&dropped, Some(now())).await?;
        let (spans, bytes) =
            done.iter().map(|done| &done.file.file).fold((0, 0), |(rows, size), file| (rows + file.rows, size + file.size));
        self.shared.metrics.compacted_spans.inc_by(spans);
        self.shared.metrics.compacted_bytes.inc_by(bytes);
        self.shared.metrics.merged_duplicates.inc_by(duplicates);
        let window = plan.window.and_then(date).unwrap_or_default();
        let (to, seconds) = (done.len(), began.elapsed().as_secs_f32());
        info!(window, from, to, spans, bytes, duplicates, seconds, "compacted");
        Ok(())
    }

    fn inputs(&self, plan: &Plan) -> Vec<Input> {
        let doomed = self.shared.deletions.doomed();
        let of = |covers: &dyn Fn(&Doomed) -> bool| doomed.iter().filter(|doomed| covers(doomed)).cloned().collect();
        let fresh =
            plan.fresh.iter().map(|fresh| Input { file: fresh.file.clone(), doomed: of(&|doomed| fresh.is_covered(doomed)) });
        let lake = plan.lake.iter().map(|file| Input { file: file.file.clone(), doomed: of(&|doomed| doomed.covers_lake(file)) });
        fresh.chain(lake).collect()
    }

    /// Merges files into `output`. Returns how many duplicates there were, and what was left out.
    async fn rewrite(&self, inputs: Vec<Input>, overdue: bool, output: &mut Output<'_>) -> Result<(u64, Vec<Dropped>), LakeError> {
        let mut merge = Merge::open(&self.shared.objects, inputs, &output.promoted).await?;
        let mut duplicates = 0;
        let mut worked = Instant::now();
        while let Some(slice) = merge.next().await? {
            if self.is_closing() || (self.is_pressed() && !overdue) {
                return Err(LakeError::Stopped);
            }
            let mut rows = SortedRows::merged(&slice)?;
            duplicates += rows.drop_duplicates()?;
            output.write(&rows).await?;
            let idle = worked.elapsed() * (100 - self.settings.cpu_percent) / self.settings.cpu_percent;
            tokio::time::sleep(idle).await;
            worked = Instant::now();
        }
        output.finish().await?;
        Ok((duplicates, merge.dropped()))
    }

    fn change(&self, plan: &Plan, done: &[Finished]) -> Change {
        let mut watermarks = HashMap::<String, u64>::new();
        for fresh in &plan.fresh {
            let last = watermarks.entry(fresh.watermark()).or_default();
            *last = fresh.generation.max(*last);
        }
        let moved = self.shared.lake.read(|state| {
            watermarks.into_iter().map(|(name, to)| (state.watermarks.get(&name).copied(), name, to)).collect::<Vec<_>>()
        });
        Change {
            add: done.iter().map(|done| (done.file.clone(), plan.window.and_then(date))).collect(),
            remove: plan.lake.clone(),
            watermarks: moved.into_iter().map(|(was, name, to)| (name, was, to)).collect(),
            deletes: false,
            promote: self.chosen(done),
        }
    }

    /// The attributes of the files that are promoted from now on.
    fn chosen(&self, done: &[Finished]) -> Vec<Promoted> {
        let mut list = self.shared.lake.read(|state| state.promoted.to_vec());
        let known = list.len();
        for done in done {
            let more = self.settings.promotion.choose(&done.attributes, done.file.file.rows, &list);
            list.extend(more);
        }
        list.split_off(known)
    }

    /// Deletes files that were never committed.
    async fn discard(&self, files: &[Finished]) {
        for done in files {
            self.delete_file(&done.file.file.path).await;
        }
    }

    /// Whether a lake file and all that is kept beside it are gone.
    async fn delete_file(&self, path: &str) -> bool {
        let mut gone = self.delete_object(path).await;
        for path in beside(path) {
            gone = gone && self.delete_object(path.as_ref()).await;
        }
        gone
    }

    /// Whether the object is gone.
    async fn delete_object(&self, path: &str) -> bool {
        match self.shared.objects.delete(&Path::from(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => true,
            Err(error) => {
                warn!(path, %error, "can't delete a file that nobody reads");
                false
            }
        }
    }

    /// Takes out the files that retention does not keep.
    async fn retain(&mut self) -> Result<(), LakeError> {
        let now = now();
        let old = self.shared.lake.read(|state| {
            let mut files: Vec<&LakeFile> = state.files.values().collect();
            // Where clocks can't be trusted, the time of writing counts.
            let age = |file: &LakeFile| now - if file.file.window.is_some() { file.file.start_max } else { file.written };
            files.sort_by_key(|file| age(file));
            let mut kept = HashMap::<&str, u64>::new();
            let gone = files.into_iter().filter(|file| {
                let bytes = kept.entry(file.file.tenants.first().map_or("", String::as_str)).or_default();
                *bytes += file.file.size;
                let too_much = self.settings.retention_size > 0 && *bytes > self.settings.retention_size;
                too_much || age(file) > self.settings.retention_age
            });
            gone.cloned().collect::<Vec<_>>()
        });
        if old.is_empty() {
            return Ok(());
        }
        let (files, spans) = (old.len(), old.iter().map(|file| file.file.rows).sum());
        self.shared.lake.commit(&Change { remove: old, deletes: true, ..Change::default() }).await?;
        self.show();
        self.shared.metrics.retired_spans.inc_by(spans);
        info!(files, spans, "retention: took out old files");
        Ok(())
    }

    /// Deletes what no query can read any more.
    async fn delete(&mut self) -> Result<(), LakeError> {
        let now = now();
        let due = self.covered.iter().filter(|(_, (until, _))| *until <= now);
        let due: Vec<_> = due.map(|(path, (_, record))| (path.clone(), record.clone())).collect();
        for (path, record) in due {
            if self.delete_object(&path).await {
                self.covered.remove(&path);
                self.shared.backlog.deleted(&record);
            }
        }
        self.delete_records().await?;
        let removed: Vec<String> = self.shared.lake.read(|state| {
            let due = state.removed.iter().filter(|(_, at)| **at + self.settings.delete_delay <= now);
            due.map(|(path, _)| path.clone()).collect()
        });
        for path in removed {
            if self.delete_file(&path).await {
                self.shared.lake.forget(&path);
            }
        }
        Ok(())
    }

    /// Deletes commit records that name no file any more. That of a segment which is still there would be missed: the next
    /// start would replay it.
    async fn delete_records(&self) -> Result<(), LakeError> {
        let records = self.shared.backlog.empty_records();
        if records.is_empty() {
            return Ok(());
        }
        let segments = self.shared.journal.segments().unwrap_or_default();
        for record in records {
            let (writer, generation) = &record;
            let replayed = **writer == *self.writer && segments.contains(generation);
            if !replayed && self.delete_object(record_path(writer, *generation).as_ref()).await {
                self.shared.backlog.forget(&record);
            }
        }
        Ok(())
    }

    /// Deletes lake files that a crash left behind before their commit, and what is old in the log.
    async fn sweep(&self) -> Result<(), LakeError> {
        self.shared.lake.trim(now() - LOG_AGE.as_micros() as i64).await?;
        let oldest = now() - ORPHAN_AGE.as_micros() as i64;
        for object in list(self.shared.objects.as_ref(), &format!("{}/data", delta::ROOT)).await? {
            let path = object.location.to_string();
            let known = self.shared.lake.read(|state| state.files.contains_key(&path) || state.removed.contains_key(&path));
            if !known && object.last_modified.timestamp_micros() < oldest {
                info!(path, "removing a lake file that was never committed");
                self.delete_file(&path).await;
            }
        }
        Ok(())
    }
}

/// Each writer's files by generation, the writers by turns: then any beginning of the list is a beginning of each writer's.
fn in_order(mut fresh: Vec<Fresh>) -> Vec<Fresh> {
    fresh.sort_by(|a, b| (&a.writer, a.generation).cmp(&(&b.writer, b.generation)));
    let mut turn = 0;
    let mut last: Option<Arc<str>> = None;
    let mut turns: Vec<(usize, Fresh)> = Vec::with_capacity(fresh.len());
    for one in fresh {
        turn = if last.as_ref() == Some(&one.writer) { turn + 1 } else { 0 };
        last = Some(one.writer.clone());
        turns.push((turn, one));
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, fresh)| fresh).collect()
}
