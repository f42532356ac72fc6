//! What hops are summed by, each text and each end once.

use std::hash::{Hash, Hasher};

use hashbrown::HashMap;

use super::format::{FormatError, Reader};
use crate::hop::{Hop, Via};
use crate::node::{Node, NodeKind};
use crate::varint;

/// What the hops of one row have in common. Keys are kept in this order, so that what is asked for together, an operation of a
/// callee, stands together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollupKey<'a> {
    /// Who was asked.
    pub callee: Node<'a>,
    /// The name of the key span.
    pub operation: &'a str,
    /// Who asked.
    pub caller: Node<'a>,
    /// The waypoint between them.
    pub via: Option<Via<'a>>,
    /// The protocol.
    pub protocol: &'a str,
}

impl<'a> RollupKey<'a> {
    pub(crate) fn of(hop: &Hop<'a>) -> RollupKey<'a> {
        RollupKey { caller: hop.caller, callee: hop.callee, via: hop.via, operation: hop.operation, protocol: hop.protocol }
    }

    /// The edge that it is of.
    pub(crate) fn edge(&self) -> (Node<'a>, Node<'a>, Option<Via<'a>>) {
        (self.caller, self.callee, self.via)
    }
}

/// Kind, port and the numbers of the texts of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct End {
    kind: NodeKind,
    port: Option<u16>,
    texts: [u32; 6],
}

/// Numbers of the ends and texts of a key; a waypoint is three texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredKey {
    /// Caller and callee.
    pub ends: [u32; 2],
    pub via: Option<[u32; 3]>,
    /// Operation and protocol.
    pub texts: [u32; 2],
}

/// As few words as there are: one is looked up for each hop.
impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let word = |[a, b]: [u32; 2]| u64::from(a) << 32 | u64::from(b);
        state.write_u64(word(self.ends));
        state.write_u64(word(self.texts));
        self.via.iter().flatten().for_each(|text| state.write_u32(*text));
    }
}

/// The keys of a rollup, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    texts: Vec<Box<str>>,
    /// The length of all texts.
    letters: usize,
    ends: Vec<End>,
    keys: Vec<StoredKey>,
}

impl Keys {
    /// How many.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many different ends they have.
    pub fn ends(&self) -> usize {
        self.ends.len()
    }

    /// The numbers of the caller and the callee of a key among the ends.
    pub fn ends_of(&self, number: u32) -> [usize; 2] {
        self.keys[number as usize].ends.map(|end| end as usize)
    }

    /// The end with a number below [`Keys::ends`].
    pub fn end(&self, number: usize) -> Node<'_> {
        self.node(number as u32)
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let texts = self.letters + self.texts.len() * size_of::<Box<str>>();
        texts + self.ends.len() * size_of::<End>() + self.keys.len() * size_of::<StoredKey>()
    }

    /// The key with a number below [`Keys::len`].
    pub fn key(&self, number: u32) -> RollupKey<'_> {
        let stored = &self.keys[number as usize];
        let [caller, callee] = stored.ends.map(|end| self.node(end));
        let via = stored.via.map(|texts| {
            let [cluster, namespace, workload] = texts.map(|text| self.text(text));
            Via { cluster, namespace, workload }
        });
        let [operation, protocol] = stored.texts.map(|text| self.text(text));
        RollupKey { callee, operation, caller, via, protocol }
    }

    /// Which keys are of a callee that `asks` takes, and of one operation if one is named.
    pub fn of_callees(&self, operation: Option<&str>, asks: impl Fn(&Node<'_>) -> bool) -> Vec<bool> {
        let asked: Vec<bool> = (0..self.ends.len() as u32).map(|end| asks(&self.node(end))).collect();
        let operation = operation.map(|name| self.texts.iter().position(|text| **text == *name));
        let is_asked = |key: &StoredKey| {
            let of_operation = operation.is_none_or(|text| text == Some(key.texts[0] as usize));
            of_operation && asked[key.ends[1] as usize]
        };
        self.keys.iter().map(is_asked).collect()
    }

    fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    fn node(&self, number: u32) -> Node<'_> {
        let End { kind, port, texts } = self.ends[number as usize];
        let [cluster, namespace, workload, service, version, zone] = texts.map(|text| self.text(text));
        Node { kind, cluster, namespace, workload, service, version, zone, port }
    }

    /// The numbers of all keys, in the order of the keys.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        numbers.sort_unstable_by_key(|number| self.key(*number));
        numbers
    }

    /// Of each key the first with the same callee and operation; they stand together, for the keys are sorted.
    pub(crate) fn operations(&self) -> Vec<u32> {
        let of = |key: &StoredKey| (key.ends[1], key.texts[0]);
        let operations = self.keys.chunk_by(|a, b| of(a) == of(b)).scan(0, |first, keys| {
            let operation = std::iter::repeat_n(*first, keys.len());
            *first += keys.len() as u32;
            Some(operation)
        });
        operations.flatten().collect()
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        varint::write(bytes, self.texts.len() as u128);
        for text in &self.texts {
            varint::write(bytes, text.len() as u128);
            bytes.extend_from_slice(text.as_bytes());
        }
        varint::write(bytes, self.ends.len() as u128);
        for End { kind, port, texts } in &self.ends {
            bytes.push(*kind as u8);
            varint::write(bytes, port.map_or(0, |port| u128::from(port) + 1));
            texts.iter().for_each(|text| varint::write(bytes, (*text).into()));
        }
        varint::write(bytes, self.len() as u128);
        for StoredKey { ends, via, texts } in &self.keys {
            ends.iter().chain(texts).for_each(|number| varint::write(bytes, (*number).into()));
            bytes.push(via.is_some().into());
            via.iter().flatten().for_each(|number| varint::write(bytes, (*number).into()));
        }
    }

    /// Reads the section of a rollup that has them.
    ///
    /// # Errors
    /// Bytes that no version 3 writes.
    pub fn decode(section: &[u8]) -> Result<Keys, FormatError> {
        let mut reader = Reader::new(section);
        let mut keys = Keys::default();
        for _ in 0..reader.length()? {
            let text = reader.text()?;
            keys.letters += text.len();
            keys.texts.push(text.into());
        }
        let texts = keys.texts.len();
        for _ in 0..reader.length()? {
            let kind = NodeKind::of_number(reader.byte().ok_or(FormatError)?).ok_or(FormatError)?;
            let port = match reader.small().ok_or(FormatError)? {
                0 => None,
                port => Some(u16::try_from(port - 1).map_err(|_| FormatError)?),
            };
            keys.ends.push(End { kind, port, texts: reader.numbers(texts)? });
        }
        let ends = keys.ends.len();
        for _ in 0..reader.length()? {
            let (ends, operation) = (reader.numbers(ends)?, reader.numbers(texts)?);
            let via = match reader.byte() {
                Some(0) => None,
                Some(1) => Some(reader.numbers(texts)?),
                _ => return Err(FormatError),
            };
            keys.keys.push(StoredKey { ends, via, texts: operation });
        }
        if reader.bytes.is_empty() { Ok(keys) } else { Err(FormatError) }
    }
}

