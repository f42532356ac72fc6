//! The lake: large trace-sorted Parquet files in an open Delta table.
//!
//! Fresh files of a window that has settled are merged into it and committed together with a watermark for each writer, so
//! that a fresh file is read until exactly the version in which its spans are in the table (P2).

mod alone;
mod attribute_summary;
mod backlog;
pub(crate) mod beside;
mod carry;
mod checkpoint;
mod clean;
mod compact;
mod compaction;
mod deletion;
mod delta;
mod erase;
mod filter;
mod follow;
mod interleaved;
mod json;
mod keys;
mod log;
mod merge;
mod metered;
mod output;
mod plan;
mod rollup;
mod sections;
mod share;
mod state;
mod summary;

pub use alone::{LoneCompactor, Stop};
pub(crate) use backlog::{Backlog, Fresh};
pub(crate) use compact::{Compactor, Shared};
pub use compaction::{Compaction, CompactionState, CompactionStatus};
pub use deletion::{Condition, Conditions, DeletionError, Deletions, Receipt, Rewritten, Selection};
pub(crate) use filter::{Shape, key};
pub use filter::{TraceFilter, trace_key};
pub(crate) use follow::delete;
pub(crate) use interleaved::{COLUMNS, Interleaved};
pub(crate) use keys::{Key, Keys};
pub(crate) use log::{Change, Lake};
pub use output::TRACE_MAX;
pub use rollup::{FileRollup, RollupError, Rollups, StoredRollup};
pub use sections::{Sections, SectionsKind};
pub(crate) use state::LakeFile;
pub(crate) use summary::Summarizer;
pub use summary::{OperationCount, Summary};

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use thiserror::Error;

use crate::commit::CommitError;

/// Why the lake could not be read or changed. What was in it is still there.
#[derive(Debug, Error)]
pub enum LakeError {
    /// The object store failed.
    #[error("object store: {0}")]
    Store(#[from] object_store::Error),
    /// A file of the log is not one that this program understands.
    #[error("{path}: {reason}")]
    Unreadable {
        /// Where it is in the object store.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else merged the same window, or removed a file that was being merged.
    #[error("another process changed what was being merged")]
    Conflict,
    /// A commit record can't be read.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A receipt of a deletion can't be read or written.
    #[error(transparent)]
    Deletion(#[from] DeletionError),
    /// The process ends, somebody paused it, or requests need the machine: it is merged later.
    #[error("stopped while merging")]
    Stopped,
    /// Rows do not make a batch: a defect of this crate, or a damaged file.
    #[error("merge rows: {0}")]
    Arrow(#[from] ArrowError),
    /// A file can't be read or encoded.
    #[error("Parquet: {0}")]
    Parquet(#[from] ParquetError),
}
