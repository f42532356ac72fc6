//! Pages of a row group that were read, decoded one after the other.
//!
//! Pages of zstd are decompressed here, in one context for all columns: to make one takes longer than to decompress a page.

use std::collections::VecDeque;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use zstd::bulk::Decompressor;
use zstd::zstd_safe::get_frame_content_size;

use super::places::Places;

/// What was read of a row group.
pub(super) struct Chunks {
    places: Arc<Places>,
    pieces: Arc<Pieces>,
    zstd: Option<Zstd>,
}

type Zstd = Arc<Mutex<Decompressor<'static>>>;

/// Parts of a file with where they begin, in order.
pub(super) struct Pieces(Vec<(u64, Bytes)>);

/// The pages of one leaf: the dictionary, and those that were read. The others may be skipped.
pub(super) struct Pages {
    /// Leaves pages of zstd as they are.
    decoder: SerializedPageReader<Pieces>,
    zstd: Option<Zstd>,
    /// Pages of the decoder that were looked at.
    ahead: VecDeque<Page>,
    /// Whether the dictionary comes next.
    dictionary: bool,
    left: VecDeque<Part>,
}

/// Of a column chunk, a page that was read, or pages that were not.
struct Part {
    rows: usize,
    read: bool,
}

impl Chunks {
    pub(super) fn new(places: Arc<Places>, bytes: Vec<(u64, Bytes)>) -> Result<Chunks> {
        let is_zstd = places.chunks.iter().any(|chunk| matches!(chunk.compression, Compression::ZSTD(_)));
        let zstd = is_zstd.then(|| Ok::<_, ParquetError>(Arc::new(Mutex::new(Decompressor::new()?)))).transpose()?;
        Ok(Chunks { places, pieces: Arc::new(Pieces(bytes)), zstd })
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// The pages of a leaf of which these were read.
    pub(super) fn open(&self, leaf: usize, read: &[Range<usize>]) -> Result<Pages> {
        let (chunk, rows) = (&self.places.chunks[leaf], self.places.rows);
        let dictionary = chunk.dictionary();
        let mut locations = Vec::new();
        let mut add = |bytes: Range<u64>| {
            let location = PageLocation {
                offset: i64::try_from(bytes.start)?,
                compressed_page_size: i32::try_from(bytes.end - bytes.start)?,
                // The rows of the pages that are not read are counted here, not there.
                first_row_index: 0,
            };
            locations.push(location);
            Ok::<_, ParquetError>(())
        };
        dictionary.clone().map_or(Ok(()), &mut add)?;
        let (mut left, mut page) = (VecDeque::new(), 0);
        let skipped = |pages: Range<usize>| Part { rows: chunk.rows_of(&pages, rows), read: false };
        for pages in read {
            left.push_back(skipped(page..pages.start));
            for page in pages.clone() {
                add(chunk.bytes_of(&(page..page + 1)))?;
                left.push_back(Part { rows: chunk.rows_of(&(page..page + 1), rows), read: true });
            }
            page = pages.end;
        }
        left.push_back(skipped(page..chunk.pages()));
        left.retain(|part| part.read || part.rows > 0);
        let start = locations.first().map_or(chunk.bytes.start, |first| first.offset as u64);
        let (compression, zstd) = match chunk.compression {
            Compression::ZSTD(_) => (Compression::UNCOMPRESSED, self.zstd.clone()),
            other => (other, None),
        };
        let decoder = self.decoder(leaf, compression, start, Some(locations))?;
        Ok(Pages { decoder, zstd, ahead: VecDeque::new(), dictionary: dictionary.is_some(), left })
    }

    /// All pages of a leaf whose places nobody tells of.
    pub(super) fn whole(&self, leaf: usize) -> Result<SerializedPageReader<Pieces>> {
        let chunk = &self.places.chunks[leaf];
        self.decoder(leaf, chunk.compression, chunk.bytes.start, None)
    }

    /// `start`: where the first page stands, or there would have to be a dictionary before it.
    fn decoder(
        &self,
        leaf: usize,
        compression: Compression,
        start: u64,
        pages: Option<Vec<PageLocation>>,
    ) -> Result<SerializedPageReader<Pieces>> {
        let chunk = &self.places.chunks[leaf];
        let metadata = ColumnChunkMetaData::builder(self.places.schema().column(leaf))
            .set_compression(compression)
            .set_data_page_offset(i64::try_from(start)?)
            .set_total_compressed_size(i64::try_from(chunk.bytes.end - start)?)
            .build()?;
        SerializedPageReader::new(self.pieces.clone(), &metadata, self.places.rows, pages)
    }
}

impl Pages {
    /// Whether the column is null in all rows of the pages that were read. Pages are not looked at past the first that says no.
    pub(super) fn are_null(&mut self) -> Result<bool> {
        while let Some(page) = self.decoder.get_next_page()? {
            let is_null = page.is_dictionary_page() || is_null(&page);
            self.ahead.push_back(page);
            if !is_null {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self) -> Result<Option<Page>> {
        let page = self.ahead.pop_front().map_or_else(|| self.decoder.get_next_page(), |page| Ok(Some(page)))?;
        match (page, &self.zstd) {
            (Some(page), Some(zstd)) => decompressed(page, &mut zstd.lock()).map(Some),
            (page, _) => Ok(page),
        }
    }
}

/// A page as it is if its column is not compressed.
fn decompressed(mut page: Page, zstd: &mut Decompressor) -> Result<Page> {
    let (bytes, levels) = match &mut page {
        Page::DataPageV2 { is_compressed: false, .. } => return Ok(page),
        Page::DataPageV2 { buf, rep_levels_byte_len, def_levels_byte_len, .. } => {
            (buf, *rep_levels_byte_len as usize + *def_levels_byte_len as usize)
        }
        Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => (buf, 0),
    };
    let (Some(levels), Some(values)) = (bytes.get(..levels), bytes.get(levels..)) else {
        return Err(ParquetError::EOF("a page ends within its levels".to_owned()));
    };
    // Of a page without values there is nothing to decompress.
    if values.is_empty() {
        return Ok(page);
    }
    let size = get_frame_content_size(values).ok().flatten();
    let size = size.ok_or_else(|| ParquetError::General("a page does not tell its size".to_owned()))?;
    // As long as a page may be in Parquet.
    let size = usize::try_from(i32::try_from(size)?)?;
    let mut whole = Vec::with_capacity(levels.len() + size);
    whole.extend_from_slice(levels);
    if size > 0 {
        let mut end = Cursor::new(&mut whole);
        end.set_position(levels.len() as u64);
        zstd.decompress_to_buffer(values, &mut end)?;
    }
    *bytes = whole.into();
    Ok(page)
}

/// Whether a page says that all its rows are null: one run of definition level 0. It may say the same in other words, then it is read.
fn is_null(page: &Page) -> bool {
    let Page::DataPageV2 { buf, num_values, def_levels_byte_len, rep_levels_byte_len, .. } = page else { return false };
    let start = *rep_levels_byte_len as usize;
    let Some(levels) = buf.get(start..start.saturating_add(*def_levels_byte_len as usize)) else { return false };
    // RLE: the length as a varint, shifted by one; then the level.
    let mut header = 0u64;
    for (at, byte) in levels.iter().take(5).enumerate() {
        header |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return header & 1 == 0 && header >> 1 >= u64::from(*num_values) && levels[at + 1..] == [0];
        }
    }
    false
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        if std::mem::take(&mut self.dictionary) {
            return self.take();
        }
        match self.left.pop_front() {
            Some(part) if part.read => self.take(),
            Some(_) => Err(ParquetError::General("a page with none of the selected rows is asked for".to_owned())),
            None => Ok(None),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        let metadata = |num_rows: Option<usize>, is_dict| PageMetadata { num_rows, num_levels: None, is_dict };
        if self.dictionary {
            return Ok(Some(metadata(None, true)));
        }
        Ok(self.left.front().map(|part| metadata(Some(part.rows), false)))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        let read = std::mem::take(&mut self.dictionary) || self.left.pop_front().is_some_and(|part| part.read);
        if read && self.ahead.pop_front().is_none() {
            self.decoder.skip_next_page()?;
        }
        Ok(())
    }
}

impl Pieces {
    /// From there to the end of the piece.
    fn from(&self, start: u64) -> Result<Bytes> {
        let at = self.0.partition_point(|(offset, _)| *offset <= start);
        let piece = at.checked_sub(1).and_then(|at| self.0.get(at));
        let (offset, bytes) = piece.ok_or_else(|| ParquetError::General(format!("byte {start} of the file was not read")))?;
        let from = usize::try_from(start - offset)?.min(bytes.len());
        Ok(bytes.slice(from..))
    }
}

impl Length for Pieces {
    fn len(&self) -> u64 {
        self.0.last().map_or(0, |(start, bytes)| start + bytes.len() as u64)
    }
}

impl ChunkReader for Pieces {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        let missing = || ParquetError::EOF(format!("{length} bytes at {start} of the file were not read"));
        if length <= bytes.len() { Ok(bytes.slice(..length)) } else { Err(missing()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::Encoding;

    fn page(num_values: u32, levels: &[u8]) -> Page {
        Page::DataPageV2 {
            buf: Bytes::from([&[9], levels, &[7, 7]].concat()),
            num_values,
            encoding: Encoding::PLAIN,
            num_nulls: 0,
            num_rows: num_values,
            def_levels_byte_len: levels.len() as u32,
            rep_levels_byte_len: 1,
            is_compressed: false,
            statistics: None,
        }
    }

    /// Scenario: levels of one run, of several, of another level, and cut off. Guarantee: only one run of level 0 over the whole page
    /// says that all is null.
    #[test]
    fn pages_of_nulls() {
        assert!(is_null(&page(5, &[5 << 1, 0])));
        assert!(is_null(&page(4096, &[0x80, 0x40, 0])), "4,096 takes two bytes");
        for levels in [&[5 << 1, 1][..], &[4 << 1, 0], &[4 << 1, 0, 1 << 1, 1], &[5 << 1 | 1, 0], &[5 << 1], &[0x80], &[]] {
            assert!(!is_null(&page(5, levels)), "{levels:?}");
        }
    }

    /// Scenario: pages with and without levels, compressed or not. Guarantee: what comes out is what went in; no frame is an error.
    #[test]
    fn pages_are_decompressed() {
        let frame = zstd::bulk::compress(b"values values values", 1).unwrap();
        let with = |levels: &[u8], is_compressed: bool| Page::DataPageV2 {
            buf: Bytes::from([levels, &frame].concat()),
            num_values: 3,
            encoding: Encoding::PLAIN,
            num_nulls: 0,
            num_rows: 3,
            def_levels_byte_len: levels.len() as u32,
            rep_levels_byte_len: 0,
            is_compressed,
            statistics: None,
        };
        let mut zstd = Decompressor::new().unwrap();
        let mut bytes = |page: Page| decompressed(page, &mut zstd).map(|page| page.buffer().to_vec());
        assert_eq!(bytes(with(b"ab", true)).unwrap(), b"abvalues values values");
        assert_eq!(bytes(with(b"", true)).unwrap(), b"values values values");
        assert_eq!(bytes(with(b"ab", false)).unwrap(), [&b"ab"[..], &frame].concat());
        let dictionary = |buf| Page::DictionaryPage { buf, num_values: 1, encoding: Encoding::PLAIN, is_sorted: false };
        assert_eq!(bytes(dictionary(Bytes::from(frame.clone()))).unwrap(), b"values values values");
        assert!(bytes(dictionary(Bytes::from_static(b"no frame"))).is_err());
    }
}
