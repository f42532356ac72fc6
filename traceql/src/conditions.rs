//! What an engine may skip before it evaluates a query.
//!
//! A query is answered from whole traces, but most traces and most spans cannot matter. [`Conditions`] says which can, in terms that a
//! scan understands: comparisons of one attribute with a constant, joined by "all of" and "any of". They are necessary, not
//! sufficient: whatever could be part of an answer passes, and what passes is evaluated. They say nothing of query failures:
//! a span that was skipped fails no query.

mod found;
mod necessary;
mod reads;
mod shown;
mod sums;

use std::collections::HashSet;

use crate::ast::{Body, Comparison, Literal, Pattern, Pipeline, Query, SpansetExpr, SpansetOp, Stage};
use crate::attribute::{Attribute, Intrinsic};
use crate::eval::{View, compare, matches};
use crate::trace::Trace;
use crate::value::Value;
use found::found_by;
use necessary::{answer_of, spans_of, trace_of};
use reads::Reads;
pub use shown::Shown;
pub use sums::SumsNeeded;

/// What a query needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// The intrinsics that it reads, each once. (The attributes are [`Query::attributes`].) Where `nestedSetParent` only tells roots from
    /// other spans, it is the parent's id that is read.
    pub intrinsics: Vec<Intrinsic>,
    /// Whether it asks for every attribute of the spans that pass: `compare()`.
    pub all_attributes: bool,
    /// Whether spans that do not pass matter as well, by their ids, parents, times and names: positions, roots, children and times of
    /// the trace are of all its spans. If not, a trace of nothing but the spans that pass has the same answer.
    pub whole_trace: bool,
    /// What decides how a span counts in metrics.
    pub reach: Reach,
    /// What a span has to be like to be in an answer, or in either side of an operator.
    pub span: Predicate,
    /// What a span has to be like to be in an answer.
    pub answer: Predicate,
    /// What spans a trace has to have to be in an answer.
    pub trace: TracePredicate,
    /// What one of the spans by which a search finds a trace has to be like: see [`View::is_found`].
    pub found_by: Predicate,
}

/// What of its trace decides whether a span counts in metrics, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The span: each may be taken as a trace of its own.
    Span,
    /// The span and the first root: each may be taken as a trace of these two ([`crate::Accumulator::add_first`]).
    Root,
    /// All spans.
    Trace,
}

/// What a span has to be like.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// All of these; nothing, if there are none.
    All(Vec<Predicate>),
    /// One of these; no span is, if there are none.
    Any(Vec<Predicate>),
    /// An attribute, or one of its elements, or that of one event or link, is as said. Missing attributes are not.
    Test(Attribute, Test),
}

/// What a value has to be like, as in a filter of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `x < constant`
    Compare(Comparison, Literal),
    /// `x =~ "…"`, or `x !~ "…"` if the second is set.
    Match(Pattern, bool),
    /// `x != nil`
    Exists,
}

impl Test {
    /// Whether of the numbers of parents it tells only -1, which roots have, from all others.
    pub fn tells_roots(&self) -> bool {
        use Comparison::*;
        match self {
            Test::Compare(Lt | Ge, Literal::Int(number)) => *number <= 0,
            Test::Compare(Eq | Ne | Le | Gt, Literal::Int(number)) => *number < 0,
            _ => false,
        }
    }

    /// Whether a value is so. One that cannot be compared passes.
    pub fn passes(&self, value: &Value<'_>) -> bool {
        match self {
            Test::Compare(op, literal) => compare(*op, value, &literal.value()).unwrap_or(true),
            Test::Match(pattern, negated) => matches(value, pattern, *negated),
            Test::Exists => !value.is_nil(),
        }
    }
}

/// What spans a trace has to have.
#[derive(Clone, Debug, PartialEq)]
pub enum TracePredicate {
    /// All of these; nothing, if there are none.
    All(Vec<TracePredicate>),
    /// One of these.
    Any(Vec<TracePredicate>),
    /// A span that is like this.
    Has(Predicate),
    /// A span that is like this, and whose id another span has as its parent's.
    Parent(Predicate),
}

