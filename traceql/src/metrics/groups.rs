//! Spans grouped by the values of attributes: everything but `compare()`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::alike::Alike;
use super::cell::Cell;
use super::grid::Grid;
use super::series::{Exemplar, Series};
use crate::ast::{Function, MetricsQuery};
use crate::attribute::{Attribute, Intrinsic};
use crate::eval::View;
use crate::trace::Trace;
use crate::types::Type;
use crate::value::Value;

/// The label of the buckets of a histogram.
const BUCKET: &str = "__bucket";
/// The label of quantiles.
const QUANTILE: &str = "p";
/// The label of series that have no other.
pub(super) const NAME: &str = "__name__";
const NANOS: f64 = 1e9;

/// The values of the attributes that spans are grouped by, and the bucket of a histogram.
type Key<'a> = Vec<Value<'a>>;

/// What a span says that counts.
struct Told<'a> {
    value: Value<'a>,
    /// What a histogram has of it, if it is of one.
    recorded: Option<u64>,
    key: Key<'a>,
}

#[derive(Clone, Debug)]
pub(super) struct Groups {
    query: Arc<MetricsQuery>,
    places: BTreeMap<Key<'static>, usize>,
    /// By place and interval.
    cells: Vec<BTreeMap<u32, Cell>>,
    series_max: usize,
    /// Of keys, cells and histograms, about.
    bytes: usize,
    /// Whether there would have been more series.
    pub truncated: bool,
}

impl Groups {
    pub(super) fn new(query: Arc<MetricsQuery>, series_max: usize) -> Groups {
        Groups { query, places: BTreeMap::new(), cells: Vec::new(), series_max, bytes: 0, truncated: false }
    }

    /// Takes in a span of an interval.
    pub(super) fn add<T: Trace + ?Sized>(&mut self, view: &View<'_, T>, span: usize, interval: u32) {
        let Some(Told { value, recorded, key }) = self.told(view, span) else { return };
        let exemplar = self.exemplar(view, span, interval, &value);
        let Some(place) = self.place(key) else { return };
        let cell = self.cell(place, interval);
        let before = cell.bytes();
        match recorded {
            Some(recorded) => cell.record(recorded),
            None => cell.add(&value),
        }
        cell.offer(exemplar);
        let after = cell.bytes();
        self.bytes += after - before;
    }

    /// Takes in spans that are all as this one, but for their times.
    pub(super) fn add_alike<T: Trace + ?Sized>(&mut self, view: &View<'_, T>, span: usize, spans: &[Alike]) {
        let key = self.key(view, span);
        let mut spans = spans.iter().filter(|spans| spans.count > 0).peekable();
        if matches!(self.query.function, Function::HistogramOverTime(_)) {
            return spans.for_each(|spans| self.add_buckets(&key, spans));
        }
        let keeps = matches!(self.query.function, Function::QuantileOverTime(..));
        let Some(place) = spans.peek().and_then(|_| self.place(key)) else { return };
        for spans in spans {
            let cell = self.cell(place, spans.interval);
            let before = cell.bytes();
            cell.add_alike(spans, keeps);
            let after = cell.bytes();
            self.bytes += after - before;
        }
    }

    /// Counts spans by the powers of two that are the bounds of buckets: so are they in the histogram.
    fn add_buckets(&mut self, key: &Key<'_>, spans: &Alike) {
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for bucket in spans.durations.buckets().filter(|bucket| bucket.high > 1) {
            *counts.entry(exponent(bucket.high)).or_default() += bucket.count;
        }
        for (exponent, count) in counts {
            let key = key.iter().cloned().chain([self.bound(exponent)]).collect();
            if let Some(place) = self.place(key) {
                self.cell(place, spans.interval).count += count;
            }
        }
    }

    /// Offers a span as an exemplar, where spans as it were taken in.
    pub(super) fn offer<T: Trace + ?Sized>(&mut self, view: &View<'_, T>, span: usize, interval: u32) {
        let Some(Told { value, key, .. }) = self.told(view, span) else { return };
        let exemplar = self.exemplar(view, span, interval, &value);
        let place = place(&self.places, &key);
        if let Some(cell) = place.and_then(|place| self.cells[place].get_mut(&interval)) {
            cell.offer(exemplar);
        }
    }

