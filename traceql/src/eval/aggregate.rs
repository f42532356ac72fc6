//! Numbers of a spanset.

use super::view::View;
use super::{EvalError, compare};
use crate::ast::{Aggregate, Comparison, FieldExpr};
use crate::trace::Trace;
use crate::value::Value;

impl<'t, T: Trace + ?Sized> View<'t, T> {
    /// A number of spans; nothing if none of them has a number.
    pub(super) fn aggregate(&self, aggregate: &Aggregate, spans: &[u32]) -> Result<Option<Value<'t>>, EvalError> {
        match aggregate {
            Aggregate::Count => Ok(Some(Value::Int(spans.len() as i64))),
            Aggregate::Min(expr) => self.extreme(Comparison::Lt, expr, spans),
            Aggregate::Max(expr) => self.extreme(Comparison::Gt, expr, spans),
            Aggregate::Sum(expr) => Ok(self.sum(expr, spans)?.map(|sum| sum.total())),
            Aggregate::Avg(expr) => Ok(self.sum(expr, spans)?.map(|sum| sum.average())),
        }
    }

    fn extreme(&self, better: Comparison, expr: &FieldExpr, spans: &[u32]) -> Result<Option<Value<'t>>, EvalError> {
        let mut best: Option<Value<'t>> = None;
        for &span in spans {
            let value = self.value(expr, span as usize)?;
            if value.number().is_none_or(f64::is_nan) {
                continue;
            }
            let beaten = match &best {
                Some(best) => compare(better, &value, best)?,
                None => true,
            };
            if beaten {
                best = Some(value);
            }
        }
        Ok(best)
    }

    fn sum(&self, expr: &FieldExpr, spans: &[u32]) -> Result<Option<Sum>, EvalError> {
        let mut sum = Sum::default();
        for &span in spans {
            match self.value(expr, span as usize)? {
                Value::Int(value) => (sum.ints, sum.whole) = (sum.ints + 1, sum.whole + i128::from(value)),
                Value::Duration(value) => (sum.durations, sum.whole) = (sum.durations + 1, sum.whole + i128::from(value)),
                Value::Float(value) => (sum.floats, sum.broken) = (sum.floats + 1, sum.broken + value),
                _ => {}
            }
        }
        Ok((sum.count() > 0).then_some(sum))
    }
}

/// Numbers added up: integers and durations exactly.
#[derive(Default)]
struct Sum {
    ints: u64,
    durations: u64,
    floats: u64,
    whole: i128,
    broken: f64,
}

impl Sum {
    fn count(&self) -> u64 {
        self.ints + self.durations + self.floats
    }

    /// Of integers an integer, of durations a duration, of a mixture a float.
    fn total(&self) -> Value<'static> {
        let whole = self.whole.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        match (self.ints, self.durations, self.floats) {
            (_, 0, 0) => Value::Int(whole),
            (0, _, 0) => Value::Duration(whole),
            _ => Value::Float(self.whole as f64 + self.broken),
        }
    }

    /// Of durations a duration, else a float.
    fn average(&self) -> Value<'static> {
        if self.durations == self.count() {
            return Value::Duration((self.whole / i128::from(self.durations)) as i64);
        }
        Value::Float((self.whole as f64 + self.broken) / self.count() as f64)
    }
}
