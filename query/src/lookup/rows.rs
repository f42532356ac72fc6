//! Reads some rows of a row group, at the cost of the pages that they are in.
//!
//! Parquet's own reader takes a hundred columns each as if all of it were read: it copies the places of all pages, reads each range of bytes
//! by itself, and makes an array of each column. Here the ranges of all columns are read together, and a column in which no selected page
//! has a value, as in most, is known by its first pages and not read at all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use meshlake_storage::FileReader;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups, RowSelection};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::BATCH_ROWS;
use super::pages::{Chunks, Pages};
use super::places::Places;

/// Bytes between two ranges that are read with them: to read them takes no longer than another call.
const GAP_BYTES: u64 = 8 << 10;
/// Rows between two selected ones up to which Parquet reads them, too, if there are so few on average: twice what it says.
const NEAR_ROWS: usize = 64;

/// The selected rows of a row group, in batches.
pub(super) struct Rows {
    schema: SchemaRef,
    /// Positions of the columns that are read.
    read: Vec<usize>,
    /// Rows to come. The reader would make empty arrays to say that there are none.
    left: usize,
    reader: ParquetRecordBatchReader,
}

impl Rows {
    /// Reads what the selected rows, of which there are some, take of these columns: positions in the file, ascending.
    pub(super) async fn read(reader: &mut FileReader, places: Arc<Places>, rows: &RowSelection, columns: &[usize]) -> Result<Rows> {
        if let Some(column) = columns.iter().find(|column| **column >= places.fields.len()) {
            return Err(ParquetError::General(format!("the file has no column {column}")));
        }
        let runs = runs(rows);
        let leaves = columns.iter().flat_map(|column| places.leaves(*column));
        let pages = pages_of(&places, leaves, &runs);
        let bytes = read_ranges(reader, joined(ranges(&places, &pages))).await?;
        let group = Group { chunks: Chunks::new(places, bytes)?, pages, begun: RefCell::default() };
        let selection = RowSelection::from_consecutive_ranges(runs.into_iter(), group.num_rows());
        Rows::of_group(&group, selection, columns)
    }

    fn of_group(group: &Group, selection: RowSelection, columns: &[usize]) -> Result<Rows> {
        let places = group.chunks.places();
        let mut read = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            // One column is read in any case: it tells how many rows there are.
            if at == 0 || !group.is_null(*column)? {
                read.push(*column);
            }
        }
        // By position, for names of promoted attributes have dots, which names of columns are taken apart at.
        let mask = ProjectionMask::roots(places.schema(), read.iter().copied());
        let levels = parquet_to_arrow_field_levels(places.schema(), mask, Some(&places.fields))?;
        // Each column makes room for as many rows.
        let left = selection.row_count();
        let reader = ParquetRecordBatchReader::try_new_with_row_groups(&levels, group, left.min(BATCH_ROWS), Some(selection))?;
        let fields: Vec<_> = columns.iter().filter_map(|column| places.fields.get(*column).cloned()).collect();
        Ok(Rows { schema: Arc::new(Schema::new(fields)), read: positions(columns, &read), left, reader })
    }

    /// The columns of a batch as they were asked for.
    fn filled(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut empty: Vec<(&DataType, ArrayRef)> = Vec::new();
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (at, field) in self.schema.fields().iter().enumerate() {
            if let Ok(place) = self.read.binary_search(&at) {
                columns.push(batch.column(place).clone());
                continue;
            }
            // Columns of one type share an array: there are many.
            let known = empty.iter().find(|(of, _)| *of == field.data_type()).map(|(_, array)| array.clone());
            columns.push(known.unwrap_or_else(|| {
                let array = new_null_array(field.data_type(), rows);
                empty.push((field.data_type(), array.clone()));
                array
            }));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = self.reader.next()?;
        self.left = batch.as_ref().map_or(0, |batch| self.left.saturating_sub(batch.num_rows()));
        Some(batch.map_err(ParquetError::from).and_then(|batch| self.filled(&batch)))
    }
}

/// The selected rows as ranges, in order, no two of which touch.
fn runs(rows: &RowSelection) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut row = 0;
    for selector in rows.iter() {
        let end = row + selector.row_count;
        match runs.last_mut() {
            _ if selector.skip || selector.row_count == 0 => {}
            Some(last) if last.end == row => last.end = end,
            _ => runs.push(row..end),
        }
        row = end;
    }
    runs
}

