//! `compare()` by columns.
//!
//! It counts every attribute of every span: some fifty values of each. What spans are counted together, each span says; how often
//! they have which values, columns say, in which a value is a number. Counts by number are held from batch to batch, as long as
//! numbers mean the same; only then each value is looked up. Each task has counts of its own.
//!
//! ```text
//! batch ─┬─ time, status … ─> side and interval of each row ─┐
//!        └─ columns, maps ──> number of its value ───────────┴─> cells: values × groups ──> series of all tasks, by value
//! ```

mod cells;
mod numbered;
mod shared;
mod sides;
mod tally;
mod texts;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use hashbrown::HashMap;
use meshlake_storage::{ATTRIBUTE_COLUMNS, Form, Found, ResidualMap};
use meshlake_traceql::{Accumulator, Attribute, ComparedSpans, Conditions, Intrinsic, Kind, Named, Query, Scope, Status, Value};

use self::numbered::Numbered;
pub(super) use self::shared::SharedSums;
use self::sides::Sides;
use self::tally::Tally;
use self::texts::Texts;
use super::metrics::Sums;
use super::rooted::{RootedSpans, Roots};
use super::rows::{AllAttributes, SpanRows, asked, named};
use super::value::value;
use crate::values::{AttributeValues, TextColumn, open};

/// Bytes of counts that all tasks hold before they take them in.
const HELD_MAX: usize = 64 << 20;
/// Spans whose items are counted before what is held is reserved: each may have keys of its own.
const SPANS_AT_ONCE: usize = 1024;

/// A span that counts.
#[derive(Clone, Copy)]
struct Counted {
    row: u32,
    /// The number of the spans that it is counted with.
    group: u32,
}

impl Counted {
    fn row(self) -> usize {
        self.row as usize
    }
}

/// The spans of a batch that count.
struct Spans {
    counted: Vec<Counted>,
    /// How many there are of each group that has some.
    groups: Vec<(u32, u32)>,
}

impl Spans {
    fn new(counted: Vec<Counted>, intervals: usize) -> Spans {
        let mut groups = vec![0; 2 * intervals];
        counted.iter().for_each(|span| groups[span.group as usize] += 1);
        Spans { counted, groups: (0..).zip(groups).filter(|(_, count)| *count > 0).collect() }
    }
}

/// Counts of a task that are not taken in yet, of all attributes.
pub(super) struct Compared {
    series: Arc<SharedSums>,
    /// Of no spans: what the query says of some, it says without a look at what the series have.
    empty: Accumulator,
    /// Of what is held.
    memory: MemoryReservation,
    held_max: usize,
    attributes: Arc<[Named]>,
    sides: Sides,
    intervals: usize,
    /// By place in [`ComparedSpans::INTRINSICS`].
    intrinsics: Vec<Texts>,
    event_names: Numbered<Value<'static>>,
    /// By place in [`ATTRIBUTE_COLUMNS`], each by its sources.
    columns: Vec<Vec<OfSource>>,
    /// By scope and key.
    maps: HashMap<(Scope, String), Numbered<Value<'static>>>,
}

/// Values of a column that are of one source.
enum OfSource {
    Texts(Texts),
    Ints(Numbered<i64>),
    /// No attribute is.
    Derived,
}

impl Compared {
    /// Of no spans. `conditions` are the query's; `tasks` are as many as count into these series.
    pub(super) fn new(query: &Query, conditions: &Conditions, series: Arc<SharedSums>, tasks: usize) -> Compared {
        let Sums { accumulator: empty, memory } = series.apart();
        let intervals = empty.intervals();
        let intrinsic = |of: Intrinsic| Texts::new(of.name().to_owned(), text_of(of), intervals);
        let column = |column: &meshlake_storage::AttributeColumn| {
            let source =
                |source: &meshlake_storage::Source| OfSource::new(label(asked(column.scope), source.key), source.form, intervals);
            column.sources.iter().map(source).collect()
        };
        Compared {
            series,
            empty,
            memory,
            held_max: HELD_MAX / tasks,
            attributes: query.attributes.as_slice().into(),
            sides: Sides::new(query, conditions),
            intervals,
            intrinsics: ComparedSpans::INTRINSICS.map(intrinsic).into(),
            event_names: Numbered::new(Intrinsic::EventName.name().to_owned(), std::convert::identity, intervals),
            columns: ATTRIBUTE_COLUMNS.iter().map(column).collect(),
            maps: HashMap::new(),
        }
    }

