//! The numbers of what came lately, as long as its texts stay where they are in memory.

use super::keys::{KeyNumbers, StoredKey};
use crate::hop::Hop;
use crate::node::Node;

/// Places for ends and for texts, powers of two: as many as stay in a processor's own cache.
const ENDS: usize = 1 << 10;
const TEXTS: usize = 1 << 12;
const UNKNOWN: u32 = u32::MAX;

/// Ends and texts, and the numbers that they have in some [`KeyNumbers`]. They are borrowed, so nothing else can come to stand where they
/// are: what stands at the same address is the same, and no letter of it is looked at. Hops of one batch of rows share their texts.
#[derive(Debug)]
pub(super) struct KnownKeys<'a> {
    ends: Places<Node<'a>>,
    texts: Places<&'a str>,
    /// Of the hops that are asked for.
    keys: Vec<StoredKey>,
    numbers: Vec<u32>,
}

/// What is known, each at one of two places next to each other.
#[derive(Debug)]
struct Places<T>(Vec<(T, u32)>);

impl<T: Copy + Default> Places<T> {
    fn new(places: usize) -> Places<T> {
        Places(vec![(T::default(), UNKNOWN); places])
    }

    /// The number of what `is` tells; what is not known is `value`, and `number` tells its number.
    fn number(&mut self, addresses: &[usize], is: impl Fn(&T) -> bool, value: T, number: impl FnOnce() -> u32) -> u32 {
        let place = place(addresses, self.0.len());
        let places = &mut self.0[place..][..2];
        for (known, number) in &*places {
            if *number != UNKNOWN && is(known) {
                return *number;
            }
        }
        places.swap(0, 1);
        places[0] = (value, number());
        places[0].1
    }
}

impl<'a> KnownKeys<'a> {
    /// None yet.
    pub(super) fn new() -> KnownKeys<'a> {
        KnownKeys { ends: Places::new(ENDS), texts: Places::new(TEXTS), keys: Vec::new(), numbers: Vec::new() }
    }

    /// The numbers of the keys of hops. `keys` are the same each time. Each number is a miss in the processor's own cache, so they are
    /// looked up one right after the other, to be waited for together.
    pub(super) fn numbers(&mut self, keys: &mut KeyNumbers, hops: &[Hop<'a>]) -> &[u32] {
        let mut stored = std::mem::take(&mut self.keys);
        stored.clear();
        stored.extend(hops.iter().map(|hop| self.key(keys, hop)));
        self.numbers.clear();
        self.numbers.extend(stored.iter().map(|key| keys.numbered(*key)));
        self.keys = stored;
        &self.numbers
    }

    fn key(&mut self, keys: &mut KeyNumbers, hop: &Hop<'a>) -> StoredKey {
        let ends = [self.end(keys, &hop.caller), self.end(keys, &hop.callee)];
        let via = hop.via.map(|via| [via.cluster, via.namespace, via.workload].map(|text| self.text(keys, text)));
        let texts = [self.text(keys, hop.operation), self.text(keys, hop.protocol)];
        StoredKey { ends, via, texts }
    }

    fn end(&mut self, keys: &mut KeyNumbers, node: &Node<'a>) -> u32 {
        let addresses = [node.workload, node.service, node.version, node.zone].map(|text| text.as_ptr().addr());
        self.ends.number(&addresses, |known| is_where(known, node), *node, || keys.end(node))
    }

    fn text(&mut self, keys: &mut KeyNumbers, text: &'a str) -> u32 {
        let addresses = [text.as_ptr().addr(), text.len()];
        self.texts.number(&addresses, |known| std::ptr::eq(*known, text), text, || keys.text(text))
    }
}

/// Whether the texts of two nodes are the same memory, and the nodes so the same.
fn is_where(known: &Node<'_>, node: &Node<'_>) -> bool {
    (known.kind, known.port) == (node.kind, node.port)
        && std::ptr::eq(known.workload, node.workload)
        && std::ptr::eq(known.service, node.service)
        && std::ptr::eq(known.namespace, node.namespace)
        && std::ptr::eq(known.cluster, node.cluster)
        && std::ptr::eq(known.version, node.version)
        && std::ptr::eq(known.zone, node.zone)
}

/// The first of the two places of what stands at these addresses, of so many.
fn place(addresses: &[usize], places: usize) -> usize {
    let mix = |hash: u64, address: &usize| (hash ^ *address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    (addresses.iter().fold(0, mix) as usize & (places - 1)) & !1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::NodeKind;

    /// Scenario: nodes and texts of which some stand at the same addresses and differ in length, kind or port, some are equal and
    /// stand elsewhere. Guarantee: each has the number that it has by its letters, the first time and again.
    #[test]
    fn numbers_are_those_of_letters() {
        let (texts, again) = ("service-1".to_owned(), "service-1".to_owned());
        let node = |service, kind, port| Node { service, kind, port, ..Node::default() };
        let nodes = [
            node(&texts[..], NodeKind::Workload, None),
            node(&texts[..7], NodeKind::Workload, None),
            node(&texts[..], NodeKind::Database, None),
            node(&texts[..], NodeKind::Database, Some(1)),
            node(&again[..], NodeKind::Workload, None),
            node("", NodeKind::Workload, None),
            Node { workload: &texts[..], ..node("", NodeKind::Workload, None) },
        ];
        let (mut keys, mut expected, mut known) = (KeyNumbers::default(), KeyNumbers::default(), KnownKeys::new());
        for node in nodes.iter().chain(&nodes) {
            assert_eq!(known.end(&mut keys, node), expected.end(node));
            assert_eq!(known.text(&mut keys, node.service), expected.text(node.service));
        }
        assert_eq!(expected.keys().ends(), 6);
    }
}
