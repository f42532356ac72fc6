//! Rows of `spans` as Parquet.
//!
//! Parquet's own writer encodes the columns, but for texts without statistics, which are most of a span: see [`text`].

mod hybrid;
mod nulls;
mod page;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use bytes::Bytes;
use object_store::buffered::BufWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};

pub(crate) use nulls::columns_with_values;
use text::TextChunk;

/// Encodes row groups.
pub(crate) struct Encoder {
    schema: SchemaRef,
    columns: ArrowRowGroupWriterFactory,
}

/// A column of a row group.
pub(crate) enum Column {
    Text(Box<TextChunk>),
    Other(Leaves),
}

/// A column of Parquet's own writer.
pub(crate) struct Leaves {
    field: FieldRef,
    writers: Vec<ArrowColumnWriter>,
    /// Whether no row has a value.
    is_null: bool,
}

impl Encoder {
    /// A file in `sink`, and what encodes its row groups.
    pub(crate) fn begin<W: Write + Send>(
        sink: W,
        schema: SchemaRef,
        layout: WriterProperties,
    ) -> Result<(SerializedFileWriter<W>, Encoder), ParquetError> {
        let (file, columns) = ArrowWriter::try_new(sink, schema.clone(), Some(layout))?.into_serialized_writer()?;
        Ok((file, Encoder { schema, columns }))
    }

    /// The columns of the next row group of `file`.
    pub(crate) fn columns<W: Write + Send>(&self, file: &SerializedFileWriter<W>) -> Result<Vec<Column>, ParquetError> {
        let (properties, leaves) = (file.properties(), file.schema_descr().columns());
        let mut writers = self.columns.create_column_writers(file.flushed_row_groups().len())?.into_iter();
        let mut leaf = 0;
        let column = |field: &FieldRef| {
            let own = leaf_count(field.data_type());
            let (first, writers) = (&leaves[leaf], writers.by_ref().take(own).collect());
            leaf += own;
            let is_text = matches!(field.data_type(), DataType::Dictionary(_, _));
            if is_text && properties.statistics_enabled(first.path()) == EnabledStatistics::None {
                Ok(Column::Text(Box::new(TextChunk::new(first.clone(), properties)?)))
            } else {
                Ok(Column::Other(Leaves { field: field.clone(), writers, is_null: true }))
            }
        };
        self.schema.fields().iter().map(column).collect()
    }
}

/// Leaves of a type.
fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaf_count(field.data_type())).sum(),
        DataType::List(field) | DataType::Map(field, _) => leaf_count(field.data_type()),
        _ => 1,
    }
}

impl Column {
    /// Appends rows.
    pub(crate) fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        match self {
            Column::Text(text) => text.write(rows),
            Column::Other(leaves) => leaves.write(rows),
        }
    }

    /// Bytes that the column takes so far, about.
    fn size(&self) -> usize {
        match self {
            Column::Text(text) => text.size(),
            Column::Other(leaves) => leaves.writers.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum(),
        }
    }

    /// Ends the column, and appends it to a row group.
    pub(crate) fn append_to<W: Write + Send>(self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ParquetError> {
        match self {
            Column::Text(text) => {
                let chunk = text.close()?;
                group.append_column(&chunk.bytes, chunk.close)
            }
            Column::Other(leaves) => leaves.append_to(group),
        }
    }
}

impl Leaves {
    fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        self.is_null &= rows.null_count() == rows.len();
        let leaves = compute_leaves(&self.field, rows)?;
        leaves.iter().zip(&mut self.writers).try_for_each(|(leaf, writer)| writer.write(leaf))
    }

    fn append_to<W: Write + Send>(self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ParquetError> {
        for writer in self.writers {
            let mut chunk = writer.close()?;
            let metadata = &mut chunk.close_mut().metadata;
            if self.is_null && metadata.statistics().is_none() {
                let nulls = nulls::statistics(metadata.column_type(), metadata.num_values() as u64);
                *metadata = metadata.clone().into_builder().set_statistics(nulls).build()?;
            }
            chunk.append_to_row_group(group)?;
        }
        Ok(())
    }
}

/// A file that is put into an object store as its row groups end.
pub(crate) struct FileWriter {
    encoder: Encoder,
    file: SerializedFileWriter<Vec<u8>>,
    store: BufWriter,
    group: Option<RowGroup>,
}

/// The row group that is being filled.
struct RowGroup {
    columns: Vec<Column>,
    rows: usize,
}

impl FileWriter {
    pub(crate) fn new(store: BufWriter, schema: SchemaRef, layout: WriterProperties) -> Result<FileWriter, ParquetError> {
        let (file, encoder) = Encoder::begin(Vec::new(), schema, layout)?;
        Ok(FileWriter { encoder, file, store, group: None })
    }

    /// Bytes of the file so far; those of the row group that is being filled are estimated.
    pub(crate) fn size(&self) -> usize {
        self.file.bytes_written() + self.group.as_ref().map_or(0, RowGroup::size)
    }

    /// Appends rows. A row group ends with its last row, and with the rows that bring it to its bytes.
    pub(crate) async fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        let properties = self.file.properties().clone();
        let rows_max = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let bytes_max = properties.max_row_group_bytes().unwrap_or(usize::MAX);
        let mut from = 0;
        while from < rows.num_rows() {
            let mut group = match self.group.take() {
                Some(group) => group,
                None => RowGroup { columns: self.encoder.columns(&self.file)?, rows: 0 },
            };
            let some = rows.slice(from, (rows.num_rows() - from).min(rows_max - group.rows));
            group.write(&some)?;
            from += some.num_rows();
            let ends = group.rows >= rows_max || group.size() >= bytes_max;
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
        self.put().await
    }

    /// Puts what was encoded.
    async fn put(&mut self) -> Result<(), ParquetError> {
        self.file.flush()?;
        let bytes = std::mem::take(self.file.inner_mut());
        AsyncFileWriter::write(&mut self.store, Bytes::from(bytes)).await
    }

    /// Ends the file: when this returns, it is in the object store. Gives its bytes.
    pub(crate) async fn finish(&mut self) -> Result<u64, ParquetError> {
        self.end_group().await?;
        self.file.finish()?;
        self.put().await?;
        self.store.complete().await?;
        Ok(self.file.bytes_written() as u64)
    }

    /// What the file is put with, to be given up.
    pub(crate) fn into_store(self) -> BufWriter {
        self.store
    }
}

impl RowGroup {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), ParquetError> {
        self.rows += rows.num_rows();
        self.columns.iter_mut().zip(rows.columns()).try_for_each(|(column, rows)| column.write(rows))
    }

    fn size(&self) -> usize {
        self.columns.iter().map(Column::size).sum()
    }
}
