//! Compaction by a process that takes no spans: `meshlake compact`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender};
use meshlake_config::Config;
use object_store::ObjectStore;

use super::LakeError;
use super::backlog::Backlog;
use super::compact::{Compactor, Shared};
use super::compaction::Compaction;
use super::deletion::{Conditions, Deletions};
use super::log::{Lake, random};
use super::rollup::Rollups;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::promoted::Promotions;
use crate::store::{OpenError, Status};

/// Compacts an object store that collectors fill, any number of them and of others like this one. It needs no folder of its
/// own, and remembers nothing.
#[derive(Debug)]
pub struct LoneCompactor {
    compactor: Compactor,
    stop: Receiver<()>,
}

/// Ends a [`LoneCompactor`] in order.
#[derive(Debug)]
pub struct Stop {
    status: Arc<Status>,
    running: Sender<()>,
}

impl Stop {
    /// Lets it end: a merge stops where it is.
    pub fn now(self) {
        self.status.closing.store(true, Ordering::Release);
        drop(self.running);
    }
}

impl LoneCompactor {
    /// Reads the lake. Must be called within a tokio runtime, which then serves the object store's I/O.
    ///
    /// # Errors
    /// If the object store can't be read.
    pub async fn open(
        config: &Config,
        objects: Arc<dyn ObjectStore>,
        conditions: Arc<dyn Conditions>,
        rollups: Arc<dyn Rollups>,
        metrics: Metrics,
    ) -> Result<(LoneCompactor, Stop), OpenError> {
        let lake = Arc::new(Lake::open(objects.clone()).await?);
        let (backlog, status) = (Arc::new(Backlog::default()), Arc::new(Status::default()));
        status.ready.store(true, Ordering::Release);
        let shared = Shared {
            lake,
            live: Arc::new(Live::new(Vec::new(), Promotions::default(), 1)),
            deletions: Arc::new(Deletions::new(objects.clone(), conditions, Default::default)),
            objects,
            compaction: Arc::new(Compaction::of(true, backlog.clone())),
            rollups,
            backlog,
            journal: None,
            status: status.clone(),
            metrics,
        };
        let compactor = Compactor::new(config, shared, format!("{:016x}", random() as u64), &[]);
        let (running, stop) = crossbeam_channel::bounded(0);
        Ok((LoneCompactor { compactor, stop }, Stop { status, running }))
    }

    /// Compacts until it is told to stop. Blocks until then; what fails is logged and tried again.
    pub fn run(self) {
        self.compactor.run(&self.stop);
    }

    /// Compacts until there is nothing due, or it is told to stop. Blocks until then.
    ///
    /// # Errors
    /// The first failure. What was merged until then stays merged.
    pub fn run_once(mut self) -> Result<(), LakeError> {
        match self.compactor.work_now() {
            Err(LakeError::Stopped) => Ok(()),
            worked => worked,
        }
    }
}
