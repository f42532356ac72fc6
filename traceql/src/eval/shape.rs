//! Where each span stands in its trace: nested-set numbers.
//!
//! Roots and children are visited by (start, id), and each span takes the next number as it is entered and as it is left. So one
//! span is below another if and only if its numbers lie between the other's. A span that no root leads to has no numbers: its parent
//! is missing, or it stands in a circle, or an id is of more than two spans.

use crate::trace::{SpanFacts, Trace};
use crate::value::Kind;

/// The parent of roots.
pub(super) const ROOT: i64 = -1;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// 0 if the position is not known.
    pub left: u32,
    pub right: u32,
    /// The left number of the parent; -1 of roots, be their position known or not, 0 if the position of another is not known.
    pub parent: i64,
}

impl Place {
    pub(super) fn known(&self) -> bool {
        self.left > 0
    }
}

/// The places of a trace's spans.
#[derive(Debug)]
pub(crate) struct Shape {
    pub places: Vec<Place>,
    /// How many spans have each as their parent.
    pub children: Vec<u32>,
}

impl Shape {
    /// `order` is the spans by (start, id).
    pub(super) fn new<T: Trace + ?Sized>(trace: &T, order: &[u32]) -> Shape {
        let facts: Vec<SpanFacts> = (0..trace.len()).map(|span| trace.facts(span)).collect();
        // Whether a span is a root, it says itself, so that no other has to be asked.
        let place = |facts: &SpanFacts| Place { parent: if is_root(facts) { ROOT } else { 0 }, ..Place::default() };
        let mut shape = Shape { places: facts.iter().map(place).collect(), children: vec![0; facts.len()] };
        let Some(parents) = parents(&facts) else { return shape };
        for parent in parents.iter().filter(|parent| **parent != NONE) {
            shape.children[*parent as usize] += 1;
        }
        let kin = Kin::new(&parents, &shape.children, order);
        let mut number = 1;
        for root in order.iter().filter(|span| is_root(&facts[**span as usize])) {
            number = shape.visit(*root, number, &kin);
        }
        shape
    }

    /// Numbers a root and all below it; answers the next number.
    fn visit(&mut self, root: u32, first: u32, kin: &Kin) -> u32 {
        let mut number = first;
        let mut path: Vec<(u32, usize)> = Vec::new();
        let mut entered = Some((root, ROOT));
        loop {
            if let Some((span, parent)) = entered.take() {
                self.places[span as usize] = Place { left: number, right: 0, parent };
                number += 1;
                path.push((span, 0));
            }
            let Some((span, next)) = path.last_mut() else { return number };
            let (span, child) = (*span as usize, kin.of(*span).get(*next));
            *next += 1;
            match child {
                Some(child) => entered = Some((*child, self.places[span].left.into())),
                None => {
                    self.places[span].right = number;
                    number += 1;
                    path.pop();
                }
            }
        }
    }
}

/// The children of each span, by (start, id).
struct Kin {
    children: Vec<u32>,
    first: Vec<usize>,
}

impl Kin {
    fn new(parents: &[u32], counts: &[u32], order: &[u32]) -> Kin {
        let mut first = vec![0; counts.len() + 1];
        for (span, count) in counts.iter().enumerate() {
            first[span + 1] = first[span] + *count as usize;
        }
        let mut next = first.clone();
        let mut children = vec![NONE; first.last().copied().unwrap_or(0)];
        for &span in order {
            let parent = parents[span as usize];
            if parent != NONE {
                children[next[parent as usize]] = span;
                next[parent as usize] += 1;
            }
        }
        Kin { children, first }
    }

    fn of(&self, span: u32) -> &[u32] {
        &self.children[self.first[span as usize]..self.first[span as usize + 1]]
    }
}

pub(super) fn is_root(facts: &SpanFacts) -> bool {
    facts.parent_id == [0; 8]
}

/// The parent of each span; nothing if an id is of more than two.
fn parents(facts: &[SpanFacts]) -> Option<Vec<u32>> {
    let mut by_id: Vec<([u8; 8], u32)> = facts.iter().zip(0..).map(|(facts, span)| (facts.id, span)).collect();
    by_id.sort_unstable();
    if by_id.windows(3).any(|three| three[0].0 == three[2].0) {
        return None;
    }
    let parent = |own: &SpanFacts| {
        if is_root(own) {
            return NONE;
        }
        let first = by_id.partition_point(|(id, _)| *id < own.parent_id);
        let mut found = by_id[first..].iter().take_while(|(id, _)| *id == own.parent_id).map(|(_, span)| *span);
        match (found.next(), found.next()) {
            (None, _) => NONE,
            (Some(only), None) => only,
            // Zipkin's client and server share an id: the server's spans are below it, the server itself below the client.
            (Some(first), Some(second)) => {
                let wanted = if own.kind == Kind::Server { Kind::Client } else { Kind::Server };
                [first, second].into_iter().find(|span| facts[*span as usize].kind == wanted).unwrap_or(NONE)
            }
        }
    };
    Some(facts.iter().map(parent).collect())
}
