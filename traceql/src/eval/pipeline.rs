//! Stages, and the sets of spans that they pass on.

use std::collections::{BTreeMap, HashSet};

use super::structure::{facing, structural};
use super::view::View;
use super::{EvalError, compare};
use crate::ast::{FieldExpr, Form, Pipeline, Relation, ScalarFilter, SpansetExpr, SpansetOp, Stage};
use crate::trace::Trace;
use crate::value::Value;

/// Spans of a trace that belong together, each once and at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanset<'t> {
    /// Their places in the trace, in the order of the answer.
    pub spans: Vec<u32>,
    /// What they were grouped by and what was computed of them: `by(x)`, `count()`.
    pub attributes: Vec<(String, Value<'t>)>,
}

impl<'t, T: Trace + ?Sized> View<'t, T> {
    /// The spansets that a pipeline leaves of the whole trace; none if it does not match.
    ///
    /// # Errors
    /// What fails the whole query: see [`EvalError`].
    pub fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Spanset<'t>>, EvalError> {
        let all = Spanset { spans: self.order().to_vec(), attributes: Vec::new() };
        if all.spans.is_empty() { Ok(Vec::new()) } else { self.stages(&pipeline.stages, vec![all]) }
    }

    /// Gives `each` the spans that a pipeline leaves, whatever spansets they are in.
    pub(crate) fn each_left(
        &self,
        pipeline: &Pipeline,
        mut each: impl FnMut(usize) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        // A filter alone needs no spansets: most metrics are of one, and of many traces of one span.
        if let [Stage::Spansets(SpansetExpr::Filter(expr))] = pipeline.stages.as_slice() {
            for span in 0..self.trace.len() {
                if self.holds(expr, span)? {
                    each(span)?;
                }
            }
            return Ok(());
        }
        let spansets = self.pipeline(pipeline)?;
        spansets.into_iter().flat_map(|spanset| spanset.spans).try_for_each(|span| each(span as usize))
    }

    fn stages(&self, stages: &[Stage], mut spansets: Vec<Spanset<'t>>) -> Result<Vec<Spanset<'t>>, EvalError> {
        for stage in stages {
            spansets = match stage {
                Stage::Spansets(expr) => each(&spansets, |spanset| self.spansets(expr, spanset))?,
                Stage::Filter(filter) => each(&spansets, |spanset| self.filter(filter, spanset))?,
                Stage::By(expr) => each(&spansets, |spanset| self.groups(expr, spanset))?,
                Stage::Coalesce => coalesced(spansets),
                Stage::Select(_) => spansets,
            };
        }
        Ok(spansets)
    }

    /// The spans of a spanset that an expression leaves.
    fn spansets(&self, expr: &SpansetExpr, input: &Spanset<'t>) -> Result<Vec<Spanset<'t>>, EvalError> {
        match expr {
            SpansetExpr::Filter(expr) => Ok(with_spans(input, self.passing(expr, &input.spans)?)),
            SpansetExpr::Pipeline(pipeline) => self.stages(&pipeline.stages, vec![input.clone()]),
            SpansetExpr::Binary { op: SpansetOp::Structure(relation, form), left, right } => {
                Ok(with_spans(input, self.structure((*relation, *form), left, right, input)?))
            }
            SpansetExpr::Binary { op, left, right } => {
                let (left, right) = (self.spansets(left, input)?, self.spansets(right, input)?);
                let lacks_one = *op == SpansetOp::And && (left.is_empty() || right.is_empty());
                Ok(with_spans(input, if lacks_one { Vec::new() } else { Self::union(&left, &right) }))
            }
        }
    }

    /// Those of the spans that a filter leaves, in their order.
    fn passing(&self, filter: &FieldExpr, spans: &[u32]) -> Result<Vec<u32>, EvalError> {
        let mut left = Vec::new();
        for &span in spans {
            if self.holds(filter, span as usize)? {
                left.push(span);
            }
        }
        Ok(left)
    }

    /// What a structural operator leaves of a spanset.
    fn structure(
        &self,
        (relation, form): (Relation, Form),
        left: &SpansetExpr,
        right: &SpansetExpr,
        input: &Spanset<'t>,
    ) -> Result<Vec<u32>, EvalError> {
        // A filter that fails on no span is asked last, and of few: of those that stand to the right side as the left one has to.
        let filter = match left {
            SpansetExpr::Filter(filter) if !filter.may_fail() => Some(filter),
            _ => None,
        };
        let left = if filter.is_some() { Vec::new() } else { self.spansets(left, input)? };
        let right = self.spansets(right, input)?;
        let Some(right_side) = right.first() else { return Ok(Vec::new()) };
        if left.len() > 1 || right.len() > 1 {
            return Err(EvalError::ManySpansets);
        }
        let left = match filter {
            Some(filter) => self.passing(filter, &facing(relation, self.shape(), &input.spans, &right_side.spans))?,
            None => left.into_iter().flat_map(|spanset| spanset.spans).collect(),
        };
        if left.is_empty() {
            // No span stands to any of none, wherever it stands.
            return Ok(if form == Form::Not { right_side.spans.clone() } else { Vec::new() });
        }
        Ok(structural(relation, form, self.shape(), self.rank(), &left, &right_side.spans))
    }

    /// The spans of both sides, each once: first those of the side that has fewer, which is the right one if both have as many.
    fn union(left: &[Spanset<'t>], right: &[Spanset<'t>]) -> Vec<u32> {
        let count = |side: &[Spanset<'t>]| side.iter().map(|spanset| spanset.spans.len()).sum::<usize>();
        let (first, second) = if count(left) < count(right) { (left, right) } else { (right, left) };
        let mut seen = HashSet::new();
        let spans = first.iter().chain(second).flat_map(|spanset| spanset.spans.iter().copied());
        spans.filter(|span| seen.insert(*span)).collect()
    }

    fn filter(&self, filter: &ScalarFilter, spanset: &Spanset<'t>) -> Result<Vec<Spanset<'t>>, EvalError> {
        let Some(value) = self.aggregate(&filter.aggregate, &spanset.spans)? else { return Ok(Vec::new()) };
        if !compare(filter.op, &value, &filter.value.value())? {
            return Ok(Vec::new());
        }
        let mut spanset = spanset.clone();
        spanset.attributes.push((filter.aggregate.to_string(), value));
        Ok(vec![spanset])
    }

    /// A spanset for each value, in the order of their first spans. What is missing is a value, too.
    fn groups(&self, expr: &FieldExpr, spanset: &Spanset<'t>) -> Result<Vec<Spanset<'t>>, EvalError> {
        let mut groups: Vec<Spanset<'t>> = Vec::new();
        let mut places: BTreeMap<Value<'t>, usize> = BTreeMap::new();
        for &span in &spanset.spans {
            let value = self.value(expr, span as usize)?;
            let place = *places.entry(value).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Spanset { spans: Vec::new(), attributes: spanset.attributes.clone() });
            }
            groups[place].spans.push(span);
        }
        let label = format!("by({expr})");
        for (value, place) in places {
            groups[place].attributes.push((label.clone(), value));
        }
        Ok(groups)
    }
}

fn each<'t>(
    spansets: &[Spanset<'t>],
    mut stage: impl FnMut(&Spanset<'t>) -> Result<Vec<Spanset<'t>>, EvalError>,
) -> Result<Vec<Spanset<'t>>, EvalError> {
    let mut left = Vec::new();
    for spanset in spansets {
        left.append(&mut stage(spanset)?);
    }
    Ok(left)
}

fn with_spans<'t>(input: &Spanset<'t>, spans: Vec<u32>) -> Vec<Spanset<'t>> {
    if spans.is_empty() { Vec::new() } else { vec![Spanset { spans, attributes: input.attributes.clone() }] }
}

fn coalesced(spansets: Vec<Spanset<'_>>) -> Vec<Spanset<'_>> {
    let spans: Vec<u32> = spansets.into_iter().flat_map(|spanset| spanset.spans).collect();
    if spans.is_empty() { Vec::new() } else { vec![Spanset { spans, attributes: Vec::new() }] }
}
