//! The texts of many batches over one dictionary.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;
use hashbrown::HashMap;

use super::text;
use crate::encode::Texts;

/// A text column of all batches over one dictionary.
#[derive(Debug)]
pub(super) struct Unified {
    /// No two of them are equal.
    pub values: ArrayRef,
    numbers: Numbers,
}

/// For each row of all batches, one after the other, the number of its text, from 1, and 0 for null. As narrow as they may be: rows
/// are gathered from all over them, and what is gathered from stays in the processor's caches.
#[derive(Debug)]
enum Numbers {
    /// All rows have the only text.
    One,
    Bytes(Vec<u8>),
    Shorts(Vec<u16>),
    Words(Vec<u32>),
}

/// For each value of a dictionary whether a row has it: a few rows of a file have its whole dictionary. Of few values all are
/// taken, which costs less than a look at each row.
fn used(dictionary: &DictionaryArray<Int32Type>) -> Vec<bool> {
    let values = dictionary.values().len();
    let mut used = vec![values <= dictionary.len() / 16; values];
    if dictionary.null_count() == dictionary.len() {
        used.fill(false);
    } else if values > dictionary.len() / 16 {
        dictionary.keys_iter().flatten().for_each(|key| used[key] = true);
    }
    used
}

impl Unified {
    pub(super) fn new(arrays: &[&ArrayRef]) -> Result<Unified, ArrowError> {
        let mut known = HashMap::<&str, u32>::new();
        let mut distinct = Vec::new();
        let mut columns = Vec::with_capacity(arrays.len());
        for array in arrays {
            let (keys, values) = text(array)?;
            let used = used(keys);
            let number = values.iter().zip(used).map(|(value, used)| {
                let value = value.filter(|_| used)?;
                Some(*known.entry(value).or_insert_with(|| {
                    distinct.push(value);
                    distinct.len() as u32
                }))
            });
            let numbers: Vec<u32> = number.map(Option::unwrap_or_default).collect();
            columns.push((keys.keys(), numbers));
        }
        let is_one =
            |(keys, numbers): &(&Int32Array, Vec<u32>)| keys.null_count() == 0 && numbers.iter().all(|number| *number == 1);
        let numbers = match distinct.len() {
            1 if columns.iter().all(is_one) => Numbers::One,
            ..=0xFF => Numbers::Bytes(flat(&columns, |number| number as u8)),
            0x100..=0xFFFF => Numbers::Shorts(flat(&columns, |number| number as u16)),
            _ => Numbers::Words(flat(&columns, |number| number)),
        };
        Ok(Unified { values: Arc::new(StringArray::from_iter_values(distinct)), numbers })
    }

    /// Rows of the column.
    pub(super) fn rows(&self, rows: &[u32]) -> Texts {
        Texts { keys: self.keys(rows), values: self.values.clone() }
    }

    /// The keys of rows in `values`.
    fn keys(&self, rows: &[u32]) -> Int32Array {
        let rows = rows.iter().map(|row| *row as usize);
        let mut keys = match &self.numbers {
            Numbers::One => vec![0; rows.len()],
            Numbers::Bytes(numbers) => rows.map(|row| i32::from(numbers[row]) - 1).collect(),
            Numbers::Shorts(numbers) => rows.map(|row| i32::from(numbers[row]) - 1).collect(),
            Numbers::Words(numbers) => rows.map(|row| numbers[row] as i32 - 1).collect(),
        };
        let has_nulls = keys.iter().fold(0, |bits, key| bits | key) < 0;
        let nulls = has_nulls.then(|| NullBuffer::new(BooleanBuffer::collect_bool(keys.len(), |row| keys[row] >= 0)));
        if has_nulls {
            // A key of a null is a key all the same.
            keys.iter_mut().for_each(|key| *key = (*key).max(0));
        }
        Int32Array::new(keys.into(), nulls)
    }

    /// The number of the text of a row, from 1, and 0 for null.
    pub(super) fn number(&self, row: usize) -> usize {
        match &self.numbers {
            Numbers::One => 1,
            Numbers::Bytes(numbers) => numbers[row].into(),
            Numbers::Shorts(numbers) => numbers[row].into(),
            Numbers::Words(numbers) => numbers[row] as usize,
        }
    }
}

/// The numbers of the rows of all columns, each of which comes with its keys and the number of each key.
fn flat<T: Copy + Default>(columns: &[(&Int32Array, Vec<u32>)], narrow: impl Fn(u32) -> T) -> Vec<T> {
    let mut rows = Vec::with_capacity(columns.iter().map(|(keys, _)| keys.len()).sum());
    for (keys, numbers) in columns {
        let numbers: Vec<T> = numbers.iter().map(|number| narrow(*number)).collect();
        match keys.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => rows.extend(keys.values().iter().map(|key| numbers[*key as usize])),
            Some(nulls) if nulls.null_count() == keys.len() => rows.resize(rows.len() + keys.len(), T::default()),
            Some(_) => rows.extend(keys.iter().map(|key| key.map_or_else(T::default, |key| numbers[key as usize]))),
        }
    }
    rows
}
