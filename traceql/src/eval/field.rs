//! Expressions over one span.

use super::lookup::Looked;
use super::view::View;
use super::{EvalError, arithmetic, compare, matches};
use crate::ast::FieldExpr;
use crate::limits::PAIRS_MAX;
use crate::trace::Trace;
use crate::value::Value;

impl<'t, T: Trace + ?Sized> View<'t, T> {
    /// Whether a span matches a filter: whether it has one event and one link with which the expression is true. (A span without any
    /// has one of which everything is missing.)
    pub(crate) fn holds(&self, expr: &FieldExpr, span: usize) -> Result<bool, EvalError> {
        let mut tried = 0;
        let mut link = 0;
        loop {
            let mut event = 0;
            let mut links_asked = false;
            loop {
                let looked = Looked::one(self, span, event, link);
                if looked.is_true(expr)? {
                    return Ok(true);
                }
                let (event_asked, link_asked) = looked.asked();
                links_asked |= link_asked;
                event += 1;
                tried += 1;
                if !event_asked || event >= self.trace.events(span) {
                    break;
                }
                if tried > PAIRS_MAX {
                    return Err(EvalError::Pairs);
                }
            }
            link += 1;
            if !links_asked || link >= self.trace.links(span) {
                return Ok(false);
            }
        }
    }

    /// The value of an expression; of events and links, the first that has what is asked for.
    pub(crate) fn value(&self, expr: &FieldExpr, span: usize) -> Result<Value<'t>, EvalError> {
        Looked::any(self, span).value(expr)
    }
}

impl FieldExpr {
    /// Whether a span may make it fail, or that is not told.
    pub(super) fn may_fail(&self) -> bool {
        let is_constant = |expr: &FieldExpr| matches!(expr, FieldExpr::Literal(_));
        match self {
            FieldExpr::Literal(_) => false,
            // Of events and links there may be too many.
            FieldExpr::Attribute(attribute) => attribute.may_be_of_events_or_links(),
            FieldExpr::And(exprs) | FieldExpr::Or(exprs) => exprs.iter().any(FieldExpr::may_fail),
            FieldExpr::Exists(expr) | FieldExpr::Absent(expr) => expr.may_fail(),
            FieldExpr::Match { value, .. } => value.may_fail(),
            // Both may be arrays.
            FieldExpr::Compare { left, right, .. } if !is_constant(left) && !is_constant(right) => true,
            FieldExpr::Compare { left, right, .. } => left.may_fail() || right.may_fail(),
            FieldExpr::Not(_) | FieldExpr::Negate(_) | FieldExpr::Arithmetic { .. } => true,
        }
    }
}

impl<'t, T: Trace + ?Sized> Looked<'_, 't, T> {
    fn is_true(&self, expr: &FieldExpr) -> Result<bool, EvalError> {
        Ok(match expr {
            FieldExpr::And(exprs) => {
                for expr in exprs {
                    if !self.is_true(expr)? {
                        return Ok(false);
                    }
                }
                true
            }
            FieldExpr::Or(exprs) => {
                for expr in exprs {
                    if self.is_true(expr)? {
                        return Ok(true);
                    }
                }
                false
            }
            FieldExpr::Exists(expr) => !self.value(expr)?.is_nil(),
            FieldExpr::Absent(expr) => self.value(expr)?.is_nil(),
            FieldExpr::Match { value, negated, pattern } => matches(&self.value(value)?, pattern, *negated),
            FieldExpr::Compare { op, left, right } => {
                let left = self.operand(left)?;
                compare(*op, &left, &self.operand(right)?)?
            }
            FieldExpr::Not(expr) => match self.value(expr)? {
                Value::Bool(value) => !value,
                other => return Err(EvalError::NotBool { expr: expr.to_string(), found: other.to_string() }),
            },
            FieldExpr::Literal(_) | FieldExpr::Attribute(_) | FieldExpr::Negate(_) | FieldExpr::Arithmetic { .. } => {
                matches!(self.value(expr)?, Value::Bool(true))
            }
        })
    }

    /// As [`Self::value`], with texts of constants borrowed.
    fn operand<'e>(&self, expr: &'e FieldExpr) -> Result<Value<'e>, EvalError>
    where
        't: 'e,
    {
        match expr {
            FieldExpr::Literal(literal) => Ok(literal.value()),
            expr => self.value(expr),
        }
    }

    fn value(&self, expr: &FieldExpr) -> Result<Value<'t>, EvalError> {
        Ok(match expr {
            FieldExpr::Literal(literal) => literal.value().into_owned(),
            FieldExpr::Attribute(attribute) => self.attribute(attribute),
            FieldExpr::Arithmetic { op, left, right } => arithmetic(*op, &self.value(left)?, &self.value(right)?)?,
            FieldExpr::Negate(expr) => match self.value(expr)? {
                Value::Int(value) => Value::Int(value.wrapping_neg()),
                Value::Float(value) => Value::Float(-value),
                Value::Duration(value) => Value::Duration(value.wrapping_neg()),
                other => return Err(EvalError::NotNumber { expr: expr.to_string(), found: other.to_string() }),
            },
            condition => Value::Bool(self.is_true(condition)?),
        })
    }
}
