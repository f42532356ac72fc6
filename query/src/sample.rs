//! Answers that read whole traces, and so no more than they are told to.

use datafusion::error::Result;
use datafusion::logical_expr::Expr;

use crate::error::QueryError;
use crate::hops::TraceIds;
use crate::types::TimeRange;
use crate::view::View;

/// How much of what it is about an answer was made of (P10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceSample {
    /// Traces with a span in the range.
    pub found: u64,
    /// Traces that were read: all of them, or as many as were allowed. Which ones has nothing to do with what they are.
    pub read: u64,
    /// Spans of these past the most that are taken of one trace.
    pub left_out: u64,
}

impl TraceSample {
    /// Whether there was more than was read.
    pub fn is_partial(&self) -> bool {
        self.read < self.found || self.left_out > 0
    }
}

/// The traces with a span in the range that fulfils `also`, at most so many; and how many that is.
pub(crate) async fn traces_in(view: &View, range: TimeRange, also: Option<Expr>, most: usize) -> Result<(TraceIds, TraceSample)> {
    if most == 0 {
        return Err(QueryError::invalid("an answer is made of one trace at least").into());
    }
    let mut ids = view.traces_in(range, also).await?;
    let found = ids.ids.len() as u64;
    ids.sample(most);
    let sample = TraceSample { found, read: ids.ids.len() as u64, left_out: 0 };
    Ok((ids, sample))
}
