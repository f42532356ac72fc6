//! Spans, summed by minute: what is kept beside a file of spans, so that nobody counts them again.
//!
//! Other than hops, spans are what they are whatever else there is: the rollups of files add up, and nothing corrects them. A key
//! is what TraceQL groups by most: service, name, kind, status. Counts stand apart from durations, for they are small and asked for
//! more.
//!
//! A rollup consists of sections, each of which can be read alone: the [`SpanOutline`], the [`SpanKeys`], and those with sums,
//! which stand by key. Of counts: for each key the distance from the key before, the number of its minutes, and for each the
//! distance from the minute before and the count. Of durations: see [`crate::rollup::read_rows`].

mod builder;
mod counts;
mod fewer;
mod keys;
mod outline;
mod sums;

pub use builder::{SpanRollup, SpanRollupBuilder};
pub use counts::read_counts;
pub use fewer::SpanCounts;
pub use keys::{KeyNumbers, KeyParts, SpanKey, SpanKeys};
pub use outline::SpanOutline;
pub use sums::{SpanNumbers, SpanStepSums, SpanSums};
