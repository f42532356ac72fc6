//! Messages that are stored as they came: attribute values that are arrays or maps, and entity references.
//!
//! They are read back by prost and by clients, so they are walked once on arrival: what prost would refuse is refused here,
//! and text that is no UTF-8 is repaired, as it is everywhere else. Nothing is allocated unless it is.

use prost::encoding::{WireType, encode_key, encode_varint};

use crate::room::{ITEM_BYTES, Room};
use crate::wire::{Field, Fields, WireError};

/// Messages in each other below an attribute's value. Above it are seven at most (request, resource spans, scope spans, span,
/// event, attribute, value), so what passes the JSON decoder's limit of 80 passes here, and no client reaches prost's of 100.
const DEPTH_MAX: u32 = 74;

/// A message of `common.proto`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    AnyValue,
    ArrayValue,
    KeyValueList,
    KeyValue,
    EntityRef,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Text,
    Bytes,
    Varint,
    Fixed64,
    Nested(Message),
    Unknown,
}

impl Message {
    fn shape(self, number: u32) -> Shape {
        match (self, number) {
            (Message::AnyValue | Message::KeyValue, 1) | (Message::EntityRef, 1..=4) => Shape::Text,
            (Message::AnyValue, 2 | 3 | 8) | (Message::KeyValue, 3) => Shape::Varint,
            (Message::AnyValue, 4) => Shape::Fixed64,
            (Message::AnyValue, 5) => Shape::Nested(Message::ArrayValue),
            (Message::AnyValue, 6) => Shape::Nested(Message::KeyValueList),
            (Message::AnyValue, 7) => Shape::Bytes,
            (Message::ArrayValue, 1) | (Message::KeyValue, 2) => Shape::Nested(Message::AnyValue),
            (Message::KeyValueList, 1) => Shape::Nested(Message::KeyValue),
            _ => Shape::Unknown,
        }
    }

    /// Whether a message of this kind can be stored as it came: all its text is UTF-8, and it has no groups, whose nesting prost
    /// counts. Its items take `room`.
    ///
    /// # Errors
    /// If prost could not read the message, if it is nested too deep, or if there is no room.
    pub(crate) fn is_valid(self, message: &[u8], room: &mut Room) -> Result<bool, WireError> {
        self.check(message, DEPTH_MAX, room)
    }

    fn check(self, message: &[u8], depth: u32, room: &mut Room) -> Result<bool, WireError> {
        let mut valid = true;
        let mut fields = Fields::new(message);
        while let Some((number, field)) = fields.next()? {
            room.take(ITEM_BYTES)?;
            valid &= match self.shape(number) {
                Shape::Text => str::from_utf8(field.bytes(number)?).is_ok(),
                Shape::Bytes => field.bytes(number).map(|_| true)?,
                Shape::Varint => field.varint(number).map(|_| true)?,
                Shape::Fixed64 => field.fixed64(number).map(|_| true)?,
                Shape::Nested(nested) => {
                    let depth = depth.checked_sub(1).ok_or(WireError::Nesting)?;
                    nested.check(field.bytes(number)?, depth, room)?
                }
                Shape::Unknown => field != Field::Group,
            };
        }
        Ok(valid)
    }

    /// A checked message with its text repaired and without groups; all else is as it came.
    pub(crate) fn repaired(self, message: &[u8]) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(message.len() + message.len() / 2);
        let mut fields = Fields::new(message);
        loop {
            let before = fields;
            let Some((number, field)) = fields.next()? else { return Ok(out) };
            match (self.shape(number), field) {
                (Shape::Text, Field::Bytes(text)) => write(number, String::from_utf8_lossy(text).as_bytes(), &mut out),
                (Shape::Nested(nested), Field::Bytes(message)) => write(number, &nested.repaired(message)?, &mut out),
                (_, Field::Group) => {}
                _ => out.extend_from_slice(before.until(&fields)),
            }
        }
    }
}

