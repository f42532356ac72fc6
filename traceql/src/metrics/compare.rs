//! `compare()`: how often each value of each attribute occurs in the selected spans, and how often in the others.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::grid::Grid;
use super::series::Series;
use crate::ast::FieldExpr;
use crate::attribute::{Attribute, Intrinsic};
use crate::eval::{EvalError, View};
use crate::limits::COMPARE_VALUES_MAX;
use crate::text::Name;
use crate::trace::Trace;
use crate::value::Value;

const TYPE: &str = "__meta_type";
const ERROR: &str = "__meta_error";
const TOO_MANY: &str = "__too_many_values__";
/// The intrinsics of a span that are counted, beside the names of its events. Durations, ids and positions are almost all different, so
/// nothing is learned from their values.
const INTRINSICS: [Intrinsic; 8] = [
    Intrinsic::Name,
    Intrinsic::Status,
    Intrinsic::StatusMessage,
    Intrinsic::Kind,
    Intrinsic::RootName,
    Intrinsic::RootServiceName,
    Intrinsic::InstrumentationName,
    Intrinsic::InstrumentationVersion,
];

/// What a count takes in a map, about.
const COUNT_BYTES: usize = 32;

/// By interval.
type Counts = BTreeMap<u32, u64>;

#[derive(Clone, Debug)]
pub(super) struct Compared<'q> {
    selection: &'q FieldExpr,
    top: usize,
    window: Option<(u64, u64)>,
    baseline: Side,
    selected: Side,
    /// Of values and counts, about.
    bytes: usize,
}

type Side = BTreeMap<String, Values>;

/// Of one attribute.
#[derive(Clone, Debug, Default)]
struct Values {
    counts: BTreeMap<Value<'static>, Counts>,
    totals: Counts,
    /// Whether some were not counted, because there are too many.
    more: bool,
}

impl Values {
    /// Counts a value; answers how many bytes that took.
    fn add(&mut self, value: Value<'_>, interval: u32) -> usize {
        *self.totals.entry(interval).or_default() += 1;
        let (of_value, mut bytes) = (value.bytes(), 0);
        self.add_value(value, |counts| {
            bytes += if counts.is_empty() { of_value } else { 0 };
            let count = counts.entry(interval).or_default();
            bytes += if *count == 0 { COUNT_BYTES } else { 0 };
            *count += 1;
        });
        bytes
    }

    fn add_value(&mut self, value: Value<'_>, add: impl FnOnce(&mut Counts)) {
        let value = value.into_owned();
        if self.counts.len() < COMPARE_VALUES_MAX || self.counts.contains_key(&value) {
            add(self.counts.entry(value).or_default());
        } else {
            self.more = true;
        }
    }

    fn merge(&mut self, other: Values) {
        self.more |= other.more;
        merge(&mut self.totals, other.totals);
        for (value, theirs) in other.counts {
            self.add_value(value, |counts| merge(counts, theirs));
        }
    }
}

fn merge(counts: &mut Counts, others: Counts) {
    for (interval, count) in others {
        *counts.entry(interval).or_default() += count;
    }
}

impl<'q> Compared<'q> {
    pub(super) fn new(selection: &'q FieldExpr, top: usize, window: Option<(u64, u64)>) -> Compared<'q> {
        Compared { selection, top, window, baseline: Side::new(), selected: Side::new(), bytes: 0 }
    }

    /// Takes in a span of an interval.
    pub(super) fn add<T: Trace + ?Sized>(&mut self, view: &View<'_, T>, span: usize, interval: u32) -> Result<(), EvalError> {
        let start = view.trace.facts(span).start;
        let in_window = self.window.is_none_or(|(after, until)| after < start && start <= until);
        let selected = in_window && view.holds(self.selection, span)?;
        let side = if selected { &mut self.selected } else { &mut self.baseline };
        let bytes = &mut self.bytes;
        let mut count = |name: &str, value: Value<'_>| {
            if value.is_nil() {
                return;
            }
            *bytes += match side.get_mut(name) {
                Some(values) => values.add(value, interval),
                None => name.len() + side.entry(name.to_owned()).or_default().add(value, interval),
            };
        };
        for intrinsic in INTRINSICS {
            count(intrinsic.name(), view.attribute(span, &Attribute::Intrinsic(intrinsic)));
        }
        for event in 0..view.trace.events(span) {
            count(Intrinsic::EventName.name(), Value::text(view.trace.event(span, event).name));
        }
        let mut label = String::new();
        view.trace.each_attribute(span, &mut |scope, name, value| {
            label.clear();
            // Writing to a string cannot fail.
            let _ = write!(label, "{scope}.{}", Name(name));
            count(&label, value);
        });
        Ok(())
    }

    /// How much memory it takes, and its answer will, about.
    pub(super) fn bytes(&self, grid: &Grid) -> usize {
        let sides = self.baseline.values().chain(self.selected.values());
        let series: usize = sides.map(|values| values.counts.len().min(self.top) + 2).sum();
        self.bytes + series * grid.len() * size_of::<f64>()
    }

    pub(super) fn merge(&mut self, other: Compared<'q>) {
        self.bytes += other.bytes;
        for (side, others) in [(&mut self.baseline, other.baseline), (&mut self.selected, other.selected)] {
            for (name, values) in others {
                side.entry(name).or_default().merge(values);
            }
        }
    }

    pub(super) fn finish(self, grid: &Grid) -> Vec<Series> {
        let mut all = Vec::new();
        let mut too_many = Vec::new();
        for (side, kind) in [(&self.baseline, "baseline"), (&self.selected, "selection")] {
            for (name, values) in side {
                let mut by_total: Vec<_> = values.counts.iter().collect();
                by_total.sort_by_key(|(value, counts)| (Reverse(counts.values().sum::<u64>()), *value));
                if values.more || by_total.len() > self.top {
                    too_many.push(name.clone());
                }
                for (value, counts) in by_total.into_iter().take(self.top) {
                    all.push(series(TYPE, kind, name, value.clone(), dense(counts, grid)));
                }
                all.push(series(TYPE, &format!("{kind}_total"), name, Value::Nil, dense(&values.totals, grid)));
            }
        }
        too_many.sort_unstable();
        too_many.dedup();
        all.extend(too_many.into_iter().map(|name| series(ERROR, TOO_MANY, &name, Value::Nil, vec![f64::NAN; grid.len()])));
        all
    }
}

fn dense(counts: &Counts, grid: &Grid) -> Vec<f64> {
    let mut values = vec![0.0; grid.len()];
    counts.iter().for_each(|(interval, count)| values[*interval as usize] = *count as f64);
    values
}

fn series(label: &str, kind: &str, name: &str, value: Value<'static>, values: Vec<f64>) -> Series {
    let labels = vec![(label.to_owned(), Value::Text(kind.to_owned().into())), (name.to_owned(), value)];
    Series { labels, values, exemplars: Vec::new() }
}
