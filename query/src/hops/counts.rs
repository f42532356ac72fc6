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

impl HopCounts {
    /// Adds the hops of a key.
    pub(crate) fn add(&mut self, measures: &Measures) {
        self.requests += measures.count(Count::Requests);
        self.unresolved += measures.count(Count::Unresolved);
        self.assumed += measures.count(Count::Assumed);
    }

    /// Adds what H left out.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        self.unnamed += u64::try_from(left_out.unnamed).unwrap_or(0);
        self.left_out += u64::try_from(left_out.spans).unwrap_or(0);
    }
}
