//! The parts of a file's footer that a lookup needs.
//!
//! The whole of it, with the places of all pages of a hundred columns, is several megabytes of a large file: more than is kept for every
//! file, and slow to read for one trace. So the places of pages are read for one row group at a time.

use std::sync::Arc;

use meshlake_storage::FileReader;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::Result;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataOptions, ParquetMetaDataReader,
    ParquetStatisticsPolicy,
};

/// Bytes at the end of a file that are read first: the footer of most files, without the places of pages.
const FOOTER_BYTES: usize = 192 << 10;

/// The footer of a file of `size` bytes without what it says of single pages, and without statistics unless `statistics`.
pub(crate) async fn read(file: &mut FileReader, size: u64, statistics: bool) -> Result<ParquetMetaData> {
    let of_columns = if statistics { ParquetStatisticsPolicy::KeepAll } else { ParquetStatisticsPolicy::SkipAll };
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(of_columns)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Skip)
        .with_metadata_options(Some(options))
        .with_prefetch_hint(Some(FOOTER_BYTES))
        .load_and_finish(file, size)
        .await
}

/// The same with the places of the pages of the columns that it has, and with their bounds if `bounds`.
pub(super) async fn with_pages(footer: ParquetMetaData, file: &mut FileReader, bounds: bool) -> Result<ArrowReaderMetadata> {
    let mut reader = ParquetMetaDataReader::new_with_metadata(footer)
        .with_offset_index_policy(PageIndexPolicy::Optional)
        .with_column_index_policy(if bounds { PageIndexPolicy::Optional } else { PageIndexPolicy::Skip });
    reader.load_page_index(file).await?;
    ArrowReaderMetadata::try_new(Arc::new(reader.finish()?), ArrowReaderOptions::new())
}

/// The footer as if the file had one row group alone.
pub(super) fn of_row_group(footer: &ParquetMetaData, group: usize) -> ParquetMetaData {
    let group = footer.row_group(group).clone();
    ParquetMetaDataBuilder::new(footer.file_metadata().clone()).set_row_groups(vec![group]).build()
}
