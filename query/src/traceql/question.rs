use std::time::Duration;

use meshlake_traceql::{Body, Grid, MetricsLimits, Pipeline, Query, SeriesExpr};

use super::summed::Summable;
use crate::error::QueryError;
use crate::search::{Cursor, Order};
use crate::types::TimeRange;

const TRACES_MAX: usize = 10_000;
const SERIES_MAX: usize = 100_000;
const EXEMPLARS_MAX: usize = 10_000;
/// Nanoseconds. Files are of windows of an hour, unless `live.window` says otherwise; parts that begin with hours read few of them twice.
const HOUR: u64 = 3_600_000_000_000;
/// How many times as far as the part before it each part of a range reaches.
const PART_GROWTH: u64 = 4;

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

/// A part of the range of a query of metrics: of a range in steps, some whole intervals. Nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsPart {
    /// After which time its spans start.
    pub after: u64,
    /// Until which time they do.
    pub until: u64,
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

    /// The parts of the range that an answer may be made of one after the other ([`crate::Engine::traceql_metrics_part`]), the newest
    /// and shortest first. One, if the range is short, if sums answer it, and where what a part says is not what the range says at its times.
    ///
    /// # Errors
    ///
    /// [`QueryError::Invalid`] for a search, for an empty range and for too many intervals.
    pub fn parts(&self) -> Result<Vec<MetricsPart>, QueryError> {
        let (grid, mut parts) = (self.grid()?, Vec::new());
        let (start, mut until) = (grid.start(), grid.end());
        let in_parts = self.series()?.is_of_each_time() && Summable::of(&self.query, &grid).is_none();
        let (longest, mut length) = (if in_parts { (until - start) / PART_GROWTH } else { 0 }, HOUR);
        while length <= longest {
            let border = grid.end() - length;
            let border = border - border % HOUR;
            let after = if self.instant { border } else { grid.ended_by(border) };
            if start < after && after < until {
                parts.push(MetricsPart { after, until });
                until = after;
            }
            length = length.saturating_mul(PART_GROWTH);
        }
        parts.push(MetricsPart { after: start, until });
        Ok(parts)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, hours: u64, step: u64) -> TraceQlMetrics {
        // Ten minutes after a full hour.
        let end = 495_999 * HOUR + HOUR / 6;
        let query = text.parse().unwrap();
        TraceQlMetrics { query, start: end - hours * HOUR, end, step, instant: step == 0, exemplars: 0, max_series: 10 }
    }

    /// Scenario: ranges of hours and days, in steps that hours are made of and in others, and at once. Guarantee: the parts are the range,
    /// without gaps and overlaps, the newest first; they are few, and the first is short; they end with hours, or with intervals.
    #[test]
    fn parts_are_the_range() {
        const MINUTE: u64 = HOUR / 60;
        let text = "{ span.a = 1 } | rate()";
        for (hours, step, count) in
            [(1, MINUTE, 1), (3, MINUTE, 1), (4, MINUTE, 2), (24, 5 * MINUTE, 3), (24, 7 * MINUTE, 3), (24, 0, 3), (720, 0, 5)]
        {
            let asked = asked(text, hours, step);
            let (parts, grid) = (asked.parts().unwrap(), asked.grid().unwrap());
            assert_eq!(parts.len(), count, "{hours} {step}");
            assert_eq!((parts[0].until, parts[count - 1].after), (grid.end(), grid.start()));
            assert!(
                parts.windows(2).all(|pair| pair[0].after == pair[1].until) && parts.iter().all(|part| part.after < part.until)
            );
            assert!(parts[0].until - parts[0].after <= PART_GROWTH * HOUR);
            for part in &parts[..count - 1] {
                let of_hours = step == 0 || HOUR.is_multiple_of(step);
                assert!(if of_hours { part.after.is_multiple_of(HOUR) } else { (part.after - grid.start()).is_multiple_of(step) });
            }
        }
    }

    /// Scenario: a day of which sums tell the numbers, such that other times decide which there are, one interval, and a search. Guarantee: one
    /// part, and an error.
    #[test]
    fn not_every_query_is_answered_in_parts() {
        let parts = |text: &str, step| asked(text, 24, step).parts().map(|parts| parts.len()).ok();
        assert_eq!(parts("{} | rate()", 5 * HOUR / 60), Some(1));
        assert_eq!(parts("{} | rate()", 10_000_000_000), Some(3));
        assert_eq!(parts("{ span.a = 1 } | rate()", 24 * HOUR), Some(1));
        assert_eq!(parts("{ span.a = 1 } | rate() by(name) | topk(3)", HOUR), Some(1));
        assert_eq!(parts("({ span.a = 1 } | rate()) / ({ span.b = 1 } | rate() | bottomk(3)) > 1", HOUR), Some(1));
        assert_eq!(parts("({ span.a = 1 } | rate()) / ({ span.b = 1 } | rate()) > 1", HOUR), Some(3));
        assert_eq!(parts("{ span.a = 1 } | compare({ status = error })", HOUR), Some(1));
        assert_eq!(parts("{ span.a = 1 }", HOUR), None);
    }
}
