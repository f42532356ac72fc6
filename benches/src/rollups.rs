//! Rollups as a store makes them, and what of its CPU they take.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use meshlake_query::HopRollups;
use meshlake_storage::{FileRollup, Promoted, RollupError, Rollups, SpanFile, StoredRollup};

use crate::Process;

/// Rollups whose CPU time is counted.
#[derive(Debug)]
pub struct TimedRollups {
    rollups: HopRollups,
    nanos: Arc<AtomicU64>,
}

impl TimedRollups {
    /// Counts what `rollups` take.
    pub fn new(rollups: HopRollups) -> Self {
        Self { rollups, nanos: Arc::default() }
    }

    /// What they took so far.
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

impl Rollups for TimedRollups {
    fn begin(&self, promoted: &Arc<Vec<Promoted>>) -> Box<dyn FileRollup> {
        Box::new(TimedRollup { rollup: self.rollups.begin(promoted), nanos: self.nanos.clone() })
    }
}

struct TimedRollup {
    rollup: Box<dyn FileRollup>,
    nanos: Arc<AtomicU64>,
}

/// Adds the CPU time of the thread since `before`: compaction has one of its own.
fn count(nanos: &AtomicU64, before: Duration) -> Result<(), RollupError> {
    let taken = Process::cpu_of_own_thread()?.saturating_sub(before);
    nanos.fetch_add(taken.as_nanos() as u64, Ordering::Relaxed);
    Ok(())
}

#[async_trait]
impl FileRollup for TimedRollup {
    fn add(&mut self, rows: &RecordBatch) -> Result<(), RollupError> {
        let before = Process::cpu_of_own_thread()?;
        self.rollup.add(rows)?;
        count(&self.nanos, before)
    }

    async fn finish(self: Box<Self>, file: &Arc<SpanFile>, before: Vec<Arc<SpanFile>>) -> Result<StoredRollup, RollupError> {
        let begun = Process::cpu_of_own_thread()?;
        let rollup = self.rollup.finish(file, before).await?;
        count(&self.nanos, begun)?;
        Ok(rollup)
    }
}
