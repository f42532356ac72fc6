//! The rules, one file each, by their numbers: R0 to R8. R9, what a late span changes, is for who keeps hops.

pub(crate) mod answer;
pub(crate) mod crossing;
pub(crate) mod entry;
pub(crate) mod exit;
pub(crate) mod hops;
pub(crate) mod node;
pub(crate) mod parent;
pub(crate) mod set;
pub(crate) mod siblings;

use crate::span::Span;

/// No span.
pub(crate) const NONE: u32 = u32::MAX;

/// The distinct spans of a trace, each known by its rank: its place by (start, span id, side). So "the smallest key" is the
/// least rank, whatever order the spans came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace<'s, 'a> {
    pub spans: &'s [Span<'a>],
    /// Positions in `spans` by rank.
    pub order: &'s [u32],
}

impl<'s, 'a> Trace<'s, 'a> {
    pub(crate) fn len(&self) -> u32 {
        self.order.len() as u32
    }

    pub(crate) fn ranks(&self) -> std::ops::Range<u32> {
        0..self.len()
    }

    pub(crate) fn at(&self, rank: u32) -> &'s Span<'a> {
        &self.spans[self.order[rank as usize] as usize]
    }
}

/// Makes a column of one value a span.
pub(crate) fn fill<T: Clone>(column: &mut Vec<T>, trace: &Trace<'_, '_>, value: T) {
    column.clear();
    column.resize(trace.order.len(), value);
}
