//! Promoted attributes: frequent attributes of the residual maps, with columns of their own in lake files (P9).
//!
//! The table's schema holds the list of them, append-only and bounded. A lake file has the columns of the first so many; files
//! from before, fresh files and live batches have the values in the maps only. A column holds the *first* value of its key
//! in the row's map, if it is of the column's type. The map keeps the entry in its place, without the value: so a row reads back
//! exactly as it was (P5), and rows that are equal stay equal wherever they stand (P2).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, MapArray, RecordBatch, StringArray, StructArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, interleave, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::counter::{AttributeCount, AttributeCounts};
use crate::residual::ValueType;
use crate::schema::{
    Scope, attribute_entry_fields, attribute_map_type, attribute_value_fields, column_index, spans_schema, text_type,
};
use crate::snapshot::SpanFile;

/// Spans of a file that must carry an attribute, besides the share of them: a small file says little.
const SPANS_MIN: u64 = 1_000;
/// Longest key that becomes a column's name.
const KEY_BYTES_MAX: usize = 128;
/// What no column of a Delta table may have in its name.
const ILLEGAL: &str = " ,;{}()\n\t=";

/// One promoted attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promoted {
    /// Whether it is the span's or the resource's.
    pub scope: Scope,
    /// Its key.
    pub key: String,
    /// The type of its values in the column.
    pub value_type: ValueType,
}

/// Which promoted attributes a file has columns for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromotedColumns {
    /// The first so many of the table's list.
    pub count: usize,
    /// Positions in the list of those that hold a value, in order.
    pub filled: Vec<usize>,
}

impl PromotedColumns {
    /// Of a file that is being written.
    pub fn new(list: &[Promoted]) -> PromotedColumns {
        PromotedColumns { count: list.len(), filled: Vec::new() }
    }

    /// Notes which columns of some rows of [`lake_schema`] hold values.
    pub fn note(&mut self, rows: &RecordBatch) {
        let promoted = &rows.columns()[rows.num_columns() - self.count..];
        for (position, column) in promoted.iter().enumerate() {
            if column.null_count() < column.len() {
                insert(&mut self.filled, position);
            }
        }
    }
}

/// Adds a number to a sorted list of distinct ones.
fn insert(sorted: &mut Vec<usize>, number: usize) {
    if let Err(place) = sorted.binary_search(&number) {
        sorted.insert(place, number);
    }
}

/// The promoted attributes of a lake, and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promotions {
    /// In the order of the table's schema. [`SpanFile::promoted`] says how many of them a file has columns for.
    pub list: Arc<Vec<Promoted>>,
    /// For each tenant the positions of those that hold a value of it, or did since the process began, in order: names of attributes are
    /// a tenant's own (P8).
    of_tenant: HashMap<String, Vec<usize>>,
}

impl Promotions {
    /// Notes what columns of a file of the lake have values.
    pub fn note(&mut self, file: &SpanFile) {
        for tenant in file.tenants.iter().filter(|_| !file.promoted.filled.is_empty()) {
            let known = self.of_tenant.entry_ref(tenant.as_str()).or_default();
            file.promoted.filled.iter().for_each(|position| insert(known, *position));
        }
    }

    /// The attributes of which a tenant has values, in order.
    pub fn of(&self, tenant: &str) -> impl Iterator<Item = &Promoted> {
        self.of_tenant.get(tenant).into_iter().flatten().filter_map(|position| self.list.get(*position))
    }
}

impl Promoted {
    fn new(count: &AttributeCount) -> Promoted {
        Promoted { scope: count.scope, key: count.key.clone(), value_type: count.value_type }
    }

    /// The name of its column: `span.<key>` or `resource.<key>`; none for scopes whose attributes are not promoted.
    pub fn column(&self) -> String {
        let scope = match self.scope {
            Scope::Span => "span",
            Scope::Resource => "resource",
            Scope::Instrumentation => "scope",
        };
        format!("{scope}.{}", self.key)
    }

