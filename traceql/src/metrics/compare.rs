//! `compare()`: how often each value of each attribute occurs in the selected spans, and how often in the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
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
/// The intrinsics of a span that are counted, beside the names of its events. Durations, ids and positions are almost all
/// different, so nothing is learned from their values.
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

/// Which spans `compare()` counts together: those of one side in one interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ComparedSpans {
    /// Whether they are those of the selection.
    pub selected: bool,
    /// In which they started.
    pub interval: u32,
}

impl ComparedSpans {
    /// The intrinsics of spans that are counted. Of events, [`Intrinsic::EventName`] is, too.
    pub const INTRINSICS: [Intrinsic; 8] = INTRINSICS;
}

type Side = BTreeMap<String, Values>;

/// Of one attribute.
#[derive(Clone, Debug, Default)]
struct Values {
    places: HashMap<Value<'static>, usize>,
    /// Of each value, by place.
    counts: Vec<Counts>,
    totals: Counts,
    /// Whether some were not counted, because there are too many.
    more: bool,
}

impl Values {
    fn add_all<'v>(&mut self, values: impl Iterator<Item = (Value<'v>, u64)>, interval: u32) -> usize {
        values.map(|(value, spans)| self.add(value, interval, spans)).sum()
    }

    /// Counts a value of so many spans; answers how many bytes that took.
    fn add(&mut self, value: Value<'_>, interval: u32, spans: u64) -> usize {
        *self.totals.entry(interval).or_default() += spans;
        let of_value = value.bytes();
        let Some(counts) = self.counts_of(value) else { return 0 };
        let mut bytes = if counts.is_empty() { of_value } else { 0 };
        let count = counts.entry(interval).or_default();
        bytes += if *count == 0 { COUNT_BYTES } else { 0 };
        *count += spans;
        bytes
    }

    /// Where a value is counted; nowhere if there are too many others.
    fn counts_of(&mut self, value: Value<'_>) -> Option<&mut Counts> {
        let known = place(&self.places, &value);
        if known.is_none() && self.counts.len() == COMPARE_VALUES_MAX {
            self.more = true;
            return None;
        }
        let place = known.unwrap_or(self.counts.len());
        if known.is_none() {
            self.places.insert(value.into_owned(), place);
            self.counts.push(Counts::new());
        }
        self.counts.get_mut(place)
    }

    fn merge(&mut self, mut other: Values) {
        self.more |= other.more;
        merge(&mut self.totals, other.totals);
        let mut values: Vec<(Value<'static>, usize)> = other.places.into_iter().collect();
        // As they came: there may be room for some of them only.
        values.sort_unstable_by_key(|(_, place)| *place);
        for (value, place) in values {
            if let Some(counts) = self.counts_of(value) {
                merge(counts, std::mem::take(&mut other.counts[place]));
            }
        }
    }

    /// The values, the most frequent first, among equals by value.
    fn by_total(&self) -> Vec<(&Value<'static>, &Counts)> {
        let mut all: Vec<_> = self.places.iter().map(|(value, place)| (value, &self.counts[*place])).collect();
        all.sort_by_cached_key(|(value, counts)| (Reverse(counts.values().sum::<u64>()), *value));
        all
    }
}

/// The place of a value. (A map of owned values is as good as one of borrowed values, as long as it is only read.)
fn place<'a>(places: &'a HashMap<Value<'a>, usize>, value: &Value<'a>) -> Option<usize> {
    places.get(value).copied()
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

    /// With which spans one of an interval is counted.
    pub(super) fn counted_with<T: Trace + ?Sized>(
        &self,
        view: &View<'_, T>,
        span: usize,
        interval: u32,
    ) -> Result<ComparedSpans, EvalError> {
        let start = view.trace.facts(span).start;
        let in_window = self.window.is_none_or(|(after, until)| after < start && start <= until);
        Ok(ComparedSpans { selected: in_window && view.holds(self.selection, span)?, interval })
    }

    /// Takes in a span of an interval.
    pub(super) fn add<T: Trace + ?Sized>(&mut self, view: &View<'_, T>, span: usize, interval: u32) -> Result<(), EvalError> {
        let spans = self.counted_with(view, span, interval)?;
        let mut count = |name: &str, value: Value<'_>| self.add_values(spans, name, [(value, 1)]);
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

    /// Takes in values of an attribute, and in how many of the spans each occurs.
    pub(super) fn add_values<'v>(
        &mut self,
        ComparedSpans { selected, interval }: ComparedSpans,
        attribute: &str,
        values: impl IntoIterator<Item = (Value<'v>, u64)>,
    ) {
        let mut values = values.into_iter().filter(|(value, _)| !value.is_nil()).peekable();
        if values.peek().is_none() {
            return;
        }
        let side = if selected { &mut self.selected } else { &mut self.baseline };
        self.bytes += match side.get_mut(attribute) {
            Some(held) => held.add_all(values, interval),
            None => attribute.len() + side.entry(attribute.to_owned()).or_default().add_all(values, interval),
        };
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
                let by_total = values.by_total();
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
