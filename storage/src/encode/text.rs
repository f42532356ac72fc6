//! The column chunk of a text column.
//!
//! Rows come as dictionaries, and Parquet wants a dictionary: a value is looked at once for each dictionary that it comes in, where
//! `ArrowWriter` hashes and compares it for each row, which was a quarter of the CPU of a flush and a seventh of a merge's.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Int32Type;
use hashbrown::HashMap;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::CompressedPage;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnDescPtr;

use super::chunk::{Chunk, Laid};
use super::hybrid;
use super::page::{Compressor, Values};

/// Rows of a page whose values are large, at least.
const LARGE_ROWS: usize = 16;
/// The number of a value that has none yet.
const UNKNOWN: u32 = u32::MAX;

/// Rows of a text column, encoded as one column chunk. Its statistics tell the nulls.
pub(crate) struct TextChunk {
    column: ColumnDescPtr,
    compression: Compression,
    compressor: Compressor,
    limits: Limits,
    dictionary: Dictionary,
    /// Whether further pages are written without the dictionary: it is full, or the column has none.
    plain: bool,
    open: OpenPage,
    pages: Vec<CompressedPage>,
    /// Bytes of `pages`.
    size: usize,
}

struct Limits {
    /// Rows of a page.
    rows: usize,
    /// Bytes of a page, as values without a dictionary take them.
    page: usize,
    /// Bytes of the dictionary.
    dictionary: usize,
}

impl TextChunk {
    /// A chunk of a column that is a leaf of the schema itself, as `properties` say.
    ///
    /// # Errors
    /// A compression that no layout of this crate has.
    pub(super) fn new(column: ColumnDescPtr, properties: &WriterProperties) -> Result<TextChunk, ParquetError> {
        let path = column.path();
        let compression = properties.compression(path);
        Ok(TextChunk {
            compression,
            compressor: Compressor::new(compression)?,
            limits: Limits {
                rows: properties.data_page_row_count_limit(),
                page: properties.column_data_page_size_limit(path),
                dictionary: properties.column_dictionary_page_size_limit(path),
            },
            dictionary: Dictionary::default(),
            plain: !properties.dictionary_enabled(path),
            open: OpenPage::default(),
            pages: Vec::new(),
            size: 0,
            column,
        })
    }

    /// Bytes that the chunk takes so far, about.
    pub(super) fn size(&self) -> usize {
        self.size + self.dictionary.plain.len() + self.open.size()
    }

