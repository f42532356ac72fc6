use datafusion::error::Result;
use meshlake_traceql::MetricsAnswer;

use super::TraceQlMetrics;
use crate::error::QueryError;
use crate::view::View;

/// The series.
pub(crate) async fn metrics(_view: &View, query: &TraceQlMetrics) -> Result<MetricsAnswer> {
    let _ = (query.series()?, query.grid()?, query.limits()?);
    Err(QueryError::invalid("TraceQL is not answered yet").into())
}
