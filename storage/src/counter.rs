//! Which attributes spans carry, and their frequent values: of a file while it is written, of rows where there is no such file.
//!
//! An attribute is a scope, a key and a type. A span counts once for each that it carries, with the attribute's first value: the
//! one in its column, else the first in the residual map, as SQL's `attribute()` finds it. So the values of an attribute are
//! those of as many spans as carry it, unless some are left out.
//!
//! | bound | past it |
//! |---|---|
//! | [`ATTRIBUTES_MAX`] attributes, keys of [`KEY_BYTES_MAX`] bytes | others are left out: [`AttributeCounts::complete`] |
//! | `DISTINCT_MAX` values of one, [`BYTES_MAX`] bytes of all | rare values are passed over: [`AttributeCount::lower_bounds`] |
//! | `VALUES_MAX` values told of one, `VALUE_BYTES_MAX` bytes of each; values of [`ValueType::Other`] | they are left out: [`AttributeCount::is_whole`] |

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::attributes::{ATTRIBUTE_COLUMNS, AttributeColumn, Place, places};
use crate::frequent::FrequentValues;
use crate::residual::{Found, ResidualMap, ValueType};
use crate::schema::Scope;

/// Attributes that are counted.
const ATTRIBUTES_MAX: usize = 1_000;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 256;
/// Bytes that the values of all attributes may take while they are counted.
const BYTES_MAX: usize = 4 << 20;

/// One attribute of some spans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeCount {
    /// Whose it is.
    pub scope: Scope,
    /// Its key.
    pub key: String,
    /// Its type.
    #[serde(rename = "type")]
    pub value_type: ValueType,
    /// Spans that carry it.
    pub spans: u64,
    /// Those of them where it stands in the residual map, and not in a column of its own.
    pub residual: u64,
    /// Whether rare values were passed over, so that counts of values may be too low.
    pub lower_bounds: bool,
    /// Frequent values as text, and the spans that have them: the most frequent first, then by text.
    pub values: Vec<(String, u64)>,
}

impl AttributeCount {
    /// Whether `values` are all there are, with true counts.
    pub fn is_whole(&self) -> bool {
        self.values.iter().map(|(_, spans)| spans).sum::<u64>() == self.spans
    }
}

/// The attributes of some spans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeCounts {
    /// Whether they are all there are.
    pub complete: bool,
    /// By scope, key and type.
    pub attributes: Vec<AttributeCount>,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Every attribute and its values.
    All,
    /// Every attribute, no values.
    Names,
    /// The attributes of one key, and their values.
    Key(String),
}

/// An attribute that is being counted.
#[derive(Debug)]
struct Counting {
    /// All but its values.
    count: AttributeCount,
    values: FrequentValues,
    /// The column where it stands instead of the residual map, unless that is taken.
    place: Option<Place>,
    /// The last row, counted from 1, in whose residual map it was.
    last: u64,
}

/// A value of a residual map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Plain<'a> {
    Text(&'a str),
    Int(i64),
    Double(u64),
    Bool(bool),
}

impl<'a> Plain<'a> {
    fn new(found: Found<'a>) -> Option<Plain<'a>> {
        Some(match found {
            Found::Text(text) => Plain::Text(text),
            Found::Int(value) | Found::Decimal(value) => Plain::Int(value),
            Found::Double(value) => Plain::Double(value.to_bits()),
            Found::Bool(value) => Plain::Bool(value),
            Found::Other(_) => return None,
        })
    }

    fn text(self) -> Cow<'a, str> {
        let found = match self {
            Plain::Text(text) => Found::Text(text),
            Plain::Int(value) => Found::Int(value),
            Plain::Double(bits) => Found::Double(f64::from_bits(bits)),
            Plain::Bool(value) => Found::Bool(value),
        };
        found.plain_text().unwrap_or_default()
    }
}

/// Counts the attributes of rows.
#[derive(Debug)]
pub struct AttributeCounter {
    counted: Counted,
    complete: bool,
    attributes: Vec<Counting>,
    /// Positions in `attributes`: by scope, key, type.
    known: [HashMap<String, [Option<usize>; TYPES]>; Scope::ALL.len()],
    /// Rows that were counted.
    rows: u64,
    /// Bytes that values may still take.
    room: usize,
    /// Counts by key of a dictionary, kept so that they are not allocated for each column.
    by_key: Vec<u32>,
}

