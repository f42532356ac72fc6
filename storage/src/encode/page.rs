//! Pages of a column chunk, compressed.

use bytes::Bytes;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page};
use parquet::errors::ParquetError;

/// Bytes that are not compressed: pages of one value for all rows.
const SHORT: usize = 32;

/// Compresses the pages of one column chunk.
pub(super) enum Compressor {
    None,
    Lz4(Box<CompressTable>),
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
        Ok(match compression {
            Compression::UNCOMPRESSED => Compressor::None,
            Compression::LZ4_RAW => Compressor::Lz4(Box::default()),
            Compression::ZSTD(level) => Compressor::Zstd(zstd::bulk::Compressor::new(level.compression_level())?),
            other => return Err(ParquetError::NYI(format!("text compressed with {other}"))),
        })
    }

    /// Appends `bytes`, compressed.
    fn compress(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ParquetError> {
        let from = out.len();
        match self {
            Compressor::None => out.extend_from_slice(bytes),
            Compressor::Lz4(table) => {
                out.resize(from + get_maximum_output_size(bytes.len()), 0);
                let written = compress_into_with_table(bytes, &mut out[from..], table);
                out.truncate(from + written.map_err(|error| ParquetError::External(Box::new(error)))?);
            }
            Compressor::Zstd(context) => out.extend(context.compress(bytes)?),
        }
        Ok(())
    }

    /// A dictionary page of `count` values. Unlike those of a data page its bytes are what the chunk's codec makes of them.
    pub(super) fn dictionary(&mut self, values: &[u8], count: u32) -> Result<CompressedPage, ParquetError> {
        let mut buf = Vec::new();
        self.compress(values, &mut buf)?;
        let page = Page::DictionaryPage { buf: Bytes::from(buf), num_values: count, encoding: Encoding::PLAIN, is_sorted: false };
        Ok(CompressedPage::new(page, values.len()))
    }

    /// A data page (version 2: levels are not compressed, and values only if that makes them smaller).
    pub(super) fn data(&mut self, page: &Values<'_>) -> Result<CompressedPage, ParquetError> {
        let mut buf = Vec::with_capacity(page.levels.len() + page.values.len());
        buf.extend_from_slice(page.levels);
        if page.values.len() > SHORT {
            self.compress(page.values, &mut buf)?;
        }
        let compressed = buf.len() - page.levels.len();
        let is_compressed = compressed > 0 && compressed < page.values.len();
        if !is_compressed {
            buf.truncate(page.levels.len());
            buf.extend_from_slice(page.values);
        }
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
