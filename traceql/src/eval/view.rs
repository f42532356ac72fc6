use std::cell::OnceCell;

use super::shape::{Shape, is_root};
use crate::trace::Trace;

/// A trace that is asked, and what was computed of it on the way: the order of its spans, their positions, its root. Each is computed
/// when first needed, once for all queries.
pub struct View<'t, T: ?Sized> {
    pub(crate) trace: &'t T,
    order: OnceCell<Vec<u32>>,
    rank: OnceCell<Vec<u32>>,
    shape: OnceCell<Shape>,
    whole: OnceCell<Whole>,
}

/// What is known of the whole trace.
pub(super) struct Whole {
    /// The first root.
    pub root: Option<usize>,
    /// From the first start to the last end, nanoseconds. A span that ends before it starts counts as ending there.
    pub duration: i64,
}

impl<'t, T: Trace + ?Sized> View<'t, T> {
    /// A view of a trace.
    pub fn new(trace: &'t T) -> View<'t, T> {
        View { trace, order: OnceCell::new(), rank: OnceCell::new(), shape: OnceCell::new(), whole: OnceCell::new() }
    }

    /// The spans by (start, id).
    pub fn order(&self) -> &[u32] {
        self.order.get_or_init(|| {
            let key = |span: &u32| {
                let facts = self.trace.facts(*span as usize);
                (facts.start, facts.id)
            };
            let mut order: Vec<u32> = (0..self.trace.len() as u32).collect();
            if !order.is_sorted_by_key(key) {
                order.sort_by_cached_key(key);
            }
            order
        })
    }

    /// The place of each span in the order.
    pub(super) fn rank(&self) -> &[u32] {
        self.rank.get_or_init(|| {
            let mut rank = vec![0; self.trace.len()];
            self.order().iter().zip(0..).for_each(|(span, place)| rank[*span as usize] = place);
            rank
        })
    }

    pub(crate) fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| Shape::new(self.trace, self.order()))
    }

    pub(super) fn whole(&self) -> &Whole {
        self.whole.get_or_init(|| {
            let facts = (0..self.trace.len()).map(|span| self.trace.facts(span));
            let start = facts.clone().map(|facts| facts.start).min().unwrap_or(0);
            let end = facts.map(|facts| facts.start.saturating_add_signed(facts.duration.max(0))).max().unwrap_or(start);
            let root = self.order().iter().map(|span| *span as usize).find(|span| is_root(&self.trace.facts(*span)));
            Whole { root, duration: i64::try_from(end.saturating_sub(start)).unwrap_or(i64::MAX) }
        })
    }
}
