//! Sums hops up.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::keys::{KeyNumbers, RollupKey};
use super::measures::Measures;
use super::operations::Operations;
use super::part::{KINDS, LeftOut, Outline, Part, SECTIONS_BEFORE};
use super::rows::{Row, by_key, write_rows, write_totals};
use super::time::MINUTE;
use super::whole::Rollup;
use crate::hop::Hop;
use crate::worker::Summary;

/// A rollup in the making.
#[derive(Clone, Debug)]
pub struct RollupBuilder {
    /// Where the first step begins, and how long each is; nanoseconds.
    steps: (u64, u64),
    keys: KeyNumbers,
    parts: Vec<PartBuilder>,
    marks: Vec<(u64, usize)>,
}

#[derive(Clone, Debug, Default)]
struct PartBuilder {
    before: Vec<Box<str>>,
    traces: Vec<[u8; 16]>,
    rows: HashMap<(u64, u32), Measures>,
    left_out: BTreeMap<u64, LeftOut>,
    /// The first and the last step that a span of a trace that it corrects starts in: made anew for other files before, it may have rows in all of
    /// them.
    concerned: Option<(u64, u64)>,
}

impl Default for RollupBuilder {
    fn default() -> RollupBuilder {
        RollupBuilder { steps: (0, MINUTE), keys: KeyNumbers::default(), parts: vec![PartBuilder::default()], marks: Vec::new() }
    }
}

impl RollupBuilder {
    /// Of nothing.
    pub fn new() -> RollupBuilder {
        RollupBuilder::default()
    }

    /// Of nothing, with steps of another length than minutes from `start` on, nanoseconds since the epoch: step `n` is right-closed, and ends at
    /// `start + n * step`. No hop is before `start`.
    pub fn stepped(start: u64, step: u64) -> RollupBuilder {
        RollupBuilder { steps: (start, step.max(1)), ..RollupBuilder::default() }
    }

    fn step(&self, time: u64) -> u64 {
        let (start, step) = self.steps;
        time.saturating_sub(start).div_ceil(step)
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        let rows: usize = self.parts.iter().map(|part| part.rows.len()).sum();
        // With a few buckets in three histograms.
        self.keys.bytes() + rows * (2 * size_of::<Measures>())
    }

