//! The columns of a batch of spans, opened: one attribute in them, and its value as text.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StringViewArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, exec_err};
use meshlake_storage::{ATTRIBUTE_COLUMNS, Form, Found, Place, ResidualMap, Scope};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValueList};
use prost::Message;

use crate::error::QueryError;

/// A column by name as what `open` makes of it.
pub(crate) fn open<'a, T>(
    batch: &'a RecordBatch,
    name: &str,
    open: impl Fn(&'a ArrayRef) -> Option<T>,
) -> std::result::Result<T, QueryError> {
    let opened = batch.column_by_name(name).and_then(open);
    opened.ok_or_else(|| QueryError::Internal(format!("the column {name} of spans is missing or has another type")))
}

/// A text column, opened.
#[derive(Clone, Copy)]
pub(crate) struct TextColumn<'a> {
    /// The place of each row's text.
    keys: &'a [i32],
    /// None if no row is null.
    nulls: Option<&'a NullBuffer>,
    values: &'a StringArray,
    /// Whether no row has a text, as in most columns of most batches.
    empty: bool,
}

impl<'a> TextColumn<'a> {
    /// None where the array is no text column.
    pub(crate) fn new(array: &'a ArrayRef) -> Option<Self> {
        let rows = array.as_dictionary_opt::<Int32Type>()?;
        let nulls = rows.nulls().filter(|nulls| nulls.null_count() > 0);
        let (keys, values) = (rows.keys().values(), rows.values().as_string_opt()?);
        Some(TextColumn { keys, nulls, values, empty: rows.null_count() == rows.len() })
    }

    /// The place of a row's text among those of the column; none where it has none.
    #[inline]
    pub(crate) fn key(&self, row: usize) -> Option<usize> {
        if self.empty || self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let key = self.keys[row] as usize;
        self.values.is_valid(key).then_some(key)
    }

    /// What all rows have, where that is told without a look at them: the place of their text, or that of none.
    pub(crate) fn common_key(&self) -> Option<Option<usize>> {
        if self.empty {
            return Some(None);
        }
        (self.keys().is_some() && self.values.len() == 1).then_some(Some(0))
    }

    /// The places of the texts of all rows, unless one may have none.
    pub(crate) fn keys(&self) -> Option<&'a [i32]> {
        (self.nulls.is_none() && self.values.null_count() == 0).then_some(self.keys)
    }

    /// The text at a place.
    #[inline]
    pub(crate) fn text(&self, key: usize) -> &'a str {
        self.values.value(key)
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&'a str> {
        self.key(row).map(|key| self.text(key))
    }

    /// Gives `set` each of `of` and the text of its row, which is empty where the row has none; nothing where no row has one. Their
    /// rows are those from `first` on.
    pub(crate) fn read<T>(&self, first: usize, of: &mut [T], set: impl Fn(&mut T, &'a str)) {
        if self.empty {
            return;
        }
        let (keys, values) = (&self.keys[first..][..of.len()], self.values);
        if self.nulls.is_none() && values.nulls().is_none() {
            // So short that the processor is at the next columns while it waits for what is in no cache.
            for (one, key) in of.iter_mut().zip(keys) {
                set(one, values.value(*key as usize));
            }
            return;
        }
        for (one, row) in of.iter_mut().zip(first..) {
            set(one, self.get(row).unwrap_or_default());
        }
    }

    /// Whether no row has a text.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// How many texts the column has; each place is less.
    pub(crate) fn texts(&self) -> usize {
        self.values.len()
    }

    /// The texts, by place.
    pub(crate) fn dictionary(&self) -> &'a StringArray {
        self.values
    }
}

/// A column that an attribute may stand in.
pub(crate) enum AttributeValues<'a> {
    Text(TextColumn<'a>),
    /// One of [`crate::plain_texts::PlainTexts`].
    Plain(&'a StringViewArray),
    Int(&'a Int64Array),
}

impl<'a> AttributeValues<'a> {
    /// None where the array is neither text nor integers.
    pub(crate) fn new(array: &'a ArrayRef) -> Option<Self> {
        let text = TextColumn::new(array).map(AttributeValues::Text);
        let text = text.or_else(|| array.as_string_view_opt().map(AttributeValues::Plain));
        text.or_else(|| array.as_primitive_opt().map(AttributeValues::Int))
    }

    /// The value at a row, as an attribute in `form`; none for a null and for derived values.
    pub(crate) fn get(&self, row: usize, form: Form) -> Option<Found<'a>> {
        match (self, form) {
            (AttributeValues::Text(column), Form::Text) => column.get(row).map(Found::Text),
            (AttributeValues::Plain(column), Form::Text) => column.is_valid(row).then(|| Found::Text(column.value(row))),
            (AttributeValues::Int(column), Form::Int) => column.is_valid(row).then(|| Found::Int(column.value(row))),
            (AttributeValues::Int(column), Form::Decimal) => column.is_valid(row).then(|| Found::Decimal(column.value(row))),
            _ => None,
        }
    }

    /// Whether no row has a value.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            AttributeValues::Text(column) => column.is_empty(),
            AttributeValues::Plain(column) => column.null_count() == column.len(),
            AttributeValues::Int(column) => column.null_count() == column.len(),
        }
    }
}

