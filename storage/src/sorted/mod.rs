//! The rows of many batches in the order of files: (tenant, trace id, start).
//!
//! The sort moves positions, not rows; columns are gathered one at a time, so that a flush needs little memory beyond the
//! batches it flushes.

mod nested;
mod unified;

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, DictionaryArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch, StringArray,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::encode::Texts;
use crate::layout::FRESH_ROWS;
use crate::schema::{column_index, spans_schema};
use unified::Unified;

/// Files of one flush. Past it the windows with the fewest rows share a file.
const WINDOWS_MAX: usize = 32;
/// Rows of one span id with which a row is compared at most.
const TWINS_MAX: usize = 8;
/// The window of rows whose clock can't be trusted, and of windows that got no file of their own.
const NO_WINDOW: i64 = i64::MIN;
/// `flagged` begins with this where the start is out of range.
pub const CLOCK_FLAG: &str = "clock";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    window: i64,
    tenant: u32,
    /// Big-endian: a sort compares it most.
    trace: u128,
    start: i64,
    batch: u32,
    row: u32,
}

/// The rows of a flush, sorted.
#[derive(Debug)]
pub(crate) struct SortedRows<'a> {
    batches: &'a [RecordBatch],
    /// Rows before each batch.
    before: Arc<Vec<u32>>,
    order: Vec<Position>,
    /// Length of a window, microseconds.
    window: i64,
    /// One for each text column, by position in the schema.
    texts: Arc<HashMap<usize, Unified>>,
}

/// Where some rows are, in the order of the file. Narrow, for a column is gathered by a walk over them.
#[derive(Debug)]
pub(crate) struct Places {
    /// Which of the order they are.
    order: Range<usize>,
    /// Batch and row.
    rows: Vec<(u32, u32)>,
    /// The same rows, counted over all batches.
    flat: Vec<u32>,
}

/// Some rows of a flush that go to one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Its beginning, microseconds; none where rows of many windows share it.
    pub start: Option<i64>,
    pub rows: Range<usize>,
    pub start_min: i64,
    pub start_max: i64,
    pub end_max: i64,
    pub tenants: Vec<String>,
}

/// Rows of [`BLANK`].
const BLANK_ROWS: usize = FRESH_ROWS;
/// Each column without a value, of as many rows as are gathered at once; those of one type are one array.
static BLANK: LazyLock<Vec<ArrayRef>> = LazyLock::new(|| {
    let mut of_type = HashMap::<DataType, ArrayRef>::new();
    let blank = |data_type: &DataType| new_null_array(data_type, BLANK_ROWS);
    let mut column = |field: &FieldRef| of_type.entry(field.data_type().clone()).or_insert_with_key(blank).clone();
    spans_schema().fields().iter().map(&mut column).collect()
});

/// A column of which no row has a value.
fn blank(index: usize, rows: usize) -> ArrayRef {
    if rows <= BLANK_ROWS { BLANK[index].slice(0, rows) } else { new_null_array(spans_schema().field(index).data_type(), rows) }
}

fn schema_error(what: &str) -> ArrowError {
    ArrowError::SchemaError(format!("spans: {what}"))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| schema_error(name))
}

fn text(array: &ArrayRef) -> Result<(&DictionaryArray<Int32Type>, &StringArray), ArrowError> {
    let dictionary = array.as_dictionary_opt::<Int32Type>().ok_or_else(|| schema_error("text is dictionary-encoded"))?;
    let values = dictionary.values().as_string_opt::<i32>().ok_or_else(|| schema_error("text is Utf8"))?;
    Ok((dictionary, values))
}