    /// Its column.
    pub fn field(&self) -> Field {
        Field::new(self.column(), self.data_type(), true)
    }

    /// The type of its column.
    pub fn data_type(&self) -> DataType {
        match self.value_type {
            ValueType::String => text_type(),
            other => attribute_value_fields()[other as usize].data_type().clone(),
        }
    }

    fn is_possible(&self) -> bool {
        let legal =
            !self.key.is_empty() && self.key.len() <= KEY_BYTES_MAX && !self.key.contains(|letter| ILLEGAL.contains(letter));
        legal && self.scope != Scope::Instrumentation && self.value_type != ValueType::Other
    }
}

/// How many attributes are promoted, and which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promotion {
    /// Most of them.
    pub max: usize,
    /// Percentage of a file's spans that carry one.
    pub percent: u32,
}

impl Promotion {
    /// Of what a file of `rows` spans carries in its residual maps the attributes that join `list`: the most frequent first.
    pub(crate) fn choose(self, counts: &AttributeCounts, rows: u64, list: &[Promoted]) -> Vec<Promoted> {
        let least = SPANS_MIN.max(rows.saturating_mul(u64::from(self.percent)).div_ceil(100));
        let frequent = counts.attributes.iter().filter(|count| count.residual >= least);
        let mut candidates: Vec<(u64, Promoted)> = frequent.map(|count| (count.residual, Promoted::new(count))).collect();
        candidates.retain(|(_, attribute)| attribute.is_possible());
        candidates.sort_by_cached_key(|(spans, attribute)| (std::cmp::Reverse(*spans), attribute.column()));
        // Readers know no difference between the cases of a name.
        let mut names: Vec<String> = list.iter().map(|known| known.column().to_lowercase()).collect();
        let mut chosen = Vec::new();
        for (_, attribute) in candidates {
            let name = attribute.column().to_lowercase();
            if list.len() + chosen.len() < self.max && !names.contains(&name) {
                names.push(name);
                chosen.push(attribute);
            }
        }
        chosen
    }
}

/// The columns of a lake file with these promoted attributes.
pub fn lake_schema(list: &[Promoted]) -> SchemaRef {
    let base = spans_schema();
    let promoted = list.iter().map(|attribute| Arc::new(attribute.field()));
    Arc::new(Schema::new(base.fields().iter().cloned().chain(promoted).collect::<Vec<_>>()))
}

/// A residual map, taken apart.
struct Residual<'a> {
    map: &'a MapArray,
    keys: &'a StringArray,
    values: &'a StructArray,
}

fn wrong() -> ArrowError {
    ArrowError::SchemaError("spans: residual attributes are a map".to_owned())
}

