//! What a query reads: a consistent view of the live batches and the fresh files.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

/// Everything that is acknowledged, each span once: a generation's spans are in `live` until the commit of their files, and
/// in `files` from then on (P2). Cheap to take and to keep.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Spans that are not in a file yet.
    pub live: Vec<LiveBatch>,
    /// Committed fresh files, oldest commit first.
    pub files: Arc<Vec<Arc<FreshFile>>>,
}

/// Some of the live spans.
#[derive(Clone, Debug)]
pub struct LiveBatch {
    /// Rows of [`crate::spans_schema`], in order of arrival.
    pub batch: RecordBatch,
    /// Earliest start, microseconds.
    pub start_min: i64,
    /// Latest start, microseconds.
    pub start_max: i64,
}

/// A committed Parquet file of rows of [`crate::spans_schema`], sorted by (tenant, trace_id, start).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshFile {
    /// Where it is in the object store.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Spans.
    pub rows: u64,
    /// Earliest start, microseconds.
    pub start_min: i64,
    /// Latest start, microseconds.
    pub start_max: i64,
    /// Latest end, microseconds, rounded up.
    pub end_max: i64,
    /// The tenants whose spans it holds, sorted.
    pub tenants: Vec<String>,
}
