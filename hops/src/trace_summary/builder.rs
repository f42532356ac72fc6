//! Makes the summaries of a file.

use std::cmp::Ordering;

use hashbrown::HashMap;

use super::block::{Row, write};
use super::outline::TraceOutline;
use super::{BLOCKS_MAX, SERVICES_MAX, TEXTS_MAX, TRACES};

/// Spans of a trace that are looked at for copies; of more it is said that there are some.
const COMPARED_MAX: usize = 1 << 16;
/// The number of all texts that are not kept.
const UNKEPT: u32 = u32::MAX;

/// What a summary says of a span. Texts by number, see [`TraceSummaryBuilder::text`].
#[derive(Clone, Copy, Debug)]
pub struct TraceSpan {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// Start, nanoseconds since the epoch.
    pub start: i128,
    /// Nanoseconds; one that ends before it starts ends there.
    pub duration: i64,
    /// Whether it failed.
    pub error: bool,
    /// The service.
    pub service: Option<u32>,
    /// The name, if it has no parent.
    pub root: Option<u32>,
}

/// The summaries of a file in the making.
#[derive(Debug, Default)]
pub struct TraceSummaryBuilder {
    texts: Texts,
    firsts: Vec<[u8; 16]>,
    blocks: Vec<Vec<u8>>,
    /// Bytes of the blocks.
    bytes: usize,
    /// The block that is filled.
    rows: Vec<Row>,
    /// Of which more spans may come.
    trace: Option<Folded>,
    /// Its services, each with spans and errors.
    services: Vec<(u32, u64, u64)>,
    /// Its spans, as integers, which are quicker to compare.
    span_ids: Vec<u64>,
}

/// Texts, each once.
#[derive(Debug, Default)]
struct Texts {
    texts: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
    bytes: usize,
}

/// A trace while its spans come in.
#[derive(Debug)]
struct Folded {
    id: [u8; 16],
    start: i128,
    end: i128,
    spans: u64,
    errors: u64,
    root: Option<Root>,
    is_told: bool,
}

#[derive(Clone, Copy, Debug)]
struct Root {
    start: i128,
    span_id: [u8; 8],
    service: Option<u32>,
    name: u32,
}

impl TraceSummaryBuilder {
    /// Of nothing.
    pub fn new() -> TraceSummaryBuilder {
        TraceSummaryBuilder::default()
    }

    /// The number of a text.
    pub fn text(&mut self, text: &str) -> u32 {
        self.texts.number(text)
    }

    /// Adds a span. Those of a trace come one after the other in any order, traces in the order of their ids.
    pub fn add(&mut self, span: &TraceSpan) {
        if self.trace.as_ref().is_none_or(|trace| trace.id != span.trace_id) {
            self.end_trace();
        }
        if self.is_full() {
            return;
        }
        self.trace.get_or_insert_with(|| Folded::new(span)).add(span, &self.texts, &mut self.services);
        if self.span_ids.len() <= COMPARED_MAX {
            self.span_ids.push(u64::from_be_bytes(span.span_id));
        }
    }

    /// Whether nothing is told of what comes.
    fn is_full(&self) -> bool {
        self.blocks.last().is_some_and(Vec::is_empty)
    }

    fn end_trace(&mut self) {
        let Some(trace) = self.trace.take() else { return };
        let has_copies = self.span_ids.len() > COMPARED_MAX || has_copies(&mut self.span_ids);
        self.span_ids.clear();
        // Traces of the same services are compressed the better.
        self.services.sort_unstable();
        self.rows.push(trace.finish(has_copies, &self.services));
        self.services.clear();
        if self.rows.len() == TRACES {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        let Some(first) = self.rows.first() else { return };
        self.firsts.push(first.id);
        let block = if self.bytes < BLOCKS_MAX { write(&mut self.rows) } else { Vec::new() };
        self.bytes += block.len();
        self.blocks.push(block);
        self.rows.clear();
    }

    /// The sections: the outline, and the blocks.
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        self.end_trace();
        self.end_block();
        let outline = TraceOutline { texts: self.texts.texts, firsts: self.firsts };
        [outline.encode()].into_iter().chain(self.blocks).collect()
    }
}