/// Keys in the making: the numbers that texts, ends and keys have.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyNumbers {
    keys: Keys,
    texts: HashMap<Box<str>, u32>,
    ends: HashMap<End, u32>,
    numbers: HashMap<StoredKey, u32>,
    recent_texts: Recent,
    recent_ends: Recent,
}

/// The numbers of what came lately, by where its texts stand in memory: hops of one batch share their texts, and comparing one text
/// is less than finding it. What is found is compared, so nothing but the time depends on the places.
#[derive(Clone, Debug, Default)]
struct Recent(Vec<u32>);

impl Recent {
    const BITS: u32 = 12;

    /// The number that may be that of what has texts at these addresses, to be read and replaced.
    fn at(&mut self, addresses: impl IntoIterator<Item = usize>) -> &mut u32 {
        if self.0.is_empty() {
            self.0.resize(1 << Recent::BITS, u32::MAX);
        }
        let mix = |hash: u64, address: usize| (hash ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        let hash = addresses.into_iter().fold(0, mix).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &mut self.0[(hash >> (u64::BITS - Recent::BITS)) as usize]
    }
}

impl KeyNumbers {
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn into_keys(self) -> Keys {
        self.keys
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        2 * self.keys.bytes()
    }

    /// The number of a text.
    pub(super) fn text(&mut self, text: &str) -> u32 {
        let recent = self.recent_texts.at([text.as_ptr().addr(), text.len()]);
        if self.keys.texts.get(*recent as usize).is_some_and(|known| **known == *text) {
            return *recent;
        }
        *recent = self.texts.get(text).copied().unwrap_or_else(|| {
            let number = self.keys.texts.len() as u32;
            self.keys.letters += text.len();
            self.keys.texts.push(text.into());
            self.texts.insert(text.into(), number);
            number
        });
        *recent
    }

    /// The number of an end.
    pub(super) fn end(&mut self, node: &Node<'_>) -> u32 {
        let Node { kind, cluster, namespace, workload, service, version, zone, port } = *node;
        let addresses = [workload, service, version, zone].map(|text| text.as_ptr().addr());
        let recent = *self.recent_ends.at(addresses);
        if (recent as usize) < self.keys.ends() && self.keys.node(recent) == *node {
            return recent;
        }
        let texts = [cluster, namespace, workload, service, version, zone].map(|text| self.text(text));
        let number = numbered(&mut self.keys.ends, &mut self.ends, End { kind, port, texts });
        *self.recent_ends.at(addresses) = number;
        number
    }

    /// The number of a key.
    pub(crate) fn number(&mut self, key: &RollupKey<'_>) -> u32 {
        let ends = [self.end(&key.caller), self.end(&key.callee)];
        let via = key.via.map(|Via { cluster, namespace, workload }| [cluster, namespace, workload].map(|text| self.text(text)));
        let texts = [self.text(key.operation), self.text(key.protocol)];
        self.numbered(StoredKey { ends, via, texts })
    }

    /// The number of a key by the numbers of its parts.
    pub(super) fn numbered(&mut self, key: StoredKey) -> u32 {
        numbered(&mut self.keys.keys, &mut self.numbers, key)
    }
}

/// The place of a value among those that are there each once.
fn numbered<T: Copy + Eq + Hash>(values: &mut Vec<T>, numbers: &mut HashMap<T, u32>, value: T) -> u32 {
    *numbers.entry(value).or_insert_with(|| {
        values.push(value);
        values.len() as u32 - 1
    })
}
