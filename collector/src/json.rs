//! OTLP/JSON requests, rewritten as protobuf in one pass.
//!
//! The JSON is read as a stream and the protobuf bytes are written as it goes, guided by the tables in [`schema`]; no tree of
//! either is built. So the memory is that of the output, which is at most about the input, and the decoder has one format.
//!
//! # What is read (OTLP 1.11, "JSON Protobuf Encoding", over the JSON mapping of proto3)
//! - Names are lowerCamelCase; other fields are passed over. `null` is as if the field were absent; in an array it is an empty
//!   value. Of a field given twice, or of two values of one attribute, the last counts.
//! - Trace and span ids are hex in either case. Their length is the decoder's matter, which refuses spans one by one.
//! - Integers of any width come as numbers or strings, also with an exponent or a fraction of zeros; they are exact.
//! - Enums are numbers by the specification. Their proto names are taken as well: proto3 JSON writers send them, and refusing
//!   would lose the spans.
//! - Doubles come as numbers or strings; bytes as base64 of either alphabet, padded or not. A half surrogate pair, which a
//!   sender makes when it cuts a string, becomes U+FFFD.
//! - Messages nest at most [`DEPTH_MAX`] deep.

#[cfg(test)]
mod roundtrip;
mod schema;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{self, WireType, encode_key, encode_varint, encoded_len_varint};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use self::schema::{FIELDS_MAX, Field, Kind, Message, REQUEST};

/// Of messages in each other, the request included: under prost's limit of 100, and reached before serde_json's limit of 128
/// objects and arrays.
const DEPTH_MAX: u32 = 80;
/// Characters of a path or a value that an error repeats.
const SHOWN_MAX: usize = 200;

/// Why bytes are no OTLP/JSON request: where, what was expected and what was found.
#[derive(Debug, Error)]
#[error("cannot read the OTLP/JSON request: {0}")]
pub(crate) struct JsonError(#[from] serde_json::Error);

/// The protobuf bytes of an `ExportTraceServiceRequest` in OTLP/JSON.
pub(crate) fn to_protobuf(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.deserialize_any(Request(&mut out))?;
    deserializer.end()?;
    Ok(out)
}

/// Where in the request a value is.
#[derive(Clone, Copy)]
enum Path<'a> {
    Request,
    Field(&'a Path<'a>, &'static str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Request => f.write_str("the request"),
            Path::Field(Path::Request, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl Path<'_> {
    fn mismatch<E: Error>(&self, expected: &str, found: &str) -> E {
        E::custom(format_args!("{}: expected {expected}, found {}", shown(&self.to_string()), shown(found)))
    }
}

fn shown(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// Implements the [`Visitor`] methods for JSON values of the wrong type by `self.mismatch(found)`.
macro_rules! mismatches {
    ($($method:ident($($type:ty)?) $found:literal)*) => {
        $(fn $method<E: Error>(self $(, _: $type)?) -> Result<Self::Value, E> {
            Err(self.mismatch($found))
        })*
    };
}

struct Request<'a>(&'a mut Vec<u8>);

impl Request<'_> {
    fn mismatch<E: Error>(&self, found: &str) -> E {
        Path::Request.mismatch("an object", found)
    }
}

impl<'de> Visitor<'de> for Request<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        write_fields(&REQUEST, map, &Path::Request, 1, self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.mismatch("an array"))
    }

    mismatches! {
        visit_unit() "null"
        visit_bool(bool) "a boolean"
        visit_i64(i64) "a number"
        visit_u64(u64) "a number"
        visit_f64(f64) "a number"
        visit_str(&str) "a string"
    }
}

/// Writes the known fields of an object.
fn write_fields<'de, A: MapAccess<'de>>(
    message: &'static Message,
    mut map: A,
    path: &Path<'_>,
    depth: u32,
    out: &mut Vec<u8>,
) -> Result<(), A::Error> {
    let mut written = Written::default();
    while let Some(found) = map.next_key_seed(Name(message))? {
        let Some((index, field)) = found else {
            map.next_value::<IgnoredAny>()?;
            continue;
        };
        let start = out.len();
        let repeated = field.repeated;
        let present = map.next_value_seed(Value { field, repeated, path: Path::Field(path, field.name), depth, out })?;
        if present {
            written.replace(if message.one_of { 0 } else { index }, start, out);
        }
    }
    Ok(())
}

/// Where the output holds each field of the object being read, so that a field given again takes the first one's place.
#[derive(Default)]
struct Written([Range<usize>; FIELDS_MAX]);

impl Written {
    /// Forgets what the output has for `slot`; what it has from `start` on is its value now.
    ///
    /// A byte moves at most once for each field that was written before it, however often fields are repeated.
    fn replace(&mut self, slot: usize, start: usize, out: &mut Vec<u8>) {
        let old = std::mem::replace(&mut self.0[slot], start..out.len());
        if old.is_empty() {
            return;
        }
        for range in self.0.iter_mut().filter(|range| range.start >= old.end) {
            *range = range.start - old.len()..range.end - old.len();
        }
        out.drain(old);
    }
}

/// A key of an object: the field of that name and its place in the table.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<(usize, &'static Field)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Option<(usize, &'static Field)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.fields.iter().enumerate().find(|(_, field)| field.name == name))
    }
}

/// The value of a field, or with `repeated` off one item of it. Reading it says whether it was there, that is, not `null`.
struct Value<'a> {
    field: &'static Field,
    repeated: bool,
    path: Path<'a>,
    /// Of the message that has the field.
    depth: u32,
    out: &'a mut Vec<u8>,
}

