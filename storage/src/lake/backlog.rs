//! The fresh files that wait to be merged, of all writers, and the commit records of our own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::deletion::Doomed;
use super::state::{LakeState, watermark};
use crate::commit::Commit;
use crate::snapshot::SpanFile;

/// A fresh file that is not in the lake.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub writer: Arc<str>,
    pub generation: u64,
    /// When its commit record was put; microseconds.
    pub since: i64,
    pub file: Arc<SpanFile>,
}

impl Fresh {
    pub(super) fn watermark(&self) -> String {
        watermark(&self.writer, self.file.window)
    }

    pub(super) fn is_in(&self, lake: &LakeState) -> bool {
        lake.covers(&self.writer, self.generation, self.file.window)
    }

    pub(super) fn is_covered(&self, doomed: &Doomed) -> bool {
        doomed.covers_fresh(&self.writer, self.generation, &self.file)
    }
}

/// What waits. Files leave it when queries read those of the lake in their place.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// The writer of this process; none if it takes no spans.
    own: Option<Arc<str>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    fresh: Vec<Fresh>,
    /// How many files of each of our own records still exist, by generation. Those of others are theirs to delete.
    records: BTreeMap<u64, usize>,
    /// For each writer, the last generation up to which all are committed.
    settled: HashMap<Arc<str>, u64>,
}

impl Backlog {
    pub(crate) fn new(own: Option<&str>) -> Backlog {
        Backlog { own: own.map(Arc::from), waiting: Mutex::default() }
    }

    pub(super) fn own(&self) -> Option<&Arc<str>> {
        self.own.as_ref()
    }

    pub(super) fn is_own(&self, fresh: &Fresh) -> bool {
        self.own.as_ref() == Some(&fresh.writer)
    }

    /// Adds what a commit of this process's writer names.
    pub(crate) fn add_own(&self, commit: &Commit, since: i64) {
        self.add(commit, since);
        self.waiting.lock().records.insert(commit.generation, commit.files.len());
        self.settle(commit.writer.as_str().into(), commit.settled());
    }

    /// Adds what a commit names.
    pub(super) fn add(&self, commit: &Commit, since: i64) {
        let writer: Arc<str> = commit.writer.as_str().into();
        let fresh =
            |file: &SpanFile| Fresh { writer: writer.clone(), generation: commit.generation, since, file: Arc::new(file.clone()) };
        self.waiting.lock().fresh.extend(commit.files.iter().map(fresh));
    }

    /// Notes that all generations of a writer up to one are committed, and known here.
    pub(crate) fn settle(&self, writer: Arc<str>, generation: u64) {
        let mut waiting = self.waiting.lock();
        let settled = waiting.settled.entry(writer).or_default();
        *settled = generation.max(*settled);
    }

    /// For each writer, the last generation up to which all are committed.
    pub(crate) fn settled_generations(&self) -> HashMap<Arc<str>, u64> {
        self.waiting.lock().settled.clone()
    }

    /// The files that no commit to come is older than, so that a watermark can pass them.
    pub(super) fn settled(&self) -> Vec<Fresh> {
        let waiting = self.waiting.lock();
        let settled = |fresh: &&Fresh| waiting.settled.get(&fresh.writer).is_some_and(|settled| fresh.generation <= *settled);
        waiting.fresh.iter().filter(settled).cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<Fresh> {
        self.waiting.lock().fresh.clone()
    }

    /// Files and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let waiting = self.waiting.lock();
        (waiting.fresh.len() as u64, waiting.fresh.iter().map(|fresh| fresh.file.size).sum())
    }

    /// All files that wait.
    pub(crate) fn files(&self) -> Vec<Arc<SpanFile>> {
        self.waiting.lock().fresh.iter().map(|fresh| fresh.file.clone()).collect()
    }

    pub(super) fn remove(&self, paths: &HashSet<&str>) {
        self.waiting.lock().fresh.retain(|fresh| !paths.contains(fresh.file.path.as_str()));
    }

    /// Takes out the files that the lake has, and returns them.
    pub(crate) fn take_covered(&self, lake: &LakeState) -> Vec<Fresh> {
        self.waiting.lock().fresh.extract_if(.., |fresh| fresh.is_in(lake)).collect()
    }

    /// Notes that a file of our own is deleted.
    pub(super) fn deleted(&self, generation: u64) {
        if let Some(files) = self.waiting.lock().records.get_mut(&generation) {
            *files = files.saturating_sub(1);
        }
    }

    /// Our own records all of whose files are deleted. The last one stays: it says which generation is the next.
    pub(super) fn empty_records(&self) -> Vec<u64> {
        let waiting = self.waiting.lock();
        let last = waiting.records.last_key_value().map(|(last, _)| *last);
        let empty = waiting.records.iter().filter(|(generation, files)| **files == 0 && Some(**generation) != last);
        empty.map(|(generation, _)| *generation).collect()
    }

    pub(super) fn forget(&self, generation: u64) {
        self.waiting.lock().records.remove(&generation);
    }
}