const TYPES: usize = ValueType::Other as usize + 1;

/// The columns of a batch, as far as they are there.
struct Columns<'a> {
    origins: &'a Int64Array,
    /// The bits in which the origins of rows differ.
    differing: i64,
    attributes: Vec<Option<&'a ArrayRef>>,
}

impl<'a> Columns<'a> {
    fn new(rows: &'a RecordBatch) -> Result<Columns<'a>, ArrowError> {
        let origins = rows.column_by_name("origins").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let column = |column: &AttributeColumn| rows.column_by_name(column.name).filter(|array| array.null_count() < array.len());
        let origins = origins.ok_or_else(|| schema_error("origins"))?;
        let (all, any) = origins.values().iter().fold((-1, 0), |(all, any), bits| (all & bits, any | bits));
        Ok(Columns { origins, differing: all ^ any, attributes: ATTRIBUTE_COLUMNS.iter().map(column).collect() })
    }

    /// The origin of the values of a column, if that of all rows is one: mostly they are.
    fn shared_origin(&self, column: &AttributeColumn) -> Option<usize> {
        let first = self.origins.values().first().filter(|_| column.origin(self.differing) == 0)?;
        Some(column.origin(*first))
    }

    fn holds(&self, place: Place, row: usize) -> bool {
        self.attributes[place.column].is_some_and(|array| {
            array.is_valid(row) && ATTRIBUTE_COLUMNS[place.column].origin(self.origins.value(row)) == place.source
        })
    }
}

/// Row and key of each row that has a value.
fn each_key(keys: &Int32Array, mut each: impl FnMut(usize, usize)) {
    let values = keys.values();
    match keys.nulls() {
        None => values.iter().enumerate().for_each(|(row, key)| each(row, *key as usize)),
        Some(nulls) => nulls.valid_indices().for_each(|row| each(row, values[row] as usize)),
    }
}

/// Counts one at a place that there is: no writer sets the bits of an origin that is none.
fn count_at(counts: &mut [u32], at: usize) {
    if let Some(count) = counts.get_mut(at) {
        *count += 1;
    }
}

fn schema_error(what: &str) -> ArrowError {
    ArrowError::SchemaError(format!("spans: {what}"))
}

impl AttributeCounter {
    /// Nothing counted yet.
    pub fn new(counted: Counted) -> AttributeCounter {
        AttributeCounter {
            counted,
            complete: true,
            attributes: Vec::new(),
            known: Default::default(),
            rows: 0,
            room: BYTES_MAX,
            by_key: Vec::new(),
        }
    }

    /// Counts rows of [`crate::spans_schema`]: of its attribute columns and residual maps those that `rows` has, and `origins`.
    ///
    /// # Errors
    /// If a column has another type.
    pub fn add(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        let columns = Columns::new(rows)?;
        for (column, array) in ATTRIBUTE_COLUMNS.iter().zip(&columns.attributes) {
            let Some(array) = array else { continue };
            if let Some(texts) = array.as_dictionary_opt::<Int32Type>() {
                self.add_texts(column, texts, &columns)?;
            } else if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
                self.add_ints(column, ints, columns.origins);
            } else {
                return Err(schema_error(column.name));
            }
        }
        for scope in Scope::ALL {
            let Some(array) = rows.column_by_name(scope.residual_column()) else { continue };
            let map = ResidualMap::new(array).ok_or_else(|| schema_error(scope.residual_column()))?;
            if array.null_count() < array.len() {
                self.add_map(scope, &map, &columns);
            }
        }
        self.rows += rows.num_rows() as u64;
        Ok(())
    }

    /// What was counted.
    pub fn finish(self) -> AttributeCounts {
        let finish = |attribute: Counting| {
            let (values, lower_bounds) = attribute.values.finish(attribute.count.spans);
            AttributeCount { lower_bounds, values, ..attribute.count }
        };
        let mut attributes: Vec<AttributeCount> = self.attributes.into_iter().map(finish).collect();
        attributes.sort_unstable_by(|a, b| (a.scope, &a.key, a.value_type).cmp(&(b.scope, &b.key, b.value_type)));
        AttributeCounts { complete: self.complete, attributes }
    }

