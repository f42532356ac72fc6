//! Compaction: settled windows of fresh files become lake files, old files go. By any number of processes at once, one of which may
//! be the server that took the spans (decision 0010).
//!
//! The hand-over of a window, and what a crash leaves between its steps:
//!
//! 1. filters and files are put: nobody names them, [`Compactor::sweep`] removes them;
//! 2. one commit adds them, takes out the lake files they replace, and moves the watermarks: from here on the fresh files
//!    are covered, for whoever starts next;
//! 3. the snapshot swaps fresh files for lake files in one step;
//! 4. after `retention.delete_delay` the replaced files are deleted by any compactor, then their commit records by their writer.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use meshlake_config::{Config, Retention};
use object_store::ObjectStore;
use tokio::runtime::Handle;
use tracing::{error, info};

use super::backlog::{Backlog, Fresh};
use super::carry::{Carry, Outputs};
use super::compaction::Compaction;
use super::deletion::{Deletions, Doomed};
use super::follow::{Follower, delete};
use super::log::{Change, Lake, Unseen};
use super::merge::{Dropped, Input, Merge};
use super::metered::Metered;
use super::output::{Finished, Target};
use super::plan::Plan;
use super::rollup::Rollups;
use super::share::{Memory, Share};
use super::state::{LakeFile, date};
use super::{LakeError, beside};
use crate::ingest::now;
use crate::journal::Journal;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::priority::Priority;
use crate::promoted::{Promoted, Promotion};
use crate::sorted::SortedRows;
use crate::store::Status;

/// How long no request must have been refused before merges go on.
const QUIET: Duration = Duration::from_secs(5);
/// How long a merge that has begun waits for that at a stretch. Then it is given up: what it holds may be the memory that is wanted.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked for what a crash left behind.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// When and how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    interval: Duration,
    pub settle: i64,
    pub max_age: i64,
    pub file_size: u64,
    pub memory: Memory,
    pub delete_delay: i64,
    pub promotion: Promotion,
}

impl Settings {
    pub(super) fn new(config: &Config) -> Settings {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let compaction = &config.compaction;
        Settings {
            interval: compaction.interval,
            settle: micros(compaction.settle),
            max_age: micros(compaction.max_age),
            file_size: compaction.file_size.as_u64(),
            memory: Memory::new(config),
            delete_delay: micros(config.retention.delete_delay),
            promotion: Promotion { max: compaction.promoted_max as usize, percent: compaction.promoted_percent },
        }
    }
}

/// What compaction shares with the rest of the store.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub lake: Arc<Lake>,
    pub live: Arc<Live>,
    pub objects: Arc<dyn ObjectStore>,
    pub backlog: Arc<Backlog>,
    pub deletions: Arc<Deletions>,
    pub compaction: Arc<Compaction>,
    pub rollups: Arc<dyn Rollups>,
    /// None if this process takes no spans.
    pub journal: Option<Arc<Journal>>,
    pub status: Arc<Status>,
    pub metrics: Metrics,
}

/// The compaction thread: it follows what other processes do, and merges if it may.
#[derive(Debug)]
pub(crate) struct Compactor {
    pub(super) shared: Shared,
    pub(super) follower: Follower,
    pub(super) share: Arc<Share>,
    /// The object store within the share.
    pub(super) files: Arc<dyn ObjectStore>,
    runtime: Handle,
    /// Names of files of this process begin with it.
    name: String,
    pub(super) settings: Settings,
    pub(super) retention: Retention,
    merges: u64,
    /// Lake files that a deletion covers and that hold none of its spans: by deletion and path.
    pub(super) clean: HashSet<(String, String)>,
    swept: Option<Instant>,
}

impl Compactor {
    /// A compactor whose files have names that begin with `name`, as no other process's do; must be made within a tokio runtime,
    /// which serves its I/O. `covered` are fresh files of which the lake has the spans.
    pub(crate) fn new(config: &Config, shared: Shared, name: String, covered: &[Fresh]) -> Compactor {
        let settings = Settings::new(config);
        let share = Arc::new(Share::new(config, shared.status.clone(), shared.compaction.clone()));
        let mut follower = Follower::new(shared.clone(), settings.delete_delay, shared.compaction.is_enabled());
        follower.cover(covered);
        Compactor {
            follower,
            files: Arc::new(Metered::new(shared.objects.clone(), share.clone())),
            share,
            shared,
            runtime: Handle::current(),
            name,
            settings,
            retention: config.retention.clone(),
            merges: 0,
            clean: HashSet::new(),
            swept: None,
        }
    }

    /// Works until `stop` is disconnected.
    pub(crate) fn run(mut self, stop: &Receiver<()>) {
        Priority::Merge.take();
        while matches!(stop.recv_timeout(self.settings.interval), Err(RecvTimeoutError::Timeout)) {
            match self.work_now() {
                Ok(()) | Err(LakeError::Stopped) => {}
                Err(_) if self.shared.status.closing.load(Ordering::Acquire) => {}
                Err(error) => {
                    self.shared.metrics.compaction_failures.inc();
                    error!(%error, "can't follow or compact; it is tried again, and queries read the files they know meanwhile");
                }
            }
        }
    }

