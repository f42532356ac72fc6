//! `compare()` by columns.
//!
//! It counts every attribute of every span: some fifty values of each. What spans are counted together, each span says; how often
//! they have which values, columns say, in which a value is a number.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_storage::{ATTRIBUTE_COLUMNS, Form, ResidualMap, Source};
use meshlake_traceql::{Accumulator, Attribute, ComparedSpans, Intrinsic, Kind, Named, Scope, Status, Value};

use super::failed;
use super::rooted::{RootedSpans, Roots};
use super::rows::{AllAttributes, SpanRows, asked};
use super::value::value;
use crate::values::{AttributeValues, TextColumn, open};

/// Takes in the spans of a batch that has all columns.
pub(super) fn add(batch: &RecordBatch, roots: &Roots, attributes: &[Named], into: &mut Accumulator<'_>) -> Result<()> {
    let rooted = RootedSpans::new(batch, roots, attributes)?;
    let mut together = BTreeMap::<ComparedSpans, Vec<usize>>::new();
    for (row, span) in rooted.spans().enumerate() {
        if let Some(spans) = into.counted_with(&span).map_err(failed)? {
            together.entry(spans).or_default().push(row);
        }
    }
    let root_text = |name| open(&roots.batch, name, TextColumn::new);
    let (rows, all) = (SpanRows::new(batch, &[])?, AllAttributes::new(batch)?);
    let (root_names, root_services) = (root_text("name")?, root_text("service_name")?);
    let mut counter = Counter { rooted: &rooted, root_names, root_services, rows, all, tally: Tally::default() };
    for (spans, rows) in together {
        let mut take = |attribute: &str, counts: Vec<(Value<'_>, u64)>| into.add_values(spans, attribute, counts);
        counter.intrinsics(&rows, &mut take);
        counter.columns(&rows, &mut take);
        counter.maps(&rows, &mut take);
    }
    Ok(())
}

/// Who takes an attribute, as queries write it, and how many spans have which value.
type Take<'t> = &'t mut dyn FnMut(&str, Vec<(Value<'_>, u64)>);

/// The columns of a batch, opened.
struct Counter<'b> {
    rooted: &'b RootedSpans<'b>,
    root_names: TextColumn<'b>,
    root_services: TextColumn<'b>,
    rows: SpanRows<'b>,
    all: AllAttributes<'b>,
    tally: Tally,
}

/// Counts small numbers.
#[derive(Default)]
struct Tally {
    counts: Vec<u64>,
    /// Those that were counted.
    numbers: Vec<usize>,
}

impl Tally {
    /// How often there is each, of those that there are.
    fn count(&mut self, numbers: impl Iterator<Item = usize>) -> impl Iterator<Item = (usize, u64)> {
        for number in numbers {
            if number >= self.counts.len() {
                self.counts.resize(number + 1, 0);
            }
            if self.counts[number] == 0 {
                self.numbers.push(number);
            }
            self.counts[number] += 1;
        }
        self.numbers.drain(..).map(|number| (number, std::mem::take(&mut self.counts[number])))
    }

    /// How often there is each text, or none.
    fn texts<'b>(
        &mut self,
        column: TextColumn<'b>,
        rows: impl Iterator<Item = usize>,
    ) -> impl Iterator<Item = (Option<&'b str>, u64)> {
        let numbers = rows.map(move |row| column.key(row).map_or(0, |key| key + 1));
        self.count(numbers).map(move |(number, count)| (number.checked_sub(1).map(|key| column.text(key)), count))
    }
}

/// What has no text has an empty one.
fn or_empty<'b>((text, count): (Option<&'b str>, u64)) -> (Value<'b>, u64) {
    (Value::text(text.unwrap_or_default()), count)
}

/// What has no text is missing.
fn or_missing<'b>((text, count): (Option<&'b str>, u64)) -> (Value<'b>, u64) {
    (text.map_or(Value::Nil, Value::text), count)
}

