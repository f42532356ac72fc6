//! The nested columns of `spans`, `events` and `links`, and back to OTLP.

use std::ops::Range;

use arrow::array::{Array, AsArray, BinaryArray, Int16Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray};
use meshlake_storage::ResidualMap;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

use crate::error::QueryError;
use crate::otlp::{map_attributes, nanoseconds, number};

/// The items of a list column in a row.
fn items(list: &ListArray, row: usize) -> Range<usize> {
    let offsets = list.value_offsets();
    if list.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize }
}

/// The column `events`, opened.
pub(crate) struct Events<'a> {
    list: &'a ListArray,
    time: &'a TimestampMicrosecondArray,
    time_nanos: &'a Int16Array,
    name: &'a StringArray,
    attributes: ResidualMap<'a>,
    dropped: &'a Int64Array,
}

impl<'a> Events<'a> {
    pub(crate) fn new(list: &'a ListArray) -> Option<Self> {
        let item = list.values().as_struct_opt()?;
        Some(Events {
            list,
            time: item.column_by_name("time")?.as_primitive_opt()?,
            time_nanos: item.column_by_name("time_nanos")?.as_primitive_opt()?,
            name: item.column_by_name("name")?.as_string_opt()?,
            attributes: ResidualMap::new(item.column_by_name("attributes")?)?,
            dropped: item.column_by_name("dropped_attributes_count")?.as_primitive_opt()?,
        })
    }

    /// The events of a row, as items of the list.
    pub(crate) fn items(&self, row: usize) -> Range<usize> {
        items(self.list, row)
    }

    pub(crate) fn name(&self, item: usize) -> &'a str {
        self.name.value(item)
    }

    /// Nanoseconds.
    pub(crate) fn time(&self, item: usize) -> u64 {
        nanoseconds(self.time.value(item), self.time_nanos.value(item))
    }

    pub(crate) fn attributes(&self) -> &ResidualMap<'a> {
        &self.attributes
    }

    pub(crate) fn row(&self, row: usize) -> Result<Vec<Event>, QueryError> {
        let event = |item| {
            Ok(Event {
                time_unix_nano: self.time(item),
                name: self.name(item).to_owned(),
                attributes: map_attributes(&self.attributes, item)?,
                dropped_attributes_count: number(self.dropped, item) as u32,
            })
        };
        self.items(row).map(event).collect()
    }
}

/// The column `links`, opened.
pub(crate) struct Links<'a> {
    list: &'a ListArray,
    trace_id: &'a BinaryArray,
    span_id: &'a BinaryArray,
    trace_state: &'a StringArray,
    attributes: ResidualMap<'a>,
    dropped: &'a Int64Array,
    flags: &'a Int64Array,
}

impl<'a> Links<'a> {
    pub(crate) fn new(list: &'a ListArray) -> Option<Self> {
        let item = list.values().as_struct_opt()?;
        Some(Links {
            list,
            trace_id: item.column_by_name("trace_id")?.as_binary_opt()?,
            span_id: item.column_by_name("span_id")?.as_binary_opt()?,
            trace_state: item.column_by_name("trace_state")?.as_string_opt()?,
            attributes: ResidualMap::new(item.column_by_name("attributes")?)?,
            dropped: item.column_by_name("dropped_attributes_count")?.as_primitive_opt()?,
            flags: item.column_by_name("flags")?.as_primitive_opt()?,
        })
    }

    /// The links of a row, as items of the list.
    pub(crate) fn items(&self, row: usize) -> Range<usize> {
        items(self.list, row)
    }

    /// Ids of trace and span, as they came.
    pub(crate) fn ids(&self, item: usize) -> (&'a [u8], &'a [u8]) {
        (self.trace_id.value(item), self.span_id.value(item))
    }

    pub(crate) fn attributes(&self) -> &ResidualMap<'a> {
        &self.attributes
    }

    pub(crate) fn row(&self, row: usize) -> Result<Vec<Link>, QueryError> {
        let link = |item| {
            Ok(Link {
                trace_id: self.trace_id.value(item).to_vec(),
                span_id: self.span_id.value(item).to_vec(),
                trace_state: self.trace_state.value(item).to_owned(),
                attributes: map_attributes(&self.attributes, item)?,
                dropped_attributes_count: number(self.dropped, item) as u32,
                flags: number(self.flags, item) as u32,
            })
        };
        self.items(row).map(link).collect()
    }
}