    /// Counts the spans of a batch that has all columns in which something stands. What is held is reserved, and the series are.
    ///
    /// # Errors
    /// Also if there is no memory for the series alone.
    pub(super) fn add(&mut self, batch: &RecordBatch, roots: &Roots) -> Result<()> {
        let (attributes, series) = (self.attributes.clone(), self.series.clone());
        let rooted = RootedSpans::new(batch, roots, &attributes)?;
        let counted = self.sides.counted(&rooted, &SpanRows::new(batch, &[])?, &self.empty)?;
        if counted.is_empty() {
            return Ok(());
        }
        let (all, spans) = (AllAttributes::new(batch)?, Spans::new(counted, self.intervals));
        self.intrinsics(batch, (&rooted, roots), &spans, &series)?;
        self.columns(&all, &spans, &series);
        for spans in spans.counted.chunks(SPANS_AT_ONCE) {
            self.items(&all, spans);
            self.settle()?;
        }
        Ok(())
    }

    /// Takes in what there is no room for, and reserves what is left.
    fn settle(&mut self) -> Result<()> {
        let series = self.series.clone();
        self.tallies().filter(|tally| tally.is_full()).for_each(|tally| tally.close(&series));
        let held = self.bytes();
        if held <= self.held_max && self.memory.try_resize(held).is_ok() && series.reserve().is_ok() {
            return Ok(());
        }
        self.close()
    }

