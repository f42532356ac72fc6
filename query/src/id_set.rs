//! Trace ids that are looked for among very many.

use crate::trace_id::TraceId;

/// Bits that say which ids there may be: of a thousand ids, one in 64 others passes them.
const MARKS: usize = 1 << 16;

/// A set of trace ids.
pub(crate) struct IdSet {
    /// Sorted, each once.
    ids: Vec<TraceId>,
    marks: Vec<u64>,
}

impl IdSet {
    pub(crate) fn new(mut ids: Vec<TraceId>) -> IdSet {
        ids.sort_unstable();
        ids.dedup();
        let mut marks = vec![0; MARKS / 64];
        for id in &ids {
            let mark = mark(&id.0);
            marks[mark / 64] |= 1 << (mark % 64);
        }
        IdSet { ids, marks }
    }

    /// In order, each once.
    pub(crate) fn ids(&self) -> &[TraceId] {
        &self.ids
    }

    /// Whether an id is there, by its bytes.
    pub(crate) fn holds(&self, id: &[u8]) -> bool {
        let mark = mark(id);
        let may_be = self.marks[mark / 64] >> (mark % 64) & 1 == 1;
        may_be && self.ids.binary_search_by(|known| known.0.as_slice().cmp(id)).is_ok()
    }
}

/// A number below [`MARKS`], of the last bytes: of short ids the others are zero.
fn mark(id: &[u8]) -> usize {
    let last = id.last_chunk().map_or(0, |last| u64::from_be_bytes(*last));
    (last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: ids that are alike in their first bytes, in their last ones, or in neither, every seventh of them in the set.
    /// Guarantee: these are there, and no others.
    #[test]
    fn ids_are_those_of_the_set() {
        let number = |at: u128| [at, at << 64, at.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834)];
        let ids: Vec<TraceId> = (1..4_000).flat_map(number).map(|id| TraceId(id.to_be_bytes())).collect();
        let is_in = |at: usize| at.is_multiple_of(7);
        let set = IdSet::new(ids.iter().enumerate().filter(|(at, _)| is_in(*at)).map(|(_, id)| *id).collect());
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(set.holds(&id.0), is_in(at), "{id}");
        }
        assert!(!IdSet::new(Vec::new()).holds(&[0; 16]) && !set.holds(&[]));
    }
}
