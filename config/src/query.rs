//! Settings of queries.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize,
    limits::{Checked, hours, number, seconds, size, time},
};

/// What queries may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Longest time a query may run.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// Memory of all running queries together.
    pub memory_limit: ByteSize,
    /// Rows of a SQL answer.
    pub max_rows: u64,
    /// Threads that run queries; 0: as many as cores.
    pub threads: u32,
    /// Queries that run at once; more wait.
    pub concurrency: u32,
    /// Memory for the footers of Parquet files.
    pub metadata_cache: ByteSize,
    /// Memory for sums of hops and summaries of traces.
    pub rollup_cache: ByteSize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            timeout: seconds(30),
            memory_limit: ByteSize::mib(192),
            max_rows: 100_000,
            threads: 0,
            concurrency: 8,
            metadata_cache: ByteSize::mib(64),
            rollup_cache: ByteSize::mib(128),
        }
    }
}

impl Query {
    pub(crate) fn validate(&self) -> Checked {
        time("query.timeout", self.timeout, Duration::from_millis(1)..=hours(24))?;
        size("query.memory_limit", self.memory_limit, ByteSize::mib(16)..=ByteSize::gib(4096))?;
        number("query.max_rows", self.max_rows, 1..=1_000_000_000)?;
        number("query.threads", self.threads, 0..=1024)?;
        number("query.concurrency", self.concurrency, 1..=1024)?;
        size("query.metadata_cache", self.metadata_cache, ByteSize::bytes(0)..=ByteSize::gib(64))?;
        size("query.rollup_cache", self.rollup_cache, ByteSize::bytes(0)..=ByteSize::gib(64))
    }
}
