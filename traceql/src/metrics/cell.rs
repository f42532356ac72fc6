use meshlake_hops::Histogram;

use super::alike::Alike;
use super::series::Exemplar;
use crate::value::Value;

/// The numbers of one series in one interval.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    /// Spans, or of functions of an attribute those that have a number.
    pub count: u64,
    /// The sum of integers and durations, exactly.
    pub whole: i128,
    /// The sum of floats.
    pub broken: f64,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Only of quantiles.
    pub histogram: Option<Box<Histogram>>,
    /// Of all spans that of the least ids, so that it does not matter which came first (P4).
    pub exemplar: Option<Exemplar>,
}

impl Cell {
    /// Takes in a number.
    pub(super) fn add(&mut self, value: &Value<'_>) {
        let Some(number) = value.number() else { return };
        self.count += 1;
        match value {
            Value::Int(value) | Value::Duration(value) => self.whole += i128::from(*value),
            _ => self.broken += number,
        }
        self.min = Some(self.min.map_or(number, |min| min.min(number)));
        self.max = Some(self.max.map_or(number, |max| max.max(number)));
    }

    pub(super) fn record(&mut self, value: u64) {
        self.count += 1;
        self.histogram.get_or_insert_default().record(value);
    }

    /// Takes in spans together; `keeps` says whether the function is of their histogram.
    pub(super) fn add_alike(&mut self, spans: &Alike, keeps: bool) {
        self.count += spans.count;
        self.whole += i128::try_from(spans.durations.sum()).unwrap_or(i128::MAX);
        if keeps {
            self.histogram.get_or_insert_default().merge(&spans.durations);
        }
    }

    /// How much memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let of = |histogram: &Histogram| size_of::<Histogram>() + histogram.heap_bytes();
        size_of::<Cell>() + self.histogram.as_deref().map_or(0, of)
    }

    pub(super) fn sum(&self) -> f64 {
        self.whole as f64 + self.broken
    }

    pub(super) fn offer(&mut self, exemplar: Exemplar) {
        let key = |exemplar: &Exemplar| (exemplar.trace_id, exemplar.span_id);
        if self.exemplar.as_ref().is_none_or(|held| key(&exemplar) < key(held)) {
            self.exemplar = Some(exemplar);
        }
    }

    pub(super) fn merge(&mut self, other: Cell) {
        let either = |a: Option<f64>, b: Option<f64>, better: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(better(a, b)),
            (a, b) => a.or(b),
        };
        self.count += other.count;
        self.whole += other.whole;
        self.broken += other.broken;
        self.min = either(self.min, other.min, f64::min);
        self.max = either(self.max, other.max, f64::max);
        if let Some(histogram) = other.histogram {
            self.histogram.get_or_insert_default().merge(&histogram);
        }
        if let Some(exemplar) = other.exemplar {
            self.offer(exemplar);
        }
    }
}
