//! Column chunks that are not made by Parquet's own writer.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, Type};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, LevelHistogram, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// An encoded column chunk: to be appended to a row group.
pub(crate) struct Chunk {
    pub bytes: Bytes,
    pub close: ColumnCloseResult,
}

/// What is told of the values of a chunk.
pub(super) struct Told {
    pub statistics: Statistics,
    /// Values by definition level.
    pub levels: Option<LevelHistogram>,
    /// The bounds of each page.
    pub index: Option<ColumnIndexMetaData>,
}

/// The pages of a chunk as they lie in it.
pub(super) struct Laid {
    sink: TrackedWrite<Vec<u8>>,
    stats: Vec<PageEncodingStats>,
    offsets: OffsetIndexBuilder,
    rows: u64,
    nulls: u64,
    uncompressed: usize,
    dictionary: Option<i64>,
    data: Option<i64>,
}

impl Laid {
    /// None yet, with room for so many bytes.
    pub(super) fn new(capacity: usize) -> Laid {
        Laid {
            sink: TrackedWrite::new(Vec::with_capacity(capacity)),
            stats: Vec::new(),
            offsets: OffsetIndexBuilder::new(),
            rows: 0,
            nulls: 0,
            uncompressed: 0,
            dictionary: None,
            data: None,
        }
    }

    /// Writes the next page: the dictionary's first.
    pub(super) fn put(&mut self, page: CompressedPage) -> Result<(), ParquetError> {
        let (page_type, encoding) = (page.page_type(), page.encoding());
        if let Page::DataPageV2 { num_nulls, .. } = page.compressed_page() {
            self.nulls += u64::from(*num_nulls);
        }
        let laid = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += laid.uncompressed_size;
        match self.stats.last_mut() {
            Some(stats) if (stats.page_type, stats.encoding) == (page_type, encoding) => stats.count += 1,
            _ => self.stats.push(PageEncodingStats { page_type, encoding, count: 1 }),
        }
        if page_type == PageType::DICTIONARY_PAGE {
            self.dictionary = Some(laid.offset as i64);
        } else {
            self.data.get_or_insert(laid.offset as i64);
            self.rows += u64::from(laid.num_values);
            self.offsets.append_row_count(laid.num_values.into());
            self.offsets.append_offset_and_size(laid.offset as i64, laid.compressed_size as i32);
        }
        Ok(())
    }

    /// The chunk of a leaf, of whose values the nulls are told if nothing else is. A value is a row, null or not: in no list there
    /// are items.
    pub(super) fn finish(self, column: ColumnDescPtr, compression: Compression, told: Option<Told>) -> Result<Chunk, ParquetError> {
        let bytes = Bytes::from(self.sink.into_inner()?);
        let nulls = || Told { statistics: statistics(column.physical_type(), self.nulls), levels: None, index: None };
        let told = told.unwrap_or_else(nulls);
        // Definition levels are RLE.
        let encodings = self.stats.iter().map(|stats| stats.encoding).chain([Encoding::RLE]);
        let metadata = ColumnChunkMetaData::builder(column)
            .set_compression(compression)
            .set_encodings(encodings.collect())
            .set_page_encoding_stats(self.stats)
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(self.rows as i64)
            .set_statistics(told.statistics)
            .set_definition_level_histogram(told.levels)
            .set_data_page_offset(self.data.unwrap_or_default())
            .set_dictionary_page_offset(self.dictionary)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows,
            metadata,
            bloom_filter: None,
            column_index: told.index,
            offset_index: Some(self.offsets.build()),
        };
        Ok(Chunk { bytes, close })
    }
}

/// The statistics of a chunk of which no more is told than how many of its values are null.
fn statistics(column: Type, nulls: u64) -> Statistics {
    let nulls = Some(nulls);
    match column {
        Type::BOOLEAN => Statistics::new::<bool>(None, None, None, nulls, false),
        Type::INT32 => Statistics::new::<i32>(None, None, None, nulls, false),
        Type::INT64 => Statistics::new::<i64>(None, None, None, nulls, false),
        Type::INT96 => Statistics::new::<Int96>(None, None, None, nulls, false),
        Type::FLOAT => Statistics::new::<f32>(None, None, None, nulls, false),
        Type::DOUBLE => Statistics::new::<f64>(None, None, None, nulls, false),
        Type::BYTE_ARRAY => Statistics::new::<ByteArray>(None, None, None, nulls, false),
        Type::FIXED_LEN_BYTE_ARRAY => Statistics::new::<FixedLenByteArray>(None, None, None, nulls, false),
    }
}
