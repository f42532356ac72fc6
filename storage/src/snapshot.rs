//! What a query reads: a consistent view of the live batches and of the fresh and lake files.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::files::Files;
use crate::lake::TraceFilter;
use crate::promoted::{PromotedColumns, Promotions};

/// Everything that is acknowledged, each span once: a generation's spans are in `live` until the commit of their files, and
/// in `files` from then on (P2). Cheap to take and to keep.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Spans that are not in a file yet.
    pub live: Vec<LiveBatch>,
    /// Committed files, fresh and of the lake.
    pub files: Arc<Files>,
    /// The lake's promoted attributes.
    pub promotions: Arc<Promotions>,
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
    /// Where the rows come from, and how many of the same come before these.
    pub source: LiveSource,
    /// See `source`.
    pub first_row: u64,
}

/// A sequence of live rows: of one generation and one decode thread. It only grows, however it is cut into batches, until it is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LiveSource {
    /// The generation's number, which no other of this process has.
    pub generation: u64,
    /// The thread's.
    pub shard: usize,
}

/// A committed Parquet file of rows of [`crate::spans_schema`], sorted by (tenant, trace_id, start).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SpanFile {
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
    /// The beginning of its window, microseconds; none where its spans are of many, or their clocks can't be trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<i64>,
    /// The traces that it may hold, where they are known: of lake files, and of fresh files that this process flushed.
    #[serde(skip)]
    pub traces: Option<Arc<TraceFilter>>,
    /// The version of the lake's log that added it; none of fresh files.
    #[serde(skip)]
    pub version: Option<u64>,
    /// The first and the last minute since the epoch that its rollup says anything about; none if it has no rollup.
    #[serde(skip)]
    pub rollup: Option<[u64; 2]>,
    /// The promoted attributes that it has columns for; those of fresh files are none.
    #[serde(skip)]
    pub promoted: PromotedColumns,
}

impl SpanFile {
    /// Whether it is a file of the lake.
    pub fn is_in_lake(&self) -> bool {
        self.path.starts_with("lake/")
    }
}

/// Files never change: the same path is the same file.
impl PartialEq for SpanFile {
    fn eq(&self, other: &SpanFile) -> bool {
        (&self.path, self.size, self.rows, &self.tenants, self.window)
            == (&other.path, other.size, other.rows, &other.tenants, other.window)
    }
}

impl Eq for SpanFile {}