    /// Appends rows.
    ///
    /// # Errors
    /// Rows that are no dictionary of texts: a defect of this crate.
    pub(super) fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        let text = || ParquetError::ArrowError("text is dictionary-encoded".to_owned());
        let rows = rows.as_dictionary_opt::<Int32Type>().ok_or_else(text)?;
        let values = rows.values().as_string_opt::<i32>().ok_or_else(text)?;
        if rows.null_count() == rows.len() && self.open.nulls == self.open.rows {
            // A page without a value may have any number of rows.
            self.open.push_rows(rows.len(), rows.nulls());
            return Ok(());
        }
        if self.open.rows >= self.limits.rows {
            self.end_page()?;
        }
        if !self.plain {
            self.dictionary.turn_to(rows.values());
        }
        let mut from = 0;
        while from < rows.len() {
            let room = self.limits.rows - self.open.rows;
            let some = rows.slice(from, room.min(rows.len() - from));
            let written = if self.plain { self.write_plain(&some, values) } else { self.write_numbers(&some, values)? };
            from += written;
            if self.open.rows >= self.limits.rows || self.is_large(0) {
                self.end_page()?;
            }
        }
        Ok(())
    }

    /// Appends rows to the page, and tells how many: up to one whose value the dictionary has no room for.
    fn write_numbers(&mut self, rows: &DictionaryArray<Int32Type>, values: &StringArray) -> Result<usize, ParquetError> {
        let nulls = rows.nulls().filter(|nulls| nulls.null_count() > 0);
        let has_values = rows.null_count() < rows.len();
        for (row, key) in rows.keys().values().iter().enumerate().take_while(|_| has_values) {
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let key = *key as usize;
            let mut number = self.dictionary.known[key];
            if number == UNKNOWN {
                let Some(added) = self.dictionary.add(values.value(key), self.limits.dictionary) else {
                    self.open.push_rows(row, nulls);
                    self.end_page()?;
                    self.plain = true;
                    return Ok(row);
                };
                self.dictionary.known[key] = added;
                number = added;
            }
            self.open.numbers.push(number);
        }
        self.open.push_rows(rows.len(), nulls);
        Ok(rows.len())
    }

    /// Appends rows to the page, and tells how many: until it has its bytes.
    fn write_plain(&mut self, rows: &DictionaryArray<Int32Type>, values: &StringArray) -> usize {
        let mut written = 0;
        for key in rows.keys() {
            if let Some(key) = key {
                push_plain(values.value(key as usize), &mut self.open.plain);
            }
            written += 1;
            if self.is_large(written) {
                break;
            }
        }
        self.open.push_rows(written, rows.nulls());
        written
    }

    /// Whether the page has its bytes, with `more` rows.
    fn is_large(&self, more: usize) -> bool {
        self.open.plain.len() >= self.limits.page && self.open.rows + more >= LARGE_ROWS
    }

    fn end_page(&mut self) -> Result<(), ParquetError> {
        if self.open.rows == 0 {
            return Ok(());
        }
        let mut levels = Vec::new();
        if self.column.max_def_level() > 0 {
            self.open.levels(&mut levels);
        }
        let mut values = Vec::new();
        if !self.plain {
            let width = self.dictionary.width();
            values.push(width);
            hybrid::encode(&self.open.numbers, width, &mut values);
        }
        let page = self.compressor.data(&Values {
            levels: &levels,
            values: if self.plain { &self.open.plain } else { &values },
            encoding: if self.plain { Encoding::PLAIN } else { Encoding::RLE_DICTIONARY },
            rows: self.open.rows as u32,
            nulls: self.open.nulls as u32,
        })?;
        self.size += page.data().len();
        self.pages.push(page);
        self.open.clear();
        Ok(())
    }

    /// Ends the chunk.
    pub(super) fn close(mut self) -> Result<Chunk, ParquetError> {
        self.end_page()?;
        let mut laid = Laid::new(self.size + self.dictionary.plain.len());
        if self.pages.iter().any(|page| page.encoding() == Encoding::RLE_DICTIONARY) {
            laid.put(self.compressor.dictionary(&self.dictionary.plain, self.dictionary.numbers.len() as u32)?)?;
        }
        for page in self.pages {
            laid.put(page)?;
        }
        laid.finish(self.column, self.compression)
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

    /// Bits of the largest number.
    fn width(&self) -> u8 {
        (u32::BITS - (self.numbers.len() as u32).saturating_sub(1).leading_zeros()) as u8
    }
}

/// The page that is being filled.
#[derive(Default)]
struct OpenPage {
    rows: usize,
    nulls: usize,
    /// For each row 1 if it has a value, else 0; empty as long as all have or none has.
    valid: Vec<u32>,
    /// Numbers of the values, while there is a dictionary.
    numbers: Vec<u32>,
    /// The values, if there is none.
    plain: Vec<u8>,
}

impl OpenPage {
    fn size(&self) -> usize {
        self.plain.len() + self.numbers.len()
    }

    /// Notes which of `count` rows have a value.
    fn push_rows(&mut self, count: usize, nulls: Option<&NullBuffer>) {
        let nulls = nulls.map(|nulls| nulls.slice(0, count));
        let added = nulls.as_ref().map_or(0, NullBuffer::null_count);
        let is_alike = (self.nulls, added) == (0, 0) || (self.nulls, added) == (self.rows, count);
        if !is_alike || !self.valid.is_empty() {
            if self.valid.is_empty() {
                self.valid.resize(self.rows, u32::from(self.nulls == 0));
            }
            match nulls {
                Some(nulls) => self.valid.extend(nulls.iter().map(u32::from)),
                None => self.valid.resize(self.rows + count, 1),
            }
        }
        self.rows += count;
        self.nulls += added;
    }

    /// Definition levels of a column that may be null: a bit a row.
    fn levels(&self, out: &mut Vec<u8>) {
        match self.nulls {
            0 => hybrid::repeat(1, self.rows, 1, out),
            nulls if nulls == self.rows => hybrid::repeat(0, self.rows, 1, out),
            _ => hybrid::encode(&self.valid, 1, out),
        }
    }

    fn clear(&mut self) {
        (self.rows, self.nulls) = (0, 0);
        self.valid.clear();
        self.numbers.clear();
        self.plain.clear();
    }
}
