use arrow::array::{Array, StringArray, StringViewArray};
use hashbrown::HashMap;
use meshlake_traceql::Value;

use super::cells::Cells;
use super::shared::SharedSums;
use super::tally::Tally;
use super::{Counted, Spans};
use crate::values::TextColumn;

/// The texts of an attribute, counted by their numbers in the dictionary of a column: batches of one file have the same for long, and
/// a partition reads a file after the other, so a text is looked at when that ends. (Of a column without a dictionary each batch has
/// one of its own, which is looked at while it is in a processor's cache.)
pub(super) struct Texts {
    label: String,
    /// What a text is as a value, and what a missing one is.
    value: for<'t> fn(Option<&'t str>) -> Value<'t>,
    intervals: usize,
    /// The dictionary that is counted by, if there is one.
    open: Option<StringArray>,
    /// What it takes.
    bytes: usize,
    /// How often its texts occur. The first number is that of no text.
    cells: Cells,
}

impl Texts {
    pub(super) fn new(label: String, value: for<'t> fn(Option<&'t str>) -> Value<'t>, intervals: usize) -> Texts {
        Texts { label, value, intervals, open: None, bytes: 0, cells: Cells::new(intervals) }
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

    /// Counts spans of a batch by texts that have no dictionary, as there are too many. `row_of` as above. They are looked at while they
    /// are in a processor's cache.
    pub(super) fn add_plain(
        &mut self,
        texts: &StringViewArray,
        spans: &[Counted],
        row_of: impl Fn(usize) -> Option<usize>,
        into: &SharedSums,
    ) {
        self.take_in(into);
        let mut numbers = HashMap::<&str, usize>::with_capacity(texts.len() / 2);
        let mut values = vec![(self.value)(None)];
        // Spans of a trace stand together, and may well have one text.
        let mut last = (None, number(None));
        for span in spans {
            let Some(row) = row_of(span.row()) else { continue };
            let text = texts.is_valid(row).then(|| texts.value(row));
            if text != last.0 {
                let of_text = |text| {
                    *numbers.entry(text).or_insert_with(|| {
                        values.push((self.value)(Some(text)));
                        values.len() - 1
                    })
                };
                last = (text, text.map_or(number(None), of_text));
            }
            self.cells.add(last.1, span.group);
        }
        into.add_counts(&self.label, &values, &self.cells.take());
    }

    /// Those of a dictionary.
    fn cells(&mut self, texts: &StringArray, into: &SharedSums) -> &mut Cells {
        // As long as a dictionary is held, no other is where it is.
        let is_open = self.open.as_ref().is_some_and(|open| open.to_data().ptr_eq(&texts.to_data()));
        if !is_open {
            self.take_in(into);
            (self.open, self.bytes) = (Some(texts.clone()), texts.get_array_memory_size());
        }
        &mut self.cells
    }

    fn take_in(&mut self, into: &SharedSums) {
        self.bytes = 0;
        if let Some(texts) = self.open.take() {
            let values: Vec<Value<'_>> = [None].into_iter().chain(texts.iter()).map(self.value).collect();
            into.add_counts(&self.label, &values, &self.cells.take());
        }
    }
}

/// That of a text, or of none.
fn number(key: Option<usize>) -> usize {
    key.map_or(0, |key| key + 1)
}

impl Tally for Texts {
    fn close(&mut self, into: &SharedSums) {
        self.take_in(into);
        // What they took is free then.
        self.cells = Cells::new(self.intervals);
    }

    fn is_full(&self) -> bool {
        self.cells.are_full()
    }

    fn bytes(&self) -> usize {
        self.bytes + self.cells.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int32Array};
    use arrow::datatypes::Int32Type;
    use meshlake_traceql::{ComparedCount, ComparedSpans};

    use super::super::cells::group;
    use super::super::shared::tests::of_ten_intervals;
    use super::*;

    /// Scenario: columns of dictionaries that come by turns, for one batch or two, and have some texts in common; missing texts, columns
    /// that have one text, texts of own and of other rows, and rows that do not count. Guarantee: the answer is that of each text on its
    /// own.
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
        let dictionaries: Vec<ArrayRef> = (0..6).map(|number| Arc::new(dictionary(number)) as _).collect();
        let batches = (0..7).flat_map(|turn| dictionaries.iter().map(move |dictionary| (turn, dictionary)));
        for (turn, dictionary) in batches.flat_map(|batch| std::iter::repeat_n(batch, 1 + batch.0 as usize % 3)) {
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
            assert!(texts.open.as_ref().unwrap().to_data().ptr_eq(&dictionary.to_data()));
            assert!(texts.bytes() >= dictionary.get_array_memory_size() && !texts.is_full());
        }
        texts.close(&counted);
        assert!(texts.open.is_none() && texts.bytes() == 0);
        assert_eq!(counted.replace(counted.apart()).accumulator.finish(), expected.finish());
    }

    /// Scenario: batches of texts without a dictionary, each before one that has; texts that repeat in rows side by side and apart,
    /// missing texts, rows that do not count. Guarantee: the answer is that of each text on its own, and nothing of the first is held.
    #[test]
    fn texts_are_counted_without_a_dictionary() {
        let counted = of_ten_intervals();
        let mut expected = counted.apart().accumulator;
        let intervals = expected.intervals();
        let mut texts = Texts::new("span.x".to_owned(), |text| Value::text(text.unwrap_or("none")), intervals);
        let spans = |row: u32| ComparedSpans { selected: row.is_multiple_of(3), interval: row % 10 };
        let rows: Vec<Counted> = (0..30).map(|row| Counted { row, group: group(spans(row)) }).collect();
        let mut expect = |row: u32, text: Option<&str>| {
            let value = Value::text(text.unwrap_or("none"));
            expected.add_counts("span.x", &[value], &[ComparedCount { value: 0, spans: spans(row), count: 1 }]);
        };
        for turn in 0..20 {
            let text = |row: u32| {
                [None, Some("a"), Some("b"), Some("too long to stand in a view"), Some("")][(row / 2 * turn % 5) as usize]
            };
            let plain: StringViewArray = (0..30).map(text).collect();
            let row_of = |row: usize| (row % 7 != turn as usize % 7).then_some(row);
            texts.add_plain(&plain, &rows, row_of, &counted);
            assert!(texts.open.is_none() && texts.bytes == 0 && texts.cells.take().is_empty());
            (0..30).filter(|row| row_of(*row as usize).is_some()).for_each(|row| expect(row, text(row)));
            let dictionary: DictionaryArray<Int32Type> = (0..30).map(text).collect();
            let dictionary: ArrayRef = Arc::new(dictionary);
            texts.add_at(TextColumn::new(&dictionary).unwrap(), &rows, Some, &counted);
            (0..30).for_each(|row| expect(row, text(row)));
        }
        texts.close(&counted);
        assert_eq!(counted.replace(counted.apart()).accumulator.finish(), expected.finish());
    }
}
