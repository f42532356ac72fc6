//! How much a query may ask for (P6). Whoever sends queries may be hostile; nobody writes one this large by hand.

/// Bytes of a query.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// How deep brackets and operators may be nested, and how high the tree of an expression may be. Chains of `&&` or of `||`
/// within braces are one level, however long. A level takes up to 13 KiB of stack in a debug build.
pub const DEPTH_MAX: usize = 64;
/// Different attributes in a query.
pub const ATTRIBUTES_MAX: usize = 1_000;
/// Regular expressions in a query.
pub const PATTERNS_MAX: usize = 100;
/// Bytes that one compiled regular expression may take.
pub const PATTERN_BYTES_MAX: usize = 1024 * 1024;
/// Metrics queries joined by arithmetic.
pub const SERIES_QUERIES_MAX: usize = 16;
/// Attributes in `by(...)` of a metrics function; one less where the function has a label of its own (Tempo's limit).
pub const GROUP_BY_MAX: usize = 5;
/// Values that `compare()` may be asked to show of an attribute.
pub const COMPARE_TOP_MAX: usize = 1000;
/// Intervals of a metrics answer.
pub const INTERVALS_MAX: u64 = 11_000;
/// Different values of an attribute that `compare()` counts; more are left out, and the attribute is marked.
pub const COMPARE_VALUES_MAX: usize = 10_000;
/// Pairs of an event and a link of one span with which a filter is tried.
pub const PAIRS_MAX: usize = 100_000;
