//! The growing columns that a [`crate::SpanBuilder`] is made of.
//!
//! All of them pad lazily: a value is pushed *at a row*, and the rows that were passed over become null, so an attribute that
//! a span does not have costs nothing. All of them can be cut back to an earlier number of rows, which is how a span or a
//! request that turns out to be bad leaves no trace. Arrow's own builders can do neither.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, DictionaryArray, Float64Array, Int32Array, Int64Array, MapArray,
    NullBufferBuilder, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType};
use arrow::error::ArrowError;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::same::same_text;
use crate::schema::{attribute_entry_fields, attribute_map_type, attribute_value_fields};

/// Bytes as text: what is no UTF-8 is replaced by U+FFFD, for one bad character in one header is no reason to lose a request.
pub(crate) fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(ends))
}

/// Positions of list, map or string values: `ends[i]..ends[i + 1]`.
#[derive(Debug)]
pub(crate) struct Offsets(Vec<i32>);

impl Default for Offsets {
    fn default() -> Self {
        Offsets(vec![0])
    }
}

impl Offsets {
    pub(crate) fn rows(&self) -> usize {
        self.0.len() - 1
    }

    pub(crate) fn end(&self) -> usize {
        self.0[self.0.len() - 1] as usize
    }

    pub(crate) fn range(&self, row: usize) -> Range<usize> {
        if row < self.rows() { self.0[row] as usize..self.0[row + 1] as usize } else { 0..0 }
    }

    /// Makes all rows before `row` that are not there yet empty.
    pub(crate) fn pad(&mut self, row: usize) {
        self.0.resize(row + 1, self.end() as i32);
    }

    /// Ends `row` (the last, or the next) at `end`.
    pub(crate) fn set_end(&mut self, row: usize, end: usize) {
        self.0.truncate(row + 1);
        self.pad(row);
        self.0.push(end as i32);
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows + 1);
    }

    pub(crate) fn finish(mut self, rows: usize) -> OffsetBuffer<i32> {
        self.pad(rows);
        offsets(self.0)
    }

    pub(crate) fn memory(&self) -> usize {
        self.0.capacity() * size_of::<i32>()
    }
}

/// The key of a value in a [`TextColumn`]'s dictionary; valid until the column is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TextKey(i32);

/// Dictionary-encoded text.
#[derive(Debug, Default)]
pub struct TextColumn {
    /// One a row; negative for null.
    keys: Vec<i32>,
    ends: Offsets,
    bytes: Vec<u8>,
    table: HashTable<i32>,
    hasher: DefaultHashBuilder,
    /// The value that was asked for last, and where its text stands: of nothing while there is no value.
    last: i32,
    last_text: Range<usize>,
}

const NULL_KEY: i32 = -1;

impl TextColumn {
    fn value(&self, key: i32) -> &[u8] {
        &self.bytes[self.ends.range(key as usize)]
    }

    /// The key of `value`, which enters the dictionary if it is new.
    #[inline]
    pub fn intern(&mut self, value: &[u8]) -> TextKey {
        // Neighbouring spans mostly say the same: one comparison instead of a hash.
        if self.ends.rows() > 0 && same_text(&self.bytes[self.last_text.clone()], value) {
            return TextKey(self.last);
        }
        self.intern_other(value)
    }

    fn intern_other(&mut self, value: &[u8]) -> TextKey {
        let hash = self.hasher.hash_one(value);
        let found = self.table.find(hash, |&key| same_text(&self.bytes[self.ends.range(key as usize)], value)).copied();
        self.last = match found {
            Some(key) => key,
            None => self.insert(hash, value),
        };
        self.last_text = self.ends.range(self.last as usize);
        TextKey(self.last)
    }

    fn insert(&mut self, hash: u64, value: &[u8]) -> i32 {
        if let Cow::Owned(replaced) = utf8(value) {
            return self.intern(replaced.as_bytes()).0;
        }
        let key = self.ends.rows() as i32;
        self.bytes.extend_from_slice(value);
        self.ends.set_end(key as usize, self.bytes.len());
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        self.table.insert_unique(hash, key, |&key| hasher.hash_one(&bytes[ends.range(key as usize)]));
        key
    }

    /// Sets the value of `row`, which must not have one yet.
    #[inline]
    pub fn push(&mut self, row: usize, value: &[u8]) -> TextKey {
        let key = self.intern(value);
        self.push_key(row, key);
        key
    }

    /// Sets the value of `row`, which must not have one yet, to one that is in the dictionary.
    #[inline]
    pub fn push_key(&mut self, row: usize, key: TextKey) {
        debug_assert!(self.keys.len() <= row, "row {row} has a value");
        if self.keys.len() != row {
            self.keys.resize(row, NULL_KEY);
        }
        self.keys.push(key.0);
    }

