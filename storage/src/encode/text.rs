//! The column chunk of a text column.
//!
//! Rows come as dictionaries, and Parquet wants a dictionary: a value is looked at once for each dictionary that it comes in, where
//! `ArrowWriter` hashes and compares it for each row, which was a quarter of the CPU of a flush and a seventh of a merge's.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use hashbrown::{DefaultHashBuilder, HashTable};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnDescPtr;

use super::chunk::Chunk;
use super::column::ColumnChunk;
use super::hybrid;
use super::pages::Pages;

/// Rows of a page whose values are large, at least.
const LARGE_ROWS: usize = 16;
/// The number of a value that has none yet.
const UNKNOWN: u32 = u32::MAX;

/// Rows of a text column: for each its key in `values`, null or not.
pub(crate) struct Texts {
    pub keys: Int32Array,
    /// Strings. No two of them are equal.
    pub values: ArrayRef,
}

impl Texts {
    /// The same as an array, for which all keys are looked at again.
    pub(crate) fn array(self) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(DictionaryArray::try_new(self.keys, self.values)?))
    }
}

/// Rows of a text column, encoded as one column chunk. Its statistics tell the nulls.
pub(super) struct TextChunk {
    pages: Pages,
    dictionary: Dictionary,
}

fn type_error() -> ParquetError {
    ParquetError::ArrowError("text is dictionary-encoded".to_owned())
}

impl TextChunk {
    /// A chunk of a column that is a leaf of the schema itself, as `properties` say.
    ///
    /// # Errors
    /// A compression that no layout of this crate has.
    pub(super) fn new(column: ColumnDescPtr, properties: &WriterProperties) -> Result<TextChunk, ParquetError> {
        Ok(TextChunk { pages: Pages::new(column, properties, Encoding::PLAIN)?, dictionary: Dictionary::default() })
    }

    fn write_rows(&mut self, keys: &Int32Array, values: &ArrayRef, are_distinct: bool) -> Result<(), ParquetError> {
        let texts = values.as_string_opt::<i32>().ok_or_else(type_error)?;
        if self.pages.take_nulls(keys.len(), keys.nulls()) {
            return Ok(());
        }
        if self.pages.room() == 0 {
            self.end_page()?;
        }
        if self.pages.has_dictionary() {
            self.dictionary.turn_to(values, are_distinct);
        }
        let mut from = 0;
        while from < keys.len() {
            let some = keys.slice(from, self.pages.room().min(keys.len() - from));
            from += if self.pages.has_dictionary() { self.write_numbers(&some, texts)? } else { self.write_plain(&some, texts) };
            if self.pages.room() == 0 || self.is_large(0) {
                self.end_page()?;
            }
        }
        Ok(())
    }

    /// Appends rows to the page, and tells how many: up to one whose value the dictionary has no room for.
    fn write_numbers(&mut self, keys: &Int32Array, values: &StringArray) -> Result<usize, ParquetError> {
        let nulls = keys.nulls().filter(|nulls| nulls.null_count() > 0);
        let full_at = match nulls {
            None if self.push_known(keys.values()) => None,
            None => self.push_numbers(0..keys.len(), keys.values(), values),
            Some(nulls) => self.push_numbers(nulls.valid_indices(), keys.values(), values),
        };
        self.pages.open.push_rows(full_at.unwrap_or(keys.len()), nulls);
        if full_at.is_some() {
            self.end_page()?;
            self.pages.end_dictionary();
        }
        Ok(full_at.unwrap_or(keys.len()))
    }

    /// Appends the numbers of values, if all have one.
    fn push_known(&mut self, keys: &[i32]) -> bool {
        let (known, numbers) = (&self.dictionary.known, &mut self.pages.open.numbers);
        let before = numbers.len();
        numbers.extend(keys.iter().map(|key| known[*key as usize]));
        let are_known = numbers[before..].iter().fold(0, |most, number| most.max(*number)) != UNKNOWN;
        if !are_known {
            numbers.truncate(before);
        }
        are_known
    }

    /// Appends the numbers of the values of these rows, and tells at which row the dictionary has no room for one.
    fn push_numbers(&mut self, rows: impl Iterator<Item = usize>, keys: &[i32], values: &StringArray) -> Option<usize> {
        for row in rows {
            let key = keys[row] as usize;
            let mut number = self.dictionary.known[key];
            if number == UNKNOWN {
                let Some(added) = self.dictionary.add(values.value(key), self.pages.limits.dictionary) else { return Some(row) };
                self.dictionary.known[key] = added;
                number = added;
            }
            self.pages.open.numbers.push(number);
        }
        None
    }