impl Value<'_> {
    fn mismatch<E: Error>(&self, found: &str) -> E {
        self.path.mismatch(if self.repeated { "an array" } else { self.field.kind.expected() }, found)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        if self.repeated || matches!(self.field.kind, Kind::Message(_)) {
            return deserializer.deserialize_any(self);
        }
        // As text: what the number parser makes of 17 digits may be the float next to it.
        let json = <&RawValue>::deserialize(deserializer)?.get();
        if json == "null" {
            return Ok(false);
        }
        write_leaf(self.field, json, self.out).ok_or_else(|| self.mismatch(json))?;
        Ok(true)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        let (Kind::Message(message), false) = (&self.field.kind, self.repeated) else {
            return Err(self.mismatch("an object"));
        };
        let depth = self.depth + 1;
        if depth > DEPTH_MAX {
            return Err(self.path.mismatch(&format!("at most {DEPTH_MAX} messages in each other"), "one more"));
        }
        let start = open(self.field.number, self.out);
        write_fields(message, map, &self.path, depth, self.out)?;
        close(start, self.out);
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        if !self.repeated {
            return Err(self.mismatch("an array"));
        }
        let Value { field, depth, out, .. } = self;
        let mut index = 0;
        while let Some(present) =
            items.next_element_seed(Value { field, repeated: false, path: Path::Item(&self.path, index), depth, out })?
        {
            if !present {
                // Only strings and messages are repeated: both are empty when their length is 0.
                let start = open(field.number, out);
                close(start, out);
            }
            index += 1;
        }
        Ok(true)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    mismatches! {
        visit_bool(bool) "a boolean"
        visit_i64(i64) "a number"
        visit_u64(u64) "a number"
        visit_f64(f64) "a number"
        visit_str(&str) "a string"
    }
}

/// Begins a length-delimited field: what is written next is its content, up to the [`close`] of the position returned.
fn open(number: u32, out: &mut Vec<u8>) -> usize {
    encode_key(number, WireType::LengthDelimited, out);
    out.push(0);
    out.len()
}

/// Ends the field whose content begins at `start`: puts its length before it.
fn close(start: usize, out: &mut Vec<u8>) {
    let length = (out.len() - start) as u64;
    let mut bytes = [0; 10];
    encode_varint(length, &mut &mut bytes[..]);
    out.splice(start - 1..start, bytes[..encoded_len_varint(length)].iter().copied());
}

/// Writes a field that is neither a message nor repeated; `None` if `json`, one JSON value, is not of its kind.
fn write_leaf(field: &Field, json: &str, out: &mut Vec<u8>) -> Option<()> {
    let number = field.number;
    match field.kind {
        Kind::Text => {
            let text = string(json)?;
            let start = open(number, out);
            out.extend_from_slice(text.as_bytes());
            close(start, out);
        }
        Kind::Id => {
            let start = open(number, out);
            write_hex(&string(json)?, out)?;
            close(start, out);
        }
        Kind::Bytes => {
            let start = open(number, out);
            write_base64(&string(json)?, out)?;
            close(start, out);
        }
        Kind::Bool => encoding::bool::encode(number, &json.parse().ok()?, out),
        Kind::Int32 => encoding::int32::encode(number, &integer(json)?, out),
        Kind::Int64 => encoding::int64::encode(number, &integer(json)?, out),
        Kind::Uint32 => encoding::uint32::encode(number, &integer(json)?, out),
        Kind::Fixed32 => encoding::fixed32::encode(number, &integer(json)?, out),
        Kind::Fixed64 => encoding::fixed64::encode(number, &integer(json)?, out),
        Kind::Double => encoding::double::encode(number, &double(json)?, out),
        Kind::Enum(value) => encoding::int32::encode(number, &integer(json).or_else(|| value(unquoted(json)))?, out),
        Kind::Message(_) => return None,
    }
    Some(())
}

/// The text of a JSON string without its quotes, escapes left as they are; any other JSON value as it is.
fn unquoted(json: &str) -> &str {
    json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json)
}

fn string(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Some(unquoted(json).into()),
        [b'"', ..] => serde_json::Deserializer::from_str(json).deserialize_bytes(Unescaped).ok().map(Cow::from),
        _ => None,
    }
}

/// Takes the bytes of a JSON string with escapes. Asked for bytes, `serde_json` lets half surrogate pairs pass.
struct Unescaped;

impl Visitor<'_> for Unescaped {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// The integer that a number, or a number in a string, is exactly: `7`, `"7"`, `7.0` and `0.7e1` are all 7.
fn integer<T: TryFrom<i128>>(json: &str) -> Option<T> {
    let text = unquoted(json);
    let number = match text.parse() {
        Ok(number) => number,
        Err(_) => scaled_integer(text)?,
    };
    T::try_from(number).ok()
}

fn scaled_integer(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scale = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 { digits.checked_mul(scale) } else { (digits % scale == 0).then(|| digits / scale) }
}

fn double(json: &str) -> Option<f64> {
    match json {
        r#""NaN""# => Some(f64::NAN),
        r#""Infinity""# => Some(f64::INFINITY),
        r#""-Infinity""# => Some(f64::NEG_INFINITY),
        // The parser knows other names for these three; and a number past the range of floats reads as infinite.
        _ => unquoted(json).parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

fn write_hex(digits: &str, out: &mut Vec<u8>) -> Option<()> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    for &[high, low] in pairs {
        out.push((digit(high)? << 4 | digit(low)?) as u8);
    }
    Some(())
}

fn write_base64(text: &str, out: &mut Vec<u8>) -> Option<()> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    engine.decode_vec(text, out).ok()
}
