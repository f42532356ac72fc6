use std::mem;

use arrow::array::{Array, StringArray};
use meshlake_traceql::{Accumulator, Value};

use super::Counted;
use super::cells::Cells;
use super::tally::Tally;
use crate::values::TextColumn;

/// Dictionaries that are open at once. Batches of several files, each with its own, come by turns.
const OPEN_MAX: usize = 8;

/// The texts of an attribute, counted by their numbers in the dictionaries of columns: batches of one file have the same for long, so
/// a text is looked at when that ends.
pub(super) struct Texts {
    label: String,
    /// What a text is as a value, and what a missing one is.
    value: for<'t> fn(Option<&'t str>) -> Value<'t>,
    intervals: usize,
    /// The longest unused first.
    open: Vec<Dictionary>,
}

/// A dictionary, and how often its texts occur.
struct Dictionary {
    texts: StringArray,
    /// What they take.
    bytes: usize,
    /// The first number is that of no text.
    cells: Cells,
}

impl Texts {
    pub(super) fn new(label: String, value: for<'t> fn(Option<&'t str>) -> Value<'t>, intervals: usize) -> Texts {
        Texts { label, value, intervals, open: Vec::new() }
    }

    /// Counts the spans of a batch. `row_of` a span is the row of its text in the column, if it counts.
    pub(super) fn add(
        &mut self,
        column: TextColumn<'_>,
        spans: &[Counted],
        row_of: impl Fn(usize) -> Option<usize>,
        into: &mut Accumulator<'_>,
    ) {
        let cells = self.cells(column.dictionary(), into);
        for span in spans {
            if let Some(row) = row_of(span.row()) {
                cells.add(column.key(row).map_or(0, |key| key + 1), span.group);
            }
        }
    }

    /// Those of a dictionary.
    fn cells(&mut self, texts: &StringArray, into: &mut Accumulator<'_>) -> &mut Cells {
        let data = texts.to_data();
        // As long as a dictionary is held, no other is where it is.
        let known = self.open.iter().position(|open| open.texts.to_data().ptr_eq(&data));
        let place = known.unwrap_or_else(|| {
            let cells = if self.open.len() == OPEN_MAX {
                // Its place in memory is used again: many dictionaries are of one batch.
                let mut longest = self.open.remove(0);
                self.take_in(&mut longest, into);
                longest.cells
            } else {
                Cells::new(self.intervals)
            };
            self.open.push(Dictionary { texts: texts.clone(), bytes: texts.get_array_memory_size(), cells });
            self.open.len() - 1
        });
        self.open[place..].rotate_left(1);
        let last = self.open.len() - 1;
        &mut self.open[last].cells
    }

    fn take_in(&self, dictionary: &mut Dictionary, into: &mut Accumulator<'_>) {
        let texts = dictionary.texts.iter();
        let values: Vec<Value<'_>> = [None].into_iter().chain(texts).map(self.value).collect();
        into.add_counts(&self.label, &values, &dictionary.cells.take());
    }
}

impl Tally for Texts {
    fn close(&mut self, into: &mut Accumulator<'_>) {
        let open = mem::take(&mut self.open);
        open.into_iter().for_each(|mut dictionary| self.take_in(&mut dictionary, into));
    }

    fn is_full(&self) -> bool {
        self.open.iter().any(|dictionary| dictionary.cells.are_full())
    }

    fn bytes(&self) -> usize {
        self.open.iter().map(|dictionary| dictionary.bytes + dictionary.cells.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int32Array};
    use meshlake_traceql::{Body, ComparedCount, ComparedSpans, Grid, MetricsLimits, Query};

    use super::super::cells::group;
    use super::*;

    /// Scenario: columns of dictionaries that come by turns and have some texts in common, more of them than are open at once; missing
    /// texts, and rows that do not count. Guarantee: the answer is that of each text on its own.
    #[test]
    fn texts_are_counted_whatever_their_dictionary() {
        let query: Query = "{} | compare({ status = error }, 1000)".parse().unwrap();
        let Body::Metrics(series) = &query.body else { panic!("{query}") };
        let limits = MetricsLimits { series: 1, exemplars: 0 };
        let new = || Accumulator::new(series, Grid::range(10, 20, Some(1)).unwrap(), limits);
        let (mut counted, mut expected) = (new(), new());
        let intervals = counted.intervals();
        let mut texts = Texts::new("span.x".to_owned(), |text| Value::text(text.unwrap_or("none")), intervals);
        let dictionaries: Vec<ArrayRef> = (0..2 * OPEN_MAX)
            .map(|number| Arc::new(StringArray::from(vec![Some("same"), None, Some("text"), Some(["a", "b"][number % 2])])) as _)
            .collect();
        let first = dictionaries[0].to_data();
        for (turn, number, dictionary) in
            (0..7).flat_map(|turn| dictionaries.iter().enumerate().map(move |(number, dictionary)| (turn, number, dictionary)))
        {
            // One is used now and then between the others.
            let dictionary = if turn == 3 && number % 4 == 1 { &dictionaries[0] } else { dictionary };
            let keys: Int32Array = (0..9).map(|row| Some((row * turn + row) % 5).filter(|key| *key < 4)).collect();
            let column: ArrayRef = Arc::new(DictionaryArray::new(keys, dictionary.clone()));
            let column = TextColumn::new(&column).unwrap();
            let row_of = |row: usize| (row != 7).then_some((row + 1) % 9);
            let spans = |row: u32| ComparedSpans { selected: row.is_multiple_of(2), interval: row };
            let rows: Vec<Counted> = (0..9).map(|row| Counted { row, group: group(spans(row)) }).collect();
            texts.add(column, &rows, row_of, &mut counted);
            for row in 0..9 {
                let Some(of) = row_of(row as usize) else { continue };
                let value = Value::text(column.get(of).unwrap_or("none"));
                expected.add_counts("span.x", &[value], &[ComparedCount { value: 0, spans: spans(row), count: 1 }]);
            }
            let is_first_open = texts.open.iter().any(|open| open.texts.to_data().ptr_eq(&first));
            assert!(turn != 3 || is_first_open, "{number}");
            assert!(texts.open.len() <= OPEN_MAX && texts.bytes() > 0 && !texts.is_full());
        }
        texts.close(&mut counted);
        assert!(texts.open.is_empty());
        assert_eq!(counted.finish(), expected.finish());
    }
}
