//! Values of attributes: as they stand in columns, in TraceQL, and in answers.

use std::borrow::Cow;

use meshlake_storage::Found;
use meshlake_traceql::{Array, Value};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use prost::Message;

use crate::values::as_text;

/// A value of a column in TraceQL: bytes and maps are texts, as SQL's `attribute()` gives them; an empty value is missing.
pub(super) fn value(found: Found<'_>) -> Value<'_> {
    match found {
        Found::Text(text) => Value::text(text),
        Found::Decimal(number) => Value::Text(Cow::Owned(number.to_string())),
        Found::Int(number) => Value::Int(number),
        Found::Double(number) => Value::Float(number),
        Found::Bool(truth) => Value::Bool(truth),
        Found::Other(bytes) => match AnyValue::decode(bytes).ok().and_then(|any| any.value) {
            Some(Otlp::ArrayValue(array)) => Value::Array(array_of(&array.values)),
            Some(_) => as_text(found).map_or(Value::Nil, |text| Value::Text(Cow::Owned(text))),
            None => Value::Nil,
        },
    }
}

/// Elements of one type, else their texts.
fn array_of(elements: &[AnyValue]) -> Array<'static> {
    fn each<T>(elements: &[AnyValue], pick: impl Fn(&Otlp) -> Option<T>) -> Option<Vec<T>> {
        elements.iter().map(|element| element.value.as_ref().and_then(&pick)).collect()
    }
    let none = elements.is_empty();
    let texts = || elements.iter().map(|element| as_text(Found::Other(&element.encode_to_vec())).unwrap_or_default());
    let ints = each(elements, |value| if let Otlp::IntValue(value) = value { Some(*value) } else { None });
    let floats = each(elements, |value| if let Otlp::DoubleValue(value) = value { Some(*value) } else { None });
    let bools = each(elements, |value| if let Otlp::BoolValue(value) = value { Some(*value) } else { None });
    match (ints, floats, bools) {
        (Some(ints), ..) if !none => Array::Int(Cow::Owned(ints)),
        (_, Some(floats), _) if !none => Array::Float(Cow::Owned(floats)),
        (.., Some(bools)) if !none => Array::Bool(Cow::Owned(bools)),
        _ => Array::Text(texts().map(Cow::Owned).collect()),
    }
}

/// A value in an answer: what OTLP has no type for is a text.
pub(super) fn any_value(value: &Value<'_>) -> AnyValue {
    let value = match value {
        Value::Text(text) => Otlp::StringValue(text.to_string()),
        Value::Bool(value) => Otlp::BoolValue(*value),
        Value::Int(value) => Otlp::IntValue(*value),
        Value::Float(value) => Otlp::DoubleValue(*value),
        Value::Array(array) => Otlp::ArrayValue(ArrayValue { values: array.iter().map(|element| any_value(&element)).collect() }),
        Value::Nil | Value::Duration(_) | Value::Status(_) | Value::Kind(_) => Otlp::StringValue(value.to_string()),
    };
    AnyValue { value: Some(value) }
}
