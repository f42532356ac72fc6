use super::EvalError;
use crate::ast::Arithmetic;
use crate::value::Value;

/// A number of two. Integers give an integer, of 64 bits and around at its ends; everything else, durations in nanoseconds
/// included, a float. Nil if either is no number.
///
/// # Errors
/// Integers divided by zero, and arrays.
pub(crate) fn arithmetic(op: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Result<Value<'static>, EvalError> {
    match (left, right) {
        (Value::Array(_), _) | (_, Value::Array(_)) => Err(EvalError::Arrays),
        (Value::Int(left), Value::Int(right)) => integers(op, *left, *right),
        (left, right) => Ok(match (left.number(), right.number()) {
            (Some(left), Some(right)) => Value::Float(floats(op, left, right)),
            _ => Value::Nil,
        }),
    }
}

fn integers(op: Arithmetic, left: i64, right: i64) -> Result<Value<'static>, EvalError> {
    Ok(Value::Int(match op {
        Arithmetic::Add => left.wrapping_add(right),
        Arithmetic::Sub => left.wrapping_sub(right),
        Arithmetic::Mul => left.wrapping_mul(right),
        Arithmetic::Div | Arithmetic::Mod if right == 0 => return Err(EvalError::DivisionByZero),
        Arithmetic::Div => left.wrapping_div(right),
        Arithmetic::Mod => left.wrapping_rem(right),
        Arithmetic::Pow if right < 0 => return Ok(Value::Float((left as f64).powf(right as f64))),
        Arithmetic::Pow => power(left, right as u64),
    }))
}

fn power(mut base: i64, mut exponent: u64) -> i64 {
    let mut result = 1i64;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

pub(crate) fn floats(op: Arithmetic, left: f64, right: f64) -> f64 {
    match op {
        Arithmetic::Add => left + right,
        Arithmetic::Sub => left - right,
        Arithmetic::Mul => left * right,
        Arithmetic::Div => left / right,
        Arithmetic::Mod => left % right,
        Arithmetic::Pow => left.powf(right),
    }
}
