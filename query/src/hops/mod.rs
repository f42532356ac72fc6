//! From the rows of `spans` to hops: whole traces, through the function H of [`meshlake_hops`].
//!
//! Whoever needs hops gets them here, from the spans, so that graph and SQL cannot disagree (P3):
//!
//! ```text
//! spans that start in a range -> ids of their traces -> lookup of a few thousand traces -> H -> hops, trace by trace
//! ```
//!
//! A hop's time is the start of its key span, which is a span of its trace: so every hop of a range is of one of these traces.

mod attributes;
mod columns;
mod counts;
mod rows;
mod table;
mod traces;

pub(crate) use columns::{SPAN_COLUMNS, SpanColumns};
pub use counts::HopCounts;
pub(crate) use counts::SignedCounts;
pub(crate) use table::HopsTable;
pub(crate) use traces::{TRACES_AT_ONCE, TraceIds, TraceRows, Traces, ids};
