//! `compare()`: how often each value of each attribute occurs in the selected spans, and how often in the others.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;

use hashbrown::HashMap;

use super::counts::Counts;
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

#[derive(Clone, Debug)]
pub(super) struct Compared {
    selection: FieldExpr,
    top: usize,
    window: Option<(u64, u64)>,
    baseline: Side,
    selected: Side,
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

/// What the start of a span says of how `compare()` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedTime {
    /// In which it is.
    pub interval: u32,
    /// Whether the selection may have it: `compare()` may name a window.
    pub in_window: bool,
}

/// In how many spans a value of a list occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedCount {
    /// The place of the value in its list.
    pub value: usize,
    /// The spans, all of which are counted together.
    pub spans: ComparedSpans,
    /// How many of them have it.
    pub count: u64,
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
    /// What they take, about.
    bytes: usize,
}

impl Values {
    /// Counts values of a list. Each is looked up once.
    fn add_all(&mut self, values: &[Value<'_>], counts: &[&ComparedCount]) {
        let mut spans = vec![0; values.len()];
        counts.iter().for_each(|count| spans[count.value] += count.count);
        let there = (0..values.len()).filter(|value| spans[*value] > 0);
        let mut places: Vec<Option<usize>> = vec![None; values.len()];
        there.clone().for_each(|value| places[value] = place(&self.places, &values[value]));
        let mut new: Vec<usize> = there.filter(|value| places[*value].is_none()).collect();
        let room = COMPARE_VALUES_MAX - self.counts.len();
        if room == 0 {
            self.more |= !new.is_empty();
            new.clear();
        } else if new.len() > room {
            // It is for the most frequent.
            new.sort_unstable_by(|a, b| spans[*b].cmp(&spans[*a]).then_with(|| values[*a].cmp(&values[*b])));
        }
        new.into_iter().for_each(|value| places[value] = self.place_of(&values[value]));
        counts.iter().for_each(|count| self.add(places[count.value], count.spans.interval, count.count));
    }

    /// Counts so many spans with the value at a place.
    fn add(&mut self, place: Option<usize>, interval: u32, spans: u64) {
        self.totals.add(interval, spans);
        if let Some(place) = place {
            self.count(place, interval, spans);
        }
    }

    fn count(&mut self, place: usize, interval: u32, spans: u64) {
        self.bytes += self.counts[place].add(interval, spans);
    }

    /// Where a value is counted; nowhere if there are too many others.
    fn place_of(&mut self, value: &Value<'_>) -> Option<usize> {
        if let Some(known) = place(&self.places, value) {
            return Some(known);
        }
        if self.counts.len() == COMPARE_VALUES_MAX {
            self.more = true;
            return None;
        }
        self.bytes += value.bytes();
        self.places.insert(value.clone().into_owned(), self.counts.len());
        self.counts.push(Counts::default());
        Some(self.counts.len() - 1)
    }

    fn merge(&mut self, other: &Values) {
        self.more |= other.more;
        other.totals.iter().for_each(|(interval, spans)| _ = self.totals.add(interval, spans));
        // The most frequent first: there may be room for some of them only.
        for (value, counts) in other.by_total(COMPARE_VALUES_MAX) {
            if let Some(place) = self.place_of(value) {
                counts.iter().for_each(|(interval, spans)| self.count(place, interval, spans));
            }
        }
    }

    /// At most so many values, the most frequent first, among equals by value.
    fn by_total(&self, most: usize) -> impl Iterator<Item = (&Value<'static>, &Counts)> {
        let of_place = |(value, place): (_, &usize)| (Reverse(self.counts[*place].total()), value, *place);
        let mut all: Vec<(Reverse<u64>, &Value<'static>, usize)> = self.places.iter().map(of_place).collect();
        if all.len() > most {
            all.select_nth_unstable(most);
            all.truncate(most);
        }
        all.sort_unstable();
        all.into_iter().map(|(_, value, place)| (value, &self.counts[place]))
    }
}

/// The place of a value. (A map of owned values is as good as one of borrowed values, as long as it is only read.)
fn place<'a>(places: &'a HashMap<Value<'a>, usize>, value: &Value<'a>) -> Option<usize> {
    places.get(value).copied()
}

impl Compared {
    pub(super) fn new(selection: FieldExpr, top: usize, window: Option<(u64, u64)>) -> Compared {
        Compared { selection, top, window, baseline: Side::new(), selected: Side::new() }
    }

