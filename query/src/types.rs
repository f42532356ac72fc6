//! Which time a question is about.

/// A half-open range of start times: `start <= t < end`, in microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First microsecond in the range.
    pub start: i64,
    /// First microsecond after it.
    pub end: i64,
}
