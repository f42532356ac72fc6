use datafusion::error::Result;
use meshlake_traceql::{Named, Predicate, TracePredicate, View as TraceView};

use super::columns::{Columns, of_predicate};
use super::passes::of_the_span;
use super::trace::TraceRows;
use crate::lookup::FoundRows;
use crate::trace_id::TraceId;
use crate::view::View;

/// Traces looked up at once, of which only a few columns are read.
const TRACES_AT_ONCE: usize = 8 * 1024;

/// What tells of traces that they do not match, without most of their columns: spans of one kind let a trace through only if it has
/// those of the other kinds, too.
pub(super) struct Sieve {
    predicate: TracePredicate,
    columns: Vec<&'static str>,
}

impl Sieve {
    /// Nothing if a query asks for one span of a trace, which it was found by, and no other.
    pub(super) fn new(predicate: &TracePredicate) -> Option<Sieve> {
        let predicate = of_spans(predicate);
        let mut columns = Columns::new();
        of_trace(&predicate, &mut columns);
        columns.insert("trace_id");
        asks_for_several(&predicate).then(|| Sieve { predicate, columns: columns.into_iter().collect() })
    }

    /// The traces that may match of those with the ids, which are sorted. `attributes` are those of the query, by slot.
    pub(super) async fn sift(&self, view: &View, attributes: &[Named], ids: &[TraceId]) -> Result<Vec<TraceId>> {
        let mut left = Vec::new();
        for ids in ids.chunks(TRACES_AT_ONCE) {
            let take = |parts: &[FoundRows]| {
                let mut rows = TraceRows::new(parts.iter().flat_map(|found| &found.batches), attributes, false)?;
                let passing = rows.rows_by_trace().filter(|trace| self.predicate.passes(&TraceView::new(trace)));
                left.extend(passing.map(|trace| trace.trace_id()));
                Ok(())
            };
            view.lookups.find_together(&view.snapshot, &view.tenant, ids, &self.columns, take).await?;
        }
        Ok(left)
    }
}

/// What spans have to be there as far as each says it by itself.
fn of_spans(predicate: &TracePredicate) -> TracePredicate {
    match predicate {
        TracePredicate::All(parts) => TracePredicate::All(parts.iter().map(of_spans).collect()),
        TracePredicate::Any(parts) => TracePredicate::Any(parts.iter().map(of_spans).collect()),
        TracePredicate::Has(span) => TracePredicate::Has(of_the_span(span)),
    }
}

fn of_trace(predicate: &TracePredicate, columns: &mut Columns) {
    match predicate {
        TracePredicate::All(parts) | TracePredicate::Any(parts) => parts.iter().for_each(|part| of_trace(part, columns)),
        TracePredicate::Has(span) => of_predicate(span, columns),
    }
}

/// Whether spans of several kinds have to be there.
fn asks_for_several(predicate: &TracePredicate) -> bool {
    let says = |part: &&TracePredicate| **part != TracePredicate::Has(Predicate::ANY_SPAN);
    match predicate {
        TracePredicate::All(parts) => parts.iter().filter(says).count() > 1 || parts.iter().any(asks_for_several),
        TracePredicate::Any(parts) => parts.iter().any(asks_for_several),
        TracePredicate::Has(_) => false,
    }
}
