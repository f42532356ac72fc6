//! Pages of a column chunk, compressed.

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page};
use parquet::errors::ParquetError;

/// Bytes that are not compressed: pages of one value for all rows.
const SHORT: usize = 32;

/// Compresses the pages of one column chunk.
pub(super) struct Compressor {
    codec: Codec,
    /// What pages are compressed into: they are held until the chunk ends, and have no room to spare.
    room: Vec<u8>,
}

enum Codec {
    None,
    /// The table is made for the first page: half of the columns have none.
    Lz4(Option<Box<CompressTable>>),
    Zstd(zstd::bulk::Compressor<'static>),
}

/// What a data page holds.
pub(super) struct Values<'a> {
    /// Definition levels, encoded.
    pub levels: &'a [u8],
    /// The values, encoded.
    pub values: &'a [u8],
    pub encoding: Encoding,
    pub rows: u32,
    pub nulls: u32,
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Result<Compressor, ParquetError> {
        let codec = match compression {
            Compression::UNCOMPRESSED => Codec::None,
            Compression::LZ4_RAW => Codec::Lz4(None),
            Compression::ZSTD(level) => Codec::Zstd(zstd::bulk::Compressor::new(level.compression_level())?),
            other => return Err(ParquetError::NYI(format!("columns compressed with {other}"))),
        };
        Ok(Compressor { codec, room: Vec::new() })
    }

    /// `bytes`, compressed.
    fn compress<'a>(&'a mut self, bytes: &'a [u8]) -> Result<&'a [u8], ParquetError> {
        let most = match self.codec {
            Codec::None => return Ok(bytes),
            Codec::Lz4(_) => get_maximum_output_size(bytes.len()),
            Codec::Zstd(_) => zstd::zstd_safe::compress_bound(bytes.len()),
        };
        if self.room.len() < most {
            self.room.resize(most, 0);
        }
        let written = match &mut self.codec {
            Codec::None => 0,
            Codec::Lz4(table) => {
                let table = table.get_or_insert_with(Box::default);
                let written = compress_into_with_table(bytes, &mut self.room, table);
                written.map_err(|error| ParquetError::External(Box::new(error)))?
            }
            Codec::Zstd(context) => context.compress_to_buffer(bytes, self.room.as_mut_slice())?,
        };
        Ok(&self.room[..written])
    }

    /// A dictionary page of `count` values. Unlike those of a data page its bytes are what the chunk's codec makes of them.
    pub(super) fn dictionary(&mut self, values: &[u8], count: u32) -> Result<CompressedPage, ParquetError> {
        let buf = Bytes::copy_from_slice(self.compress(values)?);
        let page = Page::DictionaryPage { buf, num_values: count, encoding: Encoding::PLAIN, is_sorted: false };
        Ok(CompressedPage::new(page, values.len()))
    }

    /// A data page (version 2: levels are not compressed, and values only if that makes them smaller).
    pub(super) fn data(&mut self, page: &Values<'_>) -> Result<CompressedPage, ParquetError> {
        let compressed = if page.values.len() > SHORT { self.compress(page.values)? } else { page.values };
        let is_compressed = compressed.len() < page.values.len();
        let buf = [page.levels, if is_compressed { compressed } else { page.values }].concat();
        let size = page.levels.len() + page.values.len();
        let page = Page::DataPageV2 {
            buf: Bytes::from(buf),
            num_values: page.rows,
            encoding: page.encoding,
            num_nulls: page.nulls,
            num_rows: page.rows,
            def_levels_byte_len: page.levels.len() as u32,
            rep_levels_byte_len: 0,
            is_compressed,
            statistics: None,
        };
        Ok(CompressedPage::new(page, size))
    }
}
