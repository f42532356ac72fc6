//! The names of attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use hashbrown::{HashMap, HashSet};
use meshlake_traceql::{Body, Conditions, Query, Reach, Scope, Trace, View as TraceView};

use super::candidates::Candidates;
use super::columns::of_query;
use super::failed;
use super::rows::AllAttributes;
use super::trace::{BatchTrace, TraceRows};
use crate::error::QueryError;
use crate::types::TimeRange;
use crate::view::View;

/// Different names that are noted in a scope; those that come later are not.
const NAMES_MAX: usize = 100_000;

/// The names of the attributes that the spans of a range have which a search leaves, by whose they are.
pub(crate) async fn names(view: &View, filter: &Query, range: TimeRange) -> Result<BTreeMap<Scope, BTreeSet<String>>> {
    range.check()?;
    if matches!(filter.body, Body::Metrics(_)) {
        return Err(QueryError::invalid("names are of spans that a search leaves, not of metrics").into());
    }
    // So is every column read in which an attribute may stand.
    let conditions = Conditions { all_attributes: true, ..filter.conditions() };
    let columns = of_query(filter, &conditions);
    let candidates = Candidates { view, query: filter, conditions: &conditions, range, columns };
    let parts = if conditions.reach == Reach::Span { of_spans(&candidates).await? } else { vec![of_traces(&candidates).await?] };
    let mut names = BTreeMap::<Scope, BTreeSet<String>>::new();
    for (scope, of_scope) in parts.into_iter().flat_map(|part| part.0) {
        names.entry(scope).or_default().extend(of_scope);
    }
    Ok(names)
}

/// Of spans that are asked each on its own, as several tasks note them.
async fn of_spans(candidates: &Candidates<'_>) -> Result<Vec<Names>> {
    let query = Arc::new(candidates.query.clone());
    let add = move |names: &mut Names, batch: &RecordBatch| -> Result<()> {
        let Body::Search(pipeline) = &query.body else { return Ok(()) };
        let (rows, all) = (TraceRows::new([batch], &query.attributes)?, AllAttributes::new(batch)?);
        for (row, span) in rows.spans().enumerate() {
            if !TraceView::new(&span).pipeline(pipeline).map_err(failed)?.is_empty() {
                all.each(row, &mut |scope, name, _| names.note(scope, name));
            }
        }
        Ok(())
    };
    candidates.sparing().await?.each(Names::default, add).await
}

/// Of spans of whole traces.
async fn of_traces(candidates: &Candidates<'_>) -> Result<Names> {
    let Candidates { query, range, .. } = candidates;
    let mut names = Names::default();
    let note = |traces: &mut dyn Iterator<Item = BatchTrace<'_>>| -> Result<()> {
        let Body::Search(pipeline) = &query.body else { return Ok(()) };
        for trace in traces {
            for span in TraceView::new(&trace).pipeline(pipeline).map_err(failed)?.into_iter().flat_map(|spanset| spanset.spans) {
                let start = (trace.facts(span as usize).start / 1000) as i64;
                if range.start <= start && start < range.end {
                    trace.each_attribute(span as usize, &mut |scope, name, _| names.note(scope, name));
                }
            }
        }
        Ok(())
    };
    candidates.traces(note).await?;
    Ok(names)
}

/// Names that were seen.
#[derive(Default)]
struct Names(HashMap<Scope, HashSet<String>>);

impl Names {
    fn note(&mut self, scope: Scope, name: &str) {
        let of_scope = self.0.entry(scope).or_default();
        if of_scope.len() < NAMES_MAX {
            of_scope.get_or_insert_with(name, str::to_owned);
        }
    }
}
