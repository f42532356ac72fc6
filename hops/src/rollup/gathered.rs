//! Sums by key and step of what comes in any order.
//!
//! A sum for each row, found by hash, would be a miss in every cache for each hop: a file has a million rows, and its traces come
//! in the order of their ids. So what comes is kept as it is, sorted when there is enough of it, and summed as it lies next to each
//! other; such runs are merged at the end.

use super::format::Reader;
use super::rows::{Row, Sum};
use crate::varint;

/// Something that is counted in one row.
pub(crate) trait Fact: Copy {
    /// What it is counted in.
    type Sum: Sum;

    /// Counts it.
    fn add_to(&self, sum: &mut Self::Sum);
}

/// Bytes of facts that make a run: enough of them to meet others of their rows, so that there is less to merge, and little beside
/// what a merge of files takes.
const RUN_BYTES: usize = 32 << 20;

/// Runs that are made one: questions about what still comes make many.
const RUNS_MAX: usize = 16;

/// The number of a key, and a step.
pub(crate) type Place = (u32, u64);

/// Sums in the making.
#[derive(Clone, Debug)]
pub(crate) struct Gathered<F> {
    facts: Vec<(Place, F)>,
    runs: Vec<Run>,
}

/// Sums of some facts, by the numbers of their keys.
#[derive(Clone, Debug, Default)]
struct Run {
    /// Each key, and where its rows end.
    keys: Vec<(u32, usize)>,
    /// For each row of a key the distance from the step before, and the sum.
    rows: Vec<u8>,
    /// How many rows.
    count: usize,
    /// The step of the last.
    step: u64,
}

impl<F> Default for Gathered<F> {
    fn default() -> Gathered<F> {
        Gathered { facts: Vec::new(), runs: Vec::new() }
    }
}

impl<F: Fact> Gathered<F> {
    /// Facts of a run.
    const RUN: usize = RUN_BYTES / size_of::<(Place, F)>();

    pub(crate) fn add(&mut self, place: Place, fact: F) {
        if self.facts.len() == Self::RUN {
            self.sum();
        }
        if self.facts.len() == self.facts.capacity() {
            // Twice as many, but never more than a run has.
            let more = self.facts.len().max(64).min(Self::RUN - self.facts.len());
            self.facts.reserve_exact(more);
        }
        self.facts.push((place, fact));
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        // And as they are read in the end.
        let of_run = |run: &Run| run.rows.len() + run.keys.len() * size_of::<(u32, usize)>() + run.count * size_of::<Row<F::Sum>>();
        self.runs.iter().map(of_run).sum::<usize>() + self.facts.capacity() * size_of::<(Place, F)>()
    }

    /// Makes a run of the facts.
    fn sum(&mut self) {
        // Key, step and number in one integer, which is quicker to compare.
        let in_order =
            |(((key, step), _), number): (&(Place, F), u32)| u128::from(*key) << 96 | u128::from(*step) << 32 | u128::from(number);
        let mut order: Vec<u128> = self.facts.iter().zip(0..).map(in_order).collect();
        order.sort_unstable();
        let (mut run, mut sum) = (Run::default(), F::Sum::default());
        for of_row in order.chunk_by(|a, b| a >> 32 == b >> 32) {
            let Some(first) = of_row.first() else { continue };
            sum.clear();
            of_row.iter().for_each(|fact| self.facts[*fact as u32 as usize].1.add_to(&mut sum));
            run.push(((first >> 96) as u32, (first >> 32) as u64), &sum);
        }
        self.facts.clear();
        self.keep(run);
        if self.runs.len() > RUNS_MAX {
            self.merge_runs();
        }
    }

    fn keep(&mut self, mut run: Run) {
        run.rows.shrink_to_fit();
        self.runs.extend((run.count > 0).then_some(run));
    }

    /// Makes one run of all.
    fn merge_runs(&mut self) {
        let mut run = Run::default();
        each_key::<F::Sum>(self.runs.iter().flat_map(Run::keys).collect(), |rows| {
            rows.drain(..).for_each(|(place, sum)| run.push(place, &sum));
        });
        self.runs.clear();
        self.keep(run);
    }

    /// Gives `each` the rows that are not zero, those of a group of keys at a time, sorted. `numbers` are those that the keys have
    /// in the rows, and `group` tells of such a number which group it is of; groups stand together.
    pub(crate) fn rows(&mut self, numbers: &[u32], group: impl Fn(u32) -> u32, mut each: impl FnMut(&[Row<F::Sum>])) {
        self.sum();
        self.facts = Vec::new();
        let keys = self.runs.iter().flat_map(Run::keys).map(|(key, rows)| (numbers[key as usize], rows)).collect();
        let (mut of_group, mut last) = (Vec::new(), None);
        each_key(keys, |rows| {
            let now = rows.first().map(|((key, _), _)| group(*key));
            if now != last && !of_group.is_empty() {
                each(&of_group);
                of_group.clear();
            }
            last = now;
            of_group.append(rows);
        });
        if !of_group.is_empty() {
            each(&of_group);
        }
    }
}

