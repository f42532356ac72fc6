//! Attributes on the wire: `KeyValue` and `AnyValue` of OTLP's `common.proto`.

use std::borrow::Cow;

use meshlake_storage::Value;

use crate::nested::Message;
use crate::room::{ITEM_BYTES, Room};
use crate::wire::{Fields, WireError};

/// An attribute: its key, and its value.
#[derive(Clone, Debug)]
pub(crate) struct KeyValue<'a> {
    pub key: &'a [u8],
    value: Encoded<'a>,
}

#[derive(Clone, Debug)]
enum Encoded<'a> {
    /// A text in the one form in which nearly all attributes come.
    Text(&'a [u8]),
    /// An `AnyValue`.
    Message(Cow<'a, [u8]>),
}

/// Splits off a length-delimited field with this tag byte and less than 128 bytes.
#[inline]
fn short_field(message: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match message {
        [first, length @ ..0x80, rest @ ..] if *first == tag => rest.split_at_checked(usize::from(*length)),
        _ => None,
    }
}

/// Tag bytes of the first and the second field, length-delimited.
const FIRST: u8 = 0x0A;
const SECOND: u8 = 0x12;

impl<'a> KeyValue<'a> {
    /// Parses an attribute, which takes `room`.
    #[inline]
    pub(crate) fn parse(message: &'a [u8], room: &mut Room) -> Result<KeyValue<'a>, WireError> {
        room.take(ITEM_BYTES)?;
        match KeyValue::short_text(message) {
            Some((key, text)) => Ok(KeyValue { key, value: Encoded::Text(text) }),
            None => KeyValue::parse_any(message, room),
        }
    }

    /// A key and a text, each short, in this order, and nothing else: no loop over fields.
    #[inline]
    pub(crate) fn short_text(message: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (key, rest) = short_field(message, FIRST)?;
        let (value, rest) = short_field(rest, SECOND)?;
        let (text, more) = short_field(value, FIRST)?;
        (rest.is_empty() && more.is_empty()).then_some((key, text))
    }

    fn parse_any(message: &'a [u8], room: &mut Room) -> Result<KeyValue<'a>, WireError> {
        let mut fields = Fields::new(message);
        let (mut key, mut value) = (&[][..], None);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => key = field.bytes(number)?,
                2 => {
                    let bytes = field.bytes(number)?;
                    // A message that comes twice is merged, and merging is what concatenated messages mean.
                    value = Some(match value {
                        None => Cow::Borrowed(bytes),
                        Some(before) => Cow::Owned([before, Cow::Borrowed(bytes)].concat()),
                    });
                }
                _ => {}
            }
        }
        let mut value = value.unwrap_or_default();
        if is_nested(&value)? && !Message::AnyValue.is_valid(&value, room)? {
            value = Cow::Owned(Message::AnyValue.repaired(&value)?);
        }
        Ok(KeyValue { key, value: Encoded::Message(value) })
    }

    /// The value if it is text, for as long as the request lives. Text that came in parts is not told.
    pub(crate) fn borrowed_text(&self) -> Result<Option<&'a [u8]>, WireError> {
        let message = match self.value {
            Encoded::Text(text) => return Ok(Some(text)),
            Encoded::Message(Cow::Borrowed(message)) => message,
            Encoded::Message(Cow::Owned(_)) => return Ok(None),
        };
        let mut fields = Fields::new(message);
        Ok(match (fields.next()?, fields.is_empty()) {
            (Some((1, field)), true) => Some(field.bytes(1)?),
            _ => None,
        })
    }

    /// The value. What is neither text nor a plain number or boolean is [`Value::Other`], as it came.
    #[inline]
    pub(crate) fn value(&self) -> Result<Value<'_>, WireError> {
        match &self.value {
            Encoded::Text(text) => Ok(Value::Text(text)),
            Encoded::Message(message) => any_value(message),
        }
    }
}

fn any_value(message: &[u8]) -> Result<Value<'_>, WireError> {
    let mut value = Value::Other(message);
    let mut fields = Fields::new(message);
    while let Some((number, field)) = fields.next()? {
        value = match number {
            1 => Value::Text(field.bytes(number)?),
            2 => Value::Bool(field.varint(number)? != 0),
            3 => Value::Int(field.varint(number)? as i64),
            4 => Value::Double(f64::from_bits(field.fixed64(number)?)),
            5..=8 => Value::Other(message),
            _ => continue,
        };
    }
    Ok(value)
}

/// Whether an `AnyValue` has anything but a text, a number or a boolean.
fn is_nested(message: &[u8]) -> Result<bool, WireError> {
    let mut fields = Fields::new(message);
    let mut nested = false;
    while let Some((number, _)) = fields.next()? {
        nested |= matches!(number, 5..=8);
    }
    Ok(nested)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as OtlpKeyValue};
    use prost::Message as _;

    fn encoded(value: Option<OtlpValue>) -> Vec<u8> {
        OtlpKeyValue { key: "k".into(), value: Some(AnyValue { value }), ..Default::default() }.encode_to_vec()
    }

    /// Scenario: a value of each plain type, and an empty one. Guarantee: it is read as what it is.
    #[test]
    fn types() {
        let cases = [
            (Some(OtlpValue::StringValue("v".into())), Value::Text(b"v")),
            (Some(OtlpValue::StringValue(String::new())), Value::Text(b"")),
            (Some(OtlpValue::BoolValue(false)), Value::Bool(false)),
            (Some(OtlpValue::IntValue(-1)), Value::Int(-1)),
            (Some(OtlpValue::DoubleValue(0.0)), Value::Double(0.0)),
            (None, Value::Other(b"")),
        ];
        for (value, expected) in cases {
            let message = encoded(value);
            let attribute = KeyValue::parse(&message, &mut Room::of_request(0, 0)).unwrap();
            assert_eq!((attribute.key, attribute.value()), (&b"k"[..], Ok(expected)));
        }
    }

    /// Scenario: the value of an attribute comes in two parts. Guarantee: they are merged as protobuf says: the last wins.
    #[test]
    fn values_merge() {
        let mut message = encoded(Some(OtlpValue::IntValue(1)));
        message.extend(&encoded(Some(OtlpValue::BoolValue(true)))[3..]);
        let oracle = OtlpKeyValue::decode(&*message).unwrap();
        assert_eq!(oracle.value.unwrap().value, Some(OtlpValue::BoolValue(true)));
        assert_eq!(KeyValue::parse(&message, &mut Room::of_request(0, 0)).unwrap().value(), Ok(Value::Bool(true)));
    }
}
