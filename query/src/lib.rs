//! Answers from the spans: traces by id, search, TraceQL, services, graph, SQL.
//!
//! The crate exists so that every surface (REST today; Tempo, Jaeger and Prometheus later) is a thin translation onto one
//! set of questions with one meaning (P3), asked of one consistent view: live batches and fresh files together, each span
//! once (P2).
//!
//! ```text
//!   Engine ── permit, deadline, memory pool ──┐          everything has a limit (P6)
//!     │                                       │
//!     ├─ sql       one read-only statement ───┤
//!     ├─ services  operations, attributes ────┼─> table `spans` of one tenant (P8) ─> live batches ∪ Parquet files
//!     ├─ graph     latency: hops, summed ─────┤
//!     ├─ paths     critical paths, summed ────┤
//!     ├─ traceql   rows, or ids of traces ────┤                                            │
//!     ├─ search    newest matching rows ──────┘                                            │
//!     │            └─ whole traces ───────────┐                                            │
//!     └─ trace     all columns, as OTLP (P5) ─┴─> lookup: pages that may hold an id <──────┘
//! ```
//!
//! A snapshot is taken once a query. Planning does no I/O. An [`Engine`] runs on whichever tokio runtime calls it; give
//! queries a runtime of their own, so that they never starve ingest (P7). Dropping a future or an answer cancels it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod attribute;
mod attributes;
mod condition;
mod critical_path;
mod engine;
mod error;
mod file_attributes;
mod file_items;
mod file_summaries;
mod find;
mod graph;
mod heatmap;
mod histograms;
mod hops;
mod id_set;
mod latency;
mod lookup;
mod marks;
mod nested;
mod nested_names;
mod node;
mod otlp;
mod partitions;
mod plain_texts;
mod promoted;
mod propagation;
mod quantile;
mod rollups;
mod sample;
mod search;
mod services;
mod session;
mod source;
mod spans;
mod summary;
#[cfg(test)]
mod testing;
mod trace_id;
mod traceql;
mod types;
mod values;
mod view;
mod yielding;

pub use attributes::{AttributeName, AttributeNames, AttributeValue, AttributeValues};
pub use condition::SqlConditions;
pub use critical_path::{ClassTimes, CriticalPaths, PathChange, PathPart, PathQuery, PathRow, PathSegment, PathTotals, TracePath};
pub use engine::{Engine, SqlAnswer};
pub use error::QueryError;
pub use graph::{
    Change, ChangeCounts, EdgeDiff, EdgeSide, ErrorChange, Exemplar, Graph, GraphDiff, GraphDiffQuery, GraphDirection, GraphEdge,
    GraphNode, GraphQuery, LatencyChange, Level, MutualTls, NodeDiff, Proxies, QuantileChange, Quantiles, RateChange, Test,
    Traffic,
};
pub use heatmap::{Heatmap, HeatmapColumn, HeatmapQuery, HeatmapSeries};
pub use hops::HopCounts;
pub use latency::{GroupBy, Latency, LatencyPoint, LatencyQuery, LatencySeries, LatencySide};
pub use meshlake_hops::{Class, Confidence, Estimate, Propagation, Shift};
pub use meshlake_storage::{
    Compaction, CompactionState, CompactionStatus, DeletionError, Deletions, Receipt, Rewritten, Scope, Selection, ValueType,
};
pub use meshlake_traceql;
pub use nested_names::NestedNames;
pub use node::NodeName;
pub use propagation::{BegunTrace, PropagationQuery, Propagations, WorkloadPropagation};
pub use quantile::Quantile;
pub use rollups::HopRollups;
pub use sample::TraceSample;
pub use search::{Cursor, Order, Search, SearchPage, ServiceSpans, Status, TraceSummary};
pub use services::{OperationSummary, ServiceSummary};
pub use source::{MemorySource, SpanSource};
pub use trace_id::{TraceId, TraceIdError};
pub use traceql::{FoundSpan, FoundSpanset, FoundTrace, MetricsPart, MetricsSoFar, TraceQlFound, TraceQlMetrics, TraceQlSearch};
pub use types::TimeRange;