    /// Works until there is nothing due. Blocks until then.
    pub(super) fn work_now(&mut self) -> Result<(), LakeError> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.work())
    }

    /// Takes in what other processes did.
    pub(crate) async fn follow(&mut self) -> Result<(), LakeError> {
        self.follower.follow().await
    }

    /// Whether requests were refused a moment ago: they need the memory and the processors that a merge takes.
    pub(super) fn is_pressed(&self) -> bool {
        now() - self.shared.status.refused.load(Ordering::Relaxed) < QUIET.as_micros() as i64
    }

    /// All there is to do now.
    async fn work(&mut self) -> Result<(), LakeError> {
        self.follow().await?;
        // Until it is ready there are generations of which nobody knows yet.
        let ready = self.shared.status.ready.load(Ordering::Acquire) && self.follower.is_shown();
        if !ready || self.share.is_revoked() {
            self.follower.delete(false).await;
            return Ok(());
        }
        self.begin_deletions().await?;
        while let Some(plan) = self.plan()
            && !self.share.is_revoked()
            && (plan.overdue || !self.is_pressed())
        {
            self.try_merge(plan).await?;
        }
        self.erase().await?;
        self.retain().await?;
        self.shared.lake.checkpoint().await;
        self.delete().await?;
        self.finish_deletions().await?;
        if self.swept.is_none_or(|swept| swept.elapsed() > SWEEP_INTERVAL) {
            self.sweep().await?;
            self.swept = Some(Instant::now());
        }
        Ok(())
    }

    /// Merges, unless somebody else did, or a deletion came in between.
    pub(super) async fn try_merge(&mut self, plan: Plan) -> Result<(), LakeError> {
        self.shared.compaction.note_merging(true);
        let merged = self.merge(plan).await;
        self.shared.compaction.note_merging(false);
        self.shared.lake.checkpoint().await;
        match merged {
            Err(LakeError::Conflict) => {
                self.follow().await?;
                self.begin_deletions().await
            }
            Err(LakeError::Stopped) => Ok(()),
            merged => merged,
        }
    }

    async fn merge(&mut self, plan: Plan) -> Result<(), LakeError> {
        let began = Instant::now();
        // What it was planned from, and when: what is asked to be deleted from here on is not left out.
        let mut change = self.change(&plan);
        let inputs = self.inputs(&plan);
        self.merges += 1;
        let files = self.files.clone();
        let (target, from_version) = self.target(&files, &plan);
        let carry = Carry::open(&files, &plan).await;
        let mut outputs = Outputs::new(&target, &plan, carry);
        let from = inputs.len();
        let rewritten = self.rewrite(inputs, &plan, &change, &target, &mut outputs).await;
        let (duplicates, dropped) = match rewritten {
            Ok(rewritten) => rewritten,
            Err(error) => {
                outputs.abort().await;
                self.discard(&outputs.into_done()).await;
                return Err(error);
            }
        };
        let done = outputs.into_done();
        change.add = done.iter().map(|done| (done.file.clone(), plan.window.and_then(date))).collect();
        change.promote = self.chosen(&done);
        change.unseen = Some(Unseen { from: from_version, traces: done.iter().map(|done| done.traces.clone()).collect() });
        self.note_dropped(&dropped, None).await?;
        let committing = Instant::now();
        if let Err(error) = self.shared.lake.commit(&change).await {
            // Of other errors it is not known whether the commit is there: the sweep looks again later.
            if matches!(error, LakeError::Conflict) {
                info!(window = plan.window.and_then(date), from, "somebody else compacted the same files");
                self.discard(&done).await;
            }
            return Err(error);
        }
        self.follower.show();
        self.shared.metrics.lake_commit.observe(committing.elapsed().as_secs_f64());
        self.note_dropped(&dropped, Some(now())).await?;
        let (spans, bytes) =
            done.iter().map(|done| &done.file.file).fold((0, 0), |(rows, size), file| (rows + file.rows, size + file.size));
        let carried: u64 = done.iter().filter(|done| done.file.carried).map(|done| done.file.file.rows).sum();
        self.shared.metrics.compacted_spans.inc_by(spans);
        self.shared.metrics.compacted_bytes.inc_by(bytes);
        self.shared.metrics.merged_duplicates.inc_by(duplicates);
        let window = plan.window.and_then(date).unwrap_or_default();
        let (to, seconds) = (done.len(), began.elapsed().as_secs_f32());
        info!(window, from, to, spans, carried, bytes, duplicates, seconds, "compacted");
        Ok(())
    }

    /// Where a merge writes to, and the first version of the table that it does not know.
    fn target<'a>(&self, store: &'a Arc<dyn ObjectStore>, plan: &Plan) -> (Target<'a>, u64) {
        self.shared.lake.read(|state| {
            let is_other = |file: &&LakeFile| plan.lake.iter().all(|input| input.file.path != file.file.path);
            let target = Target {
                store,
                name: format!("{}-{:06}", self.name, self.merges),
                window: plan.window,
                written: state.next_written(),
                file_size: self.settings.file_size as usize,
                promoted: state.promotions.list.clone(),
                rollups: self.shared.rollups.clone(),
                others: state.files.values().filter(is_other).map(|file| file.file.clone()).collect(),
                part: self.settings.memory.part(),
            };
            (target, state.next)
        })
    }

    fn inputs(&self, plan: &Plan) -> Vec<Input> {
        let doomed = self.shared.deletions.doomed();
        let of = |covers: &dyn Fn(&Doomed) -> bool| doomed.iter().filter(|doomed| covers(doomed)).cloned().collect();
        let fresh = plan.fresh.iter().map(|fresh| Input {
            file: fresh.file.clone(),
            rewrites: 0,
            doomed: of(&|doomed| fresh.is_covered(doomed)),
        });
        let lake = plan.lake.iter().map(|file| Input {
            file: file.file.clone(),
            rewrites: file.rewrites + 1,
            doomed: of(&|doomed| self.covers_lake(doomed, file)),
        });
        fresh.chain(lake).collect()
    }

    /// Merges files into `outputs`. Returns how many duplicates there were, and what was left out.
    async fn rewrite(
        &mut self,
        inputs: Vec<Input>,
        plan: &Plan,
        change: &Change,
        target: &Target<'_>,
        outputs: &mut Outputs<'_>,
    ) -> Result<(u64, Vec<Dropped>), LakeError> {
        self.share.begin();
        let mut merge = Merge::open(&self.files, inputs, &target.promoted).await?;
        let mut duplicates = 0;
        let mut followed = Instant::now();
        while let Some(slice) = merge.next().await? {
            self.wait_for_quiet(plan, change, &mut followed).await?;
            let mut rows = SortedRows::merged(&slice.batches)?;
            duplicates += rows.drop_duplicates()?;
            outputs.write(rows, &slice.rewrites).await?;
            self.share.rest().await;
            self.keep_up(change, &mut followed).await?;
        }
        outputs.finish().await?;
        self.share.rest().await;
        Ok((duplicates, merge.dropped()))
    }

    /// Waits while requests are refused, but no longer than [`PATIENCE`].
    async fn wait_for_quiet(&mut self, plan: &Plan, change: &Change, followed: &mut Instant) -> Result<(), LakeError> {
        let began = Instant::now();
        loop {
            if self.share.is_revoked() || began.elapsed() > PATIENCE {
                return Err(LakeError::Stopped);
            }
            if plan.overdue || !self.is_pressed() {
                return Ok(());
            }
            self.share.idle().await;
            self.keep_up(change, followed).await?;
        }
    }

    /// Follows once an interval, as a merge may take longer than files that nobody should read any more are kept for; fails if a change
    /// applies no more.
    async fn keep_up(&mut self, change: &Change, followed: &mut Instant) -> Result<(), LakeError> {
        if followed.elapsed() > self.settings.interval {
            self.follow().await?;
            if !self.shared.lake.read(|state| change.applies(state)) {
                return Err(LakeError::Conflict);
            }
            *followed = Instant::now();
        }
        Ok(())
    }

    /// What a plan changes, besides the files that it adds.
    fn change(&self, plan: &Plan) -> Change {
        let mut watermarks = HashMap::<String, u64>::new();
        for fresh in &plan.fresh {
            let last = watermarks.entry(fresh.watermark()).or_default();
            *last = fresh.generation.max(*last);
        }
        let (moved, begun) = self.shared.lake.read(|state| {
            let moved = watermarks.into_iter().map(|(name, to)| (state.watermarks.get(&name).copied(), name, to));
            let begun: BTreeSet<String> = state.deletions().map(|(id, _)| id.to_owned()).collect();
            (moved.map(|(was, name, to)| (name, was, to)).collect(), begun)
        });
        Change { remove: plan.lake.clone(), watermarks: moved, begun: Some(begun), ..Change::default() }
    }

    /// The attributes of the files that are promoted from now on.
    fn chosen(&self, done: &[Finished]) -> Vec<Promoted> {
        let mut list = self.shared.lake.read(|state| state.promotions.list.to_vec());
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
    pub(super) async fn delete_file(&self, path: &str) -> bool {
        let mut gone = self.delete_object(path).await;
        for path in beside::paths(path) {
            gone = gone && self.delete_object(path.as_ref()).await;
        }
        gone
    }

    /// Whether the object is gone.
    pub(super) async fn delete_object(&self, path: &str) -> bool {
        delete(self.shared.objects.as_ref(), path).await
    }
}