fn write(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, EntityRef, KeyValue, KeyValueList};
    use proptest::prelude::*;
    use prost::Message as _;

    fn array(values: Vec<AnyValue>) -> AnyValue {
        AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }
    }

    fn map(key: &str, value: AnyValue) -> AnyValue {
        let values = vec![KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }];
        AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) }
    }

    fn text(text: &str) -> AnyValue {
        AnyValue { value: Some(Value::StringValue(text.into())) }
    }

    fn check(message: &[u8]) -> Result<bool, WireError> {
        Message::AnyValue.is_valid(message, &mut Room::of_request(message.len(), message.len()))
    }

    /// Scenario: text that is no UTF-8, in a key and a value of a map in an array, beside an unknown field. Guarantee: it reads
    /// back with the text repaired, as text outside of arrays is; valid messages are left alone.
    #[test]
    fn nested_text_is_repaired() {
        let value = array(vec![text("ok"), map("#key", text("#value")), AnyValue { value: Some(Value::IntValue(-1)) }]);
        let mut message = value.encode_to_vec();
        message.extend([0x98, 0x06, 0x01]);
        assert_eq!(check(&message), Ok(true));
        assert_eq!(Message::AnyValue.repaired(&message), Ok(message.clone()));
        message.iter_mut().filter(|byte| **byte == b'#').for_each(|byte| *byte = 0xFF);
        assert_eq!(check(&message), Ok(false));
        let expected =
            array(vec![text("ok"), map("\u{FFFD}key", text("\u{FFFD}value")), AnyValue { value: Some(Value::IntValue(-1)) }]);
        let repaired = Message::AnyValue.repaired(&message).unwrap();
        assert_eq!(AnyValue::decode(&*repaired).unwrap(), expected);
    }

    /// Scenario: values nested as deep as is allowed, and one deeper. Guarantee: the first is read by a prost client that gets
    /// it as an event's attribute; the second is refused.
    #[test]
    fn depth_is_what_clients_read() {
        use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, TracesData, span::Event};
        let nested = |levels| (0..levels).fold(text("x"), |value, _| array(vec![value]));
        let deepest = nested(DEPTH_MAX / 2);
        assert_eq!(check(&deepest.encode_to_vec()), Ok(true));
        assert_eq!(check(&nested(DEPTH_MAX / 2 + 1).encode_to_vec()), Err(WireError::Nesting));
        let attributes = vec![KeyValue { key: "k".into(), value: Some(deepest), ..KeyValue::default() }];
        let spans = vec![Span { events: vec![Event { attributes, ..Event::default() }], ..Span::default() }];
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let data = TracesData { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] };
        assert_eq!(TracesData::decode(&*data.encode_to_vec()), Ok(data));
    }

    /// Scenario: millions of empty nested values. Guarantee: refused for want of room.
    #[test]
    fn nested_values_take_room() {
        let values = [0x0A, 0x00].repeat(9 << 20);
        let mut message = vec![0x2A];
        encode_varint(values.len() as u64, &mut message);
        message.extend(values);
        assert_eq!(check(&message), Err(WireError::Room));
    }

    proptest! {
        /// Scenario: any bytes, and bytes that are nearly messages. Guarantee: what is found to be valid prost reads, and what
        /// is repaired too; the same for entity references.
        #[test]
        fn prost_reads_what_passes(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut near = array(vec![map("key", text("value")), array(vec![text("a"), text("b")])]).encode_to_vec();
            let at = at.index(near.len());
            near[at] = byte;
            for message in [&bytes, &near] {
                let room = &mut Room::of_request(message.len(), message.len());
                match Message::AnyValue.is_valid(message, room) {
                    Ok(true) => prop_assert!(AnyValue::decode(&**message).is_ok()),
                    Ok(false) => prop_assert!(AnyValue::decode(&*Message::AnyValue.repaired(message).unwrap()).is_ok()),
                    Err(_) => prop_assert!(AnyValue::decode(&**message).is_err()),
                }
                if Message::EntityRef.is_valid(message, room) == Ok(true) {
                    prop_assert!(EntityRef::decode(&**message).is_ok());
                }
            }
        }
    }
}
