//! What spans are summed by, each text once.

use hashbrown::HashMap;

use crate::rollup::FormatError;
use crate::rollup::format::Reader;
use crate::varint;

/// What the spans of one row have in common, as it stands in the table `spans`. Keys are kept in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanKey<'a> {
    /// The attribute `service.name` of the resource.
    pub service: Option<&'a str>,
    /// The name.
    pub name: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The status.
    pub status: &'a str,
}

/// The keys of a rollup, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanKeys {
    texts: Vec<Box<str>>,
    /// Of service (from 1, 0 is none), name, kind and status.
    keys: Vec<[u32; 4]>,
}

impl SpanKeys {
    /// How many.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key with a number below [`SpanKeys::len`].
    pub fn key(&self, number: u32) -> SpanKey<'_> {
        let [service, name, kind, status] = self.keys[number as usize];
        let service = service.checked_sub(1).map(|service| self.text(service));
        SpanKey { service, name: self.text(name), kind: self.text(kind), status: self.text(status) }
    }

    fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.len() + size_of::<Box<str>>()).sum::<usize>() + self.keys.len() * 16
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint::write(&mut bytes, self.texts.len() as u128);
        for text in &self.texts {
            varint::write(&mut bytes, text.len() as u128);
            bytes.extend_from_slice(text.as_bytes());
        }
        varint::write(&mut bytes, self.keys.len() as u128);
        self.keys.iter().flatten().for_each(|number| varint::write(&mut bytes, (*number).into()));
        bytes
    }

    /// Reads the section of a rollup that has them.
    ///
    /// # Errors
    /// Bytes that no version 1 writes.
    pub fn decode(section: &[u8]) -> Result<SpanKeys, FormatError> {
        let (mut reader, mut keys) = (Reader::new(section), SpanKeys::default());
        for _ in 0..reader.length()? {
            keys.texts.push(reader.text()?.into());
        }
        let texts = keys.texts.len();
        for _ in 0..reader.length()? {
            let [service] = reader.numbers(texts + 1)?;
            let [name, kind, status] = reader.numbers(texts)?;
            keys.keys.push([service, name, kind, status]);
        }
        if reader.bytes.is_empty() { Ok(keys) } else { Err(FormatError) }
    }
}

/// Which parts of keys tell one from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyParts {
    /// The service.
    pub service: bool,
    /// The name.
    pub name: bool,
    /// The kind.
    pub kind: bool,
    /// The status.
    pub status: bool,
}

/// Keys in the making, numbered as they come.
#[derive(Debug, Default)]
pub struct KeyNumbers {
    pub(super) keys: SpanKeys,
    texts: HashMap<Box<str>, u32>,
    numbers: HashMap<[u32; 4], u32>,
}

impl KeyNumbers {
    /// The keys so far, by number.
    pub fn keys(&self) -> &SpanKeys {
        &self.keys
    }

    /// The numbers of the keys of a rollup, by their numbers there. Keys that differ in none of `parts` have one number; what does
    /// not tell them apart is left out of it: it has no service, and its other texts are empty.
    pub fn numbers(&mut self, keys: &SpanKeys, parts: KeyParts) -> Vec<u32> {
        // A rollup has each text once, but in many keys.
        let mut known: Vec<Option<u32>> = vec![None; keys.texts.len()];
        let empty = self.text("");
        let mut numbers = Vec::with_capacity(keys.len());
        for &[service, name, kind, status] in &keys.keys {
            let mut text = |number: u32| *known[number as usize].get_or_insert_with(|| self.text(keys.text(number)));
            let service = service.checked_sub(1).filter(|_| parts.service).map_or(0, |service| text(service) + 1);
            let others = [(parts.name, name), (parts.kind, kind), (parts.status, status)];
            let [name, kind, status] = others.map(|(tells, number)| if tells { text(number) } else { empty });
            numbers.push(self.numbered([service, name, kind, status]));
        }
        numbers
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(number) = self.texts.get(text) {
            return *number;
        }
        let number = self.keys.texts.len() as u32;
        self.keys.texts.push(text.into());
        self.texts.insert(text.into(), number);
        number
    }

    /// The number of a key.
    pub(super) fn number(&mut self, key: &SpanKey<'_>) -> u32 {
        let service = key.service.map_or(0, |service| self.text(service) + 1);
        let texts = [service, self.text(key.name), self.text(key.kind), self.text(key.status)];
        self.numbered(texts)
    }

    fn numbered(&mut self, texts: [u32; 4]) -> u32 {
        *self.numbers.entry(texts).or_insert_with(|| {
            self.keys.keys.push(texts);
            self.keys.keys.len() as u32 - 1
        })
    }

    /// The keys in their order, and the number that each has there.
    pub(super) fn sorted(&self) -> (SpanKeys, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        order.sort_unstable_by_key(|number| self.keys.key(*number));
        let (mut sorted, mut numbers) = (KeyNumbers::default(), vec![0; order.len()]);
        for number in order {
            numbers[number as usize] = sorted.number(&self.keys.key(number));
        }
        (sorted.keys, numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: the keys of two rollups, of which service and kind tell; the texts stand at other places in the second. Guarantee:
    /// keys that differ in nothing else have one number, in both; no service is another than an empty one.
    #[test]
    fn keys_are_one_in_what_does_not_tell() {
        let key = |service, name, kind| SpanKey { service, name, kind, status: "ok" };
        let of = |keys: &[SpanKey<'_>]| {
            let mut numbers = KeyNumbers::default();
            keys.iter().for_each(|key| {
                numbers.number(key);
            });
            numbers.keys
        };
        let first = of(&[key(Some("a"), "x", "server"), key(Some("a"), "y", "server"), key(None, "x", "client")]);
        let second = of(&[key(Some(""), "x", "client"), key(None, "y", "client"), key(Some("a"), "z", "server")]);
        let (mut numbers, parts) = (KeyNumbers::default(), KeyParts { service: true, kind: true, ..KeyParts::default() });
        assert_eq!(numbers.numbers(&first, parts), [0, 0, 1]);
        assert_eq!(numbers.numbers(&second, parts), [2, 1, 0]);
        assert_eq!(numbers.keys().key(0), SpanKey { service: Some("a"), name: "", kind: "server", status: "" });
        assert_eq!(numbers.keys().key(1), SpanKey { service: None, name: "", kind: "client", status: "" });
    }
}
