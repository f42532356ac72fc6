//! Timestamps of SQL answers: RFC 3339, UTC.

use arrow::array::{Array, ArrayRef};
use arrow::array::{AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::writer::NullableEncoder;
use arrow::json::{Encoder, EncoderFactory, EncoderOptions};
use chrono::{DateTime, SecondsFormat, Utc};

/// Writes timestamps, at any depth, with six digits of fraction and `Z`: nine where the unit is nanoseconds. One without a
/// time zone is taken as UTC.
#[derive(Debug)]
pub(crate) struct Timestamps;

impl EncoderFactory for Timestamps {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let DataType::Timestamp(unit, _) = array.data_type() else {
            return Ok(None);
        };
        let values: ArrayRef = cast(array, &DataType::Int64)?;
        let encoder = TimestampEncoder { values: values.as_primitive::<Int64Type>().clone(), unit: *unit };
        Ok(Some(NullableEncoder::new(Box::new(encoder), array.nulls().cloned())))
    }
}

struct TimestampEncoder {
    values: Int64Array,
    unit: TimeUnit,
}

impl Encoder for TimestampEncoder {
    fn encode(&mut self, at: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(text(self.values.value(at), self.unit).as_bytes());
        out.push(b'"');
    }
}

/// A time that the calendar of RFC 3339 does not reach is its number.
fn text(value: i64, unit: TimeUnit) -> String {
    let (time, digits) = match unit {
        TimeUnit::Second => (DateTime::<Utc>::from_timestamp(value, 0), SecondsFormat::Micros),
        TimeUnit::Millisecond => (DateTime::from_timestamp_millis(value), SecondsFormat::Micros),
        TimeUnit::Microsecond => (DateTime::from_timestamp_micros(value), SecondsFormat::Micros),
        TimeUnit::Nanosecond => (Some(DateTime::from_timestamp_nanos(value)), SecondsFormat::Nanos),
    };
    time.map_or_else(|| value.to_string(), |time| time.to_rfc3339_opts(digits, true))
}
