use std::time::Duration;

use meshlake_traceql::{Body, Grid, MetricsLimits, Pipeline, Query, SeriesExpr};

use crate::error::QueryError;
use crate::search::{Cursor, Order};
use crate::types::TimeRange;

const TRACES_MAX: usize = 10_000;
const SERIES_MAX: usize = 100_000;
const EXEMPLARS_MAX: usize = 10_000;

/// A search in TraceQL. A trace is found if ONE span of its spansets starts in the range, and the whole trace is as long as asked for. Where
/// any span may be in a spanset, as in `{ .a = 1 } && {}`, one that the first filter lets through that asks for anything starts in the range,
/// too. The query is evaluated on whole traces: its spansets may hold spans before and after the range.
#[derive(Clone, Debug)]
pub struct TraceQlSearch {
    /// What is searched for: a pipeline, no metrics.
    pub query: Query,
    /// When a span that matches starts, microseconds.
    pub range: TimeRange,
    /// Traces in the answer; 1 to 10,000.
    pub limit: usize,
    /// Spans of each spanset in the answer; 0: all.
    pub spans_per_spanset: usize,
    /// Shortest duration of the whole trace, included.
    pub min_duration: Option<Duration>,
    /// Longest duration of the whole trace, included.
    pub max_duration: Option<Duration>,
    /// Where the page before ended; of an answer to the same search.
    pub cursor: Option<Cursor>,
}

impl TraceQlSearch {
    /// What is searched for.
    pub(super) fn pipeline(&self) -> Result<&Pipeline, QueryError> {
        if self.limit == 0 || self.limit > TRACES_MAX {
            return Err(QueryError::invalid(format!("limit is {}; it is from 1 to {TRACES_MAX}", self.limit)));
        }
        self.range.check()?;
        if self.cursor.is_some_and(|cursor| cursor.order != Order::Start) {
            return Err(QueryError::invalid("the cursor is of a search in another order"));
        }
        match &self.query.body {
            Body::Search(pipeline) => Ok(pipeline),
            Body::Metrics(_) => Err(QueryError::invalid("the query asks for metrics, where traces are searched for")),
        }
    }
}

/// Numbers over time in TraceQL.
#[derive(Clone, Debug)]
pub struct TraceQlMetrics {
    /// What is asked: metrics, no search.
    pub query: Query,
    /// After which time spans start that count, nanoseconds since 1970.
    pub start: u64,
    /// Until which time they do.
    pub end: u64,
    /// The length of an interval, nanoseconds; 0: chosen, see [`Grid::range`].
    pub step: u64,
    /// Whether the range is one interval, whatever the step.
    pub instant: bool,
    /// Exemplars in the answer, of all series; at most 10,000.
    pub exemplars: usize,
    /// Series in the answer; 1 to 100,000.
    pub max_series: usize,
}

impl TraceQlMetrics {
    /// The intervals of the answer: what its numbers are stamped with.
    ///
    /// # Errors
    ///
    /// [`QueryError::Invalid`] for an empty range and for too many intervals.
    pub fn grid(&self) -> Result<Grid, QueryError> {
        let grid = match (self.instant, self.step) {
            (true, _) => Grid::instant(self.start, self.end),
            (false, step) => Grid::range(self.start, self.end, Some(step).filter(|step| *step > 0)),
        };
        grid.map_err(|error| QueryError::invalid(error.to_string()))
    }

    pub(super) fn limits(&self) -> Result<MetricsLimits, QueryError> {
        if self.max_series == 0 || self.max_series > SERIES_MAX {
            return Err(QueryError::invalid(format!("the limit of series is {}; it is from 1 to {SERIES_MAX}", self.max_series)));
        }
        if self.exemplars > EXEMPLARS_MAX {
            return Err(QueryError::invalid(format!(
                "the limit of exemplars is {}; it is at most {EXEMPLARS_MAX}",
                self.exemplars
            )));
        }
        Ok(MetricsLimits { series: self.max_series, exemplars: self.exemplars })
    }

    pub(super) fn series(&self) -> Result<&SeriesExpr, QueryError> {
        match &self.query.body {
            Body::Metrics(series) => Ok(series),
            Body::Search(_) => Err(QueryError::invalid("the query searches for traces, where metrics are asked for")),
        }
    }
}
