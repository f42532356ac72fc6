//! Numbers over time.
//!
//! ```text
//! traces -> pipeline -> spans of the range -> groups: a cell for each series and interval -> series -> math, topk, comparisons
//!                                             └──────────── Accumulator, merges ─────────┘  └──────────── finish ───────────┘
//! ```

mod accumulator;
mod alike;
mod cell;
mod compare;
mod counts;
mod grid;
mod groups;
mod math;
mod series;
mod stages;

pub use accumulator::{Accumulator, MetricsAnswer, MetricsLimits};
pub use alike::Alike;
pub use compare::{ComparedCount, ComparedSpans, ComparedTime};
pub use grid::{Grid, GridError};
pub use series::{Exemplar, Series};
