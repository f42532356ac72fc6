use std::mem;

use hashbrown::HashMap;
use meshlake_traceql::Value;

use super::cells::Cells;
use super::shared::SharedSums;
use super::tally::Tally;

/// Values after which [`Tally::is_full`].
const VALUES_MAX: usize = 16 * 1024;
/// Integers from zero to below this have their numbers in a table, too, where no hash is needed to find them: most are codes, ports
/// and sizes.
const SMALL_MAX: usize = 16 * 1024;

/// The values of an attribute, counted by numbers that they get as they come.
pub(super) struct Numbered<T> {
    label: String,
    value: fn(T) -> Value<'static>,
    intervals: usize,
    numbers: HashMap<T, usize>,
    /// Of small integers the same numbers, by integer, plus one; zero for one that has none yet.
    small: Vec<u32>,
    /// What the values have beside their own size.
    bytes: usize,
    cells: Cells,
}

impl<T> Numbered<T> {
    /// `value` is what one of them is as a value.
    pub(super) fn new(label: String, value: fn(T) -> Value<'static>, intervals: usize) -> Numbered<T> {
        Numbered { label, value, intervals, numbers: HashMap::new(), small: Vec::new(), bytes: 0, cells: Cells::new(intervals) }
    }
}

impl Numbered<i64> {
    /// Counts one of a group.
    #[inline]
    pub(super) fn add(&mut self, int: i64, group: u32) {
        let known = small(int).and_then(|place| self.small.get(place)).and_then(|number| number.checked_sub(1));
        let number = known.map_or_else(|| self.number(int), |number| number as usize);
        self.cells.add(number, group);
    }

    /// That of an integer, which stands in the table then if there is a place for it.
    fn number(&mut self, int: i64) -> usize {
        let next = self.numbers.len();
        let number = *self.numbers.entry(int).or_insert(next);
        if let Some(place) = small(int) {
            if self.small.len() <= place {
                self.small.resize(place + 1, 0);
            }
            self.small[place] = number as u32 + 1;
        }
        number
    }
}

/// The place of an integer in the table.
fn small(int: i64) -> Option<usize> {
    usize::try_from(int).ok().filter(|place| *place < SMALL_MAX)
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
    fn close(&mut self, into: &SharedSums) {
        // What they took is free then.
        let mut values: Vec<(T, usize)> = mem::take(&mut self.numbers).into_iter().collect();
        self.small = Vec::new();
        let counts = mem::replace(&mut self.cells, Cells::new(self.intervals)).take();
        values.sort_unstable_by_key(|(_, number)| *number);
        let values: Vec<Value<'_>> = values.into_iter().map(|(value, _)| (self.value)(value)).collect();
        into.add_counts(&self.label, &values, &counts);
        self.bytes = 0;
    }

    fn is_full(&self) -> bool {
        self.numbers.len() > VALUES_MAX || self.cells.are_full()
    }

    fn bytes(&self) -> usize {
        let numbers = self.numbers.capacity() * size_of::<(T, usize)>() + self.small.capacity() * size_of::<u32>();
        numbers + self.bytes + self.cells.bytes()
    }
}

#[cfg(test)]
mod tests {
    use meshlake_traceql::{ComparedCount, ComparedSpans};

    use super::super::cells::group;
    use super::super::shared::tests::of_ten_intervals;
    use super::*;

    /// Scenario: integers of all sizes, and values of several types that read alike; taken in now and then. Guarantee: the answer is
    /// that of each on its own, and nothing is left of what was taken in.
    #[test]
    fn values_are_counted_whatever_their_numbers() {
        let counted = of_ten_intervals();
        let mut expected = counted.apart().accumulator;
        let intervals = expected.intervals();
        let mut ints = Numbered::<i64>::new("span.int".to_owned(), Value::Int, intervals);
        let mut values = Numbered::<Value<'static>>::new("span.any".to_owned(), std::convert::identity, intervals);
        let mut all = |attribute: &str, value: &Value<'_>, spans| {
            expected.add_counts(attribute, std::slice::from_ref(value), &[ComparedCount { value: 0, spans, count: 1 }]);
        };
        for number in 0..500_u32 {
            let spans = ComparedSpans { selected: number.is_multiple_of(3), interval: number % 10 };
            let small = i64::from(number * number % 11) - 5;
            let int = [small, i64::MIN, SMALL_MAX as i64 + small, i64::MAX][number as usize / 3 % 4];
            ints.add(int, group(spans));
            all("span.int", &Value::Int(int), spans);
            let text = (number % 4).to_string();
            let value = match number % 3 {
                0 => Value::text(&text),
                1 => Value::Int(i64::from(number % 4)),
                _ => Value::Nil,
            };
            all("span.any", &value, spans);
            values.add(value, group(spans));
            if number % 100 == 99 {
                ints.close(&counted);
                values.close(&counted);
                assert!(ints.numbers.is_empty() && ints.small.is_empty() && ints.cells.take().is_empty() && values.bytes == 0);
            }
        }
        assert_eq!(counted.replace(counted.apart()).accumulator.finish(), expected.finish());
        (0..=VALUES_MAX as i64).for_each(|int| ints.add(int, 0));
        assert!(ints.is_full() && !values.is_full());
    }
}
