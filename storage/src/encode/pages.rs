//! The pages of a column chunk that are filled one after the other.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::NullBuffer;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::CompressedPage;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnDescPtr;

use super::chunk::{Chunk, Laid, Told};
use super::delta;
use super::hybrid;
use super::nulls;
use super::page::{Compressor, Values};

/// Bytes of the header of a page, about.
const HEADER: usize = 48;

/// The pages of a column that is a leaf of the schema itself.
pub(super) struct Pages {
    column: ColumnDescPtr,
    compression: Compression,
    compressor: Compressor,
    pub limits: Limits,
    /// How values of further pages are encoded: RLE_DICTIONARY, PLAIN or DELTA_BINARY_PACKED.
    encoding: Encoding,
    pub open: OpenPage,
    /// Room for the encoded values of a page.
    values: Vec<u8>,
    done: Vec<CompressedPage>,
    /// Bytes of `done`.
    size: usize,
}

pub(super) struct Limits {
    /// Rows of a page.
    pub rows: usize,
    /// Bytes of a page, as values without a dictionary take them.
    pub page: usize,
    /// Bytes of the dictionary.
    pub dictionary: usize,
}

impl Pages {
    /// None yet of a column, as `properties` say. Without a dictionary, its values have the encoding `bare`.
    ///
    /// # Errors
    /// A compression that no layout of this crate has.
    pub(super) fn new(column: ColumnDescPtr, properties: &WriterProperties, bare: Encoding) -> Result<Pages, ParquetError> {
        let path = column.path();
        let compression = properties.compression(path);
        Ok(Pages {
            compression,
            compressor: Compressor::new(compression)?,
            limits: Limits {
                rows: properties.data_page_row_count_limit(),
                page: properties.column_data_page_size_limit(path),
                dictionary: properties.column_dictionary_page_size_limit(path),
            },
            encoding: if properties.dictionary_enabled(path) { Encoding::RLE_DICTIONARY } else { bare },
            open: OpenPage::new(),
            values: Vec::new(),
            done: Vec::new(),
            size: 0,
            column,
        })
    }

    /// How values of further pages are encoded.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether further pages are written with the dictionary: not if it is full, or the column has none.
    pub(super) fn has_dictionary(&self) -> bool {
        self.encoding == Encoding::RLE_DICTIONARY
    }

    /// The dictionary is full. The page that is filled has ended.
    pub(super) fn end_dictionary(&mut self) {
        self.encoding = Encoding::PLAIN;
    }

    /// Bytes that they take so far, about.
    pub(super) fn size(&self) -> usize {
        self.size + self.open.size()
    }

    /// Takes rows without a value, if no row of the page that is filled has one: such a page may have any number of rows.
    pub(super) fn take_nulls(&mut self, count: usize, nulls: Option<&NullBuffer>) -> bool {
        let takes = nulls.map_or(0, NullBuffer::null_count) == count && self.open.nulls == self.open.rows;
        if takes {
            self.open.push_rows(count, nulls);
        }
        takes
    }

    /// Rows for which the page has room.
    pub(super) fn room(&self) -> usize {
        self.limits.rows.saturating_sub(self.open.rows)
    }

    /// Ends the page that is filled, if it has rows. `width` is the bits of a number of the dictionary.
    pub(super) fn end(&mut self, width: u8) -> Result<(), ParquetError> {
        if self.open.rows == 0 {
            return Ok(());
        }
        let mut levels = Vec::new();
        if self.column.max_def_level() > 0 {
            self.open.levels(&mut levels);
        }
        self.values.clear();
        match self.encoding {
            Encoding::RLE_DICTIONARY => {
                self.values.push(width);
                hybrid::encode(&self.open.numbers, width, &mut self.values);
            }
            Encoding::DELTA_BINARY_PACKED => delta::encode(&self.open.plain, &mut self.values),
            _ => std::mem::swap(&mut self.values, &mut self.open.plain),
        }
        let page = self.compressor.data(&Values {
            levels: &levels,
            values: &self.values,
            encoding: self.encoding,
            rows: self.open.rows as u32,
            nulls: self.open.nulls as u32,
        })?;
        self.size += page.data().len() + HEADER;
        self.done.push(page);
        self.open.clear();
        Ok(())
    }

    /// The chunk, when the last page has ended, with a dictionary of `count` values and what is told of its values.
    pub(super) fn close(mut self, dictionary: &[u8], count: usize, told: Option<Told>) -> Result<Chunk, ParquetError> {
        let mut laid = Laid::new(self.size + HEADER + dictionary.len());
        if self.done.iter().any(|page| page.encoding() == Encoding::RLE_DICTIONARY) {
            laid.put(self.compressor.dictionary(dictionary, count as u32)?)?;
        }
        for page in self.done {
            laid.put(page)?;
        }
        laid.finish(self.column, self.compression, told)
    }

    /// The chunk, if no row has a value.
    pub(super) fn close_nulls(self) -> Result<Chunk, ParquetError> {
        nulls::chunk(self.column, self.compression, self.open.rows)
    }

    /// Whether no row so far has a value.
    pub(super) fn is_null(&self) -> bool {
        self.done.is_empty() && self.open.nulls == self.open.rows
    }
}

/// The page that is being filled.
pub(super) struct OpenPage {
    pub rows: usize,
    pub nulls: usize,
    /// For each row whether it has a value; empty as long as all have or none has.
    valid: BooleanBufferBuilder,
    /// Numbers of the values, while there is a dictionary.
    pub numbers: Vec<u32>,
    /// The values, if there is none.
    pub plain: Vec<u8>,
}

impl OpenPage {
    fn new() -> OpenPage {
        OpenPage { rows: 0, nulls: 0, valid: BooleanBufferBuilder::new(0), numbers: Vec::new(), plain: Vec::new() }
    }

    fn size(&self) -> usize {
        self.plain.len() + self.numbers.len()
    }

    /// Notes which of `count` rows have a value.
    pub(super) fn push_rows(&mut self, count: usize, nulls: Option<&NullBuffer>) {
        let nulls = nulls.map(|nulls| nulls.slice(0, count));
        let added = nulls.as_ref().map_or(0, NullBuffer::null_count);
        let is_alike = (self.nulls, added) == (0, 0) || (self.nulls, added) == (self.rows, count);
        if !is_alike || !self.valid.is_empty() {
            if self.valid.is_empty() {
                self.valid.append_n(self.rows, self.nulls == 0);
            }
            match nulls {
                Some(nulls) => self.valid.append_buffer(nulls.inner()),
                None => self.valid.append_n(count, true),
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
            _ => hybrid::encode_bits(self.valid.as_slice(), self.rows, out),
        }
    }

    fn clear(&mut self) {
        (self.rows, self.nulls) = (0, 0);
        self.valid.truncate(0);
        self.numbers.clear();
        self.plain.clear();
    }
}
