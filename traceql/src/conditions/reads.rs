use super::{Reach, Test};
use crate::ast::{Aggregate, Comparison, FieldExpr, Function, MetricsQuery, Pipeline, SpansetExpr, SpansetOp, Stage};
use crate::attribute::{Attribute, Intrinsic};

/// What is read by a query.
#[derive(Default)]
pub(super) struct Reads {
    pub intrinsics: Vec<Intrinsic>,
    /// Whether positions are read by an operator.
    pub structure: bool,
    pub all_attributes: bool,
}

impl Reads {
    /// What decides about a span, if the stages ask each on its own.
    pub(super) fn reach(&self) -> Reach {
        let of_trace = || self.intrinsics.iter().filter(|intrinsic| intrinsic.is_of_trace());
        let of_root = |intrinsic: &Intrinsic| matches!(intrinsic, Intrinsic::RootName | Intrinsic::RootServiceName);
        if self.structure || !of_trace().all(of_root) {
            Reach::Trace
        } else if self.all_attributes || of_trace().next().is_some() {
            // Among all attributes are those of the root.
            Reach::Root
        } else {
            Reach::Span
        }
    }

    pub(super) fn metrics(&mut self, query: &MetricsQuery) {
        self.groups(query);
        query.function.attribute().into_iter().for_each(|attribute| self.attribute(attribute));
        if let Function::Compare { selection, .. } = &query.function {
            self.field(selection);
            self.all_attributes = true;
        }
    }

    /// What says whether and where a span counts, but for `compare()`.
    pub(super) fn groups(&mut self, query: &MetricsQuery) {
        self.pipeline(&query.pipeline);
        query.by.iter().for_each(|attribute| self.attribute(attribute));
    }

    pub(super) fn pipeline(&mut self, pipeline: &Pipeline) {
        for stage in &pipeline.stages {
            match stage {
                Stage::Spansets(expr) => self.spansets(expr),
                Stage::Filter(filter) => match &filter.aggregate {
                    Aggregate::Count => {}
                    Aggregate::Avg(expr) | Aggregate::Min(expr) | Aggregate::Max(expr) | Aggregate::Sum(expr) => self.field(expr),
                },
                Stage::By(expr) => self.field(expr),
                Stage::Coalesce => {}
                Stage::Select(attributes) => attributes.iter().for_each(|attribute| self.attribute(attribute)),
            }
        }
    }

    fn spansets(&mut self, expr: &SpansetExpr) {
        match expr {
            SpansetExpr::Filter(expr) => self.field(expr),
            SpansetExpr::Pipeline(pipeline) => self.pipeline(pipeline),
            SpansetExpr::Binary { op, left, right } => {
                self.structure |= matches!(op, SpansetOp::Structure(..));
                self.spansets(left);
                self.spansets(right);
            }
        }
    }

    fn field(&mut self, expr: &FieldExpr) {
        match expr {
            FieldExpr::Literal(_) => {}
            FieldExpr::Attribute(attribute) => self.attribute(attribute),
            FieldExpr::Not(of) | FieldExpr::Negate(of) | FieldExpr::Exists(of) | FieldExpr::Absent(of) => self.field(of),
            FieldExpr::And(all) | FieldExpr::Or(all) => all.iter().for_each(|expr| self.field(expr)),
            FieldExpr::Match { value, .. } => self.field(value),
            FieldExpr::Compare { op, left, right } if tells_roots(*op, left, right) => self.intrinsics.push(Intrinsic::ParentId),
            FieldExpr::Compare { left, right, .. } | FieldExpr::Arithmetic { left, right, .. } => {
                self.field(left);
                self.field(right);
            }
        }
    }

    fn attribute(&mut self, attribute: &Attribute) {
        if let Attribute::Intrinsic(intrinsic) = attribute {
            self.intrinsics.push(*intrinsic);
        }
    }
}

/// Whether a comparison is of `nestedSetParent`, and only tells roots from other spans.
fn tells_roots(op: Comparison, left: &FieldExpr, right: &FieldExpr) -> bool {
    const PARENT: Attribute = Attribute::Intrinsic(Intrinsic::NestedSetParent);
    match (left, right) {
        (FieldExpr::Attribute(of), FieldExpr::Literal(literal)) if *of == PARENT => {
            Test::Compare(op, literal.clone()).tells_roots()
        }
        (FieldExpr::Literal(literal), FieldExpr::Attribute(of)) if *of == PARENT => {
            Test::Compare(op.flipped(), literal.clone()).tells_roots()
        }
        _ => false,
    }
}
