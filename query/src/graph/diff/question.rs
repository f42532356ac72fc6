//! What is asked.

use super::super::GraphQuery;
use crate::error::QueryError;
use crate::types::TimeRange;

/// A question for what changed.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphDiffQuery {
    /// The graph that is compared. `min_requests` are those of both ranges together, `limit` that of edges that are not the same.
    pub graph: GraphQuery,
    /// The range that its range is compared with, of any length; right-closed, too.
    pub baseline: TimeRange,
    /// The share of all changes found that may be found by chance, between 0 and 1.
    pub q: f64,
}

impl GraphDiffQuery {
    /// # Errors
    ///
    /// [`QueryError::Invalid`] for a range that is empty, for two that overlap, and for a `q` that is no share.
    pub fn check(&self) -> Result<(), QueryError> {
        let (range, baseline) = (self.graph.range, self.baseline);
        range.check()?;
        baseline.check()?;
        if range.start < baseline.end && baseline.start < range.end {
            return Err(QueryError::invalid("the range and the baseline overlap: their hops would be compared with themselves"));
        }
        if !(self.q > 0.0 && self.q < 1.0) {
            return Err(QueryError::invalid(format!("q is {}, it is a share between 0 and 1", self.q)));
        }
        Ok(())
    }
}