impl<'a> Residual<'a> {
    fn new(array: &'a ArrayRef) -> Result<Residual<'a>, ArrowError> {
        let map = array.as_map_opt().ok_or_else(wrong)?;
        let keys = map.keys().as_string_opt().ok_or_else(wrong)?;
        let values = map.values().as_struct_opt().ok_or_else(wrong)?;
        Ok(Residual { map, keys, values })
    }

    fn entries(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.map.value_offsets();
        if self.map.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
    }

    fn is(&self, entry: usize, value_type: ValueType) -> bool {
        self.values.is_valid(entry) && self.values.column(value_type as usize).is_valid(entry)
    }

    /// For each of the attributes, all of one scope, the entry of each row that its column holds.
    fn firsts(&self, attributes: &[&Promoted]) -> Vec<Vec<Option<u32>>> {
        let wanted: HashMap<&str, usize> =
            attributes.iter().enumerate().map(|(index, attribute)| (attribute.key.as_str(), index)).collect();
        let mut firsts = vec![vec![None; self.map.len()]; attributes.len()];
        let mut seen = vec![usize::MAX; attributes.len()];
        let entries = (0..self.map.len()).flat_map(|row| self.entries(row).map(move |entry| (row, entry)));
        for (row, entry) in entries {
            let Some(&index) = wanted.get(self.keys.value(entry)) else { continue };
            if std::mem::replace(&mut seen[index], row) != row && self.is(entry, attributes[index].value_type) {
                firsts[index][row] = Some(entry as u32);
            }
        }
        firsts
    }

    fn column(&self, attribute: &Promoted, entries: Vec<Option<u32>>) -> Result<ArrayRef, ArrowError> {
        let values = take(self.values.column(attribute.value_type as usize), &UInt32Array::from(entries), None)?;
        cast(&values, &attribute.data_type())
    }

    /// The same map with other values.
    fn with_values(&self, values: StructArray) -> Result<ArrayRef, ArrowError> {
        let DataType::Map(field, sorted) = attribute_map_type() else { return Err(wrong()) };
        let pairs = StructArray::try_new(attribute_entry_fields(), vec![self.map.keys().clone(), Arc::new(values)], None)?;
        let map = MapArray::try_new(field, self.map.offsets().clone(), pairs, self.map.nulls().cloned(), sorted)?;
        Ok(Arc::new(map))
    }
}

/// The column of a promoted attribute, made from the residual map of its scope.
///
/// # Errors
/// If the array is no residual map.
pub fn promoted_column(map: &ArrayRef, attribute: &Promoted) -> Result<ArrayRef, ArrowError> {
    let residual = Residual::new(map)?;
    let firsts = residual.firsts(&[attribute]).pop().unwrap_or_default();
    residual.column(attribute, firsts)
}

const SCOPES: [Scope; 2] = [Scope::Span, Scope::Resource];

fn residual_index(scope: Scope) -> Result<usize, ArrowError> {
    column_index(scope.residual_column()).ok_or_else(wrong)
}

/// Positions in the list of the attributes of a scope.
fn of_scope(list: &[Promoted], scope: Scope) -> Vec<usize> {
    (0..list.len()).filter(|index| list[*index].scope == scope).collect()
}

/// Rows of [`spans_schema`] as rows of [`lake_schema`].
///
/// # Errors
/// If the rows have other columns.
pub fn promote(rows: &RecordBatch, list: &[Promoted]) -> Result<RecordBatch, ArrowError> {
    if list.is_empty() {
        return Ok(rows.clone());
    }
    let mut columns = rows.columns().to_vec();
    let mut promoted: Vec<Option<ArrayRef>> = vec![None; list.len()];
    for scope in SCOPES {
        let positions = of_scope(list, scope);
        let at = residual_index(scope)?;
        let map = columns[at].clone();
        let residual = Residual::new(&map)?;
        let attributes: Vec<&Promoted> = positions.iter().map(|position| &list[*position]).collect();
        let mut kept = BooleanBufferBuilder::new(residual.keys.len());
        kept.append_n(residual.keys.len(), true);
        for (position, firsts) in positions.iter().zip(residual.firsts(&attributes)) {
            firsts.iter().flatten().for_each(|entry| kept.set_bit(*entry as usize, false));
            promoted[*position] = Some(residual.column(&list[*position], firsts)?);
        }
        let nulls = NullBuffer::union(Some(&NullBuffer::new(kept.finish())), residual.values.nulls());
        let values = StructArray::try_new(attribute_value_fields(), residual.values.columns().to_vec(), nulls)?;
        columns[at] = residual.with_values(values)?;
    }
    columns.extend(promoted.into_iter().flatten());
    RecordBatch::try_new(lake_schema(list), columns)
}

/// Rows of [`lake_schema`] as rows of [`spans_schema`]: the inverse of the way into the file.
///
/// # Errors
/// If the columns are not those of a lake file with these promoted attributes.
pub fn demote(rows: &RecordBatch, list: &[Promoted]) -> Result<RecordBatch, ArrowError> {
    let base = spans_schema().fields().len();
    if rows.num_columns() != base + list.len() {
        let found = rows.num_columns();
        return Err(ArrowError::SchemaError(format!("spans: {found} columns, not {base} and {} promoted", list.len())));
    }
    let mut columns = rows.columns()[..base].to_vec();
    for scope in SCOPES {
        let attributes: Vec<(&Promoted, &ArrayRef)> =
            of_scope(list, scope).into_iter().map(|position| (&list[position], rows.column(base + position))).collect();
        if attributes.iter().any(|(_, column)| column.null_count() < column.len()) {
            let at = residual_index(scope)?;
            columns[at] = restored_map(&columns[at], &attributes)?;
        }
    }
    RecordBatch::try_new(spans_schema(), columns)
}

/// The residual map of a lake file with the values of the columns, all of its scope, in the places that were kept for them.
///
/// # Errors
/// If the array is no residual map, or has no place for a value.
pub fn restored_map(map: &ArrayRef, attributes: &[(&Promoted, &ArrayRef)]) -> Result<ArrayRef, ArrowError> {
    let residual = Residual::new(map)?;
    let entries = residual.keys.len();
    let mut sources: Vec<Vec<ArrayRef>> = residual.values.columns().iter().map(|values| vec![values.clone()]).collect();
    let mut origin: Vec<Vec<(usize, usize)>> = vec![Vec::new(); sources.len()];
    let mut valid = BooleanBufferBuilder::new(entries);
    match residual.values.nulls() {
        Some(nulls) => valid.append_buffer(nulls.inner()),
        None => valid.append_n(entries, true),
    }
    for (attribute, column) in attributes {
        let field = attribute.value_type as usize;
        let source = sources[field].len();
        sources[field].push(cast(column, attribute_value_fields()[field].data_type())?);
        if origin[field].is_empty() {
            origin[field] = (0..entries).map(|entry| (0, entry)).collect();
        }
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            let place = residual.entries(row).find(|entry| residual.keys.value(*entry) == attribute.key).ok_or_else(wrong)?;
            origin[field][place] = (source, row);
            valid.set_bit(place, true);
        }
    }
    let mut values = Vec::with_capacity(sources.len());
    for (sources, origin) in sources.iter().zip(&origin) {
        let arrays: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
        values.push(if origin.is_empty() { sources[0].clone() } else { interleave(&arrays, origin)? });
    }
    let nulls = Some(NullBuffer::new(valid.finish())).filter(|nulls| nulls.null_count() > 0);
    residual.with_values(StructArray::try_new(attribute_value_fields(), values, nulls)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Row, SpanBuilder};
    use crate::columns::Value;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;

