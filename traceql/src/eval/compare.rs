//! Comparisons of values. What is missing compares with nothing; neither do values of different types, except for numbers.

use std::cmp::Ordering;

use super::EvalError;
use crate::ast::{Comparison, Pattern};
use crate::value::{Array, Value};

/// Whether a comparison holds. An array compares by its elements: all of them for `!=`, else any.
///
/// # Errors
/// An array on both sides.
pub(crate) fn compare(op: Comparison, left: &Value<'_>, right: &Value<'_>) -> Result<bool, EvalError> {
    match (left, right) {
        (Value::Array(_), Value::Array(_)) => Err(EvalError::Arrays),
        (Value::Array(array), single) => Ok(elements(op, array, single)),
        (single, Value::Array(array)) => Ok(elements(op.flipped(), array, single)),
        (left, right) => Ok(singles(op, left, right)),
    }
}

fn elements(op: Comparison, array: &Array<'_>, single: &Value<'_>) -> bool {
    let same_type = match array {
        Array::Bool(_) => matches!(single, Value::Bool(_)),
        Array::Int(_) | Array::Float(_) => single.number().is_some(),
        Array::Text(_) => matches!(single, Value::Text(_)),
    };
    match op {
        Comparison::Ne => same_type && array.iter().all(|element| singles(op, &element, single)),
        op => array.iter().any(|element| singles(op, &element, single)),
    }
}

fn singles(op: Comparison, left: &Value<'_>, right: &Value<'_>) -> bool {
    let ordering = match (left, right) {
        (Value::Int(left) | Value::Duration(left), Value::Int(right) | Value::Duration(right)) => Some(left.cmp(right)),
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => return equal_or_not(op, left == right),
        (Value::Status(left), Value::Status(right)) => return equal_or_not(op, left == right),
        (Value::Kind(left), Value::Kind(right)) => return equal_or_not(op, left == right),
        (left, right) => match (left.number(), right.number()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => return false,
        },
    };
    match (op, ordering) {
        (Comparison::Eq, ordering) => ordering == Some(Ordering::Equal),
        // What is no number is unlike every number.
        (Comparison::Ne, ordering) => ordering != Some(Ordering::Equal),
        (_, None) => false,
        (Comparison::Lt, Some(ordering)) => ordering.is_lt(),
        (Comparison::Le, Some(ordering)) => ordering.is_le(),
        (Comparison::Gt, Some(ordering)) => ordering.is_gt(),
        (Comparison::Ge, Some(ordering)) => ordering.is_ge(),
    }
}

fn equal_or_not(op: Comparison, equal: bool) -> bool {
    match op {
        Comparison::Eq => equal,
        Comparison::Ne => !equal,
        _ => false,
    }
}

/// Whether a text matches, or does not match if `negated`. Of an array, any element has to match, or none.
pub(crate) fn matches(value: &Value<'_>, pattern: &Pattern, negated: bool) -> bool {
    match value {
        Value::Text(text) => pattern.regex.is_match(text) != negated,
        Value::Array(Array::Text(texts)) => texts.iter().any(|text| pattern.regex.is_match(text)) != negated,
        _ => false,
    }
}
