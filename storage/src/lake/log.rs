//! The table's resident state, and the one way to change the table.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use parking_lot::Mutex;
use tracing::warn;

use super::delta::{self, Action, Txn};
use super::filter::TraceFilter;
use super::state::{LakeFile, LakeState, News, deletion};
use super::{LakeError, checkpoint};
use crate::ingest::now;
use crate::promoted::Promoted;
use crate::snapshot::SpanFile;

/// Objects that are read at once.
const READS: usize = 16;
/// How often a commit goes for the next version while others take it.
const ATTEMPTS: usize = 100;

/// The lake of an object store.
#[derive(Debug)]
pub(crate) struct Lake {
    objects: Arc<dyn ObjectStore>,
    state: Mutex<LakeState>,
    /// Commits of this process come one after the other.
    committing: tokio::sync::Mutex<()>,
    /// Whether a commit was the last of [`checkpoint::INTERVAL`].
    owes_checkpoint: AtomicBool,
}

/// What a commit changes. Everything holds or nothing does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub add: Vec<(LakeFile, Option<String>)>,
    pub remove: Vec<LakeFile>,
    /// Watermarks: the name, what it must be, what it becomes.
    pub watermarks: Vec<(String, Option<u64>, u64)>,
    /// A deletion that covers every file that the table has then, and the last time of writing of one.
    pub begins: Option<(String, i64)>,
    /// The deletions that had begun when this was planned, if its files hold rows that one begun since may cover.
    pub begun: Option<BTreeSet<String>>,
    /// Whether the removed files' spans are gone, and not in `add`.
    pub deletes: bool,
    /// Attributes that get columns, in files to come.
    pub promote: Vec<Promoted>,
    /// What the rollups of the added files were made without.
    pub unseen: Option<Unseen>,
}

/// Files of later versions, which rollups know nothing of.
#[derive(Clone, Debug)]
pub(crate) struct Unseen {
    /// The first version that they did not see.
    pub from: u64,
    /// For each added file its traces' [`super::key`]s.
    pub traces: Vec<Vec<u64>>,
}

impl Unseen {
    /// Whether a file of a later version may hold spans of the traces.
    fn is_concerned(&self, add: &[(LakeFile, Option<String>)], state: &LakeState) -> bool {
        // Mostly nobody committed meanwhile, and a table may have very many files.
        if state.next <= self.from {
            return false;
        }
        let later: Vec<&LakeFile> =
            state.files.values().filter(|file| file.file.version.is_some_and(|version| version >= self.from)).collect();
        add.iter().zip(&self.traces).any(|((added, _), traces)| {
            let may_hold = |file: &SpanFile| {
                let mut any = file.traces.is_none();
                file.traces.iter().for_each(|filter| filter.select_keys(traces, |_| any = true));
                any
            };
            later.iter().any(|file| file.file.tenants == added.file.tenants && may_hold(&file.file))
        })
    }
}

impl Change {
    /// Whether nobody else changed what this change was made from.
    pub(crate) fn applies(&self, state: &LakeState) -> bool {
        let begins = |(id, last): &(String, i64)| state.deletion(id).is_none() && state.last_written() <= *last;
        self.remove.iter().all(|file| state.files.contains_key(&file.file.path))
            && self.watermarks.iter().all(|(name, was, _)| state.watermarks.get(name).copied() == *was)
            && self.begins.as_ref().is_none_or(begins)
            && self.unseen.as_ref().is_none_or(|unseen| !unseen.is_concerned(&self.add, state))
            && self.begun.as_ref().is_none_or(|begun| state.deletions().map(|(id, _)| id).eq(begun.iter().map(String::as_str)))
    }

    /// The actions that make the change to a table in this state.
    fn actions(&self, operation: &str, state: &LakeState) -> Vec<Action> {
        let now = now();
        let info = serde_json::json!({
            "timestamp": now / 1_000,
            "operation": if self.deletes { "DELETE" } else { "WRITE" },
            "engineInfo": concat!("meshlake ", env!("CARGO_PKG_VERSION")),
            "operationId": operation,
        });
        let mut actions = vec![Action { commit_info: Some(info), ..Action::default() }];
        let more: Vec<&Promoted> = self.promote.iter().filter(|promoted| !state.promotions.list.contains(promoted)).collect();
        if let Some(meta_data) = state.meta_data.as_ref().filter(|_| !more.is_empty()) {
            let list: Vec<Promoted> = state.promotions.list.iter().chain(more).cloned().collect();
            actions.push(Action { meta_data: Some(meta_data.with_promoted(&list)), ..Action::default() });
        }
        let watermarks = self.watermarks.iter().map(|(name, _, to)| (name.clone(), *to as i64));
        let begins = self.begins.iter().map(|(id, last)| (deletion(id), *last));
        let txns = watermarks.chain(begins).map(|(app_id, version)| Txn { app_id, version, last_updated: Some(now / 1_000) });
        actions.extend(txns.map(|txn| Action { txn: Some(txn), ..Action::default() }));
        let removes = self.remove.iter().map(|file| file.to_remove(now, true));
        actions.extend(removes.map(|remove| Action { remove: Some(remove), ..Action::default() }));
        let adds = self.add.iter().map(|(file, date)| file.at(state.next).to_add(date.clone()));
        actions.extend(adds.map(|add| Action { add: Some(add), ..Action::default() }));
        actions
    }
}

