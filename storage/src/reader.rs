//! Reads ranges of one Parquet file in the object store.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

/// One file.
pub struct FileReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
    footer: Option<Arc<ParquetMetaData>>,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "FileReader({})", self.path)
    }
}

impl FileReader {
    /// A file of so many bytes, whose footer is read when it is asked for.
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, size: u64) -> FileReader {
        FileReader { store, path, size, footer: None }
    }
}

fn failed(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// Ranges come from the footer, which may be damaged. Who reads what is not there is told so here, for from the object store it would
/// be a failure like any other.
fn within(size: u64, range: &Range<u64>) -> Result<()> {
    if range.start < range.end && range.end <= size {
        return Ok(());
    }
    Err(ParquetError::EOF(format!("no bytes {} to {} in a file of {size}", range.start, range.end)))
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move {
            within(self.size, &range)?;
            self.store.get_range(&self.path, range).await.map_err(failed)
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            ranges.iter().try_for_each(|range| within(self.size, range))?;
            self.store.get_ranges(&self.path, &ranges).await.map_err(failed)
        }
        .boxed()
    }

    fn get_metadata<'a>(&'a mut self, _options: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            if let Some(footer) = &self.footer {
                return Ok(footer.clone());
            }
            let size = self.size;
            let footer = Arc::new(ParquetMetaDataReader::new().load_and_finish(&mut *self, size).await?);
            self.footer = Some(footer.clone());
            Ok(footer)
        }
        .boxed()
    }
}
