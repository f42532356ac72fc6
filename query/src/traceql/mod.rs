//! TraceQL on the spans of a tenant.
//!
//! What a query means, says [`meshlake_traceql`]; what spans it has to be asked of, is said here:
//!
//! ```text
//!          ┌─ sums of spans, if they tell enough ─> a trace of each key ────────────────────────────────────┐
//! query ───┤                         ┌─ each span on its own, or with its root ──> rows of the scan ──────┤
//!          └─ conditions ─> matching ┤                                                                    ├─> Trace ─> evaluation
//!                           rows     └─ ids of traces ─> lookup of whole traces, a few thousand a time ───┘
//! ```
//!
//! What the service graph makes of spans, says the function H of their whole trace ([`placed`]), where a query names it.
//!
//! [`matching`] leaves out only what cannot be in an answer. Whole traces are all their spans, in the range or not, wherever they
//! are.

mod answer;
mod candidates;
mod columns;
mod compared;
mod exemplars;
mod filter;
mod glance;
mod matching;
mod metrics;
mod names;
mod needless;
mod parents;
mod passes;
mod placed;
mod question;
mod rooted;
mod rows;
mod search;
mod sieve;
mod summed;
#[cfg(test)]
mod tests;
mod trace;
mod value;
mod values;
mod whole;

use datafusion::error::DataFusionError;
use meshlake_traceql::EvalError;

pub use answer::{FoundSpan, FoundSpanset, FoundTrace, TraceQlFound};
pub use metrics::MetricsSoFar;
pub(crate) use metrics::{metrics, part};
pub(crate) use names::names;
pub use question::{MetricsPart, TraceQlMetrics, TraceQlSearch};
pub(crate) use search::search;
pub(crate) use values::values;

use crate::error::QueryError;

/// A query fails on a span: who asked can do something about it.
fn failed(error: EvalError) -> DataFusionError {
    QueryError::invalid(error.to_string()).into()
}