/// A number that no other operation has.
pub(crate) fn random() -> u128 {
    let half = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), now());
    u128::from(half()) << 64 | u128::from(half())
}

impl Lake {
    /// Reads the log, and the filter of each file.
    pub(crate) async fn open(objects: Arc<dyn ObjectStore>) -> Result<Lake, LakeError> {
        let mut state = checkpoint::load(objects.as_ref()).await?.unwrap_or_default();
        while let Some(actions) = delta::read(objects.as_ref(), state.next).await? {
            state.apply(&actions);
        }
        let files: Vec<LakeFile> = state.files.values().cloned().collect();
        let mut filtered = futures::stream::iter(files).map(|file| with_filter(objects.as_ref(), file)).buffer_unordered(READS);
        while let Some(file) = filtered.next().await {
            state.files.insert(file.file.path.clone(), file);
        }
        drop(filtered);
        state.news = News::default();
        Ok(Lake {
            objects,
            state: Mutex::new(state),
            committing: tokio::sync::Mutex::default(),
            owes_checkpoint: AtomicBool::new(false),
        })
    }

    /// Lets `read` see the state.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&LakeState) -> T) -> T {
        read(&self.state.lock())
    }

    /// The files that came and went since the last time.
    pub(crate) fn take_news(&self) -> News {
        std::mem::take(&mut self.state.lock().news)
    }

    /// Takes in what other processes committed. Returns whether there was anything.
    pub(crate) async fn refresh(&self) -> Result<bool, LakeError> {
        let mut changed = false;
        loop {
            let next = self.state.lock().next;
            let Some(actions) = delta::read(self.objects.as_ref(), next).await? else { return Ok(changed) };
            self.apply(next, &actions).await;
            changed = true;
        }
    }

    async fn apply(&self, version: u64, actions: &[Action]) {
        let fresh: Vec<LakeFile> = {
            let mut state = self.state.lock();
            if state.next != version {
                return;
            }
            state.apply(actions);
            let adds = actions.iter().filter_map(|action| action.add.as_ref());
            adds.filter_map(|add| state.files.get(&format!("{}/{}", delta::ROOT, add.path)).cloned()).collect()
        };
        for file in fresh {
            let file = with_filter(self.objects.as_ref(), file).await;
            let mut state = self.state.lock();
            if state.files.contains_key(&file.file.path) {
                state.put(file);
            }
        }
    }

    /// Commits a change. When this returns, it is in the object store.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] if it does not apply any more; any other if it is not known whether it was committed, which the
    /// next [`Lake::refresh`] tells.
    pub(crate) async fn commit(&self, change: &Change) -> Result<(), LakeError> {
        let _alone = self.committing.lock().await;
        let operation = format!("{:032x}", random());
        for _ in 0..ATTEMPTS {
            let version = self.state.lock().next;
            if version == 0 {
                let created = delta::create(random(), now() / 1_000);
                // Whoever created it, it is there afterwards.
                delta::create_version(self.objects.as_ref(), 0, &created).await?;
                self.refresh().await?;
                continue;
            }
            let actions = {
                let state = self.state.lock();
                if !change.applies(&state) {
                    return Err(LakeError::Conflict);
                }
                change.actions(&operation, &state)
            };
            let created = delta::create_version(self.objects.as_ref(), version, &actions).await?;
            let found = if created { Some(actions) } else { delta::read(self.objects.as_ref(), version).await? };
            let Some(found) = found else { continue };
            // A store that tries again by itself may answer that it exists although it is our own.
            let own = found.iter().any(|action| {
                action.commit_info.as_ref().is_some_and(|info| info.get("operationId").is_some_and(|id| *id == operation.as_str()))
            });
            self.apply(version, &found).await;
            if own {
                self.owes_checkpoint.fetch_or(version.is_multiple_of(checkpoint::INTERVAL), Ordering::AcqRel);
                return Ok(());
            }
        }
        Err(LakeError::Conflict)
    }

    /// Writes a checkpoint if one is owed: later than the commit, so that queries need not wait for it. The log is whole without
    /// it.
    pub(crate) async fn checkpoint(&self) {
        if !self.owes_checkpoint.swap(false, Ordering::AcqRel) {
            return;
        }
        let state = self.state.lock().clone();
        let version = state.next.saturating_sub(1);
        if let Err(error) = checkpoint::write(self.objects.as_ref(), version, &state).await {
            warn!(version, %error, "can't write a checkpoint of the lake's log");
        }
    }

    /// Deletes what a checkpoint replaced in the log, as far as it was written before `until` (microseconds): who reads the
    /// table begins at the newest checkpoint, and who follows the log is not further behind. Returns how much it was.
    pub(crate) async fn trim(&self, until: i64) -> Result<usize, LakeError> {
        let Some(newest) = checkpoint::newest(self.objects.as_ref()).await? else { return Ok(0) };
        let mut deleted = 0;
        for object in list(self.objects.as_ref(), &format!("{}/_delta_log", delta::ROOT)).await? {
            let version = object.location.filename().and_then(|name| name.split('.').next()?.parse::<u64>().ok());
            if version.is_some_and(|version| version < newest) && object.last_modified.timestamp_micros() < until {
                self.objects.delete(&object.location).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Forgets all removed files: others delete them.
    pub(crate) fn forget_removed(&self) {
        self.state.lock().removed.clear();
    }

    /// Notes that a removed file is deleted.
    pub(crate) fn forget(&self, path: &str) {
        self.state.lock().removed.remove(path);
    }
}

/// Where the filter of a file is.
pub(crate) fn filter_path(file: &str) -> Path {
    index_path(file, "traces")
}

/// Where something is that is kept beside a file.
pub(crate) fn index_path(file: &str, extension: &str) -> Path {
    let name = file.rsplit('/').next().unwrap_or(file);
    Path::from(format!("{}/_index/{}.{extension}", delta::ROOT, name.trim_end_matches(".parquet")))
}

/// Writes the filter of a file that is about to be committed.
pub(crate) async fn put_filter(store: &dyn ObjectStore, file: &str, filter: &TraceFilter) -> Result<(), LakeError> {
    store.put_opts(&filter_path(file), filter.to_bytes().into(), PutMode::Overwrite.into()).await?;
    Ok(())
}

/// The file with its filter. Without one every lookup looks into the file, which is slower and as right.
async fn with_filter(store: &dyn ObjectStore, file: LakeFile) -> LakeFile {
    let path = filter_path(&file.file.path);
    let bytes = match store.get(&path).await {
        Ok(found) => found.bytes().await,
        Err(error) => Err(error),
    };
    let filter = bytes.ok().and_then(|bytes| TraceFilter::from_bytes(&bytes));
    if filter.is_none() {
        warn!(%path, "can't read the trace filter of a file; lookups will look into the file instead");
    }
    let traces = filter.map(Arc::new);
    LakeFile { file: Arc::new(SpanFile { traces, ..(*file.file).clone() }), ..file }
}

/// All objects below a folder.
pub(crate) async fn list(store: &dyn ObjectStore, folder: &str) -> Result<Vec<object_store::ObjectMeta>, LakeError> {
    Ok(store.list(Some(&Path::from(folder))).try_collect().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn watermark(to: u64) -> Change {
        Change { watermarks: vec![("w".to_owned(), to.checked_sub(1), to)], ..Change::default() }
    }

    /// Scenario: a log of many commits is trimmed, before and after its age. Guarantee: what is young stays; of the rest only what
    /// a checkpoint replaced goes, and who opens the lake then reads the same state and goes on.
    #[tokio::test]
    async fn a_trimmed_log_reads_the_same() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let lake = Lake::open(objects.clone()).await.unwrap();
        let commits = checkpoint::INTERVAL * 2 + 7;
        for to in 0..commits {
            lake.commit(&watermark(to)).await.unwrap();
            lake.checkpoint().await;
        }
        let hour = 3_600_000_000;
        assert_eq!(lake.trim(now() - hour).await.unwrap(), 0);
        // Versions 0 to 99, and the first checkpoint.
        assert_eq!(lake.trim(now() + hour).await.unwrap() as u64, checkpoint::INTERVAL * 2 + 1);
        let again = Lake::open(objects).await.unwrap();
        let state = |lake: &Lake| lake.read(|state| (state.next, state.watermarks.clone()));
        assert_eq!(state(&again), state(&lake));
        again.commit(&watermark(commits)).await.unwrap();
        assert!(lake.refresh().await.unwrap());
        assert_eq!(state(&again), state(&lake));
    }
}
