//! Sums hops up.

use std::collections::{BTreeMap, BTreeSet};

use super::fact::{HopFact, Sign, Told, Weighed, What};
use super::gathered::{Gathered, Place};
use super::keys::{KeyNumbers, RollupKey};
use super::known::KnownKeys;
use super::measures::{MeasureSums, Measures};
use super::operations;
use super::part::{KINDS, LeftOut, Outline, Part, SECTIONS_BEFORE};
use super::rows::{Row, RowBuffer, RowWriter, TotalWriter, by_key};
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
    facts: Gathered<HopFact>,
    left_out: BTreeMap<u64, LeftOut>,
    /// The first and the last step that a span of a trace that it corrects starts in: made anew for other files before, it may have
    /// rows in all of them.
    concerned: Option<(u64, u64)>,
}

/// Adds traces whose texts stand where they are as long as it is there: quicker than one trace after the other.
#[derive(Debug)]
pub struct TraceAdder<'b, 'a> {
    builder: &'b mut RollupBuilder,
    known: KnownKeys<'a>,
}

impl<'a> TraceAdder<'_, 'a> {
    /// See [`RollupBuilder::add_trace`].
    pub fn add(&mut self, trace_id: [u8; 16], hops: &[Hop<'a>], summary: Summary) {
        let numbers = self.known.numbers(&mut self.builder.keys, hops);
        self.builder.add_numbered(0, trace_id, (hops, summary), Sign::In, numbers);
    }
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

    /// Of nothing, with steps of another length than minutes from `start` on, nanoseconds since the epoch: step `n` is
    /// right-closed, and ends at `start + n * step`. No hop is before `start`.
    pub fn stepped(start: u64, step: u64) -> RollupBuilder {
        RollupBuilder { steps: (start, step.max(1)), ..RollupBuilder::default() }
    }

    fn step(&self, time: u64) -> u64 {
        let (start, step) = self.steps;
        time.saturating_sub(start).div_ceil(step)
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.parts.iter().map(|part| part.facts.bytes()).sum::<usize>()
    }

    /// Adds what H made of the file's spans of a trace.
    pub fn add_trace(&mut self, trace_id: [u8; 16], hops: &[Hop<'_>], summary: Summary) {
        self.add(0, trace_id, (hops, summary), Sign::In);
    }

    /// To add the traces of a batch of rows.
    pub fn adder<'a>(&mut self) -> TraceAdder<'_, 'a> {
        TraceAdder { builder: self, known: KnownKeys::new() }
    }

    /// Adds what H makes of more spans of a trace than the file's, `together`, less what is summed already: of the spans in files
    /// `before`, and of its own. `before` is sorted.
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
        self.add(part, trace_id, together, Sign::In);
        for fewer in without {
            self.add(part, trace_id, fewer, Sign::Out);
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
        self.add(0, trace_id, new, Sign::In);
        self.add(0, trace_id, old, Sign::Out);
        self.retract(0, trace_id, old.0.iter(), new.0);
    }

    /// Says that a trace has no hop any more where only `gone` was.
    fn retract<'h>(&mut self, part: usize, trace_id: [u8; 16], gone: impl Iterator<Item = &'h Hop<'h>>, there: &[Hop<'_>]) {
        let there: BTreeSet<Place> = there.iter().map(|hop| self.place(hop)).collect();
        for hop in gone {
            let place = self.place(hop);
            if !there.contains(&place) {
                self.parts[part].facts.add(HopFact { place, what: What::Gone(trace_id) });
            }
        }
    }

    fn place(&mut self, hop: &Hop<'_>) -> Place {
        (number(&mut self.keys, hop), self.step(hop.time))
    }

    fn add(&mut self, part: usize, trace_id: [u8; 16], (hops, summary): (&[Hop<'_>], Summary), sign: Sign) {
        let numbers: Vec<u32> = hops.iter().map(|hop| number(&mut self.keys, hop)).collect();
        self.add_numbered(part, trace_id, (hops, summary), sign, &numbers);
    }

    /// `numbers` are those of the hops' keys.
    fn add_numbered(
        &mut self,
        part: usize,
        trace_id: [u8; 16],
        (hops, summary): (&[Hop<'_>], Summary),
        sign: Sign,
        numbers: &[u32],
    ) {
        for (hop, number) in hops.iter().zip(numbers) {
            let place = (*number, self.step(hop.time));
            self.parts[part].facts.add(HopFact { place, what: What::Hop(Told::of(trace_id, hop, sign)) });
        }
        self.add_weights(part, hops, sign);
        let left_out = LeftOut { unnamed: summary.unnamed as i64, spans: summary.left_out as i64 };
        if left_out != LeftOut::default() {
            let step = self.step(summary.start);
            self.parts[part].left_out.entry(step).or_default().add(left_out, sign.factor());
        }
    }

    /// Sampling is by trace, and so is its variance: the known weights of a trace's hops on an edge in a minute are taken together,
    /// and stand with the first of them. Those on other edges and in other minutes add up as if they were of other traces.
    fn add_weights(&mut self, part: usize, hops: &[Hop<'_>], sign: Sign) {
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
            let place = self.place(&hops[*first]);
            self.parts[part].facts.add(HopFact { place, what: What::Weights(Weighed::of(&mut weights), sign) });
        }
        marks.clear();
        self.marks = marks;
    }

    /// The rollup of what was added so far: the same bytes for the same hops, in whatever order they came (P4).
    pub fn finish(&mut self) -> Rollup {
        let old = self.keys.keys();
        let (mut keys, mut numbers) = (KeyNumbers::default(), vec![0; old.len()]);
        for number in old.sorted() {
            numbers[number as usize] = keys.number(&old.key(number));
        }
        let keys = keys.into_keys();
        if let Some((_, corrections)) = self.parts.split_first_mut() {
            corrections.sort_by(|a, b| a.before.cmp(&b.before));
        }
        let (operations, mut sections) = (keys.operations(), Vec::new());
        let parts = self.parts.iter_mut().map(|part| part.finish(&numbers, &operations, &mut sections)).collect();
        Rollup::new(Outline { parts }, keys, sections)
    }
}

/// The number of a hop's key.
fn number(keys: &mut KeyNumbers, hop: &Hop<'_>) -> u32 {
    keys.number(&RollupKey::of(hop))
}

impl PartBuilder {
    fn finish(&mut self, numbers: &[u32], operations: &[u32], sections: &mut Vec<Vec<u8>>) -> Part {
        let mut written = Written::default();
        let operation = |key: u32| operations[key as usize];
        self.facts.rows(numbers, operation, |rows| written.add(rows, operation));
        let mut left_out = self.left_out.clone();
        left_out.retain(|_, left_out| *left_out != LeftOut::default());
        let mut traces = self.traces.clone();
        traces.sort_unstable();
        traces.dedup();
        let minutes = || written.minutes.into_iter().chain(self.concerned).flat_map(|(first, last)| [first, last]);
        let minutes = || minutes().chain(left_out.keys().copied());
        let mut part = Part {
            before: self.before.clone(),
            traces,
            first: minutes().min().unwrap_or(0),
            last: minutes().max().unwrap_or(0),
            left_out: Vec::new(),
            totals: SECTIONS_BEFORE + sections.len(),
            rows: Default::default(),
        };
        part.left_out = left_out.into_iter().collect();
        sections.push(written.totals.finish());
        for (firsts, written) in part.rows.iter_mut().zip(written.kinds) {
            for (first, section) in written.finish() {
                firsts.push(first);
                sections.push(section);
            }
        }
        part
    }
}

/// What a part has of sums.
#[derive(Default)]
struct Written {
    /// The first and the last minute.
    minutes: Option<(u64, u64)>,
    totals: TotalWriter,
    kinds: [RowWriter; KINDS],
    sums: MeasureSums,
    /// Where the sum of a key is put, and those of an operation.
    total: Measures,
    operation: RowBuffer<Measures>,
}

impl Written {
    /// Adds the rows of the keys of an operation.
    fn add(&mut self, rows: &[Row<Measures>], operation: impl Fn(u32) -> u32) {
        let Some(((first, minute), _)) = rows.first() else { return };
        let known = self.minutes.unwrap_or((*minute, *minute));
        self.minutes = Some(rows.iter().fold(known, |(first, last), ((_, minute), _)| (first.min(*minute), last.max(*minute))));
        self.operation.clear();
        let has_sums = operations::sum(operation(*first), rows, &mut self.sums, &mut self.operation);
        let [alone, summed, operations] = &mut self.kinds;
        let of_keys = if has_sums { summed } else { alone };
        for rows in by_key(rows) {
            let Some(((key, _), _)) = rows.first() else { continue };
            rows.iter().for_each(|(_, measures)| self.sums.add(measures));
            self.sums.take(&mut self.total);
            self.totals.add(*key, &self.total);
            of_keys.add(rows);
        }
        operations.add(self.operation.rows());
    }
}
