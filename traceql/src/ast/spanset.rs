use std::fmt;

use super::field::{Comparison, FieldExpr, Literal};
use super::level;
use crate::attribute::Attribute;

/// Stages that a trace's spans go through, joined by `|`. At least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// First to last.
    pub stages: Vec<Stage>,
}

/// A stage: from spansets to spansets.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Spans that match.
    Spansets(SpansetExpr),
    /// `count() > 2`: spansets that match.
    Filter(ScalarFilter),
    /// `by(x)`: each spanset into one for each value.
    By(FieldExpr),
    /// `coalesce()`: all spansets into one.
    Coalesce,
    /// `select(x, y)`: what answers carry.
    Select(Vec<Attribute>),
}

/// Spans of a trace that match.
#[derive(Clone, Debug, PartialEq)]
pub enum SpansetExpr {
    /// `{ x }`: each on its own.
    Filter(FieldExpr),
    /// `(pipeline)`, where an operator stands beside it. More than a spanset expression.
    Pipeline(Pipeline),
    /// `left op right`
    Binary {
        /// How.
        op: SpansetOp,
        /// What.
        left: Box<SpansetExpr>,
        /// With what.
        right: Box<SpansetExpr>,
    },
}

/// How two sets of spans of a trace make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpansetOp {
    /// `&&`: both, if neither is empty.
    And,
    /// `||`: both.
    Or,
    /// Spans of the right side that stand, or do not stand, to one of the left side as said.
    Structure(Relation, Form),
}

/// How a span of the right side stands to one of the left side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `>`: it is its child.
    Child,
    /// `>>`: it is below it.
    Descendant,
    /// `<`: it is its parent.
    Parent,
    /// `<<`: it is above it.
    Ancestor,
    /// `~`: it has the same parent, and is another.
    Sibling,
}

/// What a structural operator answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `>>`: spans of the right side that stand so to any of the left.
    Right,
    /// `!>>`: spans of the right side that stand so to none of the left.
    Not,
    /// `&>>`: spans of both sides that stand so to each other.
    Both,
}

impl SpansetOp {
    /// All, as queries write them.
    pub(crate) const SYMBOLS: [(&'static str, SpansetOp); 17] = [
        ("&&", SpansetOp::And),
        ("||", SpansetOp::Or),
        (">", SpansetOp::Structure(Relation::Child, Form::Right)),
        (">>", SpansetOp::Structure(Relation::Descendant, Form::Right)),
        ("<", SpansetOp::Structure(Relation::Parent, Form::Right)),
        ("<<", SpansetOp::Structure(Relation::Ancestor, Form::Right)),
        ("~", SpansetOp::Structure(Relation::Sibling, Form::Right)),
        ("!>", SpansetOp::Structure(Relation::Child, Form::Not)),
        ("!>>", SpansetOp::Structure(Relation::Descendant, Form::Not)),
        ("!<", SpansetOp::Structure(Relation::Parent, Form::Not)),
        ("!<<", SpansetOp::Structure(Relation::Ancestor, Form::Not)),
        ("!~", SpansetOp::Structure(Relation::Sibling, Form::Not)),
        ("&>", SpansetOp::Structure(Relation::Child, Form::Both)),
        ("&>>", SpansetOp::Structure(Relation::Descendant, Form::Both)),
        ("&<", SpansetOp::Structure(Relation::Parent, Form::Both)),
        ("&<<", SpansetOp::Structure(Relation::Ancestor, Form::Both)),
        ("&~", SpansetOp::Structure(Relation::Sibling, Form::Both)),
    ];

    pub(crate) fn level(self) -> u8 {
        match self {
            SpansetOp::And | SpansetOp::Or => level::LOGIC,
            SpansetOp::Structure(..) => level::COMPARISON,
        }
    }
}

/// Spansets of which a number is as said.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarFilter {
    /// Which number.
    pub aggregate: Aggregate,
    /// How it is compared.
    pub op: Comparison,
    /// With what: a number or a duration.
    pub value: Literal,
}

/// A number of a spanset. Spans without a value do not count, except for `count()`.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    /// `count()`
    Count,
    /// `avg(x)`
    Avg(FieldExpr),
    /// `min(x)`
    Min(FieldExpr),
    /// `max(x)`
    Max(FieldExpr),
    /// `sum(x)`
    Sum(FieldExpr),
}

impl fmt::Display for SpansetOp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(SpansetOp::SYMBOLS.iter().find(|(_, op)| op == self).map_or("", |(symbol, _)| symbol))
    }
}

impl fmt::Display for Pipeline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        separated(&self.stages, " | ", out)
    }
}

pub(super) fn separated<T: fmt::Display>(items: &[T], separator: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        write!(out, "{}{item}", if index == 0 { "" } else { separator })?;
    }
    Ok(())
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Spansets(expr) => expr.fmt(out),
            Stage::Filter(filter) => filter.fmt(out),
            Stage::By(expr) => write!(out, "by({expr})"),
            Stage::Coalesce => out.write_str("coalesce()"),
            Stage::Select(attributes) => {
                out.write_str("select(")?;
                separated(attributes, ", ", out)?;
                out.write_str(")")
            }
        }
    }
}

impl fmt::Display for SpansetExpr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |expr: &SpansetExpr, least: u8| match expr {
            SpansetExpr::Binary { op, .. } if op.level() < least => format!("({expr})"),
            expr => expr.to_string(),
        };
        match self {
            SpansetExpr::Filter(expr) => write!(out, "{{ {expr} }}"),
            SpansetExpr::Pipeline(pipeline) => write!(out, "({pipeline})"),
            SpansetExpr::Binary { op, left, right } => {
                write!(out, "{} {op} {}", bracketed(left, op.level()), bracketed(right, op.level() + 1))
            }
        }
    }
}

impl fmt::Display for ScalarFilter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} {}", self.aggregate, self.op, self.value)
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aggregate::Count => out.write_str("count()"),
            Aggregate::Avg(expr) => write!(out, "avg({expr})"),
            Aggregate::Min(expr) => write!(out, "min({expr})"),
            Aggregate::Max(expr) => write!(out, "max({expr})"),
            Aggregate::Sum(expr) => write!(out, "sum({expr})"),
        }
    }
}
