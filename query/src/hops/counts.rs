//! What is to be known of every answer made of hops.

use meshlake_hops::{Flags, Hop, Summary};

/// How many hops an answer is made of, and how far they can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopCounts {
    /// Hops.
    pub requests: u64,
    /// Of these, hops of which one end may still be named by a span that has not come.
    pub unresolved: u64,
    /// Of these, hops whose ends only the parent link or one of several proxies tells.
    pub assumed: u64,
    /// Calls of the traces in the range that nothing answers and that name nobody: no hops.
    pub unnamed: u64,
    /// Spans of these traces past the most that are taken of one trace; their hops may be missing.
    pub left_out: u64,
}

impl HopCounts {
    /// Adds a hop.
    pub(crate) fn add(&mut self, hop: &Hop<'_>) {
        self.requests += 1;
        self.unresolved += u64::from(hop.flags.contains(Flags::UNRESOLVED));
        self.assumed += u64::from(hop.flags.contains(Flags::ASSUMED));
    }

    /// Adds what H left out of a trace.
    pub(crate) fn leave_out(&mut self, summary: Summary) {
        self.unnamed += summary.unnamed as u64;
        self.left_out += summary.left_out as u64;
    }
}
