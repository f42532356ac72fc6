//! Attributes as they stand in the columns of a batch, read back.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, Int64Array, MapArray, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use serde::{Deserialize, Serialize};

/// The type of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// Text.
    String,
    /// A 64-bit integer.
    Int,
    /// A floating point number.
    Double,
    /// A boolean.
    Bool,
    /// Bytes, an array, a map, or an empty value.
    Other,
}

/// A value as it stands in the columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'a> {
    /// Text.
    Text(&'a str),
    /// The text of this integer.
    Decimal(i64),
    /// An integer.
    Int(i64),
    /// A floating point number.
    Double(f64),
    /// A boolean.
    Bool(bool),
    /// An `AnyValue` in protobuf.
    Other(&'a [u8]),
}

impl<'a> Found<'a> {
    /// The type with which it came.
    pub fn value_type(self) -> ValueType {
        match self {
            Found::Text(_) | Found::Decimal(_) => ValueType::String,
            Found::Int(_) => ValueType::Int,
            Found::Double(_) => ValueType::Double,
            Found::Bool(_) => ValueType::Bool,
            Found::Other(_) => ValueType::Other,
        }
    }

    /// The value as text, numbers as SQL prints them; none for [`Found::Other`].
    pub fn plain_text(self) -> Option<Cow<'a, str>> {
        Some(match self {
            Found::Text(text) => Cow::Borrowed(text),
            Found::Decimal(value) | Found::Int(value) => Cow::Owned(value.to_string()),
            Found::Double(value) => Cow::Owned(format!("{value:?}")),
            Found::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Found::Other(_) => return None,
        })
    }

    /// The value of an integer.
    pub fn as_int(self) -> Option<i64> {
        if let Found::Int(value) = self { Some(value) } else { None }
    }

    /// The value of a floating point number.
    pub fn as_double(self) -> Option<f64> {
        if let Found::Double(value) = self { Some(value) } else { None }
    }

    /// The value of a boolean.
    pub fn as_bool(self) -> Option<bool> {
        if let Found::Bool(value) = self { Some(value) } else { None }
    }

    /// The `AnyValue` of anything else.
    pub fn as_other(self) -> Option<&'a [u8]> {
        if let Found::Other(value) = self { Some(value) } else { None }
    }
}

/// A residual map, opened.
#[derive(Debug)]
pub struct ResidualMap<'a> {
    map: &'a MapArray,
    keys: &'a StringArray,
    texts: &'a StringArray,
    ints: &'a Int64Array,
    doubles: &'a Float64Array,
    bools: &'a BooleanArray,
    others: &'a BinaryArray,
}

impl<'a> ResidualMap<'a> {
    /// None where the array is no residual map.
    pub fn new(array: &'a ArrayRef) -> Option<Self> {
        let map = array.as_map_opt()?;
        let values = map.values().as_struct_opt()?;
        Some(ResidualMap {
            map,
            keys: map.keys().as_string_opt()?,
            texts: values.column_by_name("string")?.as_string_opt()?,
            ints: values.column_by_name("int")?.as_primitive_opt::<Int64Type>()?,
            doubles: values.column_by_name("double")?.as_primitive_opt::<Float64Type>()?,
            bools: values.column_by_name("bool")?.as_boolean_opt()?,
            others: values.column_by_name("other")?.as_binary_opt()?,
        })
    }

    /// The entries of a row as (key, value), in their order; no value for one that has none.
    pub fn entries(&self, row: usize) -> impl Iterator<Item = (&'a str, Option<Found<'a>>)> {
        self.entries_of(row, |_| true)
    }

    /// Those of keys that are `wanted`; the values of others are not looked at.
    pub fn entries_of(&self, row: usize, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (&'a str, Option<Found<'a>>)> {
        let offsets = self.map.value_offsets();
        let range = if self.map.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize };
        let keys = self.keys;
        let values = ResidualMap { ..*self };
        range
            .map(move |entry| (entry, keys.value(entry)))
            .filter(move |(_, key)| wanted(key))
            .map(move |(entry, key)| (key, values.value(entry)))
    }

    fn value(&self, entry: usize) -> Option<Found<'a>> {
        if self.texts.is_valid(entry) {
            Some(Found::Text(self.texts.value(entry)))
        } else if self.ints.is_valid(entry) {
            Some(Found::Int(self.ints.value(entry)))
        } else if self.doubles.is_valid(entry) {
            Some(Found::Double(self.doubles.value(entry)))
        } else if self.bools.is_valid(entry) {
            Some(Found::Bool(self.bools.value(entry)))
        } else {
            self.others.is_valid(entry).then(|| Found::Other(self.others.value(entry)))
        }
    }
}
