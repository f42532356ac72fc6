//! Traces that do not match, told by less of them than an answer carries.
//!
//! When its spans start and how long they take says a lot of a trace, but seldom whether it matches: how spans stand to each other, their
//! ids say. These columns are the largest ones, next to the ids themselves. So where most traces do not match, they are read only of
//! those that may.

use datafusion::error::Result;
use meshlake_traceql::{Aggregate, Conditions, Intrinsic, Named, Pipeline, Query, SpansetExpr, Stage, View as TraceView};

use super::columns::{START, of_query};
use super::trace::BatchTrace;
use super::whole::WholeTraces;
use crate::lookup::{FoundRows, Needless};
use crate::trace_id::TraceId;
use crate::view::View;

/// What says how spans stand to each other.
const STRUCTURE: [&str; 4] = ["trace_id", "span_id", "parent_span_id", "kind"];
const DURATION: &str = "duration";

/// A look at some columns of traces.
pub(super) struct Glance {
    columns: Vec<&'static str>,
}

/// What a look at traces tells.
pub(super) struct Glanced {
    /// Those that may match.
    pub ids: Vec<TraceId>,
    /// Those that were not looked at, for enough of the ones before them may match; in their order.
    pub left: Vec<TraceId>,
    /// Bytes of what was read.
    pub bytes: usize,
}

impl Glance {
    /// Nothing if times may decide whether a trace matches.
    pub(super) fn new(query: &Query, pipeline: &Pipeline, conditions: &Conditions) -> Option<Glance> {
        use Intrinsic::{NestedSetLeft, NestedSetParent, NestedSetRight, RootName, RootServiceName, TraceDuration};
        // Spans are numbered by their start, and of several roots the first counts.
        let of_times = [NestedSetLeft, NestedSetParent, NestedSetRight, RootName, RootServiceName, TraceDuration];
        let mut columns = of_query(query, conditions);
        let reads_times = conditions.intrinsics.iter().any(|intrinsic| of_times.contains(intrinsic))
            || START.into_iter().chain([DURATION]).any(|time| columns.contains(time));
        if reads_times || adds_up(pipeline) {
            return None;
        }
        columns.extend(STRUCTURE);
        Some(Glance { columns: columns.into_iter().collect() })
    }

    /// The first `most` traces of which a pipeline may leave spans. `attributes` are those of the query, by slot.
    pub(super) async fn at(
        &self,
        view: &View,
        (pipeline, attributes): (&Pipeline, &[Named]),
        (ids, most): (&[TraceId], usize),
        needless: &Needless,
    ) -> Result<Glanced> {
        let mut glanced = Glanced { ids: Vec::new(), left: Vec::new(), bytes: 0 };
        let take = |parts: &[FoundRows]| {
            glanced.bytes += parts.iter().map(FoundRows::bytes).sum::<usize>();
            let batches = parts.iter().flat_map(|found| &found.batches);
            let traces = WholeTraces::of_attributes(batches, attributes)?;
            // These may be but the first, or the next, of all.
            for id in ids {
                if glanced.ids.len() >= most {
                    glanced.left.extend(traces.holds(*id).then_some(*id));
                } else if traces.trace(*id).is_some_and(|trace| may_match(&trace, pipeline)) {
                    glanced.ids.push(*id);
                }
            }
            Ok(())
        };
        view.lookups.find_together(&view.snapshot, &view.tenant, ids, &self.columns, needless, take).await?;
        Ok(glanced)
    }
}

/// Whether a pipeline may leave spans of a trace, of which some columns are known.
fn may_match(trace: &BatchTrace<'_>, pipeline: &Pipeline) -> bool {
    // Which of several copies counts, times say. What a query fails on, it may not be asked of at all: of a short trace.
    trace.copied || TraceView::new(trace).pipeline(pipeline).map_or(true, |spansets| !spansets.is_empty())
}