impl<'a> SortedRows<'a> {
    /// Sorts the rows of `batches` into windows of `window` microseconds by their start.
    pub(crate) fn new(batches: &'a [RecordBatch], window: i64) -> Result<SortedRows<'a>, ArrowError> {
        let mut rows = SortedRows::unsorted(batches, window)?;
        merge_small_windows(&mut rows.order);
        rows.order.sort_unstable();
        Ok(rows)
    }

    /// Sorts the rows of `batches`, whatever their windows.
    pub(crate) fn merged(batches: &'a [RecordBatch]) -> Result<SortedRows<'a>, ArrowError> {
        let mut rows = SortedRows::unsorted(batches, i64::MAX)?;
        rows.order.iter_mut().for_each(|position| position.window = NO_WINDOW);
        // Finds the runs that are sorted already: each batch.
        rows.order.sort();
        Ok(rows)
    }

    fn unsorted(batches: &'a [RecordBatch], window: i64) -> Result<SortedRows<'a>, ArrowError> {
        let mut texts = HashMap::new();
        for (index, field) in spans_schema().fields().iter().enumerate() {
            if matches!(field.data_type(), DataType::Dictionary(_, _)) {
                let arrays: Vec<_> = batches.iter().map(|batch| batch.column(index)).collect();
                // What has no value is gathered from nowhere.
                if arrays.iter().any(|array| array.null_count() < array.len()) {
                    texts.insert(index, Unified::new(&arrays)?);
                }
            }
        }
        let before = batches.iter().scan(0, |rows, batch| {
            *rows += batch.num_rows() as u32;
            Some(*rows - batch.num_rows() as u32)
        });
        let mut rows =
            SortedRows { batches, before: Arc::new(before.collect()), order: Vec::new(), window, texts: Arc::new(texts) };
        rows.order = rows.positions()?;
        Ok(rows)
    }

    /// Drops rows that are equal to an earlier one in every column (P2). Returns how many.
    pub(crate) fn drop_duplicates(&mut self) -> Result<u64, ArrowError> {
        let ids = self.each(|batch| Ok(column(batch, "span_id")?.as_fixed_size_binary()))?;
        let id = |position: &Position| ids[position.batch as usize].value(position.row as usize);
        let mut kept: Vec<Position> = Vec::with_capacity(self.order.len());
        let mut group = 0;
        for position in &self.order {
            let same =
                |other: &Position| (position.tenant, position.trace, position.start) == (other.tenant, other.trace, other.start);
            if kept.get(group).is_some_and(|first| !same(first)) {
                group = kept.len();
            }
            let twins = kept[group..].iter().rev().filter(|other| id(other) == id(position)).take(TWINS_MAX);
            let mut is_duplicate = false;
            for twin in twins {
                is_duplicate |= self.equal(twin, position);
            }
            if !is_duplicate {
                kept.push(*position);
            }
        }
        let dropped = self.order.len() - kept.len();
        self.order = kept;
        Ok(dropped as u64)
    }

    fn equal(&self, a: &Position, b: &Position) -> bool {
        let row = |position: &Position| self.batches[position.batch as usize].slice(position.row as usize, 1);
        row(a).columns().iter().zip(row(b).columns()).all(|(a, b)| a.as_ref() == b.as_ref())
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The tenant of a row.
    pub(crate) fn tenant(&self, row: usize) -> &'a str {
        let position = self.order[row];
        let tenants = column(&self.batches[position.batch as usize], "tenant").and_then(text);
        tenants.map_or("", |(keys, names)| keys.key(position.row as usize).map_or("", |key| names.value(key)))
    }

    /// Whether two rows have one tenant.
    pub(crate) fn same_tenant(&self, one: usize, other: usize) -> bool {
        self.order[one].tenant == self.order[other].tenant
    }

    /// Something of each batch.
    fn each<T>(&self, of: impl FnMut(&'a RecordBatch) -> Result<T, ArrowError>) -> Result<Vec<T>, ArrowError> {
        self.batches.iter().map(of).collect()
    }

    /// The trace id of a row.
    pub(crate) fn trace(&self, row: usize) -> [u8; 16] {
        self.order[row].trace.to_be_bytes()
    }

    /// The traces of a range of the order, each once for each tenant.
    pub(crate) fn traces(&self, rows: Range<usize>) -> impl Iterator<Item = [u8; 16]> {
        let same = |one: &Position, other: &Position| (one.tenant, one.trace) == (other.tenant, other.trace);
        self.order[rows].chunk_by(same).filter_map(|rows| Some(rows.first()?.trace.to_be_bytes()))
    }

    /// The ranges of the order that are one trace each.
    pub(crate) fn by_trace(&self) -> impl Iterator<Item = Range<usize>> {
        let same = |one: &Position, other: &Position| (one.tenant, one.trace) == (other.tenant, other.trace);
        self.order.chunk_by(same).scan(0, |end, rows| {
            *end += rows.len();
            Some(*end - rows.len()..*end)
        })
    }

    /// Which of the batches a row is of.
    pub(crate) fn batch(&self, row: usize) -> usize {
        self.order[row].batch as usize
    }

    /// The rows of which `apart` says no, and those of which it says yes, both in order. There is one answer for each row.
    pub(crate) fn split(self, apart: &[bool]) -> (SortedRows<'a>, SortedRows<'a>) {
        let of = |side: bool| SortedRows {
            batches: self.batches,
            before: self.before.clone(),
            order: self.order.iter().zip(apart).filter(|(_, apart)| **apart == side).map(|(position, _)| *position).collect(),
            window: self.window,
            texts: self.texts.clone(),
        };
        (of(false), of(true))
    }

    fn positions(&self) -> Result<Vec<Position>, ArrowError> {
        let mut order = Vec::with_capacity(self.batches.iter().map(RecordBatch::num_rows).sum());
        let index = column_index("tenant").ok_or_else(|| schema_error("tenant"))?;
        let Some(tenants) = self.texts.get(&index) else { return Ok(order) };
        let ranks = SortedRows::tenant_ranks(tenants);
        for (batch_index, batch) in self.batches.iter().enumerate() {
            let before = self.before[batch_index] as usize;
            let (flagged, flags) = text(column(batch, "flagged")?)?;
            let unplaced: Vec<bool> = flags.iter().map(|flag| flag.is_some_and(|flag| flag.starts_with(CLOCK_FLAG))).collect();
            let traces: &[[u8; 16]] = column(batch, "trace_id")?.as_fixed_size_binary().value_data().as_chunks().0;
            let start = column(batch, "start_time")?.as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                let placed = flagged.key(row).is_none_or(|key| !unplaced[key]);
                order.push(Position {
                    window: if placed { start.value(row).div_euclid(self.window) } else { NO_WINDOW },
                    tenant: ranks[tenants.number(before + row)],
                    trace: u128::from_be_bytes(traces[row]),
                    start: start.value(row),
                    batch: batch_index as u32,
                    row: row as u32,
                });
            }
        }
        Ok(order)
    }

    /// The rank of each tenant in the order of names, by its number.
    fn tenant_ranks(tenants: &Unified) -> Vec<u32> {
        let names = tenants.values.as_string::<i32>();
        let mut sorted: Vec<&str> = names.iter().flatten().collect();
        sorted.sort_unstable();
        let rank = |name: &str| sorted.partition_point(|other| *other < name) as u32;
        [0].into_iter().chain(names.iter().flatten().map(rank)).collect()
    }

    /// What goes to each file.
    pub(crate) fn windows(&self) -> Result<Vec<Window>, ArrowError> {
        let mut windows = Vec::new();
        let mut from = 0;
        for group in self.order.chunk_by(|a, b| a.window == b.window) {
            let start = group.first().filter(|first| first.window != NO_WINDOW).map(|first| first.window * self.window);
            windows.push(Window { start, ..self.bounds(from..from + group.len())? });
            from += group.len();
        }
        Ok(windows)
    }

    /// What a file of these rows says of them.
    pub(crate) fn bounds(&self, rows: Range<usize>) -> Result<Window, ArrowError> {
        let group = &self.order[rows.clone()];
        let nanos = self.each(|batch| Ok(column(batch, "start_nanos")?.as_primitive::<Int16Type>()))?;
        let durations = self.each(|batch| Ok(column(batch, "duration")?.as_primitive::<Int64Type>()))?;
        let mut window =
            Window { start: None, rows, start_min: i64::MAX, start_max: i64::MIN, end_max: i64::MIN, tenants: Vec::new() };
        let mut last_tenant = None;
        for position in group {
            let (batch, row) = (position.batch as usize, position.row as usize);
            let end_nanos = i64::from(nanos[batch].value(row)).saturating_add(durations[batch].value(row).max(0));
            window.start_min = window.start_min.min(position.start);
            window.start_max = window.start_max.max(position.start);
            window.end_max = window.end_max.max(position.start.saturating_add(end_nanos.saturating_add(999) / 1_000));
            if last_tenant.replace(position.tenant) != Some(position.tenant) {
                let (tenant, names) = text(column(&self.batches[batch], "tenant")?)?;
                window.tenants.push(names.value(tenant.key(row).unwrap_or_default()).to_owned());
            }
        }
        Ok(window)
    }

    /// Where the rows of a range of the order are.
    pub(crate) fn places(&self, range: Range<usize>) -> Places {
        let rows: Vec<(u32, u32)> = self.order[range.clone()].iter().map(|position| (position.batch, position.row)).collect();
        Places { order: range, flat: rows.iter().map(|(batch, row)| self.before[*batch as usize] + row).collect(), rows }
    }

    /// A text column of rows, in order, of which some may have a value.
    pub(crate) fn texts(&self, index: usize, places: &Places) -> Option<Texts> {
        Some(self.texts.get(&index)?.rows(&places.flat))
    }

    /// A column of rows, in order. A column at a time, because its source then stays in the processor's caches.
    pub(crate) fn column(&self, index: usize, places: &Places) -> Result<ArrayRef, ArrowError> {
        let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(index).as_ref()).collect();
        if arrays.iter().all(|array| array.null_count() == array.len()) {
            return Ok(blank(index, places.rows.len()));
        }
        // What the rows are sorted by is at hand.
        let order = self.order[places.order.clone()].iter();
        match spans_schema().field(index).name().as_str() {
            "trace_id" => return ids(order.map(|position| position.trace.to_be_bytes()).collect(), None),
            "start_time" => {
                let starts = order.map(|position| position.start).collect();
                let data_type = arrays[0].data_type().clone();
                return Ok(Arc::new(PrimitiveArray::<TimestampMicrosecondType>::new(starts, None).with_data_type(data_type)));
            }
            _ => {}
        }
        match (self.texts.get(&index), arrays[0].data_type()) {
            (Some(unified), _) => unified.rows(&places.flat).array(),
            (None, DataType::FixedSizeBinary(8)) => places.ids::<8>(&arrays),
            (None, DataType::Int16) => Ok(places.numbers::<Int16Type>(&arrays)),
            (None, DataType::Int32) => Ok(places.numbers::<Int32Type>(&arrays)),
            (None, DataType::Int64) => Ok(places.numbers::<Int64Type>(&arrays)),
            _ => nested::gather(&arrays, &places.rows),
        }
    }
}

/// A column of ids.
fn ids<const N: usize>(ids: Vec<[u8; N]>, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(FixedSizeBinaryArray::try_new(N as i32, ids.into_flattened().into(), nulls)?))
}

impl Places {
    fn each(&self) -> impl ExactSizeIterator<Item = (usize, usize)> {
        self.rows.iter().map(|&(batch, row)| (batch as usize, row as usize))
    }