    /// Appends rows to the page, and tells how many: until it has its bytes.
    fn write_plain(&mut self, keys: &Int32Array, values: &StringArray) -> usize {
        let mut written = 0;
        for key in keys {
            if let Some(key) = key {
                push_plain(values.value(key as usize), &mut self.pages.open.plain);
            }
            written += 1;
            if self.is_large(written) {
                break;
            }
        }
        self.pages.open.push_rows(written, keys.nulls());
        written
    }

    /// Whether the page has its bytes, with `more` rows.
    fn is_large(&self, more: usize) -> bool {
        self.pages.open.plain.len() >= self.pages.limits.page && self.pages.open.rows + more >= LARGE_ROWS
    }

    fn end_page(&mut self) -> Result<(), ParquetError> {
        self.pages.end(hybrid::width(self.dictionary.ends.len()))
    }
}

impl ColumnChunk for TextChunk {
    fn size(&self) -> usize {
        self.pages.size() + self.dictionary.plain.len()
    }

    fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        let rows = rows.as_dictionary_opt::<Int32Type>().ok_or_else(type_error)?;
        self.write_rows(rows.keys(), rows.values(), false)
    }

    fn write_texts(&mut self, rows: Texts) -> Result<(), ParquetError> {
        self.write_rows(&rows.keys, &rows.values, true)
    }

    fn close(mut self: Box<Self>) -> Result<Chunk, ParquetError> {
        if self.pages.is_null() {
            return self.pages.close_nulls();
        }
        self.end_page()?;
        self.pages.close(&self.dictionary.plain, self.dictionary.ends.len(), None)
    }
}

/// The values of a chunk.
#[derive(Default)]
struct Dictionary {
    /// As Parquet's PLAIN encoding has them.
    plain: Vec<u8>,
    /// Where each of them ends in it.
    ends: Vec<usize>,
    /// Their numbers by text, once rows come in more than one dictionary or in one that has a text twice.
    numbers: Option<HashTable<u32>>,
    hasher: DefaultHashBuilder,
    /// The dictionary of the rows that came last, and for each of its keys the number here.
    last: Option<ArrayRef>,
    known: Vec<u32>,
}

/// Bytes of the length of a text in Parquet's PLAIN encoding.
const LENGTH: usize = 4;

/// Appends a text in Parquet's PLAIN encoding: its length, and itself.
fn push_plain(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl Dictionary {
    /// Makes `values` the dictionary that rows come in.
    fn turn_to(&mut self, values: &ArrayRef, are_distinct: bool) {
        if !self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, values)) {
            self.known.clear();
            self.known.resize(values.len(), UNKNOWN);
            if self.last.is_some() || !are_distinct {
                self.index();
            }
            self.last = Some(values.clone());
        }
    }

    /// The text of a number.
    fn text<'a>(plain: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
        let number = number as usize;
        let from = if number == 0 { 0 } else { ends[number - 1] };
        &plain[from + LENGTH..ends[number]]
    }

    /// Makes numbers be found by text.
    fn index(&mut self) {
        if self.numbers.is_none() {
            let hash = |number: &u32| self.hasher.hash_one(Dictionary::text(&self.plain, &self.ends, *number));
            let mut numbers = HashTable::with_capacity(self.ends.len());
            for number in 0..self.ends.len() as u32 {
                numbers.insert_unique(hash(&number), number, hash);
            }
            self.numbers = Some(numbers);
        }
    }

    /// The number of a text; none if the dictionary has no room for it.
    fn add(&mut self, text: &str, limit: usize) -> Option<u32> {
        let (plain, ends) = (&self.plain, &self.ends);
        let same = |number: &u32| Dictionary::text(plain, ends, *number) == text.as_bytes();
        let hash = self.numbers.as_ref().map(|_| self.hasher.hash_one(text.as_bytes()));
        if let (Some(numbers), Some(hash)) = (&self.numbers, hash)
            && let Some(number) = numbers.find(hash, same)
        {
            return Some(*number);
        }
        if self.plain.len() + text.len() > limit {
            return None;
        }
        let number = self.ends.len() as u32;
        push_plain(text, &mut self.plain);
        self.ends.push(self.plain.len());
        if let (Some(numbers), Some(hash)) = (&mut self.numbers, hash) {
            let (plain, ends, hasher) = (&self.plain, &self.ends, &self.hasher);
            numbers.insert_unique(hash, number, |number| hasher.hash_one(Dictionary::text(plain, ends, *number)));
        }
        Some(number)
    }
}