/// Whether values are added up: a sum of floats hangs on their order, which is that of starts.
fn adds_up(pipeline: &Pipeline) -> bool {
    pipeline.stages.iter().any(|stage| match stage {
        Stage::Spansets(expr) => expr_adds_up(expr),
        Stage::Filter(filter) => matches!(filter.aggregate, Aggregate::Sum(_) | Aggregate::Avg(_)),
        Stage::By(_) | Stage::Coalesce | Stage::Select(_) => false,
    })
}

fn expr_adds_up(expr: &SpansetExpr) -> bool {
    match expr {
        SpansetExpr::Filter(_) => false,
        SpansetExpr::Pipeline(pipeline) => adds_up(pipeline),
        SpansetExpr::Binary { left, right, .. } => expr_adds_up(left) || expr_adds_up(right),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::{SEARCHES, pipeline, query, store};
    use super::*;
    use crate::testing::{batch, tenant};

    fn glance(query: &Query) -> Option<Glance> {
        Glance::new(query, pipeline(query), &query.conditions())
    }

    /// Scenario: queries of several kinds, of traces that are scattered over files and live batches, some of which have copies of spans;
    /// all at once, and until some may match. Guarantee: those that match are left, and of those without copies no others; the first of
    /// them first.
    #[tokio::test]
    async fn traces_that_match_are_left() {
        let (own, engine) = store(27).await;
        let rows = batch(&own);
        let mut left_out = 0;
        for text in SEARCHES.iter().chain(&["{ .x = \"red\" } > { kind = client }", "{ status = ok } ~ { .x != nil }"]) {
            let query = query(text);
            let Some(glance) = glance(&query) else { continue };
            let (mut ids, mut matching, mut copied) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
            for trace in WholeTraces::of_attributes([&rows], &query.attributes).unwrap().traces() {
                ids.push(trace.trace_id());
                copied.extend(trace.copied.then_some(trace.trace_id()));
                let spansets = TraceView::new(&trace).pipeline(pipeline(&query)).unwrap();
                matching.extend((!spansets.is_empty()).then_some(trace.trace_id()));
            }
            let (asked, all) = (query.clone(), ids.len());
            let look = async move |view: View| {
                let of = (pipeline(&asked), asked.attributes.as_slice());
                let at_once = glance.at(&view, of, (&ids, usize::MAX), &Needless::default()).await?;
                // The last come first, some at a time.
                ids.reverse();
                let mut one_by_one = Vec::new();
                while !ids.is_empty() {
                    let glanced = glance.at(&view, of, (&ids, 3), &Needless::default()).await?;
                    assert!(glanced.ids.len() == 3 || glanced.left.is_empty());
                    assert!(ids.ends_with(&glanced.left) && glanced.left.len() < ids.len());
                    one_by_one.extend(glanced.ids);
                    ids = glanced.left;
                }
                Ok((at_once, one_by_one))
            };
            let (at_once, mut one_by_one) = engine.run(&tenant("a"), look).await.unwrap();
            one_by_one.reverse();
            assert!(at_once.left.is_empty() && at_once.ids == one_by_one, "{query}");
            let left: BTreeSet<TraceId> = one_by_one.into_iter().collect();
            assert!(left.is_superset(&matching), "{query}");
            assert!(left.difference(&matching).all(|id| copied.contains(id)), "{query}");
            left_out += all - left.len();
        }
        assert!(left_out > 50, "{left_out}");
    }

    /// Scenario: queries that times have a say in, and others. Guarantee: only of the others a glance tells enough.
    #[test]
    fn times_have_a_say() {
        let tells = |text: &str| glance(&query(text)).is_some();
        for text in ["{ .a = 1 } >> { status = error }", "{ nestedSetParent < 0 } | by(name) | count() > 1", "{ childCount = 2 }"] {
            assert!(tells(text), "{text}");
        }
        for text in [
            "{ duration > 1s }",
            "{ traceDuration > 1s }",
            "{ rootName = \"a\" }",
            "{ nestedSetLeft = 1 }",
            "{ event:timeSinceStart > 1s }",
            "{} | avg(.a) > 1",
            "({ .a = 1 } | sum(.b) > 1) >> {}",
        ] {
            assert!(!tells(text), "{text}");
        }
    }
}