/// Whether two spans have the same id.
fn has_copies(span_ids: &mut [u64]) -> bool {
    // Ids are random and most traces small: few have two of the same bits, and only those are sorted to know.
    let (mut seen, mut may_be) = ([0u64; 32], false);
    for id in &*span_ids {
        let place = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - 11);
        let (word, bit) = (&mut seen[(place / 64) as usize], 1 << (place % 64));
        may_be |= *word & bit != 0;
        *word |= bit;
    }
    if may_be {
        span_ids.sort_unstable();
    }
    may_be && span_ids.windows(2).any(|pair| pair[0] == pair[1])
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        if self.bytes + text.len() > TEXTS_MAX {
            return UNKEPT;
        }
        let number = self.texts.len() as u32;
        self.bytes += text.len() + size_of::<Box<str>>();
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    fn get(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }
}

impl Folded {
    fn new(span: &TraceSpan) -> Folded {
        let (id, start) = (span.trace_id, span.start);
        Folded { id, start, end: start, spans: 0, errors: 0, root: None, is_told: true }
    }

    fn add(&mut self, span: &TraceSpan, texts: &Texts, services: &mut Vec<(u32, u64, u64)>) {
        let error = u64::from(span.error);
        self.start = self.start.min(span.start);
        self.end = self.end.max(span.start + i128::from(span.duration.max(0)));
        self.spans += 1;
        self.errors += error;
        self.is_told &= span.service != Some(UNKEPT) && span.root != Some(UNKEPT);
        if let Some(service) = span.service {
            self.is_told &= add_service(services, service, error);
        }
        if let Some(name) = span.root {
            let root = Root { start: span.start, span_id: span.span_id, service: span.service, name };
            if self.root.as_ref().is_none_or(|known| root.compare(known, texts).is_lt()) {
                self.root = Some(root);
            }
        }
    }

    fn finish(self, has_copies: bool, services: &[(u32, u64, u64)]) -> Row {
        if !self.is_told {
            return Row { id: self.id, ..Row::default() };
        }
        Row {
            id: self.id,
            start: saturated(self.start),
            duration: saturated(self.end - self.start),
            spans: self.spans,
            errors: self.errors,
            has_copies,
            root: self.root.map(|root| (root.service, root.name)),
            services: services.to_vec(),
        }
    }
}

/// Counts a span of a service, unless there are too many services.
fn add_service(services: &mut Vec<(u32, u64, u64)>, service: u32, error: u64) -> bool {
    if let Some((_, spans, errors)) = services.iter_mut().find(|(known, ..)| *known == service) {
        (*spans, *errors) = (*spans + 1, *errors + error);
        return true;
    }
    let fits = services.len() < SERVICES_MAX;
    services.extend(fits.then_some((service, 1, error)));
    fits
}

impl Root {
    /// By start, span id, service, name: of several the first is the root, whatever the order of spans (P4).
    fn compare(&self, other: &Root, texts: &Texts) -> Ordering {
        let place = |root: &Root| (root.start, root.span_id);
        let named = |root: &Root| (root.service.map(|service| texts.get(service)), texts.get(root.name));
        place(self).cmp(&place(other)).then_with(|| named(self).cmp(&named(other)))
    }
}

/// Times past the year 2262 stand at the end of what 64 bits can say.
fn saturated(nanoseconds: i128) -> i64 {
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: ids of which none, the last two or two far apart are the same, of few and of many spans. Guarantee: copies are
    /// found as by a set of the ids.
    #[test]
    fn copies_are_those_of_a_set() {
        for count in [0u64, 1, 2, 10, 50, 3000] {
            let ids: Vec<u64> = (0..count).map(|id| (id + count).wrapping_mul(6_364_136_223_846_793_005)).collect();
            for copied in [None, ids.first(), ids.last()] {
                let mut ids: Vec<u64> = ids.iter().chain(copied).copied().collect();
                let different = ids.iter().collect::<std::collections::HashSet<_>>().len();
                assert_eq!(has_copies(&mut ids.clone()), different < ids.len());
                ids.reverse();
                assert_eq!(has_copies(&mut ids), copied.is_some());
            }
        }
    }
}