    /// The key of the value of `row`.
    #[inline]
    pub fn key(&self, row: usize) -> Option<TextKey> {
        self.keys.get(row).copied().filter(|&key| key != NULL_KEY).map(TextKey)
    }

    /// The text of a key.
    #[inline]
    pub fn text(&self, key: TextKey) -> &[u8] {
        self.value(key.0)
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.keys.truncate(rows);
    }

    pub(crate) fn memory(&self) -> usize {
        let table = self.table.capacity() * (size_of::<i32>() + 1);
        self.keys.capacity() * size_of::<i32>() + self.bytes.capacity() + self.ends.memory() + table
    }

    /// The column as an array of `rows` values. `blank` is a shared array of `rows` nulls.
    pub(crate) fn finish(mut self, rows: usize, blank: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        if self.keys.iter().all(|&key| key == NULL_KEY) {
            return Ok(blank.clone());
        }
        self.keys.resize(rows, NULL_KEY);
        let has_nulls = self.keys.contains(&NULL_KEY);
        let nulls = has_nulls.then(|| NullBuffer::from_iter(self.keys.iter().map(|&key| key != NULL_KEY)));
        let keys = Int32Array::try_new(ScalarBuffer::from(self.keys), nulls)?;
        let count = self.ends.rows();
        let values = StringArray::try_new(self.ends.finish(count), Buffer::from_vec(self.bytes), None)?;
        Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(values))?))
    }
}

/// A column of `rows` nulls, of the type of text columns.
pub(crate) fn blank_text(rows: usize) -> Result<ArrayRef, ArrowError> {
    let keys = Int32Array::try_new(ScalarBuffer::from(vec![0; rows]), Some(NullBuffer::new_null(rows)))?;
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(Vec::<&str>::new())))?))
}

/// Numbers with nulls.
#[derive(Debug)]
pub struct NumberColumn<T> {
    values: Vec<T>,
    valid: NullBufferBuilder,
}

impl<T> Default for NumberColumn<T> {
    fn default() -> Self {
        NumberColumn { values: Vec::new(), valid: NullBufferBuilder::new(0) }
    }
}

impl<T: ArrowNativeType> NumberColumn<T> {
    /// Sets the value of `row`, which must not have one yet.
    #[inline]
    pub fn push(&mut self, row: usize, value: T) {
        debug_assert!(self.values.len() <= row, "row {row} has a value");
        self.pad(row);
        self.values.push(value);
        self.valid.append_non_null();
    }

    /// Whether `row` has a value.
    #[inline]
    pub fn is_set(&self, row: usize) -> bool {
        row < self.values.len() && self.valid.is_valid(row)
    }

    /// The value of `row`.
    pub fn get(&self, row: usize) -> Option<T> {
        self.is_set(row).then(|| self.values[row])
    }

    #[inline]
    fn pad(&mut self, row: usize) {
        if self.values.len() != row {
            self.valid.append_n_nulls(row - self.values.len());
            self.values.resize(row, T::default());
        }
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        if rows < self.values.len() {
            self.values.truncate(rows);
            self.valid.truncate(rows);
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.values.capacity() * size_of::<T>() + self.valid.allocated_size()
    }

    /// Values and validity of `rows` rows.
    pub(crate) fn finish(mut self, rows: usize) -> (ScalarBuffer<T>, Option<NullBuffer>) {
        self.pad(rows);
        (ScalarBuffer::from(self.values), self.valid.finish().filter(|nulls| nulls.null_count() > 0))
    }
}

/// Text or bytes of any length, with nulls, not dictionary-encoded.
#[derive(Debug)]
pub(crate) struct BytesColumn {
    ends: Offsets,
    bytes: Vec<u8>,
    valid: BooleanBufferBuilder,
}

impl Default for BytesColumn {
    fn default() -> Self {
        BytesColumn { ends: Offsets::default(), bytes: Vec::new(), valid: BooleanBufferBuilder::new(0) }
    }
}

impl BytesColumn {
    pub(crate) fn push(&mut self, row: usize, value: &[u8]) {
        self.valid.append_n(row - self.ends.rows(), false);
        self.valid.append(true);
        self.bytes.extend_from_slice(value);
        self.ends.set_end(row, self.bytes.len());
    }

