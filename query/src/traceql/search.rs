use datafusion::error::Result;

use super::{TraceQlFound, TraceQlSearch};
use crate::error::QueryError;
use crate::view::View;

/// The newest traces that match.
pub(crate) async fn search(_view: &View, search: &TraceQlSearch) -> Result<TraceQlFound> {
    search.pipeline()?;
    Err(QueryError::invalid("TraceQL is not answered yet").into())
}