    /// What a span says; nothing if it does not count.
    fn told<'t, T: Trace + ?Sized>(&self, view: &View<'t, T>, span: usize) -> Option<Told<'t>> {
        let function = &self.query.function;
        let value = match function.attribute() {
            Some(attribute) => view.attribute(span, attribute),
            None => Value::Int(1),
        };
        let recorded = match (function, &value) {
            (Function::QuantileOverTime(..) | Function::HistogramOverTime(_), Value::Int(value)) => u64::try_from(*value).ok(),
            // As in all histograms of durations: what ends before it starts took no time.
            (Function::QuantileOverTime(..) | Function::HistogramOverTime(_), Value::Duration(value)) => {
                Some(u64::try_from(*value).unwrap_or(0))
            }
            _ => None,
        };
        let exponent = recorded.filter(|value| *value > 1).map(exponent);
        let counts = match function {
            Function::QuantileOverTime(..) => recorded.is_some(),
            Function::HistogramOverTime(_) => exponent.is_some(),
            _ => value.number().is_some_and(|number| !number.is_nan()),
        };
        if !counts {
            return None;
        }
        let mut key = self.key(view, span);
        if let (Function::HistogramOverTime(_), Some(exponent)) = (function, exponent) {
            key.push(self.bound(exponent));
        }
        Some(Told { value, recorded, key })
    }

    /// What a span is grouped by.
    fn key<'t, T: Trace + ?Sized>(&self, view: &View<'t, T>, span: usize) -> Key<'t> {
        self.query.by.iter().map(|attribute| view.group(span, attribute)).collect()
    }

    /// The bound of a bucket, as its label says it.
    fn bound(&self, exponent: u32) -> Value<'static> {
        Value::Float(2f64.powi(exponent as i32) / self.unit())
    }

    /// How much memory it takes, and its answer will, about.
    pub(super) fn bytes(&self, grid: &Grid) -> usize {
        let series_each = match &self.query.function {
            Function::QuantileOverTime(_, quantiles) => quantiles.len(),
            _ => 1,
        };
        self.bytes + self.cells.len() * series_each * grid.len() * size_of::<f64>()
    }

    /// What numbers are divided by: durations of spans are given in seconds; other durations only where they are in buckets.
    fn unit(&self) -> f64 {
        let Some(attribute) = self.query.function.attribute() else { return 1.0 };
        let in_buckets = matches!(self.query.function, Function::QuantileOverTime(..) | Function::HistogramOverTime(_));
        let seconds = if in_buckets {
            Type::of_attribute(attribute) == Type::Duration
        } else {
            *attribute == Attribute::Intrinsic(Intrinsic::Duration)
        };
        if seconds { NANOS } else { 1.0 }
    }

    fn exemplar<T: Trace + ?Sized>(&self, view: &View<'_, T>, span: usize, interval: u32, value: &Value<'_>) -> Exemplar {
        let facts = view.trace.facts(span);
        let counted = self.query.function.attribute().is_none();
        let value = if counted { f64::NAN } else { value.number().unwrap_or(f64::NAN) / self.unit() };
        Exemplar { trace_id: view.trace.id(), span_id: facts.id, time: facts.start, value, interval }
    }

    /// The place of a series, which may be a new one.
    fn place(&mut self, key: Key<'_>) -> Option<usize> {
        match place(&self.places, &key) {
            Some(place) => Some(place),
            None => self.new_place(key.into_iter().map(Value::into_owned).collect()),
        }
    }

    fn cell(&mut self, place: usize, interval: u32) -> &mut Cell {
        self.cells[place].entry(interval).or_insert_with(|| {
            self.bytes += Cell::default().bytes();
            Cell::default()
        })
    }

    fn new_place(&mut self, key: Key<'static>) -> Option<usize> {
        if self.cells.len() >= self.series_max {
            self.truncated = true;
            return None;
        }
        let place = self.cells.len();
        self.bytes += key.iter().map(Value::bytes).sum::<usize>();
        self.places.insert(key, place);
        self.cells.push(BTreeMap::new());
        Some(place)
    }

    pub(super) fn merge(&mut self, mut other: Groups) {
        self.truncated |= other.truncated;
        for (key, theirs) in other.places {
            let place = self.places.get(&key).copied().or_else(|| self.new_place(key));
            let Some(place) = place else { continue };
            for (interval, theirs) in std::mem::take(&mut other.cells[theirs]) {
                let cell = self.cell(place, interval);
                let before = cell.bytes();
                cell.merge(theirs);
                let after = cell.bytes();
                self.bytes += after - before;
            }
        }
    }

    pub(super) fn finish(&self, grid: &Grid) -> Vec<Series> {
        let mut all = Vec::new();
        for (key, place) in &self.places {
            let (labels, cells) = (self.labels(key), &self.cells[*place]);
            match &self.query.function {
                Function::QuantileOverTime(_, quantiles) => all.extend(self.quantiles(labels, cells, quantiles, grid)),
                _ => all.push(self.series(labels, cells, grid)),
            }
        }
        all
    }

    /// Missing values are no labels, unless there is nothing else.
    fn labels(&self, key: &[Value<'static>]) -> Vec<(String, Value<'static>)> {
        let names = self.query.by.iter().map(Attribute::to_string).chain([BUCKET.to_owned()]);
        let mut labels: Vec<_> = names.zip(key.iter().cloned()).filter(|(_, value)| !value.is_nil()).collect();
        if labels.is_empty() && !matches!(self.query.function, Function::QuantileOverTime(..)) {
            labels.push(match self.query.by.first() {
                Some(first) => (first.to_string(), Value::Nil),
                None => (NAME.to_owned(), Value::Text(self.query.function.name().into())),
            });
        }
        labels
    }

    fn series(&self, labels: Vec<(String, Value<'static>)>, cells: &BTreeMap<u32, Cell>, grid: &Grid) -> Series {
        let unit = self.unit();
        let number = |cell: &Cell| match &self.query.function {
            Function::Rate => cell.count as f64 / grid.step_seconds(),
            Function::MinOverTime(_) => cell.min.map_or(f64::NAN, |min| min / unit),
            Function::MaxOverTime(_) => cell.max.map_or(f64::NAN, |max| max / unit),
            Function::AvgOverTime(_) => cell.sum() / cell.count as f64 / unit,
            Function::SumOverTime(_) => cell.sum() / unit,
            _ => cell.count as f64,
        };
        let zero = matches!(self.query.function, Function::Rate | Function::CountOverTime | Function::HistogramOverTime(_));
        let mut values = vec![if zero { 0.0 } else { f64::NAN }; grid.len()];
        let mut exemplars = Vec::new();
        for (interval, cell) in cells {
            values[*interval as usize] = number(cell);
            if let Some(exemplar) = &cell.exemplar {
                let value = if exemplar.value.is_nan() { values[*interval as usize] } else { exemplar.value };
                exemplars.push(Exemplar { value, ..exemplar.clone() });
            }
        }
        Series { labels, values, exemplars }
    }

    /// A series for each quantile. An exemplar goes to the least quantile that it does not exceed.
    fn quantiles(
        &self,
        labels: Vec<(String, Value<'static>)>,
        cells: &BTreeMap<u32, Cell>,
        quantiles: &[f64],
        grid: &Grid,
    ) -> Vec<Series> {
        let unit = self.unit();
        let of = |quantile: &f64| {
            let label = (QUANTILE.to_owned(), Value::Float(*quantile));
            let labels = labels.iter().cloned().chain([label]).collect();
            let mut values = vec![0.0; grid.len()];
            for (interval, cell) in cells {
                let value = cell.histogram.as_ref().and_then(|histogram| histogram.quantile(*quantile));
                values[*interval as usize] = value.unwrap_or(0) as f64 / unit;
            }
            Series { labels, values, exemplars: Vec::new() }
        };
        let mut ascending: Vec<f64> = quantiles.to_vec();
        ascending.sort_by(f64::total_cmp);
        ascending.dedup();
        let mut all: Vec<Series> = ascending.iter().map(of).collect();
        for (interval, cell) in cells {
            let Some(exemplar) = &cell.exemplar else { continue };
            let fits = |series: &Series| series.values[*interval as usize] >= exemplar.value;
            let place = all.iter().position(fits).unwrap_or(all.len() - 1);
            all[place].exemplars.push(exemplar.clone());
        }
        all
    }
}

/// Where the series of a key is. (A map of owned keys is as good as one of borrowed keys, as long as it is only read.)
fn place<'a>(places: &'a BTreeMap<Key<'a>, usize>, key: &Key<'a>) -> Option<usize> {
    places.get(key).copied()
}

/// That of the least power of two that a value does not exceed.
fn exponent(value: u64) -> u32 {
    64 - value.saturating_sub(1).leading_zeros()
}