    /// Adds what H made of the file's spans of a trace.
    pub fn add_trace(&mut self, trace_id: [u8; 16], hops: &[Hop<'_>], summary: Summary) {
        self.add(0, trace_id, hops, summary, 1);
    }

    /// Adds what H makes of more spans of a trace than the file's, `together`, less what is summed already: of the spans in files `before`, and of its
    /// own. `before` is sorted.
    pub fn correct(
        &mut self,
        before: &[&str],
        trace_id: [u8; 16],
        together: (&[Hop<'_>], Summary),
        without: [(&[Hop<'_>], Summary); 2],
    ) {
        let is_part = |part: &PartBuilder| part.before.iter().map(AsRef::as_ref).eq(before.iter().copied());
        let part = self.parts.iter().position(is_part).unwrap_or_else(|| {
            let before = before.iter().map(|file| Box::from(*file)).collect();
            self.parts.push(PartBuilder { before, ..PartBuilder::default() });
            self.parts.len() - 1
        });
        self.add(part, trace_id, together.0, together.1, 1);
        for (hops, summary) in without {
            self.add(part, trace_id, hops, summary, -1);
        }
        self.retract(part, trace_id, without.iter().flat_map(|(hops, _)| hops.iter()), together.0);
        let (first, last) = (self.step(together.1.start), self.step(together.1.last));
        let part = &mut self.parts[part];
        let known = part.concerned.unwrap_or((first, last));
        part.concerned = Some((known.0.min(first), known.1.max(last)));
        part.traces.push(trace_id);
    }

    /// Puts what H made of a trace in the place of what it had made of fewer of its spans, and was added.
    pub fn replace(&mut self, trace_id: [u8; 16], old: (&[Hop<'_>], Summary), new: (&[Hop<'_>], Summary)) {
        self.add(0, trace_id, new.0, new.1, 1);
        self.add(0, trace_id, old.0, old.1, -1);
        self.retract(0, trace_id, old.0.iter(), new.0);
    }

    /// Says that a trace has no hop any more where only `gone` was.
    fn retract<'h>(&mut self, part: usize, trace_id: [u8; 16], gone: impl Iterator<Item = &'h Hop<'h>>, there: &[Hop<'_>]) {
        let there: Vec<(u64, u32)> = there.iter().map(|hop| self.row(hop)).collect();
        for hop in gone {
            let row = self.row(hop);
            if !there.contains(&row) {
                self.parts[part].rows.entry(row).or_default().retract(trace_id);
            }
        }
    }

    fn row(&mut self, hop: &Hop<'_>) -> (u64, u32) {
        (self.step(hop.time), self.keys.number(&RollupKey::of(hop)))
    }

    fn add(&mut self, part: usize, trace_id: [u8; 16], hops: &[Hop<'_>], summary: Summary, sign: i64) {
        for hop in hops {
            let row = self.row(hop);
            let measures = self.parts[part].rows.entry(row).or_default();
            measures.add(trace_id, hop, sign);
            if hop.weight.is_none() {
                measures.add_weights(&mut [None], sign);
            }
        }
        self.add_weights(part, hops, sign);
        let left_out = LeftOut { unnamed: summary.unnamed as i64, spans: summary.left_out as i64 };
        if left_out != LeftOut::default() {
            let step = self.step(summary.start);
            self.parts[part].left_out.entry(step).or_default().add(left_out, sign);
        }
    }

    /// Sampling is by trace, and so is its variance: the known weights of a trace's hops on an edge in a minute are taken together, and
    /// stand with the first of them.
    fn add_weights(&mut self, part: usize, hops: &[Hop<'_>], sign: i64) {
        let mut marks = std::mem::take(&mut self.marks);
        marks.extend(
            hops.iter().enumerate().filter(|(_, hop)| hop.weight.is_some()).map(|(place, hop)| (self.step(hop.time), place)),
        );
        let key = |place: usize| RollupKey::of(&hops[place]);
        let order = |place: usize| (key(place).edge(), key(place));
        marks.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| order(*x).cmp(&order(*y))));
        for of_edge in marks.chunk_by(|(a, x), (b, y)| a == b && key(*x).edge() == key(*y).edge()) {
            let Some((_, first)) = of_edge.first() else { continue };
            let mut weights: Vec<Option<u64>> = of_edge.iter().map(|(_, place)| hops[*place].weight).collect();
            let row = self.row(&hops[*first]);
            self.parts[part].rows.entry(row).or_default().add_weights(&mut weights, sign);
        }
        marks.clear();
        self.marks = marks;
    }

    /// The rollup: the same bytes for the same hops, in whatever order they came (P4).
    pub fn finish(self) -> Rollup {
        let old = self.keys.keys();
        let (mut keys, mut numbers) = (KeyNumbers::default(), vec![0; old.len()]);
        for number in old.sorted() {
            numbers[number as usize] = keys.number(&old.key(number));
        }
        let mut parts = self.parts;
        if let Some((_, corrections)) = parts.split_first_mut() {
            corrections.sort_by(|a, b| a.before.cmp(&b.before));
        }
        let (keys, mut sections) = (keys.into_keys(), Vec::new());
        let operations = keys.operations();
        let parts = parts.into_iter().map(|part| part.finish(&numbers, &operations, &mut sections)).collect();
        Rollup::new(Outline { parts }, keys, sections)
    }
}

impl PartBuilder {
    fn finish(mut self, numbers: &[u32], operations: &[u32], sections: &mut Vec<Vec<u8>>) -> Part {
        let rows = self.rows.drain().filter(|(_, measures)| !measures.is_zero());
        let mut rows: Vec<Row<Measures>> =
            rows.map(|((minute, key), measures)| ((numbers[key as usize], minute), measures)).collect();
        rows.sort_unstable_by_key(|(row, _)| *row);
        self.left_out.retain(|_, left_out| *left_out != LeftOut::default());
        self.traces.sort_unstable();
        self.traces.dedup();
        let minutes = || rows.iter().map(|((_, minute), _)| minute).chain(self.left_out.keys());
        let (first, last) = (minutes().min().copied(), minutes().max().copied());
        let concerned = self.concerned;
        let mut part = Part {
            first: first.into_iter().chain(concerned.map(|(first, _)| first)).min().unwrap_or(0),
            last: last.into_iter().chain(concerned.map(|(_, last)| last)).max().unwrap_or(0),
            before: self.before,
            traces: self.traces,
            left_out: self.left_out.into_iter().collect(),
            totals: SECTIONS_BEFORE + sections.len(),
            rows: Default::default(),
        };
        sections.push(totals(&rows));
        for (firsts, written) in part.rows.iter_mut().zip(kinds(&rows, operations)) {
            for (first, section) in written {
                firsts.push(first);
                sections.push(section);
            }
        }
        part
    }
}

/// The section of the sums over all minutes, of rows, which are sorted.
fn totals(rows: &[Row<Measures>]) -> Vec<u8> {
    let of_keys = by_key(rows).filter_map(|rows| {
        let (((key, _), first), others) = rows.split_first()?;
        let mut total = first.clone();
        others.iter().for_each(|(_, measures)| total.merge(measures));
        Some((*key, total))
    });
    let totals: Vec<(u32, Measures)> = of_keys.collect();
    write_totals(totals.iter().map(|(key, measures)| (*key, measures)))
}

/// The sections of rows of each kind that a [`Part`] has, with their first keys.
fn kinds(rows: &[Row<Measures>], operations: &[u32]) -> [Vec<(u32, Vec<u8>)>; KINDS] {
    let operations = Operations::new(rows, operations);
    let is_summed = |rows: &[Row<Measures>]| rows.first().is_some_and(|((key, _), _)| operations.summed[*key as usize]);
    let alone = write_rows(by_key(rows).filter(|rows| !is_summed(rows)));
    let summed = write_rows(by_key(rows).filter(|rows| is_summed(rows)));
    [alone, summed, write_rows(by_key(&operations.rows))]
}
