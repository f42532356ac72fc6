//! The search of traces: what is asked, and what is found.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::QueryError;
use crate::trace_id::TraceId;
use crate::types::TimeRange;

/// A search of traces. A trace is found if ONE of its spans starts in the range and fulfils all of service, operation,
/// status, durations and attributes (as in Jaeger); the summary is then of the whole trace, in the range or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The span's service, as in the column `service`.
    pub service: Option<String>,
    /// The span's name.
    pub operation: Option<String>,
    /// Shortest duration of the span, included.
    pub min_duration: Option<Duration>,
    /// Longest duration of the span, included.
    pub max_duration: Option<Duration>,
    /// The span's status, as in the column `status`.
    pub status: Option<Status>,
    /// Attributes by key and text of the value, as the SQL function `attribute(key)` gives it; all must be on the span.
    pub attributes: Vec<(String, String)>,
    /// When the span starts.
    pub range: TimeRange,
    /// Traces on one page; 1 to 1,000.
    pub limit: usize,
    /// Which traces come first.
    pub order_by: Order,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
}

/// The status of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not set by the sender.
    Unset,
    /// Set to ok.
    Ok,
    /// Set to error.
    Error,
}

/// Which traces come first; among equals the smaller trace id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest: the latest start of the whole trace.
    #[default]
    Start,
    /// The longest: from the trace's first start to its last end.
    Duration,
}

/// Traces found.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchPage {
    /// In the order asked for.
    pub traces: Vec<TraceSummary>,
    /// For the next page; none where this page is the last.
    pub next: Option<Cursor>,
}

/// A whole trace in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSummary {
    /// The trace.
    pub trace_id: TraceId,
    /// Service of the root: the span without parent that starts first; none where it has not come.
    pub root_service: Option<String>,
    /// Name of the root.
    pub root_operation: Option<String>,
    /// First start, nanoseconds since the epoch.
    pub start: i64,
    /// From the first start to the last end, nanoseconds. A span that ends before it starts counts as ending there.
    pub duration: i64,
    /// Spans.
    pub spans: u64,
    /// Spans whose `error` is true.
    pub errors: u64,
    /// By service, most spans first, then by name. Spans without a service are only in `spans`.
    pub services: Vec<ServiceSpans>,
}

/// The part of one service in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpans {
    /// The service.
    pub service: String,
    /// Its spans.
    pub spans: u64,
    /// Those whose `error` is true.
    pub errors: u64,
}

/// Where a page ended: opaque text, good for the same search only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The order of the search that gave it.
    pub order: Order,
    /// Start or duration of the last trace, nanoseconds.
    pub(crate) key: i64,
    pub(crate) trace_id: TraceId,
    /// For [`Order::Start`]: no trace after this page has a matching span that starts later, microseconds.
    pub(crate) newest: i64,
}

impl ServiceSpans {
    /// In the order of [`TraceSummary::services`].
    pub(crate) fn sorted(services: impl Iterator<Item = ServiceSpans>) -> Vec<ServiceSpans> {
        let mut services: Vec<ServiceSpans> = services.collect();
        services.sort_by(|a, b| b.spans.cmp(&a.spans).then_with(|| a.service.cmp(&b.service)));
        services
    }
}

impl Status {
    /// As it stands in the column `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Unset => "unset",
            Status::Ok => "ok",
            Status::Error => "error",
        }
    }
}

impl FromStr for Status {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let all = [Status::Unset, Status::Ok, Status::Error];
        let found = all.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| QueryError::invalid(format!("`{text}` is no status; it is unset, ok or error")))
    }
}

impl FromStr for Order {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        match text {
            "start" => Ok(Order::Start),
            "duration" => Ok(Order::Duration),
            _ => Err(QueryError::invalid(format!("`{text}` is no order; it is start or duration"))),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Start => 's',
            Order::Duration => 'd',
        };
        write!(out, "{order}{:016x}{:016x}{}", self.key, self.newest, self.trace_id)
    }
}

impl FromStr for Cursor {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        parse_cursor(text).ok_or_else(|| QueryError::invalid("the cursor is not one that a search has given"))
    }
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let order = match text.as_bytes().first()? {
        b's' => Order::Start,
        b'd' => Order::Duration,
        _ => return None,
    };
    if text.len() != 65 || !text.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = |from: usize| u64::from_str_radix(&text[from..from + 16], 16).ok().map(|bits| bits as i64);
    Some(Cursor { order, key: number(1)?, newest: number(17)?, trace_id: text[33..].parse().ok()? })
}
