//! Rows of `spans` as Parquet.
//!
//! Parquet's own writer encodes the columns, but for texts without statistics, which are most of a span (see [`text`]), and for
//! columns without a value, which are half (see [`nulls`]).

mod chunk;
mod hybrid;
mod nulls;
mod page;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use bytes::Bytes;
use object_store::buffered::BufWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnDescPtr;

pub use nulls::columns_with_values;
use text::TextChunk;

/// Rows of a row group after which its size is looked at first.
const FIRST_ROWS: usize = 1_024;

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

/// A column of Parquet's own writer. It gets nothing as long as no row has a value.
pub(crate) struct Leaves {
    field: FieldRef,
    leaves: Vec<Leaf>,
    /// Rows before the first that has a value.
    nulls: usize,
    is_null: bool,
}

struct Leaf {
    column: ColumnDescPtr,
    compression: Compression,
    writer: ArrowColumnWriter,
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
        let mut leaves = leaves.iter();
        let column = |field: &FieldRef| {
            let leaf = |(column, writer): (&ColumnDescPtr, ArrowColumnWriter)| Leaf {
                column: column.clone(),
                compression: properties.compression(column.path()),
                writer,
            };
            let leaves: Vec<Leaf> = leaves.by_ref().zip(writers.by_ref()).take(leaf_count(field.data_type())).map(leaf).collect();
            let has_statistics = |leaf: &Leaf| properties.statistics_enabled(leaf.column.path()) != EnabledStatistics::None;
            match (field.data_type(), leaves.first()) {
                (DataType::Dictionary(_, _), Some(leaf)) if !has_statistics(leaf) => {
                    Ok(Column::Text(Box::new(TextChunk::new(leaf.column.clone(), properties)?)))
                }
                _ => Ok(Column::Other(Leaves { field: field.clone(), leaves, nulls: 0, is_null: true })),
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
            Column::Other(leaves) => leaves.leaves.iter().map(|leaf| leaf.writer.get_estimated_total_bytes()).sum(),
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
        if self.is_null && rows.null_count() == rows.len() {
            self.nulls += rows.len();
            return Ok(());
        }
        if self.is_null && self.nulls > 0 {
            self.encode(&new_null_array(self.field.data_type(), self.nulls))?;
        }
        self.is_null = false;
        self.encode(rows)
    }

    fn encode(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        let columns = compute_leaves(&self.field, rows)?;
        columns.iter().zip(&mut self.leaves).try_for_each(|(column, leaf)| leaf.writer.write(column))
    }

    fn append_to<W: Write + Send>(self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ParquetError> {
        for leaf in self.leaves {
            if self.is_null {
                let chunk = nulls::chunk(leaf.column, leaf.compression, self.nulls)?;
                group.append_column(&chunk.bytes, chunk.close)?;
            } else {
                leaf.writer.close()?.append_to_row_group(group)?;
            }
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
