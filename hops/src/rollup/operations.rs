//! Rows of callees and operations, made of those of their keys.

use super::measures::Measures;
use super::rows::Row;

/// How many times as many rows the keys of an operation have, at least, where there are sums of it. So these are at most half as many rows as those of keys,
/// and nobody reads twice as many as an operation has minutes.
const WORTH: usize = 2;

/// The sums of operations.
#[derive(Debug)]
pub(super) struct Operations {
    /// By the first key of each, as [`super::keys::Keys::operations`] tells it.
    pub(super) rows: Vec<Row<Measures>>,
    /// Of which keys these are the sums.
    pub(super) summed: Vec<bool>,
}

impl Operations {
    /// Of rows of keys, which are sorted. `of_keys` has the operation of each key.
    pub(super) fn new(rows: &[Row<Measures>], of_keys: &[u32]) -> Operations {
        let operation = |row: &Row<Measures>| of_keys[row.0.0 as usize];
        let mut operations = Operations { rows: Vec::new(), summed: vec![false; of_keys.len()] };
        for rows in rows.chunk_by(|a, b| operation(a) == operation(b)) {
            let Some(first) = rows.first() else { continue };
            let mut by_minute: Vec<&Row<Measures>> = rows.iter().collect();
            by_minute.sort_unstable_by_key(|((_, minute), _)| *minute);
            let minutes = || by_minute.chunk_by(|a, b| a.0.1 == b.0.1);
            if rows.len() < WORTH * minutes().count() {
                continue;
            }
            rows.iter().for_each(|((key, _), _)| operations.summed[*key as usize] = true);
            operations.rows.extend(minutes().filter_map(|rows| sum(operation(first), rows)));
        }
        operations
    }
}

/// The sum of rows of one minute; none if they add up to nothing, as corrections do that change the caller alone.
fn sum(operation: u32, rows: &[&Row<Measures>]) -> Option<Row<Measures>> {
    let ((_, minute), _) = rows.first()?;
    let mut sums = Measures::default();
    rows.iter().for_each(|(_, measures)| sums.merge(measures));
    sums.leave_traces_out();
    (!sums.is_zero()).then_some(((operation, *minute), sums))
}
