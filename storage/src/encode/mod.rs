//! Rows of `spans` as Parquet.
//!
//! Texts without statistics are encoded here (see [`text`]), as are numbers, times and ids (see [`number`]): together most of a
//! span. So are columns without a value, which are half (see [`nulls`]). The rest is left to Parquet's own writer.

mod bounds;
mod chunk;
mod column;
mod delta;
mod file;
mod fixed;
mod hybrid;
mod nulls;
mod number;
mod page;
mod pages;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnDescPtr;

use column::{Column, Leaf};
pub(crate) use file::FileWriter;
pub use nulls::columns_with_values;
pub(crate) use text::Texts;

/// Encodes row groups.
pub(crate) struct Encoder {
    schema: SchemaRef,
    columns: ArrowRowGroupWriterFactory,
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
            let leaves = leaves.by_ref().zip(writers.by_ref()).take(leaf_count(field.data_type())).map(leaf).collect();
            Column::new(field, leaves, properties)
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
