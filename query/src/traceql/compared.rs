//! `compare()` by columns.
//!
//! It counts every attribute of every span: some fifty values of each. What spans are counted together, each span says; how often
//! they have which values, columns say, in which a value is a number. Each value of a batch is looked up once for all spans.

mod tally;

use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::Range;

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use hashbrown::HashMap;
use meshlake_storage::{ATTRIBUTE_COLUMNS, AttributeColumn, Form, Found, ResidualMap};
use meshlake_traceql::{
    Accumulator, Attribute, ComparedCount, ComparedSpans, EvalError, Intrinsic, Kind, Named, Scope, Status, Value,
};

use self::tally::Tally;
use super::failed;
use super::rooted::{RootedSpans, Roots};
use super::rows::{AllAttributes, SpanRows, asked};
use super::value::value;
use crate::values::{AttributeValues, TextColumn, open};

/// Takes in the spans of a batch that has all columns.
pub(super) fn add(batch: &RecordBatch, roots: &Roots, attributes: &[Named], into: &mut Accumulator<'_>) -> Result<()> {
    let rooted = RootedSpans::new(batch, roots, attributes)?;
    let groups = groups(&rooted, into).map_err(failed)?;
    let root_text = |name| open(&roots.batch, name, TextColumn::new);
    let (rows, all) = (SpanRows::new(batch, &[])?, AllAttributes::new(batch)?);
    let (root_names, root_services) = (root_text("name")?, root_text("service_name")?);
    let origins = (0..batch.num_rows()).map(|row| all.origins(row)).collect();
    let counter = Counter { groups, rooted: &rooted, root_names, root_services, rows, all, origins };
    let mut take = |attribute: &str, (values, counts): Counts<'_>| into.add_counts(attribute, &values, &counts);
    counter.intrinsics(&mut take);
    counter.columns(&mut take);
    counter.maps(&mut take);
    Ok(())
}

/// Spans that are counted together, and their rows.
type Group = (ComparedSpans, Vec<usize>);

/// The rows of those spans that count.
fn groups(rooted: &RootedSpans<'_>, into: &Accumulator<'_>) -> std::result::Result<Vec<Group>, EvalError> {
    let mut groups = Vec::<Group>::new();
    let mut places = BTreeMap::<ComparedSpans, usize>::new();
    // Most spans of a trace are counted together.
    let mut last = 0;
    for (row, span) in rooted.spans().enumerate() {
        let Some(spans) = into.counted_with(&span)? else { continue };
        if groups.get(last).is_none_or(|(known, _)| *known != spans) {
            last = *places.entry(spans).or_insert(groups.len());
            if last == groups.len() {
                groups.push((spans, Vec::new()));
            }
        }
        groups[last].1.push(row);
    }
    Ok(groups)
}

/// The values of an attribute, and how many spans have each.
type Counts<'b> = (Vec<Value<'b>>, Vec<ComparedCount>);

/// Who takes an attribute, as queries write it, and its values.
type Take<'t> = &'t mut dyn FnMut(&str, Counts<'_>);

/// The columns of a batch, opened.
struct Counter<'b> {
    groups: Vec<Group>,
    rooted: &'b RootedSpans<'b>,
    root_names: TextColumn<'b>,
    root_services: TextColumn<'b>,
    rows: SpanRows<'b>,
    all: AllAttributes<'b>,
    /// What the columns of each row are made from.
    origins: Vec<i64>,
}

