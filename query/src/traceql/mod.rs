//! TraceQL on the spans of a tenant.

mod answer;
mod metrics;
mod question;
mod search;
mod values;

pub use answer::{FoundSpan, FoundSpanset, FoundTrace, TraceQlFound};
pub(crate) use metrics::metrics;
pub use question::{TraceQlMetrics, TraceQlSearch};
pub(crate) use search::search;
pub(crate) use values::values;