/// Gives `each` the rows of each key that are not zero, in order. `keys` are those of runs and their rows.
fn each_key<S: Sum>(mut keys: Vec<(u32, &[u8])>, mut each: impl FnMut(&mut Vec<Row<S>>)) {
    keys.sort_unstable_by_key(|(key, _)| *key);
    let mut rows = Vec::new();
    for runs in keys.chunk_by(|a, b| a.0 == b.0) {
        rows.clear();
        runs.iter().for_each(|(key, bytes)| read(*key, bytes, &mut rows));
        merge(&mut rows);
        if !rows.is_empty() {
            each(&mut rows);
        }
    }
}

impl Run {
    /// Adds a row, which comes after those that are there, unless it is zero.
    fn push(&mut self, (key, step): Place, sum: &impl Sum) {
        if sum.is_zero() {
            return;
        }
        if self.keys.last().is_none_or(|(last, _)| *last != key) {
            self.keys.push((key, self.rows.len()));
            self.step = 0;
        }
        varint::write(&mut self.rows, (step - self.step).into());
        sum.encode(&mut self.rows);
        self.step = step;
        self.count += 1;
        if let Some((_, end)) = self.keys.last_mut() {
            *end = self.rows.len();
        }
    }

    /// Each key and its rows.
    fn keys(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let begins = [0].into_iter().chain(self.keys.iter().map(|(_, end)| *end));
        self.keys.iter().zip(begins).map(|((key, end), begin)| (*key, &self.rows[begin..*end]))
    }
}

fn read<S: Sum>(key: u32, bytes: &[u8], rows: &mut Vec<Row<S>>) {
    let (mut reader, mut step) = (Reader::new(bytes), 0);
    while let Some(distance) = reader.small() {
        let mut sum = S::default();
        // It was written by this program, and has not left it.
        let read = sum.decode(&mut reader.bytes);
        debug_assert!(read.is_some(), "what was encoded is decoded");
        step += distance;
        rows.push(((key, step), sum));
    }
}

/// Makes one row of those of one step.
fn merge<S: Sum>(rows: &mut Vec<Row<S>>) {
    rows.sort_unstable_by_key(|(place, _)| *place);
    rows.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1.join(&next.1);
        }
        same
    });
    rows.retain(|(_, sum)| !sum.is_zero());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollup::Latencies;

    #[derive(Clone, Copy)]
    struct Took(u64, i64);

    impl Fact for Took {
        type Sum = Latencies;

        fn add_to(&self, sum: &mut Latencies) {
            sum.record(self.0, self.1);
        }
    }

    /// Scenario: facts of two runs and a bit, asked for again and again while they come, of which some rows are in all of them and
    /// one is taken out again. Guarantee: each row once, with all of its facts, in the order of the numbers that its keys have; a
    /// second time the same.
    #[test]
    fn runs_are_merged() {
        let mut gathered = Gathered::default();
        let facts = 2 * Gathered::<Took>::RUN as u64 + 1000;
        let numbers: Vec<u32> = (0..8).rev().collect();
        for number in 0..facts {
            if number % (facts / 40) == 0 {
                gathered.rows(&numbers, |key| key, |_| ());
                assert!(gathered.runs.len() <= RUNS_MAX);
            }
            gathered.add(((number % 7) as u32, number % 3), Took(number % 1000, 1));
        }
        gathered.add((7, 1), Took(5, 1));
        gathered.add((7, 1), Took(5, -1));
        for _ in 0..2 {
            let (mut places, mut count, mut groups) = (Vec::new(), 0, 0);
            gathered.rows(
                &numbers,
                |key| key / 2,
                |rows| {
                    groups += 1;
                    assert!(rows.iter().all(|((key, _), _)| key / 2 == rows[0].0.0 / 2));
                    places.extend(rows.iter().map(|(place, _)| *place));
                    count += rows.iter().map(|(_, sum)| sum.count()).sum::<i64>();
                },
            );
            let expected: Vec<Place> = (1..8).flat_map(|key| (0..3).map(move |step| (key, step))).collect();
            assert_eq!((places, count, groups), (expected, facts as i64, 4));
        }
    }
}
