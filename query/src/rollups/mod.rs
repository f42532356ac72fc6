//! Sums of hops: of each file of spans, so that a question about a month reads no span.
//!
//! The sums of a file are made when compaction writes it, and kept beside it; those of a file without are made when they are first
//! asked for, and kept in memory. They add up over files, whatever files a trace is spread over: see [`meshlake_hops::rollup`]. So
//! every answer is a list of [`Piece`]s:
//!
//! ```text
//! whole minutes: each file's sums, and its corrections for the traces that files before it have spans of; live spans, alike (`live`)
//! the rest:      hops of the traces that have spans there
//! ```
//!
//! Beside them are kept summaries of the traces of each file, see [`trace_summaries`].
//!
//! The files of a tenant stand in one order: those of the lake by the version that added them, then fresh files, then live spans.

mod correct;
mod hop_table;
mod kept;
mod live;
mod made;
mod piece;
mod pieces;
mod resident;
mod sections;
mod span_pieces;
mod span_table;
mod span_writer;
mod table;
mod trace_summaries;
mod trace_writer;
mod writer;

pub(crate) use kept::{Kept, kept_sums};
pub(crate) use piece::{OpenPiece, Piece, PieceId};
pub(crate) use pieces::{Summed, on_the_fly, pieces};
pub(crate) use resident::FileRollups;
pub(crate) use span_pieces::{Asked, OpenSpans};
pub(crate) use table::{RollupTable, Rows, STEPS};
pub(crate) use trace_summaries::Copies;
pub use writer::HopRollups;
