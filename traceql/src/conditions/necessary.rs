//! From what is asked to what is necessary for it.

use super::{Predicate, Test, TracePredicate};
use crate::ast::{Comparison, FieldExpr, Form, Literal, Pipeline, Relation, SpansetExpr, SpansetOp, Stage};

impl Predicate {
    /// All of these, without what says nothing.
    pub(super) fn all(predicates: Vec<Predicate>) -> Predicate {
        let mut all = Vec::new();
        for predicate in predicates {
            match predicate {
                Predicate::All(inner) => all.extend(inner),
                Predicate::Any(none) if none.is_empty() => return Predicate::Any(none),
                other => all.push(other),
            }
        }
        if let [_] = all.as_slice() { all.remove(0) } else { Predicate::All(all) }
    }

    /// One of these, without what is never so.
    pub(super) fn any(predicates: Vec<Predicate>) -> Predicate {
        let mut any = Vec::new();
        for predicate in predicates {
            match predicate {
                Predicate::Any(inner) => any.extend(inner),
                Predicate::All(none) if none.is_empty() => return Predicate::All(none),
                other => any.push(other),
            }
        }
        if let [_] = any.as_slice() { any.remove(0) } else { Predicate::Any(any) }
    }
}

impl TracePredicate {
    pub(super) fn any(mut predicates: Vec<TracePredicate>) -> TracePredicate {
        if predicates.len() == 1 { predicates.remove(0) } else { TracePredicate::Any(predicates) }
    }

    fn all(mut predicates: Vec<TracePredicate>) -> TracePredicate {
        if predicates.len() == 1 { predicates.remove(0) } else { TracePredicate::All(predicates) }
    }
}

/// What a span has to be like to get into a pipeline.
pub(super) fn spans_of(pipeline: &Pipeline) -> Predicate {
    let first = pipeline.stages.iter().find(|stage| !matches!(stage, Stage::Select(_)));
    match first {
        Some(Stage::Spansets(expr)) => operands(expr),
        _ => Predicate::ANY_SPAN,
    }
}

fn operands(expr: &SpansetExpr) -> Predicate {
    match expr {
        SpansetExpr::Filter(expr) => necessary(expr, true),
        SpansetExpr::Pipeline(pipeline) => spans_of(pipeline),
        SpansetExpr::Binary { left, right, .. } => Predicate::any(vec![operands(left), operands(right)]),
    }
}

/// What a span has to be like to be left by a pipeline.
pub(super) fn answer_of(pipeline: &Pipeline) -> Predicate {
    let filters = pipeline.stages.iter().filter_map(|stage| match stage {
        Stage::Spansets(expr) => Some(left_by(expr)),
        _ => None,
    });
    Predicate::all(filters.collect())
}

fn left_by(expr: &SpansetExpr) -> Predicate {
    match expr {
        SpansetExpr::Filter(expr) => necessary(expr, true),
        SpansetExpr::Pipeline(pipeline) => answer_of(pipeline),
        SpansetExpr::Binary { op: SpansetOp::Structure(_, Form::Right | Form::Not), right, .. } => left_by(right),
        SpansetExpr::Binary { left, right, .. } => Predicate::any(vec![left_by(left), left_by(right)]),
    }
}

/// What spans a trace has to have for a pipeline to leave any.
pub(super) fn trace_of(pipeline: &Pipeline) -> TracePredicate {
    let filters = pipeline.stages.iter().filter_map(|stage| match stage {
        Stage::Spansets(expr) => Some(has(expr)),
        _ => None,
    });
    TracePredicate::all(filters.collect())
}

fn has(expr: &SpansetExpr) -> TracePredicate {
    match expr {
        SpansetExpr::Filter(expr) => TracePredicate::Has(necessary(expr, true)),
        SpansetExpr::Pipeline(pipeline) => trace_of(pipeline),
        SpansetExpr::Binary { op, left, right } => match (op, &**left) {
            (SpansetOp::Or, left) => TracePredicate::Any(vec![has(left), has(right)]),
            // None of the left side has to be there.
            (SpansetOp::Structure(_, Form::Not), _) => has(right),
            // What others are below has a child.
            (SpansetOp::Structure(Relation::Child | Relation::Descendant, _), SpansetExpr::Filter(filter)) => {
                TracePredicate::All(vec![TracePredicate::Parent(necessary(filter, true)), has(right)])
            }
            (SpansetOp::And | SpansetOp::Structure(..), left) => TracePredicate::All(vec![has(left), has(right)]),
        },
    }
}

/// What is necessary for an expression to be true, or for it to be false.
pub(super) fn necessary(expr: &FieldExpr, truth: bool) -> Predicate {
    let each = |exprs: &[FieldExpr]| exprs.iter().map(|expr| necessary(expr, truth)).collect();
    match expr {
        FieldExpr::Literal(Literal::Bool(value)) if *value != truth => Predicate::Any(Vec::new()),
        FieldExpr::Not(expr) => necessary(expr, !truth),
        FieldExpr::And(exprs) if truth => Predicate::all(each(exprs)),
        FieldExpr::And(exprs) => Predicate::any(each(exprs)),
        FieldExpr::Or(exprs) if truth => Predicate::any(each(exprs)),
        FieldExpr::Or(exprs) => Predicate::all(each(exprs)),
        // A test that fails may fail because nothing is there, so no test of what is there follows from it.
        _ if !truth => Predicate::ANY_SPAN,
        FieldExpr::Attribute(attribute) => Predicate::Test(attribute.clone(), Test::Compare(Comparison::Eq, Literal::Bool(true))),
        FieldExpr::Exists(of) => test(of, Test::Exists),
        FieldExpr::Match { value, negated, pattern } => test(value, Test::Match(pattern.clone(), *negated)),
        FieldExpr::Compare { op, left, right } => match (&**left, &**right) {
            (of, FieldExpr::Literal(literal)) => test(of, Test::Compare(*op, literal.clone())),
            (FieldExpr::Literal(literal), of) => test(of, Test::Compare(op.flipped(), literal.clone())),
            (left, right) => Predicate::all(vec![test(left, Test::Exists), test(right, Test::Exists)]),
        },
        _ => Predicate::ANY_SPAN,
    }
}

fn test(of: &FieldExpr, test: Test) -> Predicate {
    match of {
        FieldExpr::Attribute(attribute) => Predicate::Test(attribute.clone(), test),
        _ => Predicate::ANY_SPAN,
    }
}
