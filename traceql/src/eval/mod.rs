//! What a query says of one trace.
//!
//! A pipeline takes spansets to spansets; the first is the whole trace, its spans by (start, id). Expressions are evaluated on one
//! span at a time. Everything is linear in the spans of the trace, or `O(n log n)` where they have to be sorted.

mod aggregate;
mod arithmetic;
mod compare;
mod error;
mod field;
mod lookup;
mod pipeline;
mod shape;
mod structure;
mod view;

pub(crate) use arithmetic::{arithmetic, floats};
pub(crate) use compare::{compare, matches};
pub use error::EvalError;
pub use pipeline::Spanset;
pub use view::View;
