use hashbrown::HashMap;
use meshlake_traceql::{Accumulator, Value};

use super::cells::Cells;
use super::tally::Tally;

/// Values after which [`Tally::is_full`].
const VALUES_MAX: usize = 16 * 1024;

/// The values of an attribute, counted by numbers that they get as they come.
pub(super) struct Numbered<T> {
    label: String,
    value: fn(T) -> Value<'static>,
    numbers: HashMap<T, usize>,
    /// What the values have beside their own size.
    bytes: usize,
    cells: Cells,
}

impl<T> Numbered<T> {
    /// `value` is what one of them is as a value.
    pub(super) fn new(label: String, value: fn(T) -> Value<'static>, intervals: usize) -> Numbered<T> {
        Numbered { label, value, numbers: HashMap::new(), bytes: 0, cells: Cells::new(intervals) }
    }
}

impl Numbered<i64> {
    /// Counts one of a group.
    pub(super) fn add(&mut self, int: i64, group: u32) {
        let next = self.numbers.len();
        let number = *self.numbers.entry(int).or_insert(next);
        self.cells.add(number, group);
    }
}

impl Numbered<Value<'static>> {
    /// Counts one of a group.
    pub(super) fn add(&mut self, value: Value<'_>, group: u32) {
        let number = known(&self.numbers, &value).unwrap_or_else(|| {
            let next = self.numbers.len();
            self.bytes += value.bytes() - size_of::<Value<'_>>();
            self.numbers.insert(value.into_owned(), next);
            next
        });
        self.cells.add(number, group);
    }
}

/// The number of a value. (A map of owned values is as good as one of borrowed values, as long as it is only read.)
fn known<'a>(numbers: &'a HashMap<Value<'a>, usize>, value: &Value<'a>) -> Option<usize> {
    numbers.get(value).copied()
}

impl<T> Tally for Numbered<T> {
    fn close(&mut self, into: &mut Accumulator<'_>) {
        let mut values: Vec<(T, usize)> = self.numbers.drain().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        let values: Vec<Value<'_>> = values.into_iter().map(|(value, _)| (self.value)(value)).collect();
        into.add_counts(&self.label, &values, &self.cells.take());
        self.bytes = 0;
    }

    fn is_full(&self) -> bool {
        self.numbers.len() > VALUES_MAX || self.cells.are_full()
    }

    fn bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<(T, usize)>() + self.bytes + self.cells.bytes()
    }
}
