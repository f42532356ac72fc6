//! The column chunk of a text column.
//!
//! Rows come as dictionaries, and Parquet wants a dictionary: a value is looked at once for each dictionary that it comes in, where
//! `ArrowWriter` hashes and compares it for each row, which was a quarter of the CPU of a flush and a seventh of a merge's.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray};
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;
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

/// Rows of a text column, encoded as one column chunk. Its statistics tell the nulls.
pub(super) struct TextChunk {
    pages: Pages,
    dictionary: Dictionary,
}

impl TextChunk {
    /// A chunk of a column that is a leaf of the schema itself, as `properties` say.
    ///
    /// # Errors
    /// A compression that no layout of this crate has.
    pub(super) fn new(column: ColumnDescPtr, properties: &WriterProperties) -> Result<TextChunk, ParquetError> {
        Ok(TextChunk { pages: Pages::new(column, properties, Encoding::PLAIN)?, dictionary: Dictionary::default() })
    }

    /// Appends rows to the page, and tells how many: up to one whose value the dictionary has no room for.
    fn write_numbers(&mut self, rows: &DictionaryArray<Int32Type>, values: &StringArray) -> Result<usize, ParquetError> {
        let nulls = rows.nulls().filter(|nulls| nulls.null_count() > 0);
        let (keys, known) = (rows.keys().values(), &self.dictionary.known);
        if nulls.is_none() && keys.iter().all(|key| known[*key as usize] != UNKNOWN) {
            self.pages.open.numbers.extend(keys.iter().map(|key| known[*key as usize]));
            self.pages.open.push_rows(rows.len(), None);
            return Ok(rows.len());
        }
        let has_values = rows.null_count() < rows.len();
        for (row, key) in keys.iter().enumerate().take_while(|_| has_values) {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let key = *key as usize;
            let mut number = self.dictionary.known[key];
            if number == UNKNOWN {
                let Some(added) = self.dictionary.add(values.value(key), self.pages.limits.dictionary) else {
                    self.pages.open.push_rows(row, nulls);
                    self.end_page()?;
                    self.pages.end_dictionary();
                    return Ok(row);
                };
                self.dictionary.known[key] = added;
                number = added;
            }
            self.pages.open.numbers.push(number);
        }
        self.pages.open.push_rows(rows.len(), nulls);
        Ok(rows.len())
    }

    /// Appends rows to the page, and tells how many: until it has its bytes.
    fn write_plain(&mut self, rows: &DictionaryArray<Int32Type>, values: &StringArray) -> usize {
        let mut written = 0;
        for key in rows.keys() {
            if let Some(key) = key {
                push_plain(values.value(key as usize), &mut self.pages.open.plain);
            }
            written += 1;
            if self.is_large(written) {
                break;
            }
        }
        self.pages.open.push_rows(written, rows.nulls());
        written
    }

    /// Whether the page has its bytes, with `more` rows.
    fn is_large(&self, more: usize) -> bool {
        self.pages.open.plain.len() >= self.pages.limits.page && self.pages.open.rows + more >= LARGE_ROWS
    }

    fn end_page(&mut self) -> Result<(), ParquetError> {
        self.pages.end(hybrid::width(self.dictionary.numbers.len()))
    }
}

impl ColumnChunk for TextChunk {
    fn size(&self) -> usize {
        self.pages.size() + self.dictionary.plain.len()
    }

    fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        let text = || ParquetError::ArrowError("text is dictionary-encoded".to_owned());
        let rows = rows.as_dictionary_opt::<Int32Type>().ok_or_else(text)?;
        let values = rows.values().as_string_opt::<i32>().ok_or_else(text)?;
        if self.pages.take_nulls(rows.len(), rows.nulls()) {
            return Ok(());
        }
        if self.pages.room() == 0 {
            self.end_page()?;
        }
        if self.pages.has_dictionary() {
            self.dictionary.turn_to(rows.values());
        }
        let mut from = 0;
        while from < rows.len() {
            let some = rows.slice(from, self.pages.room().min(rows.len() - from));
            from += if self.pages.has_dictionary() { self.write_numbers(&some, values)? } else { self.write_plain(&some, values) };
            if self.pages.room() == 0 || self.is_large(0) {
                self.end_page()?;
            }
        }
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<Chunk, ParquetError> {
        if self.pages.is_null() {
            return self.pages.close_nulls();
        }
        self.end_page()?;
        self.pages.close(&self.dictionary.plain, self.dictionary.numbers.len(), None)
    }
}

/// The values of a chunk.
#[derive(Default)]
struct Dictionary {
    /// As Parquet's PLAIN encoding has them.
    plain: Vec<u8>,
    numbers: HashMap<Box<str>, u32>,
    /// The dictionary of the rows that came last, and for each of its keys the number here.
    last: Option<ArrayRef>,
    known: Vec<u32>,
}

/// Appends a text in Parquet's PLAIN encoding: its length in four bytes, and itself.
fn push_plain(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl Dictionary {
    /// Makes `values` the dictionary that rows come in.
    fn turn_to(&mut self, values: &ArrayRef) {
        if !self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, values)) {
            self.known.clear();
            self.known.resize(values.len(), UNKNOWN);
            self.last = Some(values.clone());
        }
    }

    /// The number of a text; none if the dictionary has no room for it.
    fn add(&mut self, text: &str, limit: usize) -> Option<u32> {
        if let Some(number) = self.numbers.get(text) {
            return Some(*number);
        }
        if self.plain.len() + text.len() > limit {
            return None;
        }
        let number = self.numbers.len() as u32;
        push_plain(text, &mut self.plain);
        self.numbers.insert(text.into(), number);
        Some(number)
    }
}
