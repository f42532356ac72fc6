//! Sums by what a query reads of spans, in the making.

use datafusion::error::Result;
use meshlake_hops::Histogram;
use meshlake_hops::rollup::Latencies;
use meshlake_hops::span_rollup::{KeyNumbers, KeyParts, SpanKeys};
use meshlake_traceql::Alike;

use super::Intervals;
use super::key_span::KeySpan;
use crate::rollups::{Asked, OpenSpans};

/// Sums of many pieces. A file has rows of the same keys as the others, so rows are added up here before anything is made of them.
pub(super) struct Held {
    parts: KeyParts,
    keys: KeyNumbers,
    /// By number of key: whether the query may count its spans.
    wanted: Vec<bool>,
    /// Whether there are keys without a service. What such spans have for it instead, if anything, is not known here: none is wanted if
    /// the query reads it.
    pub(super) nameless: bool,
    counts: Runs<u64>,
    durations: Runs<Latencies>,
}

impl Held {
    /// Of nothing.
    pub(super) fn new(parts: KeyParts) -> Held {
        let (counts, durations) = (Runs(Vec::new()), Runs(Vec::new()));
        Held { parts, keys: KeyNumbers::default(), wanted: Vec::new(), nameless: false, counts, durations }
    }

    /// The numbers here of the keys of a piece, and which of its keys are wanted.
    pub(super) fn numbers(&mut self, keys: &SpanKeys, may_count: impl Fn(&KeySpan<'_>) -> bool) -> (Vec<u32>, Vec<bool>) {
        let numbers = self.keys.numbers(keys, self.parts);
        for number in self.wanted.len()..self.keys.keys().len() {
            let key = self.keys.keys().key(number as u32);
            let nameless = self.parts.service && key.service.is_none();
            self.nameless |= nameless;
            self.wanted.push(!nameless && may_count(&KeySpan(key)));
        }
        let wanted = numbers.iter().map(|number| self.wanted[*number as usize]).collect();
        (numbers, wanted)
    }

    /// Adds the wanted rows of a piece, whose keys have these numbers here.
    pub(super) fn add(&mut self, piece: &OpenSpans, numbers: &[u32], intervals: Intervals, asked: Asked) -> Result<()> {
        let Held { counts, durations, .. } = self;
        match asked {
            Asked::Counts => piece.counts(|minute, key, count| {
                *counts.at(numbers[key as usize], intervals.of(minute)) += count;
            }),
            Asked::Durations => piece.durations(|minute, key, latencies| {
                durations.at(numbers[key as usize], intervals.of(minute)).merge(latencies);
            }),
        }
    }

    /// Gives `each` a span of each key that has sums, and these; then there are none any more.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&KeySpan<'_>, &[Alike]) -> Result<()>) -> Result<()> {
        let counted = |(interval, count)| Alike { interval, count, durations: Histogram::new() };
        let timed = |(interval, latencies): (u32, Latencies)| {
            let durations = latencies.histogram();
            Alike { interval, count: durations.count(), durations }
        };
        let mut spans: Vec<Alike> = Vec::new();
        for number in 0..self.keys.keys().len() as u32 {
            spans.clear();
            spans.extend(self.counts.take(number).map(counted));
            spans.extend(self.durations.take(number).map(timed));
            spans.retain(|spans| spans.count > 0);
            if !spans.is_empty() {
                each(&KeySpan(self.keys.keys().key(number)), &spans)?;
            }
        }
        Ok(())
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        // With a few buckets in each.
        let of_durations = 4 * size_of::<Latencies>();
        2 * self.keys.keys().bytes() + self.counts.len() * size_of::<u64>() + self.durations.len() * of_durations
    }
}

/// Sums by number of key and interval.
struct Runs<T>(Vec<Run<T>>);

/// Sums of intervals that follow each other, from the first on.
#[derive(Default)]
struct Run<T> {
    first: u32,
    sums: Vec<T>,
}

impl<T: Default> Runs<T> {
    fn at(&mut self, key: u32, interval: u32) -> &mut T {
        let key = key as usize;
        if key >= self.0.len() {
            self.0.resize_with(key + 1, Run::default);
        }
        self.0[key].at(interval)
    }

    /// Those of a key, which are gone then.
    fn take(&mut self, key: u32) -> impl Iterator<Item = (u32, T)> {
        let Run { first, sums } = self.0.get_mut(key as usize).map(std::mem::take).unwrap_or_default();
        (first..).zip(sums)
    }

    fn len(&self) -> usize {
        self.0.iter().map(|run| run.sums.capacity()).sum()
    }
}

impl<T: Default> Run<T> {
    fn at(&mut self, interval: u32) -> &mut T {
        if self.sums.is_empty() {
            self.first = interval;
        }
        if let Some(before) = self.first.checked_sub(interval).filter(|before| *before > 0) {
            self.sums.splice(..0, (0..before).map(|_| T::default()));
            self.first = interval;
        }
        let place = (interval - self.first) as usize;
        if place >= self.sums.len() {
            self.sums.resize_with(place + 1, T::default);
        }
        &mut self.sums[place]
    }
}