    /// A column of ids of `N` bytes. `interleave` appends each row by a call of its own.
    fn ids<const N: usize>(&self, arrays: &[&dyn Array]) -> Result<ArrayRef, ArrowError> {
        let arrays: Vec<&FixedSizeBinaryArray> = arrays.iter().map(|array| array.as_fixed_size_binary()).collect();
        let values: Vec<&[[u8; N]]> = arrays.iter().map(|array| array.value_data().as_chunks().0).collect();
        ids(self.each().map(|(batch, row)| values[batch][row]).collect(), nested::nulls(&arrays, &self.rows))
    }

    fn numbers<T: ArrowPrimitiveType>(&self, arrays: &[&dyn Array]) -> ArrayRef {
        let arrays: Vec<&PrimitiveArray<T>> = arrays.iter().map(|array| array.as_primitive()).collect();
        let values: Vec<&[T::Native]> = arrays.iter().map(|array| &**array.values()).collect();
        let numbers: Vec<T::Native> = self.each().map(|(batch, row)| values[batch][row]).collect();
        let data_type = arrays[0].data_type().clone();
        Arc::new(PrimitiveArray::<T>::new(numbers.into(), nested::nulls(&arrays, &self.rows)).with_data_type(data_type))
    }
}

/// Leaves at most [`WINDOWS_MAX`] windows: the rest share one.
fn merge_small_windows(order: &mut [Position]) {
    let mut rows = HashMap::<i64, usize>::new();
    for group in order.chunk_by(|one, other| one.window == other.window) {
        *rows.entry(group[0].window).or_default() += group.len();
    }
    if rows.len() <= WINDOWS_MAX {
        return;
    }
    let mut largest: Vec<(i64, usize)> = rows.into_iter().collect();
    largest.sort_unstable_by_key(|(window, rows)| (std::cmp::Reverse(*rows), *window));
    largest.truncate(WINDOWS_MAX - 1);
    let mut kept: Vec<i64> = largest.into_iter().map(|(window, _)| window).collect();
    kept.sort_unstable();
    for position in order {
        if kept.binary_search(&position.window).is_err() {
            position.window = NO_WINDOW;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Row, SpanBuilder};

    const WINDOW: i64 = 100;

    /// Rows of (tenant, first byte of the trace id, start in microseconds, flagged).
    fn batch(rows: &[(&str, u8, u64, &str)]) -> RecordBatch {
        let mut builder = SpanBuilder::default();
        for &(tenant, trace, start, flagged) in rows {
            if !flagged.is_empty() {
                builder.flagged.push(builder.rows(), flagged.as_bytes());
            }
            builder.end_row(&Row {
                tenant,
                trace_id: [trace; 16],
                start: start * 1_000 + 1,
                end: start * 1_000 + 2_001,
                ..Row::default()
            });
        }
        builder.finish().unwrap().unwrap().batch
    }

    fn window(rows: Range<usize>, start_min: i64, start_max: i64, tenants: &[&str]) -> Window {
        let tenants = tenants.iter().map(|tenant| (*tenant).to_owned()).collect();
        let start = (start_max < 7_000).then(|| start_min.div_euclid(WINDOW) * WINDOW);
        Window { start, rows, start_min, start_max, end_max: start_max + 3, tenants }
    }

    /// Scenario: two batches whose dictionaries differ, with rows of two windows and one with a bad clock. Guarantee: the
    /// windows hold their rows by tenant, trace and start; the bad clock is apart and opens no window.
    #[test]
    fn windows_are_sorted() {
        let batches = [
            batch(&[("b", 1, 150, ""), ("a", 2, 30, ""), ("b", 1, 20, "end_before_start")]),
            batch(&[("c", 1, 10, ""), ("a", 1, 99, ""), ("a", 1, 0, ""), ("a", 0, 7_000, "clock")]),
        ];
        let rows = SortedRows::new(&batches, WINDOW).unwrap();
        let windows = rows.windows().unwrap();
        let expected = [window(0..1, 7_000, 7_000, &["a"]), window(1..6, 0, 99, &["a", "b", "c"]), window(6..7, 150, 150, &["b"])];
        assert_eq!(windows, expected);
        let places = rows.places(windows[1].rows.clone());
        let column = |name: &str| rows.column(column_index(name).unwrap(), &places).unwrap();
        let starts = column("start_time");
        assert_eq!(starts.as_primitive::<TimestampMicrosecondType>().values(), &[0, 99, 30, 20, 10]);
        let tenants = column("tenant");
        let (tenants, names) = text(&tenants).unwrap();
        let names: Vec<&str> = tenants.keys().values().iter().map(|&key| names.value(key as usize)).collect();
        assert_eq!(names, ["a", "a", "a", "b", "c"]);
        let kinds = column("kind");
        let (kinds, names) = text(&kinds).unwrap();
        assert!(kinds.len() == 5 && kinds.keys().iter().all(|key| key.map(|key| names.value(key as usize)) == Some("server")));
        let flags = column("flagged");
        let (flags, names) = text(&flags).unwrap();
        let flags: Vec<_> = flags.keys().iter().map(|key| key.map(|key| names.value(key as usize))).collect();
        assert_eq!(flags, [None, None, None, Some("end_before_start"), None]);
    }

    /// Scenario: rows in many more windows than a flush may make files. Guarantee: the largest windows have files of their
    /// own, the rest share one, and no row is lost.
    #[test]
    fn small_windows_share_a_file() {
        let rows: Vec<_> = (0..50u64).flat_map(|hour| vec![("a", 1, hour * 100, ""); if hour < 10 { 2 } else { 1 }]).collect();
        let batches = [batch(&rows)];
        let rows = SortedRows::new(&batches, WINDOW).unwrap();
        let windows = rows.windows().unwrap();
        assert_eq!(windows.len(), WINDOWS_MAX);
        assert_eq!(windows.iter().map(|window| window.rows.len()).sum::<usize>(), 60);
        assert_eq!(windows.iter().filter(|window| window.rows.len() == 2).count(), 10);
        assert_eq!((windows[0].start_min, windows[0].start_max), (3_100, 4_900));
    }

    /// Scenario: nothing. Guarantee: no window.
    #[test]
    fn no_rows_no_windows() {
        assert_eq!(SortedRows::new(&[], WINDOW).unwrap().windows().unwrap(), []);
    }
}
