//! The columns by which files are sorted: (tenant, trace id, start).

use arrow::array::{AsArray, DictionaryArray, FixedSizeBinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::schema::column_index;

/// Where a row stands in the order of files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    tenant: String,
    trace: [u8; 16],
    start: i64,
}

/// The keys of a batch.
pub(crate) struct Keys<'a> {
    tenants: &'a DictionaryArray<Int32Type>,
    names: &'a StringArray,
    traces: &'a FixedSizeBinaryArray,
    starts: &'a TimestampMicrosecondArray,
}

impl<'a> Keys<'a> {
    /// Of rows of [`crate::spans_schema`], or of a lake file's.
    pub(crate) fn new(batch: &'a RecordBatch) -> Result<Keys<'a>, ArrowError> {
        let missing = |name: &str| ArrowError::SchemaError(format!("spans: {name}"));
        let column = |name: &'static str| column_index(name).map(|index| batch.column(index)).ok_or_else(|| missing(name));
        let tenants = column("tenant")?.as_dictionary_opt::<Int32Type>().ok_or_else(|| missing("tenant"))?;
        Ok(Keys {
            tenants,
            names: tenants.values().as_string_opt::<i32>().ok_or_else(|| missing("tenant"))?,
            traces: column("trace_id")?.as_fixed_size_binary_opt().ok_or_else(|| missing("trace_id"))?,
            starts: column("start_time")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| missing("start_time"))?,
        })
    }

    fn at(&self, row: usize) -> (&'a str, &'a [u8], i64) {
        let tenant = self.tenants.key(row).map_or("", |key| self.names.value(key));
        (tenant, self.traces.value(row), self.starts.value(row))
    }

    /// The key of a row.
    pub(crate) fn key(&self, row: usize) -> Key {
        let (tenant, trace, start) = self.at(row);
        Key { tenant: tenant.to_owned(), trace: trace.try_into().unwrap_or_default(), start }
    }

    /// Whether a row comes before `bound`.
    pub(crate) fn is_before(&self, row: usize, bound: &Key) -> bool {
        self.at(row) < (bound.tenant.as_str(), bound.trace.as_slice(), bound.start)
    }

    /// The trace ids, in the order of the rows.
    pub(crate) fn traces(&self) -> impl Iterator<Item = &'a [u8]> {
        self.traces.iter().flatten()
    }

    /// Whether the rows are in order.
    pub(crate) fn are_sorted(&self) -> bool {
        (0..self.starts.len()).map(|row| self.at(row)).is_sorted()
    }
}
