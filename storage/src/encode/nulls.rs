//! Columns without a value: half of those of a span, which nobody needs to write or read.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

use super::chunk::{Chunk, Laid};
use super::hybrid;

/// The chunk of a leaf of a column of which no row has a value: one page, in which all levels are 0.
pub(super) fn chunk(column: ColumnDescPtr, compression: Compression, rows: usize) -> Result<Chunk, ParquetError> {
    let mut levels = Vec::new();
    // One byte holds the level: none is above 255.
    let mut level = |max: i16| {
        let before = levels.len();
        if max > 0 {
            hybrid::repeat(0, rows, 1, &mut levels);
        }
        (levels.len() - before) as u32
    };
    let (repetition, definition) = (level(column.max_rep_level()), level(column.max_def_level()));
    let size = levels.len();
    let page = Page::DataPageV2 {
        buf: Bytes::from(levels),
        num_values: rows as u32,
        encoding: Encoding::PLAIN,
        num_nulls: rows as u32,
        num_rows: rows as u32,
        def_levels_byte_len: definition,
        rep_levels_byte_len: repetition,
        is_compressed: false,
        statistics: None,
    };
    let mut laid = Laid::new(size);
    laid.put(CompressedPage::new(page, size))?;
    laid.finish(column, compression, None)
}

/// For each column of a file of this crate whether a row may have a value: not if each row group says of each leaf that all its
/// values are null. (Elsewhere that could be lists without items too; here it is said of columns without a value only.)
pub fn columns_with_values(footer: &ParquetMetaData) -> Vec<bool> {
    let schema = footer.file_metadata().schema_descr();
    let mut valued = vec![false; schema.root_schema().get_fields().len()];
    for group in footer.row_groups() {
        for (leaf, column) in group.columns().iter().enumerate() {
            let nulls = column.statistics().and_then(Statistics::null_count_opt);
            valued[schema.get_column_root_idx(leaf)] |= nulls != Some(column.num_values() as u64);
        }
    }
    valued
}
