//! Trace ids that are looked for among very many.

use crate::marks::Marks;
use crate::trace_id::TraceId;

/// A set of trace ids.
pub(crate) struct IdSet {
    /// Sorted, each once.
    ids: Vec<TraceId>,
    /// Of a thousand ids, one in 64 others passes them.
    marks: Marks<16>,
}

impl IdSet {
    pub(crate) fn new(mut ids: Vec<TraceId>) -> IdSet {
        ids.sort_unstable();
        ids.dedup();
        let marks = Marks::new(ids.iter().map(|id| last(&id.0)));
        IdSet { ids, marks }
    }

    /// In order, each once.
    pub(crate) fn ids(&self) -> &[TraceId] {
        &self.ids
    }

    /// Whether an id is there, by its bytes.
    pub(crate) fn holds(&self, id: &[u8]) -> bool {
        self.marks.may_hold(last(id)) && self.ids.binary_search_by(|known| known.0.as_slice().cmp(id)).is_ok()
    }
}

/// The last bytes of an id: of short ids the others are zero.
fn last(id: &[u8]) -> u64 {
    id.last_chunk().map_or(0, |last| u64::from_be_bytes(*last))
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