/// The pages of each leaf that hold the rows, as ranges in order; if rows lie so close that Parquet decodes those between them as well,
/// all from the first to the last.
fn pages_of(places: &Places, leaves: impl Iterator<Item = usize>, runs: &[Range<usize>]) -> HashMap<usize, Vec<Range<usize>>> {
    let all = runs.first().zip(runs.last()).map(|(first, last)| first.start..last.end);
    let near = places.rows < (2 * runs.len() + 1).saturating_mul(NEAR_ROWS);
    let runs = if near { all.as_slice() } else { runs };
    let of_leaf = |leaf: usize| {
        let mut pages: Vec<Range<usize>> = Vec::new();
        for rows in runs {
            let of_rows = places.chunks[leaf].pages_of(rows);
            match pages.last_mut() {
                Some(last) if of_rows.start <= last.end => last.end = of_rows.end,
                _ => pages.push(of_rows),
            }
        }
        (leaf, pages)
    };
    leaves.map(of_leaf).collect()
}

/// What is read of the file for these pages: dictionaries, too, and the whole of chunks whose pages nobody tells of.
fn ranges(places: &Places, pages: &HashMap<usize, Vec<Range<usize>>>) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    for (leaf, pages) in pages {
        let chunk = &places.chunks[*leaf];
        if chunk.pages() == 0 {
            ranges.push(chunk.bytes.clone());
        } else {
            ranges.extend(chunk.dictionary());
            ranges.extend(pages.iter().map(|pages| chunk.bytes_of(pages)));
        }
    }
    ranges.sort_unstable_by_key(|range| range.start);
    ranges
}

/// Reads ranges, with where each begins.
async fn read_ranges(reader: &mut FileReader, ranges: Vec<Range<u64>>) -> Result<Vec<(u64, Bytes)>> {
    let starts: Vec<u64> = ranges.iter().map(|range| range.start).collect();
    Ok(starts.into_iter().zip(reader.get_byte_ranges(ranges).await?).collect())
}

/// Ranges in order, those that lie close together as one.
fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP_BYTES => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Where these stand among all, which are ascending.
fn positions(all: &[usize], some: &[usize]) -> Vec<usize> {
    some.iter().filter_map(|column| all.binary_search(column).ok()).collect()
}

/// A row group of which some pages were read.
struct Group {
    chunks: Chunks,
    /// The pages of each leaf that were read.
    pages: HashMap<usize, Vec<Range<usize>>>,
    /// Leaves that were looked into.
    begun: RefCell<HashMap<usize, Pages>>,
}

impl Group {
    /// Whether no row in the selected pages has a value in this column.
    fn is_null(&self, column: usize) -> Result<bool> {
        let places = self.chunks.places();
        let is_nullable = places.fields.get(column).is_some_and(|field| field.is_nullable());
        // All leaves tell alike whether the column itself is null.
        let Some(leaf) = places.leaves(column).next() else { return Ok(false) };
        if !is_nullable || places.chunks[leaf].pages() == 0 {
            return Ok(false);
        }
        let mut pages = self.open(leaf)?;
        let is_null = pages.are_null()?;
        if !is_null {
            self.begun.borrow_mut().insert(leaf, pages);
        }
        Ok(is_null)
    }

    fn open(&self, leaf: usize) -> Result<Pages> {
        self.chunks.open(leaf, self.pages.get(&leaf).map_or(&[], Vec::as_slice))
    }
}