/// Where one attribute may stand, in order.
enum Location<'a> {
    Column(Place, AttributeValues<'a>),
    Map(ResidualMap<'a>),
}

/// The columns that may hold one attribute.
pub(crate) struct ValueSource<'a> {
    key: &'a str,
    origins: &'a Int64Array,
    locations: Vec<Location<'a>>,
}

impl<'a> ValueSource<'a> {
    /// `columns`: `origins`, and for each scope the columns of its places and its residual map.
    pub(crate) fn new(
        columns: impl IntoIterator<Item = &'a ArrayRef>,
        places: impl Fn(Scope) -> Vec<Place>,
        scopes: &[Scope],
        key: &'a str,
    ) -> Result<Self> {
        let mut columns = columns.into_iter();
        let origins = columns.next().and_then(|column| column.as_primitive_opt::<Int64Type>());
        let mut locations = Vec::new();
        for scope in scopes {
            for place in places(*scope) {
                let values = columns.next().and_then(AttributeValues::new);
                locations.push(values.map(|values| Location::Column(place, values)));
            }
            locations.push(columns.next().and_then(ResidualMap::new).map(Location::Map));
        }
        let locations: Option<Vec<_>> = locations.into_iter().collect();
        match (origins, locations) {
            (Some(origins), Some(locations)) => Ok(ValueSource { key, origins, locations }),
            _ => exec_err!("attribute() works on the columns of the table spans only"),
        }
    }

    /// The first value of the attribute in this row for which `pick` has an answer.
    pub(crate) fn find<T>(&self, row: usize, pick: impl Fn(Found<'a>) -> Option<T>) -> Option<T> {
        self.locations.iter().find_map(|location| match location {
            Location::Column(place, values) => {
                let column = &ATTRIBUTE_COLUMNS[place.column];
                let source = &column.sources[place.source];
                let origins = if self.origins.is_valid(row) { self.origins.value(row) } else { 0 };
                if column.origin(origins) != place.source {
                    return None;
                }
                values.get(row, source.form).and_then(&pick)
            }
            Location::Map(map) => {
                let values = map.entries(row).filter(|(key, _)| *key == self.key).filter_map(|(_, value)| value);
                values.filter_map(&pick).next()
            }
        })
    }
}

/// A value as text: numbers as SQL prints them, arrays and maps as JSON, bytes as base64. None for an empty value.
pub(crate) fn as_text(found: Found) -> Option<String> {
    match found {
        Found::Other(bytes) => match AnyValue::decode(bytes).ok()?.value? {
            Value::StringValue(text) => Some(text),
            Value::BytesValue(bytes) => Some(base64(&bytes)),
            other => Some(json(&AnyValue { value: Some(other) })),
        },
        plain => plain.plain_text().map(Cow::into_owned),
    }
}

fn json(value: &AnyValue) -> String {
    match &value.value {
        None | Some(Value::StringValueStrindex(_)) => "null".to_owned(),
        Some(Value::StringValue(text)) => json_text(text),
        Some(Value::BytesValue(bytes)) => json_text(&base64(bytes)),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) if value.is_finite() => format!("{value:?}"),
        Some(Value::DoubleValue(value)) => json_text(&value.to_string()),
        Some(Value::ArrayValue(ArrayValue { values })) => {
            let items: Vec<String> = values.iter().map(json).collect();
            format!("[{}]", items.join(","))
        }
        Some(Value::KvlistValue(KeyValueList { values })) => {
            let empty = AnyValue::default();
            let item = |entry: &opentelemetry_proto::tonic::common::v1::KeyValue| {
                format!("{}:{}", json_text(&entry.key), json(entry.value.as_ref().unwrap_or(&empty)))
            };
            let items: Vec<String> = values.iter().map(item).collect();
            format!("{{{}}}", items.join(","))
        }
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().chain(&[0, 0]).take(3).fold(0usize, |bits, byte| bits << 8 | usize::from(*byte));
        for digit in 0..4 {
            let index = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: values of every kind. Guarantee: the text is what the docs of `attribute()` say.
    #[test]
    fn values_have_a_text() {
        let any = |value| AnyValue { value: Some(value) };
        let list = any(Value::ArrayValue(ArrayValue {
            values: vec![any(Value::IntValue(1)), any(Value::StringValue("a\"b".into())), AnyValue::default()],
        }));
        assert_eq!(as_text(Found::Other(&list.encode_to_vec())).unwrap(), r#"[1,"a\"b",null]"#);
        for (bytes, text) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (&[255, 239, 190], "/+++")] {
            assert_eq!(as_text(Found::Other(&any(Value::BytesValue(bytes.to_vec())).encode_to_vec())).unwrap(), text);
        }
        assert_eq!(as_text(Found::Other(&[])), None);
        assert_eq!(as_text(Found::Double(1.0)).unwrap(), "1.0");
        assert_eq!(as_text(Found::Decimal(200)).unwrap(), "200");
    }
}
