//! What hops are summed by, each text and each end once.

use std::hash::Hash;

use hashbrown::HashMap;

use super::format::{FormatError, Reader};
use crate::hop::{Hop, Via};
use crate::node::{Node, NodeKind};
use crate::varint;

/// What the hops of one row have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollupKey<'a> {
    /// Who asked.
    pub caller: Node<'a>,
    /// Who was asked.
    pub callee: Node<'a>,
    /// The waypoint between them.
    pub via: Option<Via<'a>>,
    /// The name of the key span.
    pub operation: &'a str,
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

/// Values by number, each once.
#[derive(Clone, Debug)]
struct Numbered<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    fn number(&mut self, value: T) -> u32 {
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            self.values.len() as u32 - 1
        })
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct StoredKey {
    ends: [u32; 2],
    via: Option<[u32; 3]>,
    texts: [u32; 2],
}

/// The keys of a rollup, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    texts: Vec<Box<str>>,
    text_numbers: HashMap<Box<str>, u32>,
    /// The length of all texts.
    letters: usize,
    ends: Numbered<End>,
    keys: Numbered<StoredKey>,
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.keys.values.len()
    }

    pub(crate) fn ends(&self) -> usize {
        self.ends.values.len()
    }

    /// The numbers of the caller and the callee of a key.
    pub(crate) fn ends_of(&self, number: u32) -> [usize; 2] {
        self.keys.values[number as usize].ends.map(|end| end as usize)
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.letters + self.texts.len() * 40;
        2 * texts + 2 * self.ends.values.len() * size_of::<End>() + 2 * self.keys.values.len() * size_of::<StoredKey>()
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(number) = self.text_numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.letters += text.len();
        self.texts.push(text.into());
        self.text_numbers.insert(text.into(), number);
        number
    }

    fn end(&mut self, node: &Node<'_>) -> u32 {
        let Node { kind, cluster, namespace, workload, service, version, zone, port } = *node;
        let texts = [cluster, namespace, workload, service, version, zone].map(|text| self.text(text));
        self.ends.number(End { kind, port, texts })
    }

    /// The number of a key.
    pub(crate) fn number(&mut self, key: &RollupKey<'_>) -> u32 {
        let ends = [self.end(&key.caller), self.end(&key.callee)];
        let via = key.via.map(|Via { cluster, namespace, workload }| [cluster, namespace, workload].map(|text| self.text(text)));
        let texts = [self.text(key.operation), self.text(key.protocol)];
        self.keys.number(StoredKey { ends, via, texts })
    }

    /// The number of a key, if it has one.
    pub(crate) fn find(&self, key: &RollupKey<'_>) -> Option<u32> {
        let text = |text: &str| self.text_numbers.get(text).copied();
        let end = |node: &Node<'_>| {
            let Node { kind, cluster, namespace, workload, service, version, zone, port } = *node;
            let mut texts = [0; 6];
            for (number, part) in texts.iter_mut().zip([cluster, namespace, workload, service, version, zone]) {
                *number = text(part)?;
            }
            self.ends.numbers.get(&End { kind, port, texts }).copied()
        };
        let via = match key.via {
            Some(Via { cluster, namespace, workload }) => Some([text(cluster)?, text(namespace)?, text(workload)?]),
            None => None,
        };
        let stored =
            StoredKey { ends: [end(&key.caller)?, end(&key.callee)?], via, texts: [text(key.operation)?, text(key.protocol)?] };
        self.keys.numbers.get(&stored).copied()
    }

    /// The key with a number below [`Keys::len`].
    pub(crate) fn key(&self, number: u32) -> RollupKey<'_> {
        let stored = &self.keys.values[number as usize];
        let [caller, callee] = stored.ends.map(|end| self.node(end));
        let via = stored.via.map(|texts| {
            let [cluster, namespace, workload] = texts.map(|text| self.text_at(text));
            Via { cluster, namespace, workload }
        });
        let [operation, protocol] = stored.texts.map(|text| self.text_at(text));
        RollupKey { caller, callee, via, operation, protocol }
    }

    fn text_at(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    fn node(&self, number: u32) -> Node<'_> {
        let End { kind, port, texts } = self.ends.values[number as usize];
        let [cluster, namespace, workload, service, version, zone] = texts.map(|text| self.text_at(text));
        Node { kind, cluster, namespace, workload, service, version, zone, port }
    }

    /// The numbers of all keys, in the order of the keys.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        numbers.sort_unstable_by_key(|number| self.key(*number));
        numbers
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        varint::write(bytes, self.texts.len() as u128);
        for text in &self.texts {
            varint::write(bytes, text.len() as u128);
            bytes.extend_from_slice(text.as_bytes());
        }
        varint::write(bytes, self.ends.values.len() as u128);
        for End { kind, port, texts } in &self.ends.values {
            bytes.push(*kind as u8);
            varint::write(bytes, port.map_or(0, |port| u128::from(port) + 1));
            texts.iter().for_each(|text| varint::write(bytes, (*text).into()));
        }
        varint::write(bytes, self.len() as u128);
        for StoredKey { ends, via, texts } in &self.keys.values {
            ends.iter().chain(texts).for_each(|number| varint::write(bytes, (*number).into()));
            bytes.push(via.is_some().into());
            via.iter().flatten().for_each(|number| varint::write(bytes, (*number).into()));
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Keys, FormatError> {
        let mut keys = Keys::default();
        for _ in 0..reader.length()? {
            keys.text(reader.text()?);
        }
        let texts = keys.texts.len();
        for _ in 0..reader.length()? {
            let kind = NodeKind::of_number(reader.byte().ok_or(FormatError)?).ok_or(FormatError)?;
            let port = match reader.small().ok_or(FormatError)? {
                0 => None,
                port => Some(u16::try_from(port - 1).map_err(|_| FormatError)?),
            };
            let texts = reader.numbers(texts)?;
            keys.ends.number(End { kind, port, texts });
        }
        let ends = keys.ends.values.len();
        for _ in 0..reader.length()? {
            let (ends, operation) = (reader.numbers(ends)?, reader.numbers(texts)?);
            let via = match reader.byte() {
                Some(0) => None,
                Some(1) => Some(reader.numbers(texts)?),
                _ => return Err(FormatError),
            };
            keys.keys.number(StoredKey { ends, via, texts: operation });
        }
        Ok(keys)
    }
}
