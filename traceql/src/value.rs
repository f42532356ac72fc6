use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::text::{Quoted, duration};

/// How a span ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Not said.
    Unset,
    /// Well.
    Ok,
    /// In an error.
    Error,
}

impl Status {
    /// All, as queries write them.
    pub const NAMES: [(&'static str, Status); 3] = [("unset", Status::Unset), ("ok", Status::Ok), ("error", Status::Error)];
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Not said.
    Unspecified,
    /// Work within a service.
    Internal,
    /// A request that was answered.
    Server,
    /// A request that was made.
    Client,
    /// A message that was sent.
    Producer,
    /// A message that was received.
    Consumer,
}

impl Kind {
    /// All, as queries write them.
    pub const NAMES: [(&'static str, Kind); 6] = [
        ("unspecified", Kind::Unspecified),
        ("internal", Kind::Internal),
        ("server", Kind::Server),
        ("client", Kind::Client),
        ("producer", Kind::Producer),
        ("consumer", Kind::Consumer),
    ];
}

macro_rules! display_by_name {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str($name::NAMES.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name))
            }
        }
    )*};
}
display_by_name!(Status, Kind);

/// A value of a span's attribute, borrowed from the trace or owned. Values are ordered and equal as what they are: the number
/// 200 is not the text "200", and 1 is not 1.0. (Operators of queries compare numbers of all types.)
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Missing.
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// A status.
    Status(Status),
    /// A kind.
    Kind(Kind),
    /// A text.
    Text(Cow<'a, str>),
    /// Values of one type.
    Array(Array<'a>),
}

/// Values of one type. An implementor that has values of several types gives their texts.
#[derive(Clone, Debug)]
pub enum Array<'a> {
    /// True or false.
    Bool(Cow<'a, [bool]>),
    /// Whole numbers.
    Int(Cow<'a, [i64]>),
    /// Numbers.
    Float(Cow<'a, [f64]>),
    /// Texts.
    Text(Vec<Cow<'a, str>>),
}

impl<'a> Value<'a> {
    /// A borrowed text.
    pub fn text(text: &'a str) -> Value<'a> {
        Value::Text(Cow::Borrowed(text))
    }

    /// Whether it is missing.
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    /// A number of any type as a float; durations in nanoseconds.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) | Value::Duration(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The same, owned.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Nil => Value::Nil,
            Value::Bool(value) => Value::Bool(value),
            Value::Int(value) => Value::Int(value),
            Value::Float(value) => Value::Float(value),
            Value::Duration(value) => Value::Duration(value),
            Value::Status(value) => Value::Status(value),
            Value::Kind(value) => Value::Kind(value),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Array(array) => Value::Array(array.into_owned()),
        }
    }

    /// How much memory it takes if it is owned, about.
    pub fn bytes(&self) -> usize {
        let of_more = match self {
            Value::Text(text) => text.len(),
            Value::Array(array) => array.iter().map(|value| value.bytes()).sum(),
            _ => 0,
        };
        size_of::<Value<'_>>() + of_more
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Nil => 0,
            Value::Bool(_) => 1,
            Value::Int(_) => 2,
            Value::Float(_) => 3,
            Value::Duration(_) => 4,
            Value::Status(_) => 5,
            Value::Kind(_) => 6,
            Value::Text(_) => 7,
            Value::Array(array) => 8 + array.rank(),
        }
    }
}

impl Array<'_> {
    /// How many values.
    pub fn len(&self) -> usize {
        match self {
            Array::Bool(values) => values.len(),
            Array::Int(values) => values.len(),
            Array::Float(values) => values.len(),
            Array::Text(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values, borrowed.
    pub fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        (0..self.len()).map(|index| match self {
            Array::Bool(values) => Value::Bool(values[index]),
            Array::Int(values) => Value::Int(values[index]),
            Array::Float(values) => Value::Float(values[index]),
            Array::Text(values) => Value::text(&values[index]),
        })
    }

    fn into_owned(self) -> Array<'static> {
        match self {
            Array::Bool(values) => Array::Bool(Cow::Owned(values.into_owned())),
            Array::Int(values) => Array::Int(Cow::Owned(values.into_owned())),
            Array::Float(values) => Array::Float(Cow::Owned(values.into_owned())),
            Array::Text(values) => Array::Text(values.into_iter().map(|text| Cow::Owned(text.into_owned())).collect()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Array::Bool(_) => 0,
            Array::Int(_) => 1,
            Array::Float(_) => 2,
            Array::Text(_) => 3,
        }
    }
}

impl Ord for Value<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) | (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Status(a), Value::Status(b)) => a.cmp(b),
            (Value::Kind(a), Value::Kind(b)) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Array(a), Value::Array(b)) if a.rank() == b.rank() => a.iter().cmp(b.iter()),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // Texts of different lengths are told apart without a look at them.
            (Value::Text(a), Value::Text(b)) => a == b,
            _ => self.cmp(other) == Ordering::Equal,
        }
    }
}

impl Eq for Value<'_> {}

/// Equal values have one hash: floats are equal if all their bits are.
impl Hash for Value<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Value::Nil => {}
            Value::Bool(value) => value.hash(state),
            Value::Int(value) | Value::Duration(value) => value.hash(state),
            Value::Float(value) => value.to_bits().hash(state),
            Value::Status(value) => value.hash(state),
            Value::Kind(value) => value.hash(state),
            Value::Text(text) => text.hash(state),
            Value::Array(array) => array.iter().for_each(|value| value.hash(state)),
        }
    }
}

/// As a query would write it; arrays in brackets, which no query can.
impl fmt::Display for Value<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => out.write_str("nil"),
            Value::Bool(value) => write!(out, "{value}"),
            Value::Int(value) => write!(out, "{value}"),
            // `{:?}` keeps the point that tells a float from a whole number.
            Value::Float(value) => write!(out, "{value:?}"),
            Value::Duration(value) => out.write_str(&duration(*value)),
            Value::Status(value) => write!(out, "{value}"),
            Value::Kind(value) => write!(out, "{value}"),
            Value::Text(text) => write!(out, "{}", Quoted(text)),
            Value::Array(array) => {
                out.write_str("[")?;
                for (index, value) in array.iter().enumerate() {
                    write!(out, "{}{value}", if index == 0 { "" } else { ", " })?;
                }
                out.write_str("]")
            }
        }
    }
}