    /// The position of an attribute that is counted.
    fn position(&mut self, scope: Scope, key: &str, value_type: ValueType) -> Option<usize> {
        if matches!(&self.counted, Counted::Key(only) if only != key) {
            return None;
        }
        let known = &mut self.known[scope as usize];
        if let Some(position) = known.get(key).and_then(|of_types| of_types[value_type as usize]) {
            return Some(position);
        }
        if self.attributes.len() >= ATTRIBUTES_MAX || key.len() > KEY_BYTES_MAX {
            self.complete = false;
            return None;
        }
        let position = self.attributes.len();
        known.entry_ref(key).or_default()[value_type as usize] = Some(position);
        let form = |place: &Place| ATTRIBUTE_COLUMNS[place.column].sources[place.source].form;
        let place = places(scope, key).find(|place| form(place).value_type() == Some(value_type));
        let key = key.to_owned();
        let count = AttributeCount { scope, key, value_type, spans: 0, residual: 0, lower_bounds: false, values: Vec::new() };
        self.attributes.push(Counting { count, values: FrequentValues::default(), place, last: 0 });
        Some(position)
    }

    fn add_texts(
        &mut self,
        column: &AttributeColumn,
        texts: &DictionaryArray<Int32Type>,
        columns: &Columns<'_>,
    ) -> Result<(), ArrowError> {
        let values: &StringArray = texts.values().as_string_opt().ok_or_else(|| schema_error(column.name))?;
        let distinct = values.len();
        let mut by_key = std::mem::take(&mut self.by_key);
        by_key.clear();
        by_key.resize(distinct * column.sources.len(), 0);
        match columns.shared_origin(column) {
            Some(origin) => {
                let counts = by_key.get_mut(origin * distinct..).unwrap_or_default();
                each_key(texts.keys(), |_, key| count_at(counts, key));
            }
            None => {
                let origins = columns.origins.values();
                each_key(texts.keys(), |row, key| count_at(&mut by_key, column.origin(origins[row]) * distinct + key));
            }
        }
        for (source, counts) in column.sources.iter().zip(by_key.chunks(distinct.max(1))) {
            let spans = counts.iter().map(|count| u64::from(*count)).sum();
            let Some(value_type) = source.form.value_type().filter(|_| spans > 0) else { continue };
            let Some(position) = self.position(column.scope, source.key, value_type) else { continue };
            self.attributes[position].count.spans += spans;
            for (key, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                self.add_value(position, values.value(key), u64::from(*count), spans);
            }
        }
        self.by_key = by_key;
        Ok(())
    }