    fn promoted(scope: Scope, key: &str, value_type: ValueType) -> Promoted {
        Promoted { scope, key: key.to_owned(), value_type }
    }

    fn list() -> Vec<Promoted> {
        vec![
            promoted(Scope::Span, "a", ValueType::String),
            promoted(Scope::Resource, "a", ValueType::Int),
            promoted(Scope::Span, "b", ValueType::Bool),
            promoted(Scope::Span, "c", ValueType::String),
            promoted(Scope::Resource, "d", ValueType::Double),
            promoted(Scope::Span, "never", ValueType::String),
        ]
    }

    /// An attribute: whether it is the span's, its key, and what decides its value.
    type Attribute = (bool, u8, u8);

    fn value(what: u8) -> Value<'static> {
        match what % 6 {
            0 => Value::Text(b"x"),
            1 => Value::Text(b""),
            2 => Value::Int(i64::from(what)),
            3 => Value::Double(f64::from(what)),
            4 => Value::Bool(what > 99),
            _ => Value::Other(b"\x1a\x00"),
        }
    }

    fn key(number: u8) -> &'static str {
        ["a", "b", "c", "d", "e"][usize::from(number) % 5]
    }

    fn rows(spans: &[Vec<Attribute>]) -> RecordBatch {
        let mut builder = SpanBuilder::default();
        for (row, attributes) in spans.iter().enumerate() {
            for &(of_span, number, what) in attributes {
                let map = if of_span { &mut builder.span_attributes } else { &mut builder.resource_attributes };
                map.push(row, key(number).as_bytes(), value(what));
            }
            builder.end_row(&Row::default());
        }
        builder.finish().unwrap().unwrap().batch
    }

    /// What the column must hold, the slow way: the first value of the key, if it is of the type.
    fn expected(attributes: &[Attribute], wanted: &Promoted) -> Option<String> {
        let of_key = |(of_span, number, _): &&Attribute| *of_span == (wanted.scope == Scope::Span) && key(*number) == wanted.key;
        match (value(attributes.iter().find(of_key)?.2), wanted.value_type) {
            (Value::Text(text), ValueType::String) => Some(String::from_utf8_lossy(text).into_owned()),
            (Value::Int(value), ValueType::Int) => Some(value.to_string()),
            (Value::Double(value), ValueType::Double) => Some(format!("{value:.1}")),
            (Value::Bool(value), ValueType::Bool) => Some(value.to_string()),
            _ => None,
        }
    }

    fn texts(column: &ArrayRef) -> Vec<Option<String>> {
        let column = cast(column, &DataType::Utf8).unwrap();
        column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
    }

    /// Through a file, as it is written and read.
    fn stored(rows: &RecordBatch) -> RecordBatch {
        let mut file = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        file.write(rows).unwrap();
        let bytes = bytes::Bytes::from(file.into_inner().unwrap());
        let batches: Result<Vec<_>, _> = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().collect();
        arrow::compute::concat_batches(&rows.schema(), &batches.unwrap()).unwrap()
    }

    proptest! {
        /// Scenario: rows with attributes of every type, some keys twice, on their way into a file and out. Guarantee: each column
        /// holds the first value of its key where that has its type, and the rows read back as they were, to the order
        /// of attributes (P5).
        #[test]
        fn rows_read_back(spans in prop::collection::vec(prop::collection::vec(any::<Attribute>(), 0..6), 1..12), count in 0..7usize) {
            let rows = rows(&spans);
            let list = &list()[..count];
            let file = stored(&promote(&rows, list).unwrap());
            for (position, attribute) in list.iter().enumerate() {
                let column = file.column(spans_schema().fields().len() + position);
                let wanted: Vec<_> = spans.iter().map(|attributes| expected(attributes, attribute)).collect();
                prop_assert_eq!(&texts(column), &wanted, "{:?}", attribute);
                let map = rows.column_by_name(attribute.scope.residual_column()).unwrap();
                prop_assert_eq!(&texts(&promoted_column(map, attribute).unwrap()), &wanted);
            }
            prop_assert_eq!(demote(&file, list).unwrap(), rows);
        }
    }

    /// Scenario: candidates of all kinds. Guarantee: the frequent ones are chosen, most frequent first, one for each name
    /// whatever its case, none with a name that a table can't have, and no more than there is room for.
    #[test]
    fn frequent_attributes_are_chosen() {
        let count = |key: &str, residual| AttributeCount {
            scope: Scope::Span,
            key: key.to_owned(),
            value_type: ValueType::String,
            spans: residual + 1,
            residual,
            lower_bounds: false,
            values: Vec::new(),
        };
        let attributes = vec![
            count("seldom", 1_999),
            count("often", 5_000),
            count("Known", 9_000),
            count("always", 20_000),
            count("Often", 4_000),
            count("has space", 20_000),
            count("third", 3_000),
            AttributeCount { scope: Scope::Instrumentation, ..count("scope", 20_000) },
            AttributeCount { value_type: ValueType::Other, ..count("list", 20_000) },
        ];
        let counts = AttributeCounts { complete: true, attributes };
        let list = [promoted(Scope::Span, "known", ValueType::Int)];
        let chosen = |rows, max| {
            let chosen = Promotion { max, percent: 10 }.choose(&counts, rows, &list);
            chosen.into_iter().map(|attribute| attribute.key).collect::<Vec<_>>()
        };
        assert_eq!(chosen(20_000, 4), ["always", "often", "third"]);
        assert_eq!(chosen(20_000, 3), ["always", "often"]);
        assert_eq!(chosen(20_000, 1), Vec::<String>::new());
        assert_eq!(chosen(50, 9), ["always", "often", "third", "seldom"]);
    }
}