impl RowGroups for Group {
    fn num_rows(&self) -> usize {
        self.chunks.places().rows
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let begun = self.begun.borrow_mut().remove(&leaf);
        let pages: Box<dyn PageReader> = match begun {
            Some(pages) => Box::new(pages),
            None if self.chunks.places().chunks[leaf].pages() == 0 => Box::new(self.chunks.whole(leaf)?),
            None => Box::new(self.open(leaf)?),
        };
        Ok(Box::new(OneChunk(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata().row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.chunks.places().file
    }
}

/// The column chunk of one row group.
struct OneChunk(Option<Box<dyn PageReader>>);

impl Iterator for OneChunk {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for OneChunk {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::places::PlacesCache;
    use crate::testing::{Chance, batch, random_rows};
    use arrow::array::BooleanArray;
    use meshlake_storage::SpanFile;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};

    /// Rows of a row group, in many pages.
    const GROUP_ROWS: usize = 800;

    /// Files as a lake has them, with pages of few rows; with other pages; and without the places of pages.
    fn layouts() -> Vec<WriterPropertiesBuilder> {
        let of_groups = || WriterProperties::builder().set_max_row_group_row_count(Some(GROUP_ROWS));
        let small = || of_groups().set_data_page_row_count_limit(8).set_write_batch_size(4);
        let lake = || small().set_writer_version(WriterVersion::PARQUET_2_0);
        vec![
            lake().set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap())),
            lake().set_compression(Compression::LZ4_RAW),
            lake().set_dictionary_enabled(false),
            small().set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap())),
            lake().set_statistics_enabled(EnabledStatistics::None).set_offset_index_disabled(true),
        ]
    }

    /// Some of so many rows, in runs and gaps that are at most so long.
    fn some(chance: &mut Chance, rows: usize, (longest_run, longest_gap): (u64, u64)) -> RowSelection {
        let (mut mask, mut selected) = (Vec::new(), chance.below(2) == 0);
        while mask.len() < rows {
            let longest = if selected { longest_run } else { longest_gap };
            mask.extend(std::iter::repeat_n(selected, 1 + chance.below(longest) as usize));
            selected = !selected;
        }
        mask.truncate(rows);
        mask[rows / 2] = true;
        RowSelection::from_filters(&[BooleanArray::from(mask)])
    }

    fn expected(file: &Bytes, group: usize, rows: RowSelection, columns: &[usize]) -> RecordBatch {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
        let builder = builder.with_projection(mask).with_row_groups(vec![group]).with_row_selection(rows);
        builder.with_batch_size(BATCH_ROWS).build().unwrap().next().unwrap().unwrap()
    }

    /// Scenario: files of several layouts and row groups, and rows of them in long and short runs, close together and with many pages
    /// between. Guarantee: the rows are those that Parquet's own reader finds; columns without a value are not read where pages tell
    /// of it.
    #[tokio::test]
    async fn rows_are_what_parquet_reads() {
        let mut chance = Chance(7);
        let spans = batch(&random_rows(&mut chance, "a", 600)).slice(0, 2 * GROUP_ROWS + 100);
        let all: Vec<usize> = (0..spans.num_columns()).collect();
        let asked = [
            ((1, 1), &all[..]),
            ((3, 3), &all),
            ((40, 40), &all),
            ((2, 120), &all),
            ((60, 300), &all),
            ((1000, 1), &all),
            ((1, 60), &all[1..4]),
            ((1, 1), &all[60..]),
        ];
        for (layout, properties) in layouts().into_iter().enumerate() {
            let mut writer = ArrowWriter::try_new(Vec::new(), spans.schema(), Some(properties.build())).unwrap();
            writer.write(&spans).unwrap();
            let bytes = Bytes::from(writer.into_inner().unwrap());
            let (store, path) = (Arc::new(InMemory::new()), Path::from("a.parquet"));
            store.put(&path, bytes.clone().into()).await.unwrap();
            let file = SpanFile { path: path.to_string(), size: bytes.len() as u64, ..SpanFile::default() };
            let mut reader = FileReader::new(store as Arc<dyn ObjectStore>, path, file.size);
            let cache = PlacesCache::new(8 << 20);
            for (group, rows) in [GROUP_ROWS, GROUP_ROWS, 100].into_iter().enumerate() {
                for (longest, columns) in asked {
                    let rows = some(&mut chance, rows, longest);
                    let places = cache.get(&mut reader, &file, group, &mut None).await.unwrap();
                    let mut found = Rows::read(&mut reader, places, &rows, columns).await.unwrap();
                    let whole = found.next().unwrap().unwrap();
                    assert_eq!(whole.columns(), expected(&bytes, group, rows, columns).columns(), "{layout} {group} {longest:?}");
                    assert!(found.next().is_none());
                    assert!(layout > 2 || columns.len() < 4 || found.read.len() < columns.len(), "{layout}");
                }
            }
            assert!(cache.get(&mut reader, &file, 3, &mut None).await.is_err());
        }
    }

    /// Scenario: ranges that touch, lie close, and lie apart. Guarantee: only the last is read by itself.
    #[test]
    fn close_ranges_are_one() {
        let apart = 10 + GAP_BYTES;
        let ranges = vec![0..4, 4..6, 8..10, apart..apart + 5, 3 * apart..4 * apart];
        assert_eq!(joined(ranges), [0..apart + 5, 3 * apart..4 * apart]);
    }
}
