//! A column of a row group, as it is filled.

use std::io::Write;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::ColumnDescPtr;

use super::chunk::Chunk;
use super::nulls;
use super::number::{self, NumberChunk};
use super::text::{TextChunk, Texts};

/// A column of a row group.
pub(crate) enum Column {
    Own(Box<dyn ColumnChunk>),
    Other(Leaves),
}

/// A column that is encoded here.
pub(crate) trait ColumnChunk: Send {
    /// Appends rows.
    ///
    /// # Errors
    /// Rows of another type than the column's: a defect of this crate.
    fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError>;

    /// Appends rows of a text column.
    ///
    /// # Errors
    /// As [`ColumnChunk::write`].
    fn write_texts(&mut self, rows: Texts) -> Result<(), ParquetError> {
        self.write(&rows.array()?)
    }

    /// Bytes that the chunk takes so far, about.
    fn size(&self) -> usize;

    /// Ends the chunk.
    fn close(self: Box<Self>) -> Result<Chunk, ParquetError>;
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
        let own = leaves.first().map(|leaf| own(field.data_type(), &leaf.column, properties)).transpose()?.flatten();
        let other = || Column::Other(Leaves { field: field.clone(), leaves, nulls: 0, is_null: true });
        Ok(own.map_or_else(other, Column::Own))
    }

    /// Appends rows.
    pub(crate) fn write(&mut self, rows: &ArrayRef) -> Result<(), ParquetError> {
        match self {
            Column::Own(chunk) => chunk.write(rows),
            Column::Other(leaves) => leaves.write(rows),
        }
    }

    /// Appends rows of a text column.
    pub(crate) fn write_texts(&mut self, rows: Texts) -> Result<(), ParquetError> {
        match self {
            Column::Own(chunk) => chunk.write_texts(rows),
            Column::Other(leaves) => leaves.write(&rows.array()?),
        }
    }

    /// Bytes that the column takes so far, about.
    pub(super) fn size(&self) -> usize {
        match self {
            Column::Own(chunk) => chunk.size(),
            Column::Other(leaves) => leaves.leaves.iter().map(|leaf| leaf.writer.get_estimated_total_bytes()).sum(),
        }
    }

    /// Ends the column, and appends it to a row group.
    pub(crate) fn append_to<W: Write + Send>(self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<(), ParquetError> {
        match self {
            Column::Own(chunk) => {
                let chunk = chunk.close()?;
                group.append_column(&chunk.bytes, chunk.close)
            }
            Column::Other(leaves) => leaves.append_to(group),
        }
    }
}

/// The chunk of a column of that type, if it is one that is encoded here. A leaf of what has several is none.
fn own(
    data_type: &DataType,
    leaf: &ColumnDescPtr,
    properties: &WriterProperties,
) -> Result<Option<Box<dyn ColumnChunk>>, ParquetError> {
    let has_statistics = properties.statistics_enabled(leaf.path()) != EnabledStatistics::None;
    let is_plain = number::is_known(leaf, properties);
    let leaf = leaf.clone();
    Ok(Some(match data_type {
        DataType::Dictionary(_, _) if !has_statistics => Box::new(TextChunk::new(leaf, properties)?),
        DataType::Int16 | DataType::Int32 if is_plain => Box::new(NumberChunk::<i32>::new(leaf, properties)?),
        DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _) if is_plain => {
            Box::new(NumberChunk::<i64>::new(leaf, properties)?)
        }
        DataType::FixedSizeBinary(8) if is_plain => Box::new(NumberChunk::<[u8; 8]>::new(leaf, properties)?),
        DataType::FixedSizeBinary(16) if is_plain => Box::new(NumberChunk::<[u8; 16]>::new(leaf, properties)?),
        _ => return Ok(None),
    }))
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