    /// Whether the selection may have a span that starts then.
    pub(super) fn in_window(&self, start: u64) -> bool {
        self.window.is_none_or(|(after, until)| after < start && start <= until)
    }

    /// Whether a span is of the selection.
    pub(super) fn selects<T: Trace + ?Sized>(&self, view: &View<'_, T>, span: usize, in_window: bool) -> Result<bool, EvalError> {
        Ok(in_window && view.holds(&self.selection, span)?)
    }

    /// Takes in a span of an interval.
    pub(super) fn add<T: Trace + ?Sized>(&mut self, view: &View<'_, T>, span: usize, interval: u32) -> Result<(), EvalError> {
        let selected = self.selects(view, span, self.in_window(view.trace.facts(span).start))?;
        let mut count = |name: &str, value: Value<'_>| {
            if !value.is_nil() {
                self.with_values(selected, name, |values| {
                    let place = values.place_of(&value);
                    values.add(place, interval, 1);
                });
            }
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

    /// Takes in how often an attribute has the values of a list.
    pub(super) fn add_counts(&mut self, attribute: &str, values: &[Value<'_>], counts: &[ComparedCount]) {
        for selected in [false, true] {
            let is_of_side = |count: &&ComparedCount| count.spans.selected == selected && !values[count.value].is_nil();
            let of_side: Vec<&ComparedCount> = counts.iter().filter(is_of_side).collect();
            if !of_side.is_empty() {
                self.with_values(selected, attribute, |held| held.add_all(values, &of_side));
            }
        }
    }

    /// Gives `take` the values of an attribute in the spans of a side.
    fn with_values(&mut self, selected: bool, attribute: &str, take: impl FnOnce(&mut Values)) {
        let side = if selected { &mut self.selected } else { &mut self.baseline };
        match side.get_mut(attribute) {
            Some(held) => take(held),
            None => {
                let new = Values { bytes: attribute.len(), ..Values::default() };
                take(side.entry(attribute.to_owned()).or_insert(new));
            }
        }
    }

    /// How much memory it takes, and its answer will, about.
    pub(super) fn bytes(&self, grid: &Grid) -> usize {
        let sides = self.baseline.values().chain(self.selected.values());
        let of_series = |values: &Values| (values.counts.len().min(self.top) + 2) * grid.len() * size_of::<f64>();
        sides.map(|values| values.bytes + of_series(values)).sum()
    }

    pub(super) fn merge(&mut self, other: &Compared) {
        for (selected, others) in [(false, &other.baseline), (true, &other.selected)] {
            others.iter().for_each(|(name, values)| self.with_values(selected, name, |own| own.merge(values)));
        }
    }

    pub(super) fn finish(&self, grid: &Grid) -> Vec<Series> {
        let mut all = Vec::new();
        let mut too_many = Vec::new();
        for (side, kind) in [(&self.baseline, "baseline"), (&self.selected, "selection")] {
            for (name, values) in side {
                if values.more || values.places.len() > self.top {
                    too_many.push(name.clone());
                }
                for (value, counts) in values.by_total(self.top) {
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
    counts.iter().for_each(|(interval, count)| values[interval as usize] = count as f64);
    values
}

fn series(label: &str, kind: &str, name: &str, value: Value<'static>, values: Vec<f64>) -> Series {
    let labels = vec![(label.to_owned(), Value::Text(kind.to_owned().into())), (name.to_owned(), value)];
    Series { labels, values, exemplars: Vec::new() }
}