    fn add_ints(&mut self, column: &AttributeColumn, ints: &Int64Array, origins: &Int64Array) {
        let mut counts = HashMap::<(usize, i64), u64>::new();
        // Rows that follow each other and are alike.
        let mut run = ((0, 0), 0);
        for row in (0..ints.len()).filter(|row| ints.is_valid(*row)) {
            let value = (column.origin(origins.value(row)), ints.value(row));
            if value != run.0 {
                *counts.entry(run.0).or_default() += run.1;
                run = (value, 0);
            }
            run.1 += 1;
        }
        *counts.entry(run.0).or_default() += run.1;
        counts.retain(|_, count| *count > 0);
        let mut counts: Vec<((usize, i64), u64)> = counts.into_iter().collect();
        counts.sort_unstable();
        for group in counts.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
            let source = group.first().and_then(|((source, _), _)| column.sources.get(*source));
            let Some((source, value_type)) = source.and_then(|source| Some((source, source.form.value_type()?))) else { continue };
            let Some(position) = self.position(column.scope, source.key, value_type) else { continue };
            let spans = group.iter().map(|(_, count)| count).sum();
            self.attributes[position].count.spans += spans;
            for ((_, value), count) in group {
                self.add_value(position, &Plain::Int(*value).text(), *count, spans);
            }
        }
    }

    fn add_map(&mut self, scope: Scope, map: &ResidualMap<'_>, columns: &Columns<'_>) {
        let has_values = self.counted != Counted::Names;
        let mut counts = HashMap::<(usize, Plain<'_>), u64>::new();
        let mut of = Vec::<u64>::new();
        for row in 0..columns.origins.len() {
            for (key, found) in map.entries(row) {
                let value_type = found.map_or(ValueType::Other, Found::value_type);
                let Some(position) = self.position(scope, key, value_type) else { continue };
                let attribute = &mut self.attributes[position];
                let number = self.rows + row as u64 + 1;
                if attribute.last == number || attribute.place.is_some_and(|place| columns.holds(place, row)) {
                    continue;
                }
                attribute.last = number;
                if of.len() <= position {
                    of.resize(position + 1, 0);
                }
                of[position] += 1;
                if let Some(value) = found.and_then(Plain::new).filter(|_| has_values) {
                    *counts.entry((position, value)).or_default() += 1;
                }
            }
        }
        for (attribute, spans) in self.attributes.iter_mut().zip(&of) {
            attribute.count.spans += spans;
            attribute.count.residual += spans;
        }
        let is_told = |((position, _), count): &((usize, Plain<'_>), u64)| {
            !self.attributes[*position].values.passes_over(*count, of[*position])
        };
        let mut told: Vec<_> = counts.into_iter().filter(is_told).collect();
        told.sort_unstable();
        for ((position, value), count) in told {
            self.add_value(position, &value.text(), count, of[position]);
        }
    }

    /// Counts `spans` with a value, of `of` in the batch.
    fn add_value(&mut self, position: usize, value: &str, spans: u64, of: u64) {
        if self.counted != Counted::Names {
            self.attributes[position].values.add(value, spans, of, &mut self.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::attributes::Form;
    use crate::builder::{AttributeValues, Row, SpanBuilder};
    use crate::columns::{MapColumn, Value};

    /// Numbers that look random and are the same each time.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// Spans and spans where it is residual, and spans by value.
    type Naive = BTreeMap<(Scope, String, ValueType), (u64, u64, BTreeMap<String, u64>)>;

    /// Counts the attributes of one span: only the first of each.
    fn count(naive: &mut Naive, span: &[(Scope, &str, ValueType, bool, Option<String>)]) {
        let mut seen = Vec::new();
        for (scope, key, value_type, residual, text) in span {
            let attribute = (*scope, (*key).to_owned(), *value_type);
            if !seen.contains(&attribute) {
                let counts = naive.entry(attribute.clone()).or_default();
                (counts.0, counts.1) = (counts.0 + 1, counts.1 + u64::from(*residual));
                if let Some(text) = text {
                    *counts.2.entry(text.clone()).or_default() += 1;
                }
                seen.push(attribute);
            }
        }
    }

    /// Columns of every form, derived ones among them, and keys that stand in several.
    const COLUMNS: [&str; 6] = ["service", "http_method", "http_status_code", "http_route", "server_port", "host_name"];

    fn random_batch(chance: &mut Chance, rows: usize, naive: &mut Naive) -> RecordBatch {
        let mut builder = SpanBuilder::default();
        for row in 0..rows {
            let mut span = Vec::new();
            let mut origins = 0;
            for (index, column) in ATTRIBUTE_COLUMNS.iter().enumerate().filter(|(_, column)| COLUMNS.contains(&column.name)) {
                let source = chance.below(column.sources.len() as u64 + 1) as usize;
                let Some(from) = column.sources.get(source) else { continue };
                let value = chance.below(4);
                match &mut builder.attributes[index] {
                    AttributeValues::Text(texts) => drop(texts.push(row, value.to_string().as_bytes())),
                    AttributeValues::Int(ints) => ints.push(row, value as i64),
                }
                origins |= column.origin_bits(source);
                let value_type = if from.form == Form::Int { ValueType::Int } else { ValueType::String };
                if from.form != Form::Derived {
                    span.push((column.scope, from.key, value_type, false, Some(value.to_string())));
                }
            }
            let maps = Scope::ALL.map(|scope| random_map(chance, scope, &mut span));
            builder.span_attributes.push_first_of(row, &maps[0]);
            builder.push_resource_attributes(&maps[1]);
            builder.push_scope_attributes(&maps[2]);
            let (trace_id, span_id) = ([row as u8; 16], [1; 8]);
            let (start, end, name) = (1, 2, b"op".as_slice());
            let (kind, status) = ("server", "unset");
            builder.end_row(&Row {
                tenant: "a",
                trace_id,
                span_id,
                parent_span_id: None,
                start,
                end,
                name,
                kind,
                status,
                error: false,
                origins,
            });
            count(naive, &span);
        }
        builder.finish().unwrap().unwrap().batch
    }

    type Entry<'a> = (Scope, &'a str, ValueType, bool, Option<String>);

    fn random_map(chance: &mut Chance, scope: Scope, span: &mut Vec<Entry<'_>>) -> MapColumn {
        let mut map = MapColumn::default();
        for _ in 0..chance.below(4) {
            let key = ["http.method", "http.status_code", "host.name", "x", "y"][chance.below(5) as usize];
            let number = chance.below(3);
            let text = number.to_string();
            let double = f64::from_bits([0, 1 << 63, 0x3ff8_0000_0000_0000][number as usize]);
            let (value, value_type, text) = match chance.below(5) {
                0 => (Value::Text(text.as_bytes()), ValueType::String, Some(text.clone())),
                1 => (Value::Int(number as i64), ValueType::Int, Some(text.clone())),
                2 => (Value::Double(double), ValueType::Double, Some(["0.0", "-0.0", "1.5"][number as usize].to_owned())),
                3 => (Value::Bool(number > 0), ValueType::Bool, Some((number > 0).to_string())),
                _ => (Value::Other(b""), ValueType::Other, None),
            };
            map.push(0, key.as_bytes(), value);
            span.push((scope, key, value_type, true, text));
        }
        map
    }

    fn expected(naive: &Naive) -> Vec<AttributeCount> {
        let attribute =
            |((scope, key, value_type), (spans, residual, values)): (&(Scope, String, ValueType), &(u64, u64, BTreeMap<_, _>))| {
                let mut values: Vec<(String, u64)> = values.clone().into_iter().collect();
                values.sort_by_key(|(value, spans)| (std::cmp::Reverse(*spans), value.clone()));
                let (scope, key, value_type) = (*scope, key.clone(), *value_type);
                AttributeCount { scope, key, value_type, spans: *spans, residual: *residual, lower_bounds: false, values }
            };
        naive.iter().map(attribute).collect()
    }

    /// Scenario: random attributes of every type in columns, in residual maps, in both, twice, over batches of many sizes.
    /// Guarantee: each counts once a span, with its first value, and where it stands is told; of one key the same, and without
    /// values where only names are asked for.
    #[test]
    fn counts_are_those_of_a_naive_pass() {
        for seed in 0..30 {
            let mut chance = Chance(seed);
            let mut naive = Naive::new();
            let kinds = [Counted::All, Counted::Names, Counted::Key("http.status_code".to_owned())];
            let mut counters = kinds.map(AttributeCounter::new);
            for _ in 0..1 + chance.below(4) {
                let rows = 1 + chance.below(60) as usize;
                let batch = random_batch(&mut chance, rows, &mut naive);
                counters.iter_mut().for_each(|counter| counter.add(&batch).unwrap());
            }
            let [all, names, key] = counters.map(AttributeCounter::finish);
            let mut expected = expected(&naive);
            assert!(all.complete);
            assert_eq!(all.attributes, expected, "seed {seed}");
            assert!(all.attributes.iter().all(|one| one.is_whole() == (one.value_type != ValueType::Other)));
            let of_key: Vec<_> = expected.iter().filter(|one| one.key == "http.status_code").cloned().collect();
            assert_eq!(key.attributes, of_key, "seed {seed}");
            expected.iter_mut().for_each(|one| one.values.clear());
            assert_eq!(names.attributes, expected, "seed {seed}");
        }
    }

    /// Scenario: one span with more attributes than are counted, and one with a key that is too long. Guarantee: the answer says
    /// that it is not complete, what it tells is true, and it is the same each time.
    #[test]
    fn attributes_are_bounded() {
        let counted = |keys: Vec<String>| {
            let mut builder = SpanBuilder::default();
            keys.iter().for_each(|key| builder.span_attributes.push(0, key.as_bytes(), Value::Int(7)));
            let (trace_id, span_id, name) = ([1; 16], [1; 8], b"op".as_slice());
            let (kind, status) = ("server", "unset");
            builder.end_row(&Row {
                tenant: "a",
                trace_id,
                span_id,
                parent_span_id: None,
                start: 1,
                end: 2,
                name,
                kind,
                status,
                error: false,
                origins: 0,
            });
            let mut counter = AttributeCounter::new(Counted::All);
            counter.add(&builder.finish().unwrap().unwrap().batch).unwrap();
            counter.finish()
        };
        let keys = |count: usize| (0..count).map(|key| format!("k{key}")).collect::<Vec<_>>();
        let (most, more) = (counted(keys(ATTRIBUTES_MAX)), counted(keys(ATTRIBUTES_MAX + 1)));
        assert!(most.complete && !more.complete);
        assert_eq!(most.attributes, more.attributes);
        assert!(!counted(vec!["k".repeat(KEY_BYTES_MAX + 1)]).complete);
    }
}