impl Counter<'_> {
    fn intrinsics(&self, take: Take<'_>) {
        for intrinsic in ComparedSpans::INTRINSICS {
            take(intrinsic.name(), self.intrinsic(intrinsic));
        }
        let events = &self.all.events;
        let mut names = HashMap::<&str, usize>::new();
        let add = |row, tally: &mut Tally| {
            events.items(row).for_each(|event| tally.add(number(&mut names, events.name(event))));
        };
        let counts = self.counts(add);
        take(Intrinsic::EventName.name(), (in_order(names).into_iter().map(Value::text).collect(), counts));
    }

    fn intrinsic(&self, intrinsic: Intrinsic) -> Counts<'_> {
        let empty = Value::text("");
        let column = match intrinsic {
            Intrinsic::Name => self.rows.name,
            Intrinsic::StatusMessage => self.rows.status_message,
            Intrinsic::InstrumentationName => self.rows.scope_name,
            Intrinsic::InstrumentationVersion => self.rows.scope_version,
            Intrinsic::RootName => return self.texts(self.root_names, empty, |row| self.rooted.root(row)),
            Intrinsic::RootServiceName => return self.texts(self.root_services, Value::Nil, |row| self.rooted.root(row)),
            Intrinsic::Status => {
                let counts = self.counts(|row, tally| tally.add(self.rows.status(row) as usize));
                return (Status::NAMES.iter().map(|(_, status)| Value::Status(*status)).collect(), counts);
            }
            Intrinsic::Kind => {
                let counts = self.counts(|row, tally| tally.add(self.rows.kind(row) as usize));
                return (Kind::NAMES.iter().map(|(_, kind)| Value::Kind(*kind)).collect(), counts);
            }
            _ => None,
        };
        column.map_or_else(Counts::default, |column| self.texts(column, empty, Some))
    }

    fn columns(&self, take: Take<'_>) {
        for (column, values) in ATTRIBUTE_COLUMNS.iter().zip(&self.all.columns) {
            for (place, source) in column.sources.iter().enumerate() {
                if source.form != Form::Derived && !values.is_empty() {
                    take(&label(asked(column.scope), source.key), self.of_source(column, place, values));
                }
            }
        }
    }

    /// The values of a column in rows in which they are of one source.
    fn of_source<'b>(&self, column: &AttributeColumn, place: usize, values: &AttributeValues<'b>) -> Counts<'b> {
        // All bits of the column are those of its fourth source.
        let (mask, bits) = (column.origin_bits(3), column.origin_bits(place));
        let own = |row: usize| (self.origins[row] & mask == bits).then_some(row);
        match (values, column.sources[place].form) {
            (AttributeValues::Text(texts), Form::Text) => self.texts(*texts, Value::Nil, own),
            (AttributeValues::Int(ints), form @ (Form::Int | Form::Decimal)) => {
                let mut numbers = HashMap::<i64, usize>::new();
                let counts = self.counts(|row, tally| {
                    if let Some(row) = own(row).filter(|row| ints.is_valid(*row)) {
                        tally.add(number(&mut numbers, ints.value(row)));
                    }
                });
                let found = |int| if form == Form::Decimal { Found::Decimal(int) } else { Found::Int(int) };
                (in_order(numbers).into_iter().map(|int| value(found(int))).collect(), counts)
            }
            _ => Counts::default(),
        }
    }

    /// The texts of a column; `row_of` a row is that of its text, if it counts.
    fn texts<'b>(&self, column: TextColumn<'b>, missing: Value<'b>, row_of: impl Fn(usize) -> Option<usize>) -> Counts<'b> {
        let mut values = Vec::new();
        // By the text's number in the column: one more than its place among the values. The first is that of no text.
        let mut places = vec![0; column.texts() + 1];
        let counts = self.counts(|row, tally| {
            let Some(row) = row_of(row) else { return };
            let key = column.key(row);
            let place = &mut places[key.map_or(0, |key| key + 1)];
            if *place == 0 {
                values.push(key.map_or(missing.clone(), |key| Value::text(column.text(key))));
                *place = values.len();
            }
            tally.add(*place - 1);
        });
        (values, counts)
    }

    /// What `add` adds of each row.
    fn counts(&self, mut add: impl FnMut(usize, &mut Tally)) -> Vec<ComparedCount> {
        let mut tally = Tally::default();
        for (spans, rows) in &self.groups {
            tally.turn_to(*spans);
            rows.iter().for_each(|row| add(*row, &mut tally));
        }
        tally.finish()
    }

    fn maps(&self, take: Take<'_>) {
        let AllAttributes { maps, events, links, .. } = &self.all;
        for (scope, map) in maps {
            self.map(*scope, map, |row| row..row + 1, take);
        }
        self.map(Scope::Event, events.attributes(), |row| events.items(row), take);
        self.map(Scope::Link, links.attributes(), |row| links.items(row), take);
    }

    /// The values of all keys of a map, of which each row has some items.
    fn map(&self, scope: Scope, map: &ResidualMap<'_>, items: impl Fn(usize) -> Range<usize>, take: Take<'_>) {
        let mut keys: HashMap<&str, (HashMap<Value<'_>, usize>, Tally)> = HashMap::new();
        for (spans, rows) in &self.groups {
            for (key, found) in rows.iter().flat_map(|row| items(*row)).flat_map(|item| map.entries(item)) {
                let (numbers, tally) = keys.entry(key).or_default();
                tally.turn_to(*spans);
                tally.add(number(numbers, found.map_or(Value::Nil, value)));
            }
        }
        for (key, (numbers, tally)) in keys {
            take(&label(scope, key), (in_order(numbers), tally.finish()));
        }
    }
}

/// As queries write it.
fn label(scope: Scope, key: &str) -> String {
    Attribute::Named(Named { scope, name: key.to_owned(), slot: 0 }).to_string()
}

/// The number of a value, which may be a new one.
fn number<T: Eq + Hash>(numbers: &mut HashMap<T, usize>, value: T) -> usize {
    let next = numbers.len();
    *numbers.entry(value).or_insert(next)
}

/// Values by their numbers.
fn in_order<T>(numbers: HashMap<T, usize>) -> Vec<T> {
    let mut all: Vec<(T, usize)> = numbers.into_iter().collect();
    all.sort_unstable_by_key(|(_, number)| *number);
    all.into_iter().map(|(value, _)| value).collect()
}
