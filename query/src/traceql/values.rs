use datafusion::error::Result;
use meshlake_traceql::{Attribute, Query, Value};

use crate::error::QueryError;
use crate::types::TimeRange;
use crate::view::View;

/// The most frequent values of an attribute.
pub(crate) async fn values(
    _view: &View,
    _attribute: &Attribute,
    _filter: Option<&Query>,
    range: TimeRange,
    _limit: usize,
) -> Result<Vec<(Value<'static>, u64)>> {
    range.check()?;
    Err(QueryError::invalid("TraceQL is not answered yet").into())
}
