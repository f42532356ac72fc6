//! SQL answers as JSON, CSV or an Arrow IPC stream.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::EncoderOptions;
use arrow::json::writer::{NullableEncoder, make_encoder};
use serde_json::json;

use crate::timestamps::Timestamps;

/// A content type of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `{"columns":[{"name","type"}],"rows":[[…]]}`
    Json,
    /// RFC 4180, with a header line. Nested values are JSON, null is empty.
    Csv,
    /// The Arrow IPC stream format, without compression.
    Arrow,
}

impl Format {
    /// The media types, best first.
    pub(crate) const OFFERS: [&str; 3] = ["application/json", "text/csv", "application/vnd.apache.arrow.stream"];

    /// The format of one of the [`Format::OFFERS`].
    pub(crate) fn of(media_type: &str) -> Format {
        match media_type {
            "text/csv" => Format::Csv,
            "application/vnd.apache.arrow.stream" => Format::Arrow,
            _ => Format::Json,
        }
    }

    /// The value of `content-type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Turns an answer into pieces of one document: [`Rows::begin`], [`Rows::write`] for each batch, [`Rows::finish`].
pub(crate) struct Rows {
    writer: Writer,
    schema: SchemaRef,
}

enum Writer {
    Json { rows_before: bool },
    Csv,
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Rows {
    /// An answer of these columns.
    pub(crate) fn new(format: Format, schema: SchemaRef) -> Result<Rows, ArrowError> {
        let writer = match format {
            Format::Json => Writer::Json { rows_before: false },
            Format::Csv => Writer::Csv,
            Format::Arrow => Writer::Arrow(Box::new(StreamWriter::try_new(Vec::new(), &schema)?)),
        };
        Ok(Rows { writer, schema })
    }

    /// What comes before the rows: the columns.
    pub(crate) fn begin(&mut self) -> Result<Vec<u8>, ArrowError> {
        match &mut self.writer {
            Writer::Json { .. } => {
                let columns =
                    self.schema.fields().iter().map(|field| json!({"name": field.name(), "type": type_name(field.data_type())}));
                Ok(format!("{{\"columns\":{},\"rows\":[", serde_json::Value::from_iter(columns)).into_bytes())
            }
            Writer::Csv => csv(&RecordBatch::new_empty(self.schema.clone()), true),
            Writer::Arrow(writer) => Ok(std::mem::take(writer.get_mut())),
        }
    }

    /// Some rows.
    ///
    /// # Errors
    /// A column has a type that the format has no form for.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        match &mut self.writer {
            Writer::Json { rows_before } => {
                let out = json_rows(batch, *rows_before)?;
                *rows_before |= batch.num_rows() > 0;
                Ok(out)
            }
            Writer::Csv => csv(batch, false),
            Writer::Arrow(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }

    /// What comes after the rows.
    pub(crate) fn finish(self) -> Result<Vec<u8>, ArrowError> {
        match self.writer {
            Writer::Json { .. } => Ok(b"]}".to_vec()),
            Writer::Csv => Ok(Vec::new()),
            Writer::Arrow(mut writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }
}

/// The rows of a batch, each a JSON array, with commas between them and, after earlier rows, before them.
fn json_rows(batch: &RecordBatch, rows_before: bool) -> Result<Vec<u8>, ArrowError> {
    let columns = plain_columns(batch)?;
    let options = encoder_options();
    let mut encoders = columns.iter().map(|(field, array)| make_encoder(field, array, &options)).collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::new();
    for row in 0..batch.num_rows() {
        if rows_before || row > 0 {
            out.push(b',');
        }
        out.push(b'[');
        for (at, encoder) in encoders.iter_mut().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            json_value(encoder, row, &mut out);
        }
        out.push(b']');
    }
    Ok(out)
}

fn json_value(encoder: &mut NullableEncoder<'_>, row: usize, out: &mut Vec<u8>) {
    if encoder.is_null(row) {
        out.extend_from_slice(b"null");
    } else {
        encoder.encode(row, out);
    }
}

fn encoder_options() -> EncoderOptions {
    EncoderOptions::default().with_encoder_factory(Arc::new(Timestamps))
}

/// The columns with dictionaries unpacked: a value that is null inside a dictionary would be written as text.
fn plain_columns(batch: &RecordBatch) -> Result<Vec<(FieldRef, ArrayRef)>, ArrowError> {
    let plain = |(field, array): (&FieldRef, &ArrayRef)| match array.data_type() {
        DataType::Dictionary(_, values) => {
            let field = Field::new(field.name(), values.as_ref().clone(), true);
            Ok((Arc::new(field), cast(array, values)?))
        }
        _ => Ok((field.clone(), array.clone())),
    };
    batch.schema_ref().fields().iter().zip(batch.columns()).map(plain).collect()
}

/// The rows of a batch as lines, or its header line.
fn csv(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, ArrowError> {
    let (fields, columns): (Vec<_>, Vec<_>) =
        plain_columns(batch)?.into_iter().map(text_cells).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let batch = RecordBatch::try_new_with_options(
        Arc::new(Schema::new(fields)),
        columns,
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )?;
    let mut writer = arrow::csv::WriterBuilder::new().with_header(header).build(Vec::new());
    writer.write(&batch)?;
    Ok(writer.into_inner())
}

/// A column that the CSV writer writes as we promise: times and nested values become the text that JSON has for them.
fn text_cells((field, array): (FieldRef, ArrayRef)) -> Result<(FieldRef, ArrayRef), ArrowError> {
    let is_time = matches!(array.data_type(), DataType::Timestamp(..));
    if !is_time && !array.data_type().is_nested() {
        return Ok((field, array));
    }
    let options = encoder_options();
    let mut encoder = make_encoder(&field, &array, &options)?;
    let mut cells = StringBuilder::new();
    let mut cell = Vec::new();
    for row in 0..array.len() {
        if encoder.is_null(row) {
            cells.append_null();
            continue;
        }
        cell.clear();
        encoder.encode(row, &mut cell);
        let text = String::from_utf8_lossy(&cell);
        cells.append_value(if is_time { text.trim_matches('"') } else { &text });
    }
    Ok((Arc::new(Field::new(field.name(), DataType::Utf8, true)), Arc::new(cells.finish())))
}

/// The name of a type in an answer's `columns`.
fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Null => "null",
        DataType::Boolean => "boolean",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 => "uint8",
        DataType::UInt16 => "uint16",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float16 | DataType::Float32 => "float32",
        DataType::Float64 => "float64",
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => "decimal",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary",
        DataType::Timestamp(..) => "timestamp",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Duration(_) => "duration",
        DataType::Interval(_) => "interval",
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::FixedSizeList(..) => "list",
        DataType::Struct(_) => "struct",
        DataType::Map(..) => "map",
        DataType::Union(..) => "union",
        DataType::Dictionary(_, values) => type_name(values),
        DataType::RunEndEncoded(_, values) => type_name(values.data_type()),
    }
}

#[cfg(test)]
mod tests;
