//! Rows of callees and operations, made of those of their keys.

use super::measures::{MeasureSums, Measures};
use super::rows::{Row, Sum};

/// How many times as many rows the keys of an operation have, at least, where there are sums of it. So these are at most half as
/// many rows as those of keys, and nobody reads twice as many as an operation has minutes.
const WORTH: usize = 2;

/// The sums of an operation by minute, under the number of its first key, as [`super::keys::Keys::operations`] tells it; none if it
/// has none. `rows` are those of its keys, sorted; `adder` is zero before and after.
pub(super) fn sums(operation: u32, rows: &[Row<Measures>], adder: &mut MeasureSums) -> Option<Vec<Row<Measures>>> {
    let mut by_minute: Vec<&Row<Measures>> = rows.iter().collect();
    by_minute.sort_unstable_by_key(|((_, minute), _)| *minute);
    let minutes = || by_minute.chunk_by(|a, b| a.0.1 == b.0.1);
    let worth = rows.len() >= WORTH * minutes().count();
    worth.then(|| minutes().filter_map(|rows| sum(operation, rows, adder)).collect())
}

/// The sum of rows of one minute; none if they add up to nothing, as corrections do that change the caller alone.
fn sum(operation: u32, rows: &[&Row<Measures>], adder: &mut MeasureSums) -> Option<Row<Measures>> {
    let ((_, minute), _) = rows.first()?;
    rows.iter().for_each(|(_, measures)| adder.add(measures));
    let mut sums = adder.take();
    sums.leave_traces_out();
    (!sums.is_zero()).then_some(((operation, *minute), sums))
}
