//! A column of a row group, as it is filled.

use std::io::Write;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::{DataType, FieldRef};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::ColumnDescPtr;

use super::nulls;
use super::text::TextChunk;

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

/// A leaf of such a column.
pub(super) struct Leaf {
    pub column: ColumnDescPtr,
    pub compression: Compression,
    pub writer: ArrowColumnWriter,
}

impl Column {
    /// A column of no rows yet, with these leaves, as `properties` say.
    pub(super) fn new(field: &FieldRef, leaves: Vec<Leaf>, properties: &WriterProperties) -> Result<Column, ParquetError> {
        let has_statistics = |leaf: &Leaf| properties.statistics_enabled(leaf.column.path()) != EnabledStatistics::None;
        match (field.data_type(), leaves.first()) {
            (DataType::Dictionary(_, _), Some(leaf)) if !has_statistics(leaf) => {
                Ok(Column::Text(Box::new(TextChunk::new(leaf.column.clone(), properties)?)))
            }
            _ => Ok(Column::Other(Leaves { field: field.clone(), leaves, nulls: 0, is_null: true })),
        }
    }

    /// Appends rows.
    pub(crate) fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        match self {
            Column::Text(text) => text.write(rows),
            Column::Other(leaves) => leaves.write(rows),
        }
    }

    /// Bytes that the column takes so far, about.
    pub(super) fn size(&self) -> usize {
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
