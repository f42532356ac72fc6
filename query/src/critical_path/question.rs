//! What is asked of critical paths.

use meshlake_hops::{CriticalPath, Hop, Span, TraceHops};

use crate::error::QueryError;
use crate::trace_id::TraceId;
use crate::types::TimeRange;

/// A question for the critical paths of many traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathQuery {
    /// When paths begin; right-closed, as for hops: `start < t <= end`.
    pub range: TimeRange,
    /// A range to compare with.
    pub baseline: Option<TimeRange>,
    /// Of requests to this service. Without service and operation the paths are those of whole traces.
    pub service: Option<String>,
    /// Of requests whose key span has this name.
    pub operation: Option<String>,
    /// The most traces that are read of each range.
    pub traces: usize,
    /// The most rows that are answered.
    pub limit: usize,
}

impl PathQuery {
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        self.range.check()?;
        self.baseline.map_or(Ok(()), TimeRange::check)
    }

    /// The paths of a trace that are asked for, whenever they begin.
    pub(crate) fn paths<'a>(&self, worker: &mut TraceHops, id: TraceId, spans: &[Span<'a>]) -> Vec<CriticalPath<'a>> {
        if self.service.is_none() && self.operation.is_none() {
            return vec![worker.critical_path(&id.0, spans)];
        }
        worker.critical_paths(&id.0, spans, |hop| self.asks_for(hop))
    }

    fn asks_for(&self, hop: &Hop<'_>) -> bool {
        let is = |asked: &Option<String>, part: &str| asked.as_deref().is_none_or(|asked| asked == part);
        is(&self.service, hop.callee.service) && is(&self.operation, hop.operation)
    }
}
