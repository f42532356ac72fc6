use std::fmt;

use crate::ast::{Arithmetic, Comparison, Literal};
use crate::attribute::{Attribute, Intrinsic};

/// What is known of the values of an expression before any span is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Whatever the span has.
    Any,
    /// `nil` itself.
    Nil,
    Bool,
    Int,
    Float,
    Duration,
    Status,
    Kind,
    Text,
}

impl Type {
    pub(crate) fn of_literal(literal: &Literal) -> Type {
        match literal {
            Literal::Bool(_) => Type::Bool,
            Literal::Int(_) => Type::Int,
            Literal::Float(_) => Type::Float,
            Literal::Duration(_) => Type::Duration,
            Literal::Status(_) => Type::Status,
            Literal::Kind(_) => Type::Kind,
            Literal::Text(_) => Type::Text,
        }
    }

    pub(crate) fn of_attribute(attribute: &Attribute) -> Type {
        let Attribute::Intrinsic(intrinsic) = attribute else { return Type::Any };
        match intrinsic {
            Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart => Type::Duration,
            Intrinsic::Status => Type::Status,
            Intrinsic::Kind => Type::Kind,
            Intrinsic::Entry => Type::Bool,
            Intrinsic::ChildCount | Intrinsic::NestedSetLeft | Intrinsic::NestedSetRight | Intrinsic::NestedSetParent => Type::Int,
            _ => Type::Text,
        }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Type::Any | Type::Int | Type::Float | Type::Duration)
    }

    pub(crate) fn is_bool(self) -> bool {
        matches!(self, Type::Any | Type::Bool)
    }

    pub(crate) fn is_text(self) -> bool {
        matches!(self, Type::Any | Type::Text)
    }

    /// Whether values of both may ever be equal.
    fn meets(self, other: Type) -> bool {
        self == Type::Any || other == Type::Any || self == other || (self.is_number() && other.is_number())
    }

    /// What stands in the way of a comparison.
    pub(crate) fn check_comparison(op: Comparison, left: Type, right: Type) -> Result<(), String> {
        if !left.meets(right) {
            return Err(format!("expected values of one type at both sides of `{op}`, found {left} and {right}"));
        }
        let unordered = [left, right].into_iter().find(|side| matches!(side, Type::Bool | Type::Status | Type::Kind));
        match unordered {
            Some(side) if !matches!(op, Comparison::Eq | Comparison::Ne) => {
                Err(format!("expected `=` or `!=` to compare {side}, found `{op}`"))
            }
            _ => Ok(()),
        }
    }

    /// The type of a result, or what stands in its way.
    pub(crate) fn check_arithmetic(op: Arithmetic, left: Type, right: Type) -> Result<Type, String> {
        match [left, right].into_iter().find(|side| !side.is_number()) {
            Some(side) => Err(format!("expected numbers at both sides of `{op}`, found {side}")),
            None if left == Type::Any => Ok(right),
            None if right == Type::Any || left == right => Ok(left),
            None => Ok(Type::Float),
        }
    }
}

/// As an error says it.
impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Type::Any => "an attribute",
            Type::Nil => "nil",
            Type::Bool => "a boolean",
            Type::Int => "an integer",
            Type::Float => "a float",
            Type::Duration => "a duration",
            Type::Status => "a status",
            Type::Kind => "a kind",
            Type::Text => "a text",
        })
    }
}
