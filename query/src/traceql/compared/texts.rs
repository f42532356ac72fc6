use std::mem;

use arrow::array::{Array, StringArray};
use meshlake_traceql::Value;

use super::cells::Cells;
use super::shared::SharedSums;
use super::tally::Tally;
use super::{Counted, Spans};
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

    /// Counts the spans of a batch, of which each has its text in its own row.
    pub(super) fn add(&mut self, column: TextColumn<'_>, spans: &Spans, into: &SharedSums) {
        let cells = self.cells(column.dictionary(), into);
        if let Some(key) = column.common_key() {
            spans.groups.iter().for_each(|(group, count)| cells.add_many(number(key), *group, *count));
        } else if let Some(keys) = column.keys() {
            spans.counted.iter().for_each(|span| cells.add(keys[span.row()] as usize + 1, span.group));
        } else {
            spans.counted.iter().for_each(|span| cells.add(number(column.key(span.row())), span.group));
        }
    }

    /// Counts spans of a batch. `row_of` a span is the row of its text in the column, if it counts.
    pub(super) fn add_at(
        &mut self,
        column: TextColumn<'_>,
        spans: &[Counted],
        row_of: impl Fn(usize) -> Option<usize>,
        into: &SharedSums,
    ) {
        let cells = self.cells(column.dictionary(), into);
        for span in spans {
            if let Some(row) = row_of(span.row()) {
                cells.add(number(column.key(row)), span.group);
            }
        }
    }

    /// Those of a dictionary.
    fn cells(&mut self, texts: &StringArray, into: &SharedSums) -> &mut Cells {
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

    fn take_in(&self, dictionary: &mut Dictionary, into: &SharedSums) {
        let texts = dictionary.texts.iter();
        let values: Vec<Value<'_>> = [None].into_iter().chain(texts).map(self.value).collect();
        into.add_counts(&self.label, &values, &dictionary.cells.take());
    }
}

/// That of a text, or of none.
fn number(key: Option<usize>) -> usize {
    key.map_or(0, |key| key + 1)
}

impl Tally for Texts {
    fn close(&mut self, into: &SharedSums) {
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
    use meshlake_traceql::{ComparedCount, ComparedSpans};

    use super::super::cells::group;
    use super::super::shared::tests::of_ten_intervals;
    use super::*;

    /// Scenario: columns of dictionaries that come by turns and have some texts in common, more of them than are open at once; missing
    /// texts, columns that have one text, texts of own and of other rows, and rows that do not count. Guarantee: the answer is that of each text on its own.
    #[test]
    fn texts_are_counted_whatever_their_dictionary() {
        let counted = of_ten_intervals();
        let mut expected = counted.apart().accumulator;
        let intervals = expected.intervals();
        let mut texts = Texts::new("span.x".to_owned(), |text| Value::text(text.unwrap_or("none")), intervals);
        let dictionary = |number: usize| match number % 3 {
            0 => StringArray::from(vec![Some("same"), None, Some("text"), Some(["a", "b"][number % 2])]),
            1 => StringArray::from(vec![Some("same"), Some("all")]),
            _ => StringArray::from(vec![Some("same")]),
        };
        let dictionaries: Vec<ArrayRef> = (0..2 * OPEN_MAX).map(|number| Arc::new(dictionary(number)) as _).collect();
        let first = dictionaries[0].to_data();
        for (turn, number, dictionary) in
            (0..7).flat_map(|turn| dictionaries.iter().enumerate().map(move |(number, dictionary)| (turn, number, dictionary)))
        {
            // One is used now and then between the others.
            let dictionary = if turn == 3 && number % 4 == 1 { &dictionaries[0] } else { dictionary };
            let texts_of = dictionary.len() as i32;
            // Where a text may be missing, some rows have none either.
            let keys = texts_of + i32::from(texts_of == 4);
            let keys: Int32Array = (0..9).map(|row| Some((row * turn + row) % keys).filter(|key| *key < texts_of)).collect();
            let column: ArrayRef = Arc::new(DictionaryArray::new(keys, dictionary.clone()));
            let column = TextColumn::new(&column).unwrap();
            let own = turn % 2 == 1;
            let row_of = |row: usize| if own { Some(row) } else { (row != 7).then_some((row + 1) % 9) };
            let spans = |row: u32| ComparedSpans { selected: row.is_multiple_of(2), interval: row };
            let rows: Vec<Counted> = (0..9).map(|row| Counted { row, group: group(spans(row)) }).collect();
            if own {
                texts.add(column, &Spans::new(rows, intervals), &counted);
            } else {
                texts.add_at(column, &rows, row_of, &counted);
            }
            for row in 0..9 {
                let Some(of) = row_of(row as usize) else { continue };
                let value = Value::text(column.get(of).unwrap_or("none"));
                expected.add_counts("span.x", &[value], &[ComparedCount { value: 0, spans: spans(row), count: 1 }]);
            }
            let is_first_open = texts.open.iter().any(|open| open.texts.to_data().ptr_eq(&first));
            assert!(turn != 3 || is_first_open, "{number}");
            assert!(texts.open.len() <= OPEN_MAX && texts.bytes() > 0 && !texts.is_full());
        }
        texts.close(&counted);
        assert!(texts.open.is_empty());
        assert_eq!(counted.replace(counted.apart()).accumulator.finish(), expected.finish());
    }
}
