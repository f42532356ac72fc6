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

/// Keys in the making.
#[derive(Debug, Default)]
pub(super) struct KeyNumbers {
    pub(super) keys: SpanKeys,
    texts: HashMap<Box<str>, u32>,
    numbers: HashMap<[u32; 4], u32>,
}

impl KeyNumbers {
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
