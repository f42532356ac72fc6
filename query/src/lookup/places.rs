//! Where the pages of a row group stand in its file: what reading some of its rows needs of the footer.
//!
//! Kept in a cache, for to read it takes a lookup longer than to read the pages: the footer of a hundred columns, and then the places of
//! all their pages. Eight bytes a page, a third of what Parquet's own form takes, so that it holds that many more row groups.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::Fields;
use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheValue};
use meshlake_storage::{FileReader, SpanFile};
use object_store::path::Path;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::schema::types::SchemaDescriptor;

use super::footers;

/// The places of row groups by file and number, the least recently used go first.
pub(crate) struct PlacesCache {
    cache: DefaultCache<Path, Cached>,
}

#[derive(Clone)]
struct Cached(Arc<Places>);

impl CacheValue for Cached {
    fn size(&self) -> usize {
        self.0.bytes()
    }
}

impl PlacesCache {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        PlacesCache { cache: DefaultCache::new(limit) }
    }

    /// Those of one row group, read where they are not in the cache. Files never change, so their path is their identity.
    /// `footer` is the file's once it was read, for the next row group.
    pub(super) async fn get(
        &self,
        reader: &mut FileReader,
        file: &SpanFile,
        group: usize,
        footer: &mut Option<ParquetMetaData>,
    ) -> Result<Arc<Places>> {
        let key = Path::from(format!("{}/{group}", file.path));
        if let Some(Cached(places)) = self.cache.get(&key) {
            return Ok(places);
        }
        let footer = match footer {
            Some(footer) => footer,
            None => footer.insert(footers::read(reader, file.size, false).await?),
        };
        if group >= footer.num_row_groups() {
            return Err(ParquetError::General(format!("the file has no row group {group}")));
        }
        let footer = footers::with_pages(footers::of_row_group(footer, group), reader, false).await?;
        let places = Arc::new(Places::new(&footer, 0)?);
        self.cache.put(&key, Cached(places.clone()));
        Ok(places)
    }
}

/// The places of one row group.
pub(super) struct Places {
    /// The footer without row groups.
    pub(super) file: ParquetMetaData,
    pub(super) fields: Fields,
    pub(super) rows: usize,
    /// The leaves of each column.
    leaves: Vec<Range<usize>>,
    /// By leaf.
    pub(super) chunks: Vec<Chunk>,
    bytes: usize,
}

/// Where a column chunk stands in the file.
pub(super) struct Chunk {
    pub(super) compression: Compression,
    pub(super) bytes: Range<u64>,
    /// None where the file does not tell.
    pages: Box<[Page]>,
}

/// Where a page of values begins, counted from where its column chunk and its row group begin.
struct Page {
    byte: u32,
    row: u32,
}

impl Places {
    /// Those of a row group by a footer with the places of pages.
    pub(super) fn new(footer: &ArrowReaderMetadata, group: usize) -> Result<Places> {
        let metadata = footer.metadata();
        let index = metadata.offset_index().and_then(|index| index.get(group));
        let group = metadata.row_group(group);
        let mut chunks = Vec::with_capacity(group.num_columns());
        for (leaf, chunk) in group.columns().iter().enumerate() {
            let pages = index.and_then(|index| index.get(leaf)).map_or(&[][..], |index| index.page_locations());
            chunks.push(Chunk::new(chunk, pages)?);
        }
        let told = metadata.file_metadata();
        let bare = FileMetaData::new(told.version(), told.num_rows(), None, None, told.schema_descr_ptr(), None);
        let file = ParquetMetaDataBuilder::new(bare).build();
        let pages: usize = chunks.iter().map(|chunk| chunk.pages.len()).sum();
        // Fields say the same as the schema of Parquet.
        let bytes = 2 * file.memory_size() + size_of_val(chunks.as_slice()) + pages * size_of::<Page>();
        let fields = footer.schema().fields().clone();
        Ok(Places {
            leaves: leaves(file.file_metadata().schema_descr()),
            file,
            fields,
            rows: usize::try_from(group.num_rows())?,
            chunks,
            bytes,
        })
    }

