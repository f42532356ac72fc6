use meshlake_hops::Histogram;

/// Spans of one interval that a query tells from each other at most by how long they took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alike {
    /// In which they started.
    pub interval: u32,
    /// How many.
    pub count: u64,
    /// How long they took, if the query reads that; one that ends before it starts took no time. Otherwise empty.
    pub durations: Histogram,
}
