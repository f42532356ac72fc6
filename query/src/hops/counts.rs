//! What is to be known of every answer made of hops.

use meshlake_hops::rollup::{Count, LeftOut, Measures};

/// How many hops an answer is made of, and how far they can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopCounts {
    /// Hops.
    pub requests: u64,
    /// Of these, hops of which one end may still be named by a span that has not come.
    pub unresolved: u64,
    /// Of these, hops whose ends only the parent link or one of several proxies tells.
    pub assumed: u64,
    /// Calls that nothing answers and that name nobody: no hops. Those of a trace count where its first span starts.
    pub unnamed: u64,
    /// Spans past the most that are taken of one trace, counted alike; their hops may be missing.
    pub left_out: u64,
}

/// The same in the making: sums of which each may be less than nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SignedCounts {
    requests: i64,
    unresolved: i64,
    assumed: i64,
    left_out: LeftOut,
}

impl SignedCounts {
    /// Adds the hops of a key.
    pub(crate) fn add(&mut self, measures: &Measures) {
        self.requests += measures.signed(Count::Requests);
        self.unresolved += measures.signed(Count::Unresolved);
        self.assumed += measures.signed(Count::Assumed);
    }

    /// Adds what H left out.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        self.left_out.add(left_out, 1);
    }

    pub(crate) fn merge(&mut self, other: &SignedCounts) {
        self.requests += other.requests;
        self.unresolved += other.unresolved;
        self.assumed += other.assumed;
        self.left_out.add(other.left_out, 1);
    }

    /// What is known of all of them together.
    pub(crate) fn finish(&self) -> HopCounts {
        let SignedCounts { requests, unresolved, assumed, left_out } = *self;
        let [requests, unresolved, assumed, unnamed, left_out] =
            [requests, unresolved, assumed, left_out.unnamed, left_out.spans].map(|count| u64::try_from(count).unwrap_or(0));
        HopCounts { requests, unresolved, assumed, unnamed, left_out }
    }
}
