//! Traces in a few numbers: what is kept beside a file of spans, so that a list of traces opens none of them.
//!
//! The summaries of a file are sections, each of which can be read alone: the [`TraceOutline`], and blocks of [`TRACES`] traces in
//! the order of their ids, of which the outline has the first of each block. It has the texts, too, each once.
//!
//! A block has no ids, which would be as large as all the rest: a trace is found by a mark of 32 bits. That is exact for who knows
//! that the trace is in the file, for traces of a block with equal marks are not told of; and a trace that is found in no file but
//! one is in that. What is not told of is found in the spans. Not told of are, besides: traces of more than [`SERVICES_MAX`]
//! services, with texts that come after [`TEXTS_MAX`] bytes of them, and those behind [`BLOCKS_MAX`] bytes of blocks, for which an
//! empty block stands.
//!
//! A block, column by column: the number of traces; their marks (u32, little-endian); the earliest start, nanoseconds (signed); and
//! of each trace
//!
//! ```text
//! twice its spans, and 1 more if two of them have one id; 0 if it is not told of, all else being 0 then
//! its start, from the earliest    its duration    its spans with an error
//! the name of its root, and the service of that: the number of the text, and 1 more; 0 for none
//! how many services it has, and of each: the number of the text; twice its spans, and 1 more if some have an error; then how many
//! ```

mod block;
mod builder;
mod outline;

pub use block::{ServiceCounts, StoredTrace, Told};
pub use builder::{TraceSpan, TraceSummaryBuilder};
pub use outline::TraceOutline;

/// Traces of a block.
pub const TRACES: usize = 256;
/// Services of a trace that is told of.
pub const SERVICES_MAX: usize = 256;
/// Bytes of texts, about.
pub const TEXTS_MAX: usize = 1 << 20;
/// Bytes of blocks, about.
pub const BLOCKS_MAX: usize = 32 << 20;

/// What tells a trace of a block from the others.
fn mark(id: &[u8; 16]) -> u32 {
    let id = u128::from_be_bytes(*id);
    let mixed = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((id >> 64) as u64).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (mixed >> 32) as u32
}
