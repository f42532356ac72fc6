//! What Meshlake keeps, and how: from acknowledged requests to Parquet files, and a consistent view of both.
//!
//! # Why
//! A success answer must survive `kill -9` and power loss, spans must be queryable the moment they are acknowledged, and what
//! stays must be open columns. Four places do this, each span in exactly one of them at any moment a query can see:
//!
//! ```text
//! request -> journal (fsync) -> live batches -> fresh Parquet file + commit record -> lake file + Delta commit
//!            durable            queryable      open, in the object store              large, sorted, for any reader
//! ```
//!
//! # Promises
//! - P1: [`Store::append`] answers when the request is fsynced and its rows are in every later [`Snapshot`].
//! - P2: one generation of live spans is one journal segment is one commit. A crash at any point leaves the segment (replayed)
//!   or the commit (the segment is dropped), and the commit swaps live batches for files in one step.
//! - P5: the columns of [`spans_schema`] hold every field of OTLP; [`ATTRIBUTE_COLUMNS`] says how attributes read back.
//! - P6: live memory, journal segments, waiting requests and remembered hashes are bounded, each by a setting.
//!
//! Everything but the journal goes through an [`object_store::ObjectStore`]: a folder or an S3-compatible bucket.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod attributes;
mod builder;
mod check;
mod columns;
mod commit;
mod counter;
mod dedupe;
#[cfg(target_os = "linux")]
mod direct;
mod disk;
mod encode;
mod files;
mod frame;
mod frequent;
mod fresh;
mod ingest;
mod journal;
mod lake;
mod layout;
mod live;
mod metrics;
mod object;
mod priority;
mod promoted;
mod reader;
mod records;
mod repair;
mod residual;
mod same;
mod schema;
mod snapshot;
mod sorted;
mod store;
mod trace_index;
mod writer;

pub use attributes::{ATTRIBUTE_COLUMNS, AttributeColumn, Form, Place, Source, places};
pub use builder::{AttributeValues, Attributes, EventColumn, Link, LinkColumn, Row, SpanBuilder};
pub use check::{Problem, Report, check};
pub use columns::{MapColumn, NumberColumn, TextColumn, TextKey, Value};
pub use commit::CommitError;
pub use counter::{AttributeCount, AttributeCounter, AttributeCounts, Counted};
pub use disk::{Disk, DiskFile, LocalDisk};
pub use encode::columns_with_values;
pub use files::{Day, Files};
pub use frame::{Content, Encoding, Frame};
pub use ingest::{Accepted, Answer, Decode, Refused};
pub use lake::{
    Compaction, CompactionState, CompactionStatus, Condition, Conditions, DeletionError, Deletions, FileRollup, LakeError,
    LoneCompactor, OperationCount, Receipt, Rewritten, RollupError, Rollups, Sections, SectionsKind, Selection, Stop, StoredRollup,
    Summary, TRACE_MAX, TraceFilter, trace_key,
};
pub use metrics::Metrics;
pub use object::{FolderStore, open_object_store};
pub use priority::Priority;
pub use promoted::{Promoted, PromotedColumns, Promotions, demote, lake_schema, promote, promoted_column, restored_map};
pub use reader::FileReader;
pub use repair::repair;
pub use residual::{Found, ResidualMap, ValueType};
pub use same::same_text;
pub use schema::{
    Scope, attribute_entry_fields, attribute_map_type, attribute_value_fields, column_index, event_fields, link_fields, list_item,
    spans_schema, text_type, time_type,
};
pub use snapshot::{LiveBatch, LiveSource, Snapshot, SpanFile};
pub use sorted::CLOCK_FLAG;
pub use store::{Health, OpenError, Store};
