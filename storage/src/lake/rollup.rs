//! The hops and traces of a lake file, summed when it is written: `_index/<name>.rollup` and `_index/<name>.trace-summaries`.
//!
//! What is in them is the business of whoever implements [`Rollups`]; here their sections are kept (see [`super::sections`]). A
//! file without them, or with some that can't be read, is read itself.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use object_store::ObjectStore;

use super::sections::{Sections, SectionsKind};
use crate::promoted::Promoted;
use crate::snapshot::SpanFile;

/// Why a rollup could not be made.
pub type RollupError = Box<dyn std::error::Error + Send + Sync>;

/// Makes rollups.
pub trait Rollups: Debug + Send + Sync {
    /// Of a file that begins, of a lake with these promoted attributes.
    fn begin(&self, promoted: &Arc<Vec<Promoted>>) -> Box<dyn FileRollup>;
}

/// The rollup of a file that is being written.
#[async_trait]
pub trait FileRollup: Send {
    /// Adds rows of [`crate::spans_schema`], in the order of the file.
    ///
    /// # Errors
    /// If the rows are none of spans.
    fn add(&mut self, rows: &RecordBatch) -> Result<(), RollupError>;

    /// Ends it. The file can be read; of the lake's files, `before` are those that may hold spans of the same traces.
    ///
    /// # Errors
    /// If these can't be read.
    async fn finish(self: Box<Self>, file: &Arc<SpanFile>, before: Vec<Arc<SpanFile>>) -> Result<StoredRollup, RollupError>;
}

/// A rollup that is to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRollup {
    /// What it consists of.
    pub sections: Vec<Vec<u8>>,
    /// What the summaries of its traces consist of; nothing if there are none.
    pub traces: Vec<Vec<u8>>,
    /// The first and the last minute since the epoch that it says anything about.
    pub bounds: [u64; 2],
}

impl StoredRollup {
    /// Puts the rollup of a file that is about to be committed.
    ///
    /// # Errors
    /// If the object store fails, and for more sections than there may be.
    pub async fn put(&self, store: &dyn ObjectStore, file: &str) -> Result<(), RollupError> {
        if !self.traces.is_empty() {
            Sections::put(SectionsKind::TraceSummaries, store, file, &self.traces).await?;
        }
        Sections::put(SectionsKind::Rollup, store, file, &self.sections).await
    }
}
