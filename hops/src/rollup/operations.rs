//! Rows of callees and operations, made of those of their keys.

use super::measures::{MeasureSums, Measures};
use super::rows::{Row, RowBuffer};

/// How many times as many rows the keys of an operation have, at least, where there are sums of it. So these are at most half as
/// many rows as those of keys, and nobody reads twice as many as an operation has minutes.
const WORTH: usize = 2;

/// Appends the sums of an operation by minute, under the number of its first key, as [`super::keys::Keys::operations`] tells it;
/// false if it has none. `rows` are those of its keys, sorted; `adder` is zero before and after.
pub(super) fn sum(operation: u32, rows: &[Row<Measures>], adder: &mut MeasureSums, sums: &mut RowBuffer<Measures>) -> bool {
    let mut by_minute: Vec<&Row<Measures>> = rows.iter().collect();
    by_minute.sort_unstable_by_key(|((_, minute), _)| *minute);
    let minutes = || by_minute.chunk_by(|a, b| a.0.1 == b.0.1);
    let worth = rows.len() >= WORTH * minutes().count();
    for rows in minutes().take_while(|_| worth) {
        let Some(((_, minute), _)) = rows.first() else { continue };
        rows.iter().for_each(|(_, measures)| adder.add(measures));
        // Corrections that change the caller alone add up to nothing.
        sums.add((operation, *minute), |sum| {
            adder.take(sum);
            sum.leave_traces_out();
        });
    }
    worth
}
