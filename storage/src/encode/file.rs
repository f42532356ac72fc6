//! A file that is put into an object store as its row groups end.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::Encoder;
use super::column::Column;

/// Rows of a row group after which its size is looked at first.
const FIRST_ROWS: usize = 1_024;

/// One file.
pub(crate) struct FileWriter {
    encoder: Encoder,
    file: SerializedFileWriter<Vec<u8>>,
    store: BufWriter,
    part: usize,
    group: Option<RowGroup>,
}

/// The row group that is being filled.
struct RowGroup {
    columns: Vec<Column>,
    rows: usize,
}

impl FileWriter {
    /// A file at `path`, of which `part` bytes are put at once.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        part: usize,
        schema: SchemaRef,
        layout: WriterProperties,
    ) -> Result<FileWriter, ParquetError> {
        let (file, encoder) = Encoder::begin(Vec::new(), schema, layout)?;
        let store = BufWriter::with_capacity(store, path, part).with_max_concurrency(1);
        Ok(FileWriter { encoder, file, store, part, group: None })
    }

    /// Bytes of the file so far; those of the row group that is being filled are estimated.
    pub(crate) fn size(&self) -> usize {
        self.file.bytes_written() + self.group.as_ref().map_or(0, RowGroup::size)
    }

    /// Appends rows. A row group ends with its last row, and near its bytes.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        let properties = self.file.properties().clone();
        let most = Most {
            rows: properties.max_row_group_row_count().unwrap_or(usize::MAX),
            bytes: properties.max_row_group_bytes().unwrap_or(usize::MAX),
        };
        let mut from = 0;
        while from < rows.num_rows() {
            let mut group = match self.group.take() {
                Some(group) => group,
                None => RowGroup { columns: self.encoder.columns(&self.file)?, rows: 0 },
            };
            let some = rows.slice(from, (rows.num_rows() - from).min(group.room(&most)));
            group.write(&some)?;
            from += some.num_rows();
            let ends = group.rows >= most.rows || group.size() >= most.bytes;
            self.group = Some(group);
            if ends {
                self.end_group().await?;
            }
        }
        Ok(())
    }

    async fn end_group(&mut self) -> Result<(), ParquetError> {
        let Some(group) = self.group.take() else { return Ok(()) };
        self.file.inner_mut().reserve(group.size());
        let mut writer = self.file.next_row_group()?;
        group.columns.into_iter().try_for_each(|column| column.append_to(&mut writer))?;
        writer.close()?;
        self.put(self.part).await
    }

    /// Puts what was encoded, as far as it is a multiple of `unit`. It is not copied: a rest that fills no part would hold all of it
    /// in memory until the part is full, so that stays here.
    async fn put(&mut self, unit: usize) -> Result<(), ParquetError> {
        self.file.flush()?;
        let encoded = self.file.inner_mut();
        let count = encoded.len() / unit * unit;
        if count > 0 {
            let rest = encoded.split_off(count);
            self.store.put(Bytes::from(std::mem::replace(encoded, rest))).await?;
        }
        Ok(())
    }

    /// Ends the file: when this returns, it is in the object store. Gives its bytes.
    pub(crate) async fn finish(&mut self) -> Result<u64, ParquetError> {
        self.end_group().await?;
        self.file.finish()?;
        self.put(1).await?;
        self.store.complete().await?;
        Ok(self.file.bytes_written() as u64)
    }

    /// What the file is put with, to be given up.
    pub(crate) fn into_store(self) -> BufWriter {
        self.store
    }
}

/// What a row group has at most.
struct Most {
    rows: usize,
    bytes: usize,
}

impl RowGroup {
    /// Rows that may be written before its size is looked at again: of such as it has, as many as it has room for.
    fn room(&self, most: &Most) -> usize {
        let bytes = most.bytes.saturating_sub(self.size());
        let by_bytes = bytes.saturating_mul(self.rows) / self.size().max(1);
        (most.rows - self.rows).min(by_bytes.max(FIRST_ROWS))
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.rows += rows.num_rows();
        self.columns.iter_mut().zip(rows.columns()).try_for_each(|(column, rows)| column.write(rows))
    }

    fn size(&self) -> usize {
        self.columns.iter().map(Column::size).sum()
    }
}
