//! R0 Set: one span per (span id, side).

use crate::span::{Side, Span};

use super::NONE;

/// A span under its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id {
    pub id: u64,
    pub side: Side,
    /// Position among the spans that were given.
    pub span: u32,
    /// Its rank; [`NONE`] if it was left out.
    pub rank: u32,
}

/// The set of a trace's spans.
#[derive(Debug, Default)]
pub(crate) struct Set {
    /// By (id, side).
    pub ids: Vec<Id>,
    /// Positions among the spans that were given, by rank.
    pub order: Vec<u32>,
    /// Spans that are no copies.
    pub distinct: usize,
    /// Of each span that was given, its place in `ids`; [`NONE`] if it is a copy.
    places: Vec<u32>,
    ranking: Vec<(u64, u32)>,
}

impl Set {
    /// Takes of copies the greatest by end, then by all that is read of a span; of the rest the first `limit` by (start, span
    /// id, side).
    pub(crate) fn collect(&mut self, spans: &[Span<'_>], limit: usize) {
        self.ids.clear();
        self.ids.extend(spans.iter().enumerate().map(|(index, span)| Id {
            id: span.id(),
            side: span.kind.side(),
            span: index as u32,
            rank: NONE,
        }));
        self.ids.sort_unstable_by_key(|id| (id.id, id.side));
        self.ids.dedup_by(|next, kept| {
            let copies = (next.id, next.side) == (kept.id, kept.side);
            if copies {
                let (a, b) = (&spans[next.span as usize], &spans[kept.span as usize]);
                if (a.end, a) > (b.end, b) {
                    kept.span = next.span;
                }
            }
            copies
        });
        self.distinct = self.ids.len();
        self.rank(spans, limit);
    }

    fn rank(&mut self, spans: &[Span<'_>], limit: usize) {
        self.places.clear();
        self.places.resize(spans.len(), NONE);
        for (id, place) in self.ids.iter().zip(0..) {
            self.places[id.span as usize] = place;
        }
        // In files the spans of a trace stand in the order of their starts already. Where an id stands orders those that start at once.
        self.ranking.clear();
        let kept = spans.iter().zip(&self.places).filter(|(_, place)| **place != NONE);
        self.ranking.extend(kept.map(|(span, place)| (span.start, *place)));
        self.ranking.sort_unstable();
        self.ranking.truncate(limit);
        self.order.clear();
        for (rank, (_, place)) in self.ranking.iter().enumerate() {
            let id = &mut self.ids[*place as usize];
            id.rank = rank as u32;
            self.order.push(id.span);
        }
    }
}