impl Counter<'_> {
    fn intrinsics(&mut self, rows: &[usize], take: Take<'_>) {
        for intrinsic in ComparedSpans::INTRINSICS {
            take(intrinsic.name(), self.intrinsic(intrinsic, rows));
        }
        let events = &self.all.events;
        let names = counted(rows.iter().flat_map(|row| events.items(*row)).map(|event| Value::text(events.name(event))));
        take(Intrinsic::EventName.name(), in_order(names));
    }

    fn intrinsic(&mut self, intrinsic: Intrinsic, rows: &[usize]) -> Vec<(Value<'_>, u64)> {
        let (of, tally, all) = (&self.rows, &mut self.tally, rows.iter().copied());
        let column = match intrinsic {
            Intrinsic::Name => of.name,
            Intrinsic::StatusMessage => of.status_message,
            Intrinsic::InstrumentationName => of.scope_name,
            Intrinsic::InstrumentationVersion => of.scope_version,
            Intrinsic::RootName => {
                return tally.texts(self.root_names, all.filter_map(|row| self.rooted.root(row))).map(or_empty).collect();
            }
            Intrinsic::RootServiceName => {
                return tally.texts(self.root_services, all.filter_map(|row| self.rooted.root(row))).map(or_missing).collect();
            }
            Intrinsic::Status => {
                let counts = tally.count(all.map(|row| of.status(row) as usize));
                return counts.map(|(number, count)| (Value::Status(Status::NAMES[number].1), count)).collect();
            }
            Intrinsic::Kind => {
                let counts = tally.count(all.map(|row| of.kind(row) as usize));
                return counts.map(|(number, count)| (Value::Kind(Kind::NAMES[number].1), count)).collect();
            }
            _ => return Vec::new(),
        };
        match column {
            Some(column) => tally.texts(column, all).map(or_empty).collect(),
            None => Vec::new(),
        }
    }

    fn columns(&mut self, rows: &[usize], take: Take<'_>) {
        let Counter { all, tally, .. } = self;
        for (column, values) in ATTRIBUTE_COLUMNS.iter().zip(&all.columns) {
            for source in column.sources.iter().filter(|source| source.form != Form::Derived && !values.is_empty()) {
                let is_source = |row: &usize| column.source(all.origins(*row)).is_some_and(|of| std::ptr::eq(of, source));
                let own = rows.iter().copied().filter(is_source);
                take(&label(asked(column.scope), source.key), of_source(values, source, own, tally));
            }
        }
    }

    fn maps(&self, rows: &[usize], take: Take<'_>) {
        let AllAttributes { maps, events, links, .. } = &self.all;
        for (scope, map) in maps {
            of_map(*scope, map, rows.iter().copied(), take);
        }
        of_map(Scope::Event, events.attributes(), rows.iter().flat_map(|row| events.items(*row)), take);
        of_map(Scope::Link, links.attributes(), rows.iter().flat_map(|row| links.items(*row)), take);
    }
}

/// As queries write it.
fn label(scope: Scope, key: &str) -> String {
    Attribute::Named(Named { scope, name: key.to_owned(), slot: 0 }).to_string()
}

/// How often there is each.
fn counted<T: Eq + Hash>(all: impl Iterator<Item = T>) -> HashMap<T, u64> {
    let mut counts = HashMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts
}

/// The most frequent first: there may be room for some of them only.
fn in_order(counts: HashMap<Value<'_>, u64>) -> Vec<(Value<'_>, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
    counts
}

/// The values of a column in rows in which they are of one source.
fn of_source<'b>(
    values: &AttributeValues<'b>,
    source: &Source,
    rows: impl Iterator<Item = usize>,
    tally: &mut Tally,
) -> Vec<(Value<'b>, u64)> {
    match (values, source.form) {
        (AttributeValues::Text(column), Form::Text) => tally.texts(*column, rows).map(or_missing).collect(),
        _ => in_order(counted(rows.filter_map(|row| values.get(row, source.form)).map(value))),
    }
}

/// The values of all keys of a map.
fn of_map(scope: Scope, map: &ResidualMap<'_>, items: impl Iterator<Item = usize>, take: Take<'_>) {
    let mut keys: HashMap<&str, HashMap<Value<'_>, u64>> = HashMap::new();
    for (key, found) in items.flat_map(|item| map.entries(item)) {
        *keys.entry(key).or_default().entry(found.map_or(Value::Nil, value)).or_default() += 1;
    }
    for (key, counts) in keys {
        take(&label(scope, key), in_order(counts));
    }
}
