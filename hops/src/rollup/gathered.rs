//! Sums by key and step of what comes in any order.
//!
//! A sum for each row, found by hash, would be a miss in every cache for each hop: a file has a million rows, and its traces come
//! in the order of their ids. So what comes is kept as it is, sorted when there is enough of it, and summed as it lies next to each
//! other; such runs are merged at the end.

use super::format::Reader;
use super::rows::{Row, RowBuffer, Sum};
use crate::varint;

/// Something that is counted in one row.
pub(crate) trait Fact: Copy {
    /// What it is counted in.
    type Sum: Sum;

    /// Gives `each` the facts and their places, by place. What order `facts` are left in does not matter.
    fn in_order(facts: &mut [Self], each: impl FnMut(Place, &Self));

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
    facts: Vec<F>,
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
    const RUN: usize = RUN_BYTES / size_of::<F>();

    pub(crate) fn add(&mut self, fact: F) {
        if self.facts.len() == Self::RUN {
            self.sum();
        }
        if self.facts.len() == self.facts.capacity() {
            // Twice as many; where there are some already, a run: what is not written yet takes no memory, and nothing is copied again.
            let held = self.facts.len();
            let more = if held < Self::RUN / 64 { held.max(64) } else { Self::RUN - held };
            self.facts.reserve_exact(more);
        }
        self.facts.push(fact);
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        // And as they are read in the end.
        let of_run = |run: &Run| run.rows.len() + run.keys.len() * size_of::<(u32, usize)>() + run.count * size_of::<Row<F::Sum>>();
        // Before the first run no more is written than there are.
        let facts = if self.runs.is_empty() { self.facts.len() } else { self.facts.capacity() };
        self.runs.iter().map(of_run).sum::<usize>() + facts * size_of::<F>()
    }

    /// Makes a run of the facts.
    fn sum(&mut self) {
        // About as large as the one before, unless that is the first, which may be of many: what grows is copied.
        let before = self.runs.iter().skip(1).next_back();
        let rows = Vec::with_capacity(before.map_or(0, |run| run.rows.len() / 16 * 17));
        let (mut run, mut sum, mut last) = (Run { rows, ..Run::default() }, F::Sum::default(), None);
        F::in_order(&mut self.facts, |place, fact| {
            if let Some(before) = last.replace(place).filter(|before| *before != place) {
                run.push(before, &sum);
                sum.clear();
            }
            fact.add_to(&mut sum);
        });
        last.into_iter().for_each(|place| run.push(place, &sum));
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
        let (mut run, mut rows, mut other) = (Run::default(), RowBuffer::<F::Sum>::default(), F::Sum::default());
        for of_key in self.keys(|key| key).chunk_by(|a, b| a.0 == b.0) {
            rows.clear();
            read(of_key, &mut rows, &mut other);
            rows.rows().iter().for_each(|(place, sum)| run.push(*place, sum));
        }
        self.runs.clear();
        self.keep(run);
    }

    /// The keys of all runs and their rows, by the numbers that `number` gives the keys.
    fn keys(&self, number: impl Fn(u32) -> u32) -> Vec<(u32, &[u8])> {
        let mut keys: Vec<_> = self.runs.iter().flat_map(Run::keys).map(|(key, rows)| (number(key), rows)).collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        keys
    }

    /// Gives `each` the rows that are not zero, those of a group of keys at a time, sorted. `numbers` are those that the keys have
    /// in the rows, and `group` tells of such a number which group it is of; groups stand together.
    pub(crate) fn rows(&mut self, numbers: &[u32], group: impl Fn(u32) -> u32, mut each: impl FnMut(&[Row<F::Sum>])) {
        self.sum();
        self.facts = Vec::new();
        let (mut rows, mut other) = (RowBuffer::default(), F::Sum::default());
        for of_group in self.keys(|key| numbers[key as usize]).chunk_by(|a, b| group(a.0) == group(b.0)) {
            rows.clear();
            of_group.chunk_by(|a, b| a.0 == b.0).for_each(|of_key| read(of_key, &mut rows, &mut other));
            if !rows.rows().is_empty() {
                each(rows.rows());
            }
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

/// The rows of a key in one run, of which the first is read.
struct Rows<'b> {
    reader: Reader<'b>,
    /// The step of the first; none if there are no more.
    step: Option<u64>,
}

impl Rows<'_> {
    fn new(bytes: &[u8]) -> Rows<'_> {
        let mut reader = Reader::new(bytes);
        Rows { step: reader.small(), reader }
    }

    /// Reads the sum of the first, and goes on to the next.
    fn take(&mut self, sum: &mut impl Sum) {
        // It was written by this program, and has not left it.
        let read = sum.decode(&mut self.reader.bytes);
        debug_assert!(read.is_some(), "what was encoded is decoded");
        self.step = self.step.zip(self.reader.small()).map(|(step, distance)| step + distance);
    }
}

/// Appends the rows of a key that are not zero, by step: one of those of each step. `of_key` is what each run has of it, and `other`
/// is where sums are read to.
fn read<S: Sum>(of_key: &[(u32, &[u8])], rows: &mut RowBuffer<S>, other: &mut S) {
    let mut runs: Vec<Rows<'_>> = of_key.iter().map(|(_, bytes)| Rows::new(bytes)).collect();
    let Some((key, _)) = of_key.first() else { return };
    while let Some(step) = runs.iter().filter_map(|run| run.step).min() {
        let mut of_step = runs.iter_mut().filter(|run| run.step == Some(step));
        rows.add((*key, step), |sum| {
            of_step.by_ref().take(1).for_each(|run| run.take(sum));
            for run in of_step {
                run.take(other);
                sum.join(other);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollup::Latencies;

    #[derive(Clone, Copy)]
    struct Took(Place, u64, i64);

    impl Fact for Took {
        type Sum = Latencies;

        fn in_order(facts: &mut [Took], mut each: impl FnMut(Place, &Took)) {
            facts.sort_unstable_by_key(|fact| fact.0);
            facts.iter().for_each(|fact| each(fact.0, fact));
        }

        fn add_to(&self, sum: &mut Latencies) {
            sum.record(self.1, self.2);
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
            gathered.add(Took(((number % 7) as u32, number % 3), number % 1000, 1));
        }
        gathered.add(Took((7, 1), 5, 1));
        gathered.add(Took((7, 1), 5, -1));
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
