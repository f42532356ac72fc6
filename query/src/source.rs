//! Where the engine gets its spans from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::{max, min};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use meshlake_storage::{Deletions, LiveBatch, LiveSource, Snapshot, Store, column_index};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::condition::SqlConditions;

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

    /// What is to be deleted of them, and what was.
    fn deletions(&self) -> &Arc<Deletions>;
}

impl SpanSource for Store {
    fn snapshot(&self) -> Result<Snapshot, ArrowError> {
        Store::snapshot(self)
    }

    fn object_store(&self) -> &Arc<dyn ObjectStore> {
        Store::object_store(self)
    }

    fn deletions(&self) -> &Arc<Deletions> {
        Store::deletions(self)
    }
}

/// Spans held in memory alone: for tests of what is built on the engine.
#[derive(Debug)]
pub struct MemorySource {
    snapshot: Snapshot,
    store: Arc<dyn ObjectStore>,
    deletions: Arc<Deletions>,
}

impl MemorySource {
    /// Batches of `meshlake_storage::spans_schema` as live spans. Empty batches are left out.
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        let live = (0..).zip(batches).filter_map(live_batch).collect();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let deletions = Arc::new(Deletions::new(store.clone(), Arc::new(SqlConditions::new()), BTreeMap::new));
        MemorySource { snapshot: Snapshot { live, files: Arc::default(), promotions: Arc::default() }, store, deletions }
    }
}

fn live_batch((number, batch): (u64, RecordBatch)) -> Option<LiveBatch> {
    let starts = batch.column(column_index("start_time")?).as_primitive_opt::<TimestampMicrosecondType>()?;
    let (start_min, start_max) = (min(starts)?, max(starts)?);
    let source = LiveSource { generation: number, shard: 0 };
    Some(LiveBatch { batch, start_min, start_max, source, first_row: 0 })
}

impl SpanSource for MemorySource {
    fn snapshot(&self) -> Result<Snapshot, ArrowError> {
        Ok(self.snapshot.clone())
    }

    fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    fn deletions(&self) -> &Arc<Deletions> {
        &self.deletions
    }
}