    fn intrinsics(
        &mut self,
        batch: &RecordBatch,
        (rooted, roots): (&RootedSpans<'_>, &Roots),
        spans: &Spans,
        into: &SharedSums,
    ) -> Result<()> {
        for (intrinsic, texts) in ComparedSpans::INTRINSICS.iter().zip(&mut self.intrinsics) {
            let (rows, column) = match intrinsic {
                Intrinsic::RootName => (&roots.batch, "name"),
                Intrinsic::RootServiceName => (&roots.batch, "service_name"),
                Intrinsic::Name => (batch, "name"),
                Intrinsic::Status => (batch, "status"),
                Intrinsic::StatusMessage => (batch, "status_message"),
                Intrinsic::Kind => (batch, "kind"),
                Intrinsic::InstrumentationName => (batch, "scope_name"),
                Intrinsic::InstrumentationVersion => (batch, "scope_version"),
                _ => continue,
            };
            let column = open(rows, column, TextColumn::new)?;
            if intrinsic.is_of_trace() {
                texts.add_at(column, &spans.counted, |row| rooted.root(row), into);
            } else {
                texts.add(column, spans, into);
            }
        }
        Ok(())
    }

    fn columns(&mut self, all: &AllAttributes<'_>, spans: &Spans, into: &SharedSums) {
        let of_rows = || spans.counted.iter().map(|span| all.origins(span.row()));
        // The bits that all rows have, and those that any has.
        let (every, any) = of_rows().fold((!0, 0), |(every, any), origins| (every & origins, any | origins));
        for ((column, values), tallies) in ATTRIBUTE_COLUMNS.iter().zip(&all.columns).zip(&mut self.columns) {
            let Some(values) = values.as_ref().filter(|values| !values.is_empty()) else { continue };
            // All bits of the column are those of its fourth source.
            let mask = column.origin_bits(3);
            let one_source = (every ^ any) & mask == 0;
            for (place, tally) in tallies.iter_mut().enumerate() {
                let bits = column.origin_bits(place);
                if one_source && every & mask != bits {
                    continue;
                }
                let own = |row: usize| (one_source || all.origins(row) & mask == bits).then_some(row);
                match (values, tally) {
                    (AttributeValues::Text(texts), OfSource::Texts(tally)) if one_source => tally.add(*texts, spans, into),
                    (AttributeValues::Text(texts), OfSource::Texts(tally)) => tally.add_at(*texts, &spans.counted, own, into),
                    (AttributeValues::Plain(texts), OfSource::Texts(tally)) => tally.add_plain(texts, &spans.counted, own, into),
                    (AttributeValues::Int(ints), OfSource::Ints(tally)) => {
                        for span in &spans.counted {
                            if let Some(row) = own(span.row()).filter(|row| ints.is_valid(*row)) {
                                tally.add(ints.value(row), span.group);
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// The entries of maps, and the names of events.
    fn items(&mut self, all: &AllAttributes<'_>, spans: &[Counted]) {
        for (scope, map) in &all.maps {
            self.map(*scope, map, |row| row..row + 1, spans);
        }
        if let Some(events) = &all.events {
            for span in spans {
                events.items(span.row()).for_each(|event| self.event_names.add(Value::text(events.name(event)), span.group));
            }
            self.map(Scope::Event, events.attributes(), |row| events.items(row), spans);
        }
        if let Some(links) = &all.links {
            self.map(Scope::Link, links.attributes(), |row| links.items(row), spans);
        }
    }

    /// The values of all keys of a map, of which each row has some items.
    fn map(&mut self, scope: Scope, map: &ResidualMap<'_>, items: impl Fn(usize) -> Range<usize>, spans: &[Counted]) {
        // Those of this batch are found without their scope.
        let (mut numbers, mut tallies) = (HashMap::<&str, usize>::new(), Vec::new());
        for span in spans {
            for (key, found) in items(span.row()).flat_map(|item| map.entries(item)) {
                let number = *numbers.entry(key).or_insert_with(|| {
                    let key = (scope, key.to_owned());
                    let tally = self.maps.remove(&key);
                    let new = || Numbered::new(label(scope, &key.1), std::convert::identity, self.intervals);
                    tallies.push((tally.unwrap_or_else(new), key));
                    tallies.len() - 1
                });
                tallies[number].0.add(found.map_or(Value::Nil, value), span.group);
            }
        }
        self.maps.extend(tallies.into_iter().map(|(tally, key)| (key, tally)));
    }

    fn tallies(&mut self) -> impl Iterator<Item = &mut dyn Tally> {
        let of_columns = self.columns.iter_mut().flatten().filter_map(OfSource::tally);
        let of_maps = self.maps.values_mut().map(|tally| tally as &mut dyn Tally);
        let intrinsics = self.intrinsics.iter_mut().map(|texts| texts as &mut dyn Tally);
        intrinsics.chain([&mut self.event_names as &mut dyn Tally]).chain(of_columns).chain(of_maps)
    }

    /// Takes in what is held, and reserves the series.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(super) fn close(&mut self) -> Result<()> {
        let series = self.series.clone();
        self.tallies().for_each(|tally| tally.close(&series));
        self.maps = HashMap::new();
        let left = self.bytes();
        self.memory.try_resize(left)?;
        series.reserve()
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&mut self) -> usize {
        let keys: usize = self.maps.keys().map(|(_, key)| 2 * key.len()).sum();
        let of_maps = keys + self.maps.capacity() * size_of::<((Scope, String), Numbered<Value<'_>>)>();
        of_maps + self.tallies().map(|tally| tally.bytes()).sum::<usize>()
    }
}

impl OfSource {
    fn new(label: String, form: Form, intervals: usize) -> OfSource {
        let ints = |of| OfSource::Ints(Numbered::new(label.clone(), of, intervals));
        match form {
            Form::Text => OfSource::Texts(Texts::new(label, text_or_nil, intervals)),
            Form::Int => ints(|int| value(Found::Int(int))),
            Form::Decimal => ints(|int| value(Found::Decimal(int))),
            Form::Derived => OfSource::Derived,
        }
    }

    fn tally(&mut self) -> Option<&mut dyn Tally> {
        match self {
            OfSource::Texts(texts) => Some(texts),
            OfSource::Ints(ints) => Some(ints),
            OfSource::Derived => None,
        }
    }
}

/// What an intrinsic is where its column has a text, and where it has none.
fn text_of(intrinsic: Intrinsic) -> for<'t> fn(Option<&'t str>) -> Value<'t> {
    match intrinsic {
        Intrinsic::Status => |text| Value::Status(text.and_then(|text| named(text, &Status::NAMES)).unwrap_or(Status::Unset)),
        Intrinsic::Kind => |text| Value::Kind(text.and_then(|text| named(text, &Kind::NAMES)).unwrap_or(Kind::Unspecified)),
        Intrinsic::RootServiceName => text_or_nil,
        _ => |text| Value::text(text.unwrap_or_default()),
    }
}

fn text_or_nil(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Nil, Value::text)
}

/// As queries write it.
fn label(scope: Scope, key: &str) -> String {
    Attribute::Named(Named { scope, name: key.to_owned(), slot: 0 }).to_string()
}