impl Query {
    /// What the query needs.
    pub fn conditions(&self) -> Conditions {
        let mut reads = Reads::default();
        let pipelines: Vec<&Pipeline> = match &self.body {
            Body::Search(pipeline) => {
                reads.pipeline(pipeline);
                vec![pipeline]
            }
            // Stages of series do not matter: they only take away what is there.
            Body::Metrics(series) => {
                let queries = series.queries();
                queries.iter().for_each(|query| reads.metrics(query));
                queries.into_iter().map(|query| &query.pipeline).collect()
            }
        };
        let pipelines = || pipelines.iter().copied();
        reads.intrinsics.sort_unstable();
        reads.intrinsics.dedup();
        Conditions {
            whole_trace: reads.reach() != Reach::Span,
            reach: if pipelines().all(Pipeline::is_of_each_span) { reads.reach() } else { Reach::Trace },
            span: Predicate::any(pipelines().map(spans_of).collect()),
            found_by: Predicate::any(pipelines().map(found_by).collect()),
            answer: Predicate::any(pipelines().map(answer_of).collect()),
            trace: TracePredicate::any(pipelines().map(trace_of).collect()),
            all_attributes: reads.all_attributes,
            intrinsics: reads.intrinsics,
        }
    }
}

impl Conditions {
    /// Whether it reads what the service graph makes of spans.
    pub fn reads_graph(&self) -> bool {
        self.intrinsics.iter().any(|intrinsic| intrinsic.is_of_graph())
    }
}

impl Pipeline {
    /// Whether it asks each span on its own.
    fn is_of_each_span(&self) -> bool {
        self.stages.iter().all(|stage| match stage {
            Stage::Spansets(expr) => expr.is_of_each_span(),
            Stage::Select(_) => true,
            Stage::Filter(_) | Stage::By(_) | Stage::Coalesce => false,
        })
    }
}

impl SpansetExpr {
    fn is_of_each_span(&self) -> bool {
        match self {
            SpansetExpr::Filter(_) => true,
            SpansetExpr::Pipeline(pipeline) => pipeline.is_of_each_span(),
            SpansetExpr::Binary { op, left, right } => *op == SpansetOp::Or && left.is_of_each_span() && right.is_of_each_span(),
        }
    }
}

impl Predicate {
    /// Of which nothing is asked.
    pub const ANY_SPAN: Predicate = Predicate::All(Vec::new());

    /// Whether a span is like this. A value that cannot be compared passes.
    pub fn passes<T: Trace + ?Sized>(&self, view: &View<'_, T>, span: usize) -> bool {
        match self {
            Predicate::All(all) => all.iter().all(|predicate| predicate.passes(view, span)),
            Predicate::Any(any) => any.iter().any(|predicate| predicate.passes(view, span)),
            Predicate::Test(attribute, test) => view.any_value(span, attribute, |value| test.passes(value)),
        }
    }
}

impl TracePredicate {
    /// Whether a trace has such spans.
    pub fn passes<T: Trace + ?Sized>(&self, view: &View<'_, T>) -> bool {
        match self {
            TracePredicate::All(all) => all.iter().all(|predicate| predicate.passes(view)),
            TracePredicate::Any(any) => any.iter().any(|predicate| predicate.passes(view)),
            TracePredicate::Has(predicate) => (0..view.trace.len()).any(|span| predicate.passes(view, span)),
            TracePredicate::Parent(predicate) => {
                let facts = || (0..view.trace.len()).map(|span| view.trace.facts(span));
                let parents: HashSet<[u8; 8]> = facts().map(|facts| facts.parent_id).filter(|id| *id != [0; 8]).collect();
                facts().enumerate().any(|(span, facts)| parents.contains(&facts.id) && predicate.passes(view, span))
            }
        }
    }
}