    pub(crate) fn push_text(&mut self, row: usize, value: &[u8]) {
        self.push(row, utf8(value).as_bytes());
    }

    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        (row < self.ends.rows() && self.valid.get_bit(row)).then(|| &self.bytes[self.ends.range(row)])
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        if rows < self.ends.rows() {
            self.ends.truncate(rows);
            self.valid.truncate(rows);
            self.bytes.truncate(self.ends.end());
        }
    }

    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.memory() + self.valid.capacity() / 8
    }

    fn parts(mut self, rows: usize) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        self.valid.append_n(rows - self.ends.rows(), false);
        let nulls = NullBuffer::new(self.valid.finish());
        (self.ends.finish(rows), Buffer::from_vec(self.bytes), Some(nulls).filter(|nulls| nulls.null_count() > 0))
    }

    pub(crate) fn finish_text(self, rows: usize) -> Result<StringArray, ArrowError> {
        let (ends, bytes, nulls) = self.parts(rows);
        StringArray::try_new(ends, bytes, nulls)
    }

    pub(crate) fn finish_bytes(self, rows: usize) -> Result<BinaryArray, ArrowError> {
        let (ends, bytes, nulls) = self.parts(rows);
        BinaryArray::try_new(ends, bytes, nulls)
    }
}

/// An attribute value on its way into a residual map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text; should be UTF-8.
    Text(&'a [u8]),
    /// A 64-bit integer.
    Int(i64),
    /// A floating point number.
    Double(f64),
    /// A boolean.
    Bool(bool),
    /// An OTLP `AnyValue` in protobuf.
    Other(&'a [u8]),
}

/// A residual map: attributes that have no column of their own.
#[derive(Debug, Default)]
pub struct MapColumn {
    ends: Offsets,
    keys: BytesColumn,
    text: BytesColumn,
    int: NumberColumn<i64>,
    double: NumberColumn<f64>,
    bool: NumberColumn<u8>,
    other: BytesColumn,
}

impl MapColumn {
    /// Adds an attribute to `row`, which is the last row that has any, or a later one.
    pub fn push(&mut self, row: usize, key: &[u8], value: Value<'_>) {
        let entry = self.keys.ends.rows();
        self.keys.push_text(entry, key);
        match value {
            Value::Text(text) => self.text.push_text(entry, text),
            Value::Int(int) => self.int.push(entry, int),
            Value::Double(double) => self.double.push(entry, double),
            Value::Bool(bool) => self.bool.push(entry, u8::from(bool)),
            Value::Other(bytes) => self.other.push(entry, bytes),
        }
        self.ends.set_end(row, entry + 1);
    }

    fn entry(&self, entry: usize) -> (&[u8], Option<Value<'_>>) {
        let value = None
            .or_else(|| self.text.get(entry).map(Value::Text))
            .or_else(|| self.int.get(entry).map(Value::Int))
            .or_else(|| self.double.get(entry).map(Value::Double))
            .or_else(|| self.bool.get(entry).map(|bool| Value::Bool(bool != 0)))
            .or_else(|| self.other.get(entry).map(Value::Other));
        (self.keys.get(entry).unwrap_or_default(), value)
    }

    /// Adds to `row` all attributes that the first row of `other` has.
    pub(crate) fn push_first_of(&mut self, row: usize, other: &MapColumn) {
        for (key, value) in other.ends.range(0).map(|entry| other.entry(entry)) {
            if let Some(value) = value {
                self.push(row, key, value);
            }
        }
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        let entries = self.ends.end();
        self.keys.truncate(entries);
        self.text.truncate(entries);
        self.int.truncate(entries);
        self.double.truncate(entries);
        self.bool.truncate(entries);
        self.other.truncate(entries);
    }

    pub(crate) fn memory(&self) -> usize {
        let bytes = self.keys.memory() + self.text.memory() + self.other.memory();
        bytes + self.ends.memory() + self.int.memory() + self.double.memory() + self.bool.memory()
    }

    /// The column as an array of `rows` maps, null where there is no attribute.
    pub(crate) fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        let entries = self.keys.ends.rows();
        self.ends.pad(rows);
        let nulls = NullBuffer::from_iter((0..rows).map(|row| !self.ends.range(row).is_empty()));
        let (ints, int_nulls) = self.int.finish(entries);
        let (doubles, double_nulls) = self.double.finish(entries);
        let (bools, bool_nulls) = self.bool.finish(entries);
        let values: Vec<ArrayRef> = vec![
            Arc::new(self.text.finish_text(entries)?),
            Arc::new(Int64Array::try_new(ints, int_nulls)?),
            Arc::new(Float64Array::try_new(doubles, double_nulls)?),
            Arc::new(BooleanArray::new(bools.iter().map(|&bool| bool != 0).collect(), bool_nulls)),
            Arc::new(self.other.finish_bytes(entries)?),
        ];
        let values = StructArray::try_new(attribute_value_fields(), values, None)?;
        let keys: ArrayRef = Arc::new(self.keys.finish_text(entries)?);
        let pairs = StructArray::try_new(attribute_entry_fields(), vec![keys, Arc::new(values)], None)?;
        let DataType::Map(field, sorted) = attribute_map_type() else {
            return Err(ArrowError::SchemaError("residual attributes are a map".into()));
        };
        Ok(Arc::new(MapArray::try_new(field, self.ends.finish(rows), pairs, Some(nulls), sorted)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    fn texts(column: TextColumn, rows: usize) -> Vec<Option<String>> {
        let array = column.finish(rows, &blank_text(rows).unwrap()).unwrap();
        let array = array.as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
        array.into_iter().map(|text| text.map(str::to_owned)).collect()
    }

    /// Scenario: text at some rows, known and new, empty, and no UTF-8. Guarantee: the rows between are null, equal texts
    /// share a key, bad bytes are replaced, also when they come again.
    #[test]
    fn text_pads_and_interns() {
        let mut column = TextColumn::default();
        let keys = [b"a".as_slice(), b"", b"a", b"\xFFx", b"\xFFx"].map(|text| column.intern(text));
        assert_eq!((keys[0], keys[3]), (keys[2], keys[4]));
        keys.iter().zip([1, 2, 4, 5, 6]).for_each(|(key, row)| column.push_key(row, *key));
        assert_eq!((column.key(0), column.key(2), column.text(keys[3])), (None, Some(keys[1]), "\u{FFFD}x".as_bytes()));
        let expected = [None, Some("a"), Some(""), None, Some("a"), Some("\u{FFFD}x"), Some("\u{FFFD}x"), None];
        assert_eq!(texts(column, 8), expected.map(|text| text.map(str::to_owned)));
    }

    /// Scenario: rows are taken back, and others written. Guarantee: only the others are there.
    #[test]
    fn text_is_cut_back() {
        let mut column = TextColumn::default();
        for row in 0..5 {
            column.push(row, b"old");
        }
        column.truncate(2);
        column.push(3, b"new");
        let expected = [Some("old"), Some("old"), None, Some("new"), None];
        assert_eq!(texts(column, 5), expected.map(|text| text.map(str::to_owned)));
    }

    /// Scenario: numbers at some rows, taken back to a row before, at and behind the last. Guarantee: what was passed over is
    /// null.
    #[test]
    fn numbers_pad_and_are_cut_back() {
        for cut in 0..8 {
            let mut column = NumberColumn::<i64>::default();
            column.push(1, 10);
            column.push(4, 40);
            column.truncate(cut);
            assert_eq!((column.get(1), column.get(4)), ((cut > 1).then_some(10), (cut > 4).then_some(40)));
            column.push(8, 80);
            let (values, nulls) = column.finish(10);
            let found: Vec<_> = (0..10).filter(|&row| nulls.as_ref().unwrap().is_valid(row)).map(|row| values[row]).collect();
            let expected = [(cut > 1).then_some(10), (cut > 4).then_some(40), Some(80)];
            assert_eq!(found, expected.into_iter().flatten().collect::<Vec<_>>(), "cut at {cut}");
        }
    }

    /// Scenario: attributes of all types, on rows with gaps, one row taken back. Guarantee: each value stands in the field of
    /// its type, in order; rows without attributes are null.
    #[test]
    fn maps_keep_types_and_order() {
        let values =
            [Value::Text(b"t"), Value::Int(-1), Value::Double(0.5), Value::Bool(false), Value::Other(b""), Value::Text(b"")];
        let mut map = MapColumn::default();
        for value in values {
            map.push(1, b"key", value);
        }
        map.push(2, b"taken back", Value::Int(7));
        map.truncate(2);
        let mut copy = MapColumn::default();
        copy.push_first_of(3, &map);
        assert_eq!(copy.ends.range(3), 0..0, "the first row has none");
        map.push(3, b"last", Value::Bool(true));
        for (entry, value) in values.into_iter().enumerate() {
            assert_eq!(map.entry(entry), (b"key".as_slice(), Some(value)));
        }
        assert_eq!(map.entry(6), (b"last".as_slice(), Some(Value::Bool(true))));
        let array = map.finish(5).unwrap();
        let array = array.as_map();
        let lengths: Vec<_> = (0..5).map(|row| array.is_valid(row).then(|| array.value(row).len())).collect();
        assert_eq!(lengths, [None, Some(6), None, Some(1), None]);
    }
}
