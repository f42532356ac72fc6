//! What answers of a search carry of its spans.

use super::Test;
use crate::ast::{Aggregate, FieldExpr, Pipeline, SpansetExpr, Stage};
use crate::attribute::{Attribute, Intrinsic};
use crate::eval::View;
use crate::trace::Trace;
use crate::value::Value;

/// An attribute that answers carry: one that a query names.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Which one.
    pub attribute: Attribute,
    /// Of which it has to pass one, where it is only compared with constants.
    tests: Vec<Test>,
}

impl Pipeline {
    /// The attributes that answers carry, each once, in the order in which the query names them. Those that are fields of every answer
    /// are not among them: name, duration and id of the span, and what is of the whole trace.
    pub fn shown(&self) -> Vec<Shown> {
        let mut named = Vec::new();
        pipeline(self, &mut named);
        let mut shown: Vec<(Shown, bool)> = Vec::new();
        for (attribute, test) in named.into_iter().filter(|(attribute, _)| !is_field(attribute)) {
            let known = shown.iter().position(|(shown, _)| shown.attribute == *attribute);
            let place = known.unwrap_or(shown.len());
            if known.is_none() {
                shown.push((Shown { attribute: attribute.clone(), tests: Vec::new() }, false));
            }
            let (shown, always) = &mut shown[place];
            *always |= test.is_none();
            shown.tests.extend(test);
        }
        let finished = shown.into_iter().map(|(shown, always)| match always {
            true => Shown { tests: Vec::new(), ..shown },
            false => shown,
        });
        finished.collect()
    }
}

impl Shown {
    /// What an answer carries of a span: of events and links, what the first has that passes.
    pub fn value<'t, T: Trace + ?Sized>(&self, view: &View<'t, T>, span: usize) -> Value<'t> {
        let mut found = Value::Nil;
        view.any_value(span, &self.attribute, |value| {
            let passes = !value.is_nil() && (self.tests.is_empty() || self.tests.iter().any(|test| test.passes(value)));
            if passes {
                found = value.clone();
            }
            passes
        });
        found
    }
}

fn is_field(attribute: &Attribute) -> bool {
    use Intrinsic::*;
    let Attribute::Intrinsic(intrinsic) = attribute else { return false };
    matches!(intrinsic, Name | Duration | SpanId | TraceId | TraceDuration | RootName | RootServiceName)
}

/// An attribute, and the comparison with a constant in which it is named.
type Naming<'q> = (&'q Attribute, Option<Test>);

fn pipeline<'q>(pipeline: &'q Pipeline, named: &mut Vec<Naming<'q>>) {
    for stage in &pipeline.stages {
        match stage {
            Stage::Spansets(expr) => spansets(expr, named),
            Stage::Filter(filter) => match &filter.aggregate {
                Aggregate::Count => {}
                Aggregate::Avg(expr) | Aggregate::Min(expr) | Aggregate::Max(expr) | Aggregate::Sum(expr) => operand(expr, named),
            },
            Stage::By(expr) => operand(expr, named),
            Stage::Coalesce => {}
            Stage::Select(attributes) => named.extend(attributes.iter().map(|attribute| (attribute, None))),
        }
    }
}

fn spansets<'q>(expr: &'q SpansetExpr, named: &mut Vec<Naming<'q>>) {
    match expr {
        SpansetExpr::Filter(expr) => condition(expr, named),
        SpansetExpr::Pipeline(inner) => pipeline(inner, named),
        SpansetExpr::Binary { left, right, .. } => {
            spansets(left, named);
            spansets(right, named);
        }
    }
}

/// Names what has to be true.
fn condition<'q>(expr: &'q FieldExpr, named: &mut Vec<Naming<'q>>) {
    match expr {
        FieldExpr::And(all) | FieldExpr::Or(all) => all.iter().for_each(|expr| condition(expr, named)),
        FieldExpr::Match { value, negated, pattern } => tested(value, Test::Match(pattern.clone(), *negated), named),
        FieldExpr::Compare { op, left, right } => match (&**left, &**right) {
            (of, FieldExpr::Literal(literal)) => tested(of, Test::Compare(*op, literal.clone()), named),
            (FieldExpr::Literal(literal), of) => tested(of, Test::Compare(op.flipped(), literal.clone()), named),
            (left, right) => {
                operand(left, named);
                operand(right, named);
            }
        },
        expr => operand(expr, named),
    }
}

fn tested<'q>(of: &'q FieldExpr, test: Test, named: &mut Vec<Naming<'q>>) {
    match of {
        FieldExpr::Attribute(attribute) => named.push((attribute, Some(test))),
        expr => operand(expr, named),
    }
}

/// Names what something is computed of, be it true or not.
fn operand<'q>(expr: &'q FieldExpr, named: &mut Vec<Naming<'q>>) {
    match expr {
        FieldExpr::Literal(_) => {}
        FieldExpr::Attribute(attribute) => named.push((attribute, None)),
        FieldExpr::Not(of) | FieldExpr::Negate(of) | FieldExpr::Exists(of) | FieldExpr::Absent(of) => operand(of, named),
        FieldExpr::And(all) | FieldExpr::Or(all) => all.iter().for_each(|expr| operand(expr, named)),
        FieldExpr::Match { value, .. } => operand(value, named),
        FieldExpr::Compare { left, right, .. } | FieldExpr::Arithmetic { left, right, .. } => {
            operand(left, named);
            operand(right, named);
        }
    }
}
