use crate::value::Value;

/// Numbers of one kind over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is of. No two series of an answer have the same.
    pub labels: Vec<(String, Value<'static>)>,
    /// One number for each interval; NaN where there is no sample.
    pub values: Vec<f64>,
    /// Spans that it was made of.
    pub exemplars: Vec<Exemplar>,
}

/// A span that a number was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// When it began, nanoseconds since 1970.
    pub time: u64,
    /// Its own number, in the unit of the series; where spans are only counted, the series' number.
    pub value: f64,
    /// The interval that it is of.
    pub interval: u32,
}

impl Series {
    /// Whether it has a sample.
    pub(super) fn has_samples(&self) -> bool {
        self.values.iter().any(|value| !value.is_nan())
    }

    /// Takes away the exemplars of intervals without a sample.
    pub(super) fn trim(&mut self) {
        let values = &self.values;
        self.exemplars.retain(|exemplar| values.get(exemplar.interval as usize).is_some_and(|value| !value.is_nan()));
    }
}
