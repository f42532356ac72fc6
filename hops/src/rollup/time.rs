//! Minutes, which are right-closed as all ranges of hops are.

/// Nanoseconds of a minute.
pub const MINUTE: u64 = 60_000_000_000;

/// The number of the minute `(n - 1, n]` that a time is in, nanoseconds since the epoch.
pub fn minute(time: u64) -> u64 {
    time.div_ceil(MINUTE)
}
