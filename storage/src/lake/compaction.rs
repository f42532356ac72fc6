//! Whether a process compacts, for those who ask and those who stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::backlog::Backlog;

/// Whether a process compacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionState {
    /// It does.
    Running,
    /// It would, but somebody asked it not to.
    Paused,
    /// It is not to: `compaction.enabled`.
    Off,
}

/// How the compaction of a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionStatus {
    /// Whether it compacts.
    pub state: CompactionState,
    /// Whether it merges at this moment.
    pub merging: bool,
    /// Fresh files that are not in the lake, as far as this process knows.
    pub backlog_files: u64,
    /// Their bytes.
    pub backlog_bytes: u64,
}

/// The compaction of one process. What it is told holds until the process ends.
#[derive(Debug)]
pub struct Compaction {
    enabled: bool,
    paused: AtomicBool,
    merging: AtomicBool,
    backlog: Arc<Backlog>,
}

impl Compaction {
    /// Compaction that has nothing to do.
    pub fn new(enabled: bool) -> Compaction {
        Compaction::of(enabled, Arc::default())
    }

    pub(crate) fn of(enabled: bool, backlog: Arc<Backlog>) -> Compaction {
        Compaction { enabled, paused: AtomicBool::new(false), merging: AtomicBool::new(false), backlog }
    }

    /// Stops it until [`Compaction::resume`]: a merge ends where it is, and is done again later. False if it is off.
    pub fn pause(&self) -> bool {
        self.paused.store(true, Ordering::Release);
        self.enabled
    }

    /// Lets it go on. False if it is off.
    pub fn resume(&self) -> bool {
        self.paused.store(false, Ordering::Release);
        self.enabled
    }

    /// How it is.
    pub fn status(&self) -> CompactionStatus {
        let state = match (self.enabled, self.paused.load(Ordering::Acquire)) {
            (false, _) => CompactionState::Off,
            (true, true) => CompactionState::Paused,
            (true, false) => CompactionState::Running,
        };
        let (backlog_files, backlog_bytes) = self.backlog.size();
        CompactionStatus { state, merging: self.merging.load(Ordering::Acquire), backlog_files, backlog_bytes }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub(super) fn may_run(&self) -> bool {
        self.enabled && !self.paused.load(Ordering::Acquire)
    }

    pub(super) fn note_merging(&self, merging: bool) {
        self.merging.store(merging, Ordering::Release);
    }
}