    /// The leaves of a column by its position; none for one that the file does not have.
    pub(super) fn leaves(&self, column: usize) -> Range<usize> {
        self.leaves.get(column).cloned().unwrap_or_default()
    }

    /// How much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn schema(&self) -> &SchemaDescriptor {
        self.file.file_metadata().schema_descr()
    }
}

/// The leaves of each column of a schema.
fn leaves(schema: &SchemaDescriptor) -> Vec<Range<usize>> {
    let mut leaves: Vec<Range<usize>> = Vec::new();
    for leaf in 0..schema.num_columns() {
        match leaves.last_mut() {
            Some(last) if schema.get_column_root_idx(last.start) == schema.get_column_root_idx(leaf) => last.end = leaf + 1,
            _ => leaves.push(leaf..leaf + 1),
        }
    }
    leaves
}

impl Chunk {
    fn new(chunk: &ColumnChunkMetaData, pages: &[PageLocation]) -> Result<Chunk> {
        let (start, length) = chunk.byte_range();
        let page = |page: &PageLocation| {
            let byte = u32::try_from(page.offset - i64::try_from(start)?)?;
            Ok(Page { byte, row: u32::try_from(page.first_row_index)? })
        };
        let pages = pages.iter().map(page).collect::<Result<_>>()?;
        Ok(Chunk { compression: chunk.compression(), bytes: start..start + length, pages })
    }

    /// Where the dictionary stands; none if there is none, or if the file does not tell.
    pub(super) fn dictionary(&self) -> Option<Range<u64>> {
        let first = self.pages.first().filter(|first| first.byte > 0)?;
        Some(self.bytes.start..self.bytes.start + u64::from(first.byte))
    }

    /// How many pages of values there are; 0 where the file does not tell.
    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The pages that hold these rows, which are not empty.
    pub(super) fn pages_of(&self, rows: &Range<usize>) -> Range<usize> {
        let first = self.pages.partition_point(|page| page.row as usize <= rows.start).saturating_sub(1);
        first..self.pages.partition_point(|page| (page.row as usize) < rows.end)
    }

    /// Where pages next to each other stand in the file.
    pub(super) fn bytes_of(&self, pages: &Range<usize>) -> Range<u64> {
        let start = |page: usize| self.pages.get(page).map_or(self.bytes.end, |page| self.bytes.start + u64::from(page.byte));
        start(pages.start)..start(pages.end)
    }

    /// How many rows there are in pages next to each other, of a row group of so many.
    pub(super) fn rows_of(&self, pages: &Range<usize>, all: usize) -> usize {
        let start = |page: usize| self.pages.get(page).map_or(all, |page| page.row as usize);
        start(pages.end).saturating_sub(start(pages.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a dictionary and pages of 4, 6 and 2 rows. Guarantee: the pages of each range of rows are those that hold them, and
    /// stand where they stand.
    #[test]
    fn pages_by_rows() {
        let pages = [(30, 0), (50, 4), (75, 10)].map(|(byte, row)| Page { byte, row });
        let chunk = Chunk { compression: Compression::UNCOMPRESSED, bytes: 1000..1100, pages: Box::new(pages) };
        assert_eq!(chunk.dictionary(), Some(1000..1030));
        for rows in (0..12).flat_map(|start| (start + 1..=12).map(move |end| start..end)) {
            let of_row = |row: usize| [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2][row];
            assert_eq!(chunk.pages_of(&rows), of_row(rows.start)..of_row(rows.end - 1) + 1, "{rows:?}");
        }
        assert_eq!([0..1, 0..2, 1..3, 2..3].map(|pages| chunk.bytes_of(&pages)), [1030..1050, 1030..1075, 1050..1100, 1075..1100]);
        assert_eq!([0..1, 0..2, 1..3, 2..3].map(|pages| chunk.rows_of(&pages, 12)), [4, 10, 8, 2]);
    }
}
