//! Rows of columns that consist of others: maps and lists.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// Rows of arrays of one type, each by its array and its place in that: as [`interleave`] does, which also gathers what has no value,
/// as four of the five fields of an attribute's value mostly have none, and appends each boolean by a call of its own.
pub(super) fn gather(arrays: &[&dyn Array], rows: &[(u32, u32)]) -> Result<ArrayRef, ArrowError> {
    let data_type = arrays[0].data_type();
    if arrays.iter().all(|array| array.null_count() == array.len()) {
        return Ok(new_null_array(data_type, rows.len()));
    }
    Ok(match data_type {
        DataType::Boolean => {
            let booleans: Vec<_> = arrays.iter().map(|array| array.as_boolean()).collect();
            let values = BooleanBuffer::collect_bool(rows.len(), |at| booleans[rows[at].0 as usize].value(rows[at].1 as usize));
            Arc::new(BooleanArray::new(values, nulls(arrays, rows)))
        }
        DataType::Struct(fields) => {
            let structs: Vec<&StructArray> = arrays.iter().map(|array| array.as_struct()).collect();
            let field = |at: usize| {
                let columns: Vec<&dyn Array> = structs.iter().map(|array| array.column(at).as_ref()).collect();
                gather(&columns, rows)
            };
            let columns = (0..fields.len()).map(field).collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, nulls(arrays, rows))?)
        }
        DataType::Map(field, ordered) => {
            let maps: Vec<&MapArray> = arrays.iter().map(|array| array.as_map()).collect();
            let entries: Vec<&dyn Array> = maps.iter().map(|map| map.entries() as &dyn Array).collect();
            let offsets: Vec<&OffsetBuffer<i32>> = maps.iter().map(|map| map.offsets()).collect();
            let (offsets, entries) = gather_items(&offsets, &entries, rows)?;
            let entries = entries.as_struct().clone();
            Arc::new(MapArray::try_new(field.clone(), offsets, entries, nulls(arrays, rows), *ordered)?)
        }
        DataType::List(field) => {
            let lists: Vec<&ListArray> = arrays.iter().map(|array| array.as_list()).collect();
            let items: Vec<&dyn Array> = lists.iter().map(|list| list.values().as_ref()).collect();
            let offsets: Vec<&OffsetBuffer<i32>> = lists.iter().map(|list| list.offsets()).collect();
            let (offsets, items) = gather_items(&offsets, &items, rows)?;
            Arc::new(ListArray::try_new(field.clone(), offsets, items, nulls(arrays, rows))?)
        }
        _ => return interleave(arrays, &rows.iter().map(|&(array, row)| (array as usize, row as usize)).collect::<Vec<_>>()),
    })
}

/// The items of lists, and where those of each row are.
fn gather_items(
    offsets: &[&OffsetBuffer<i32>],
    items: &[&dyn Array],
    rows: &[(u32, u32)],
) -> Result<(OffsetBuffer<i32>, ArrayRef), ArrowError> {
    let range = |&(array, row): &(u32, u32)| {
        let offsets = offsets[array as usize];
        offsets[row as usize] as u32..offsets[row as usize + 1] as u32
    };
    let count: usize = rows.iter().map(|row| range(row).len()).sum();
    i32::try_from(count).map_err(|_| ArrowError::OffsetOverflowError(count))?;
    let lengths = OffsetBuffer::from_lengths(rows.iter().map(|row| range(row).len()));
    let mut places = Vec::with_capacity(count);
    rows.iter().for_each(|row| places.extend(range(row).map(|item| (row.0, item))));
    Ok((lengths, gather(items, &places)?))
}

/// Which rows have a value; none if all arrays have one in each row.
pub(super) fn nulls<A: Array + ?Sized>(arrays: &[&A], rows: &[(u32, u32)]) -> Option<NullBuffer> {
    let has_nulls = arrays.iter().any(|array| array.null_count() > 0);
    let at = |at: usize| arrays[rows[at].0 as usize].is_valid(rows[at].1 as usize);
    has_nulls.then(|| NullBuffer::new(BooleanBuffer::collect_bool(rows.len(), at)))
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;

    use super::*;
    use crate::builder::{Row, SpanBuilder};
    use crate::columns::Value;

    /// Spans with attributes, of which the first are without any.
    fn batch(first: usize, spans: usize) -> RecordBatch {
        let mut builder = SpanBuilder::default();
        for row in 0..spans {
            for number in 0..(row + first) % 4 {
                let value = match number {
                    0 => Value::Text(b"text"),
                    1 => Value::Int(row as i64),
                    _ => Value::Bool(row % 3 == 0),
                };
                builder.span_attributes.push(row, format!("key {number}").as_bytes(), value);
                let (attributes, event) = builder.events.attributes();
                attributes.push(event, b"key", value);
                builder.events.push(row, number as u64, b"event", 0);
            }
            builder.end_row(&Row { error: row % 5 == first, ..Row::default() });
        }
        builder.finish().unwrap().unwrap().batch
    }

    /// Scenario: rows of batches with maps, lists of maps and booleans, and one without, in any order, some twice. Guarantee: each
    /// column is what Arrow's kernel makes of it.
    #[test]
    fn gathers_as_interleave_does() {
        let batches = [batch(0, 40), batch(3, 9), batch(0, 1)];
        let rows: Vec<(u32, u32)> = (0..200u32).map(|row| (row % 2, row * 7 % 9)).chain([(2, 0), (0, 39)]).collect();
        let places: Vec<(usize, usize)> = rows.iter().map(|&(batch, row)| (batch as usize, row as usize)).collect();
        for column in 0..batches[0].num_columns() {
            let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            assert_eq!(&gather(&arrays, &rows).unwrap(), &interleave(&arrays, &places).unwrap());
        }
    }
}
