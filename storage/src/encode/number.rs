//! The column chunk of a column of numbers, times or ids.
//!
//! Values are taken as they lie in the array, where `ArrowWriter` makes an object of each id, and hashes each number by way of its
//! bytes.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parquet::basic::{Encoding, Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnDescPtr;

use super::bounds::Bounds;
use super::chunk::Chunk;
use super::column::ColumnChunk;
use super::fixed::Fixed;
use super::hybrid;
use super::pages::Pages;

/// Rows of such a column, encoded as one column chunk. Its statistics tell the nulls, and bounds where they are asked for.
pub(super) struct NumberChunk<T> {
    pages: Pages,
    dictionary: Dictionary<T>,
    bounds: Option<Bounds<T>>,
}

/// The values of a chunk.
struct Dictionary<T> {
    /// As Parquet's PLAIN encoding has them.
    plain: Vec<u8>,
    numbers: HashMap<T, u32>,
}

/// Whether a column is encoded as this module does: by PLAIN, with a dictionary until that is full or without, or by
/// DELTA_BINARY_PACKED without.
pub(super) fn is_known(column: &ColumnDescPtr, properties: &WriterProperties) -> bool {
    match properties.encoding(column.path()) {
        Some(Encoding::PLAIN) => true,
        Some(Encoding::DELTA_BINARY_PACKED) => {
            column.physical_type() == Type::INT64 && !properties.dictionary_enabled(column.path())
        }
        _ => false,
    }
}

impl<T: Fixed> NumberChunk<T> {
    /// A chunk of a column that is a leaf of the schema itself, as `properties` say.
    ///
    /// # Errors
    /// A compression that no layout of this crate has.
    pub(super) fn new(column: ColumnDescPtr, properties: &WriterProperties) -> Result<NumberChunk<T>, ParquetError> {
        let statistics = properties.statistics_enabled(column.path());
        let bare = properties.encoding(column.path()).unwrap_or(Encoding::PLAIN);
        Ok(NumberChunk {
            bounds: Bounds::new(column.physical_type(), column.max_def_level(), statistics),
            pages: Pages::new(column, properties, bare)?,
            dictionary: Dictionary { plain: Vec::new(), numbers: HashMap::new() },
        })
    }

    /// Bytes for which the page has room. Of numbers of a dictionary and of deltas, rows are enough of a limit.
    fn bytes(&self) -> usize {
        let is_plain = self.pages.encoding() == Encoding::PLAIN;
        if is_plain { self.pages.limits.page.saturating_sub(self.pages.open.plain.len()) } else { usize::MAX }
    }

    /// Rows that are appended to the page before its bytes are looked at again.
    fn room(&self) -> usize {
        self.pages.room().min(self.bytes().div_ceil(T::WIDTH).max(1))
    }

    /// Appends values to the page, and tells of how many rows: up to one whose value the dictionary has no room for.
    fn write_numbers(&mut self, values: &[T], nulls: Option<&NullBuffer>) -> usize {
        let (dictionary, numbers, limit) = (&mut self.dictionary, &mut self.pages.open.numbers, self.pages.limits.dictionary);
        let mut add = |row: usize| dictionary.number(values[row], limit).map(|number| numbers.push(number)).ok_or(row);
        let added = match nulls {
            None => (0..values.len()).try_for_each(&mut add),
            Some(nulls) => nulls.valid_indices().try_for_each(&mut add),
        };
        added.map_or_else(|row| row, |()| values.len())
    }

    /// Appends values to the page.
    fn write_plain(&mut self, values: &[T], nulls: Option<&NullBuffer>) {
        let out = &mut self.pages.open.plain;
        match nulls {
            None => push_plain(values, out),
            Some(nulls) => nulls.valid_slices().for_each(|(from, until)| push_plain(&values[from..until], out)),
        }
    }

    fn end_page(&mut self) -> Result<(), ParquetError> {
        if let Some(bounds) = self.bounds.as_mut().filter(|_| self.pages.open.rows > 0) {
            bounds.end_page(self.pages.open.rows, self.pages.open.nulls);
        }
        self.pages.end(hybrid::width(self.dictionary.numbers.len()))
    }
}

impl<T: Fixed> ColumnChunk for NumberChunk<T> {
    fn size(&self) -> usize {
        self.pages.size() + self.dictionary.plain.len()
    }

    fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        let other = || ParquetError::ArrowError(format!("{} is no type of the column", rows.data_type()));
        let values = T::values(rows).ok_or_else(other)?;
        if self.pages.take_nulls(rows.len(), rows.nulls()) {
            return Ok(());
        }
        if self.pages.room() == 0 {
            self.end_page()?;
        }
        let nulls = rows.nulls().filter(|nulls| nulls.null_count() > 0);
        let mut from = 0;
        while from < values.len() {
            let some = &values[from..values.len().min(from + self.room())];
            let nulls = nulls.map(|nulls| nulls.slice(from, some.len()));
            let written = if self.pages.has_dictionary() {
                self.write_numbers(some, nulls.as_ref())
            } else {
                self.write_plain(some, nulls.as_ref());
                some.len()
            };
            if let Some(bounds) = &mut self.bounds {
                bounds.add(&some[..written], nulls.as_ref());
            }
            self.pages.open.push_rows(written, nulls.as_ref());
            from += written;
            let is_full = written < some.len();
            if is_full || self.pages.room() == 0 || self.bytes() == 0 {
                self.end_page()?;
            }
            if is_full {
                self.pages.end_dictionary();
            }
        }
        Ok(())
    }

    fn close(mut self: Box<Self>) -> Result<Chunk, ParquetError> {
        if self.pages.is_null() && self.bounds.is_none() {
            return self.pages.close_nulls();
        }
        self.end_page()?;
        let told = self.bounds.map(Bounds::close).transpose()?;
        self.pages.close(&self.dictionary.plain, self.dictionary.numbers.len(), told)
    }
}

impl<T: Fixed> Dictionary<T> {
    /// The number of a value; none if the dictionary has no room for it.
    fn number(&mut self, value: T, limit: usize) -> Option<u32> {
        let number = self.numbers.len() as u32;
        match self.numbers.entry(value) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(_) if self.plain.len() + T::WIDTH > limit => None,
            Entry::Vacant(new) => {
                self.plain.extend_from_slice(value.plain().as_ref());
                Some(*new.insert(number))
            }
        }
    }
}

/// Appends values in Parquet's PLAIN encoding.
fn push_plain<T: Fixed>(values: &[T], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + values.len() * T::WIDTH, 0);
    for (to, value) in out[from..].chunks_exact_mut(T::WIDTH).zip(values) {
        to.copy_from_slice(value.plain().as_ref());
    }
}
