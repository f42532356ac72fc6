//! Which time a question is about.

use crate::error::QueryError;

/// A half-open range of start times: `start <= t < end`, in microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First microsecond in the range.
    pub start: i64,
    /// First microsecond after it.
    pub end: i64,
}

impl TimeRange {
    /// Fails for a range that holds nothing.
    pub(crate) fn check(self) -> Result<(), QueryError> {
        if self.start >= self.end {
            return Err(QueryError::invalid("the time range is empty: its start is not before its end"));
        }
        Ok(())
    }

    /// Whether it holds the time of a hop, in nanoseconds. For hops ranges are right-closed, `start < t <= end`.
    pub(crate) fn holds(self, time: u64) -> bool {
        let time = i128::from(time);
        i128::from(self.start) * 1000 < time && time <= i128::from(self.end) * 1000
    }
}
