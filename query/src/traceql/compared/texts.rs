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
    /// The longest open first.
    open: Vec<Dictionary>,
}

/// A dictionary, and how often its texts occur.
struct Dictionary {
    texts: StringArray,
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
            let new = if self.open.len() == OPEN_MAX {
                // Its place in memory is used again: many dictionaries are of one batch.
                let mut longest = self.open.remove(0);
                self.take_in(&mut longest, into);
                Dictionary { texts: texts.clone(), ..longest }
            } else {
                Dictionary { texts: texts.clone(), cells: Cells::new(self.intervals) }
            };
            self.open.push(new);
            self.open.len() - 1
        });
        &mut self.open[place].cells
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
        self.open.iter().map(|dictionary| dictionary.texts.get_array_memory_size() + dictionary.cells.bytes()).sum()
    }
}
