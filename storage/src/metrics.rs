//! What storage counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters of the way from a request to a file.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) duplicates: Counter,
    pub(crate) journal_bytes: Counter,
    pub(crate) journal_failures: Counter,
    pub(crate) journal_sync: Histogram,
    pub(crate) journal_group: Histogram,
    pub(crate) live_bytes: Gauge,
    pub(crate) flushed_spans: Counter,
    pub(crate) flushed_bytes: Counter,
    pub(crate) flush_failures: Counter,
    pub(crate) flush: Histogram,
    pub(crate) replayed: Counter,
    pub(crate) replay_refused: Counter,
    pub(crate) torn_bytes: Counter,
    pub(crate) backlog_files: Gauge,
    pub(crate) lake_files: Gauge,
    pub(crate) lake_commit: Histogram,
    pub(crate) compacted_spans: Counter,
    pub(crate) compacted_bytes: Counter,
    pub(crate) compaction_failures: Counter,
    pub(crate) merged_duplicates: Counter,
    pub(crate) retired_spans: Counter,
}

impl Metrics {
    /// Makes the counters and registers them under `meshlake_`.
    pub fn new(registry: &mut Registry) -> Metrics {
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        let metrics = Metrics {
            duplicates: Counter::default(),
            journal_bytes: Counter::default(),
            journal_failures: Counter::default(),
            journal_sync: seconds(),
            journal_group: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            live_bytes: Gauge::default(),
            flushed_spans: Counter::default(),
            flushed_bytes: Counter::default(),
            flush_failures: Counter::default(),
            flush: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            replayed: Counter::default(),
            replay_refused: Counter::default(),
            torn_bytes: Counter::default(),
            backlog_files: Gauge::default(),
            lake_files: Gauge::default(),
            lake_commit: seconds(),
            compacted_spans: Counter::default(),
            compacted_bytes: Counter::default(),
            compaction_failures: Counter::default(),
            merged_duplicates: Counter::default(),
            retired_spans: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("meshlake");
        let m = &metrics;
        registry.register("duplicate_requests", "Byte-identical retries that were not stored again", m.duplicates.clone());
        registry.register("journal_bytes", "Bytes written to the journal", m.journal_bytes.clone());
        registry.register("journal_failures", "Failed writes to the journal", m.journal_failures.clone());
        registry.register("journal_sync_seconds", "Time to write and sync a group of requests", m.journal_sync.clone());
        registry.register("journal_group_requests", "Requests that shared one sync", m.journal_group.clone());
        registry.register("live_bytes", "Memory of spans that are not in a file yet", m.live_bytes.clone());
        registry.register("flushed_spans", "Spans written to fresh files", m.flushed_spans.clone());
        registry.register("flushed_bytes", "Bytes of fresh files", m.flushed_bytes.clone());
        registry.register("flush_failures", "Failed flushes, each tried again", m.flush_failures.clone());
        registry.register("flush_seconds", "Time to sort, encode, put and commit a generation", m.flush.clone());
        registry.register("replayed_requests", "Requests read back from the journal at the start", m.replayed.clone());
        registry.register(
            "replay_refused_requests",
            "Requests from the journal that were refused at the start: as when they came, if nothing has changed",
            m.replay_refused.clone(),
        );
        registry.register("journal_torn_bytes", "Bytes cut off the journal at the start: never acknowledged", m.torn_bytes.clone());
        registry.register("backlog_files", "Fresh files that are not in the lake", m.backlog_files.clone());
        registry.register("lake_files", "Files of the lake", m.lake_files.clone());
        registry.register(
            "lake_commit_seconds",
            "Time to change the lake's table and what queries see of it",
            m.lake_commit.clone(),
        );
        registry.register("compacted_spans", "Spans written to lake files", m.compacted_spans.clone());
        registry.register("compacted_bytes", "Bytes of lake files written", m.compacted_bytes.clone());
        registry.register("compaction_failures", "Failed compactions, each tried again", m.compaction_failures.clone());
        registry.register("merged_duplicates", "Spans that compaction found twice", m.merged_duplicates.clone());
        registry.register("retired_spans", "Spans that retention took out", m.retired_spans.clone());
        metrics
    }
}
