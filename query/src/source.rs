//! Where the engine gets its spans from.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use meshlake_storage::{LiveBatch, Snapshot, Store, column_index};
use object_store::ObjectStore;
use object_store::memory::InMemory;

/// What the engine needs of a store.
pub trait SpanSource: Send + Sync + 'static {
    /// A consistent view of everything acknowledged, each span once (P1, P2). Cheap.
    ///
    /// # Errors
    ///
    /// If the live spans do not make a batch, which is a defect of the store.
    fn snapshot(&self) -> Result<Snapshot, ArrowError>;

    /// Where the snapshot's files are.
    fn object_store(&self) -> &Arc<dyn ObjectStore>;
}

impl SpanSource for Store {
    fn snapshot(&self) -> Result<Snapshot, ArrowError> {
        Store::snapshot(self)
    }

    fn object_store(&self) -> &Arc<dyn ObjectStore> {
        Store::object_store(self)
    }
}

/// Spans held in memory alone: for tests of what is built on the engine.
#[derive(Debug)]
pub struct MemorySource {
    snapshot: Snapshot,
    store: Arc<dyn ObjectStore>,
}

impl MemorySource {
    /// Batches of `meshlake_storage::spans_schema` as live spans. Empty batches are left out.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        let live = batches.into_iter().filter_map(live_batch).collect();
        MemorySource { snapshot: Snapshot { live, files: Arc::default() }, store: Arc::new(InMemory::new()) }
    }
}

fn live_batch(batch: RecordBatch) -> Option<LiveBatch> {
    let starts = batch.column(column_index("start_time")?).as_primitive_opt::<TimestampMicrosecondType>()?;
    let (start_min, start_max) = (min(starts)?, max(starts)?);
    Some(LiveBatch { batch, start_min, start_max })
}

impl SpanSource for MemorySource {
    fn snapshot(&self) -> Result<Snapshot, ArrowError> {
        Ok(self.snapshot.clone())
    }

    fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }
}
