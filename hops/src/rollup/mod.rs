//! Hops, summed by minute: what is kept beside a file of spans, so that nobody computes its hops again.
//!
//! A rollup is a signed measure: of each minute and each [`RollupKey`] it has sums that may be negative. So the rollups of many
//! files add up to the hops of all their spans together, though a trace may have spans in several of them. With the files of a
//! trace in an order, the first's rollup has H of its spans; each further one has H of its own spans, and as a correction what
//! these and those of the files before give together, less what either gives alone. The corrections stand in parts of their own,
//! for each set of files before, and hold as long as that set is there. Everything that is summed is an integer, so the order of
//! summing does not matter (P4), and taking out is exact.
//!
//! It consists of sections, each of which can be read alone: the [`Outline`] first, the [`Keys`], and for each part its totals and
//! its rows, which stand by key: a question about a day asks for few keys, and for all their minutes. Most do not ask for callers:
//! where the keys of an operation have many rows in one minute, there are their sums, too (see [`Grain`]).
//!
//! What cannot be taken out of a maximum are exemplars: a trace that a correction took off an edge is no exemplar of it any more,
//! and the next best is that of another minute or file.

mod builder;
mod fact;
pub(crate) mod format;
pub(crate) mod gathered;
mod keys;
mod known;
mod latencies;
mod measures;
mod operations;
mod part;
pub(crate) mod rows;
mod sums;
mod time;
mod whole;

pub use builder::{RollupBuilder, TraceAdder};
pub use format::FormatError;
pub use keys::{Keys, RollupKey};
pub use latencies::Latencies;
pub use measures::{Best, Count, Measures, SideMeasures};
pub use part::{Grain, LeftOut, Outline, Part};
pub use rows::{Sum, read_rows, read_totals};
pub use sums::{Numbers, StepSums, Sums, Total};
pub use time::{MINUTE, minute};
pub use whole::Rollup;
