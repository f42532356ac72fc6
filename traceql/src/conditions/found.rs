//! By which of its spans a search finds a trace in a range.
//!
//! A query is evaluated on whole traces. A trace is found if a span of the answer is in the range; but where nothing is asked of some of
//! these, as in `{ .a } && {}`, any span would do, and a search for `.a` is one for `.a` in the range.

use super::Predicate;
use super::necessary::{answer_of, necessary};
use crate::ast::{FieldExpr, Form, Literal, Pipeline, SpansetExpr, SpansetOp, Stage};
use crate::eval::{Spanset, View};
use crate::trace::Trace;

impl<'t, T: Trace + ?Sized> View<'t, T> {
    /// Whether a search finds the trace, of which its pipeline left `spansets`, by the spans `in_range`: one of the spansets is; and where
    /// `{}` alone let some of these in, so is one that the first filter lets through that asks for anything.
    pub fn is_found(&self, pipeline: &Pipeline, spansets: &[Spanset<'t>], in_range: impl Fn(usize) -> bool) -> bool {
        let mut answer = spansets.iter().flat_map(|spanset| &spanset.spans);
        let finders = finders(pipeline);
        let finds = |span: usize| finders.iter().any(|filter| matches!(self.holds(filter, span), Ok(true)));
        answer.any(|span| in_range(*span as usize))
            && (finders.is_empty() || (0..self.trace.len()).any(|span| in_range(span) && finds(span)))
    }
}

/// What one of the spans by which a trace is found has to be like.
pub(super) fn found_by(pipeline: &Pipeline) -> Predicate {
    let finders = finders(pipeline);
    if finders.is_empty() {
        return answer_of(pipeline);
    }
    Predicate::any(finders.into_iter().map(|filter| necessary(filter, true)).collect())
}

/// The filters of which a span has to pass one for a trace to be found; none if the spans of an answer are enough.
fn finders(pipeline: &Pipeline) -> Vec<&FieldExpr> {
    if leaves_any(pipeline) { first(pipeline) } else { Vec::new() }
}

fn spanset_exprs(pipeline: &Pipeline) -> impl Iterator<Item = &SpansetExpr> {
    pipeline.stages.iter().filter_map(|stage| match stage {
        Stage::Spansets(expr) => Some(expr),
        _ => None,
    })
}

/// Whether it is true of every span, as `{}` is, and `{ true && true }`.
fn asks_nothing(filter: &FieldExpr) -> bool {
    match filter {
        FieldExpr::Literal(Literal::Bool(true)) => true,
        FieldExpr::And(all) => all.iter().all(asks_nothing),
        FieldExpr::Or(all) => all.iter().any(asks_nothing),
        _ => false,
    }
}

/// Whether spans of which nothing is asked may be in what a pipeline leaves.
fn leaves_any(pipeline: &Pipeline) -> bool {
    spanset_exprs(pipeline).all(expr_leaves_any)
}

fn expr_leaves_any(expr: &SpansetExpr) -> bool {
    match expr {
        SpansetExpr::Filter(filter) => asks_nothing(filter),
        SpansetExpr::Pipeline(pipeline) => leaves_any(pipeline),
        SpansetExpr::Binary { op: SpansetOp::Structure(_, Form::Right | Form::Not), right, .. } => expr_leaves_any(right),
        SpansetExpr::Binary { left, right, .. } => expr_leaves_any(left) || expr_leaves_any(right),
    }
}

/// The first filters that ask for anything, of one of which a trace has to have a span; none if it need not have any.
fn first(pipeline: &Pipeline) -> Vec<&FieldExpr> {
    spanset_exprs(pipeline).map(first_of).find(|filters| !filters.is_empty()).unwrap_or_default()
}

fn first_of(expr: &SpansetExpr) -> Vec<&FieldExpr> {
    match expr {
        SpansetExpr::Filter(filter) if asks_nothing(filter) => Vec::new(),
        SpansetExpr::Filter(filter) => vec![filter],
        SpansetExpr::Pipeline(pipeline) => first(pipeline),
        // None of the left side has to be there.
        SpansetExpr::Binary { op: SpansetOp::Structure(_, Form::Not), right, .. } => first_of(right),
        // One of the sides is enough.
        SpansetExpr::Binary { op: SpansetOp::Or, left, right } => {
            let sides = [first_of(left), first_of(right)];
            if sides.iter().any(Vec::is_empty) { Vec::new() } else { sides.concat() }
        }
        SpansetExpr::Binary { left, right, .. } => {
            let left = first_of(left);
            if left.is_empty() { first_of(right) } else { left }
        }
    }
}
