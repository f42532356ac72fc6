//! The function H.

use crate::hop::Hop;
use crate::node::Node;
use crate::rules::answer::{Answers, Settled};
use crate::rules::crossing::{self, Groups};
use crate::rules::exit::{self, Clusters, Exits, Target};
use crate::rules::hops::{self, Writer};
use crate::rules::node::{self, Identity};
use crate::rules::parent::Tree;
use crate::rules::set::Set;
use crate::rules::siblings::Siblings;
use crate::rules::{Trace, entry};
use crate::span::Span;

/// Spans of a trace that H takes at once. Of a larger trace those that start first are taken, and the rest is counted.
pub const SPANS_MAX: usize = 100_000;

/// What H did not make hops of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Distinct spans that were taken.
    pub spans: usize,
    /// When the first of them starts, nanoseconds since the epoch.
    pub start: u64,
    /// When the last of them starts.
    pub last: u64,
    /// Copies of spans.
    pub copies: usize,
    /// Distinct spans past [`SPANS_MAX`]. Hops of the rest may be missing or have the caller missing.
    pub left_out: usize,
    /// Calls that nothing answers and that name nobody: no hops.
    pub unnamed: usize,
}

/// The function H, with the memory that it needs from one trace to the next.
///
/// H is pure: its hops depend on the set of spans alone, not on their order or number of copies, nor on a clock (P4). So a hop
/// that was computed from fewer spans is taken out, and put in anew, by computing both sets.
#[derive(Debug, Default)]
pub struct TraceHops {
    set: Set,
    tree: Tree,
    siblings: Siblings,
    nodes: node::Scratch,
    groups: Groups,
    worked_on: Vec<bool>,
    entries: Vec<bool>,
    exits: Exits,
    clusters: Clusters,
    answers: Answers,
    served: Vec<u32>,
    identities: Vec<Identity<'static>>,
    targets: Vec<Target<'static>>,
}

impl TraceHops {
    /// With no memory yet.
    pub fn new() -> TraceHops {
        TraceHops::default()
    }

    /// Appends the hops of a trace, by the start of their key spans. `spans` are all that are known of the trace `trace_id`, in
    /// any order and with any copies.
    pub fn append<'a>(&mut self, trace_id: &[u8; 16], spans: &[Span<'a>], hops: &mut Vec<Hop<'a>>) -> Summary {
        self.append_limited(trace_id, spans, SPANS_MAX, hops, None)
    }

    /// The same; and appends to `nodes` whose each span is that was taken, by its position among those that were given. Of copies it is
    /// that of the one that was kept.
    pub fn append_with_nodes<'a>(
        &mut self,
        trace_id: &[u8; 16],
        spans: &[Span<'a>],
        hops: &mut Vec<Hop<'a>>,
        nodes: &mut Vec<(u32, Node<'a>)>,
    ) -> Summary {
        self.append_limited(trace_id, spans, SPANS_MAX, hops, Some(nodes))
    }

    fn append_limited<'a>(
        &mut self,
        trace_id: &[u8; 16],
        spans: &[Span<'a>],
        limit: usize,
        hops: &mut Vec<Hop<'a>>,
        nodes: Option<&mut Vec<(u32, Node<'a>)>>,
    ) -> Summary {
        // R7, R8.
        let mut served = std::mem::take(&mut self.served);
        let (unnamed, summary) = self.settle(trace_id, spans, limit, |settled, answers| {
            if let Some(nodes) = nodes {
                nodes.extend(settled.trace.order.iter().zip(0..).map(|(span, rank)| (*span, *settled.node(rank))));
            }
            hops::served(settled, &mut served);
            Writer { settled: *settled, answers, served: &served, trace_id }.write(hops)
        });
        self.served = served;
        Summary { unnamed: unnamed as usize, ..summary }
    }

    /// R0 to R6, of as many spans as the limit says: what `of` makes of what they settle. Unnamed calls are not counted.
    pub(crate) fn settle<'a, T>(
        &mut self,
        trace_id: &[u8; 16],
        spans: &[Span<'a>],
        limit: usize,
        of: impl FnOnce(&Settled<'_, 'a>, &Answers) -> T,
    ) -> (T, Summary) {
        let mut identities: Vec<Identity<'a>> = std::mem::take(&mut self.identities);
        let mut targets: Vec<Target<'a>> = std::mem::take(&mut self.targets);
        // R0, R1.
        self.set.collect(spans, limit);
        let trace = Trace { spans, order: &self.set.order };
        self.tree.link(&trace, &self.set.ids);
        // R2.
        self.siblings.collect(&trace, &self.tree.parents);
        let Tree { parents, downward, .. } = &self.tree;
        node::settle(&trace, parents, downward, &self.siblings, &mut self.nodes, &mut identities);
        // R3.
        if crossing::tuck(&trace, &self.siblings, &identities, &mut self.tree) {
            self.tree.order(&trace);
        }
        self.groups.divide(&trace, &self.tree, &identities);
        complete(&trace, &self.groups, &mut identities);
        // R4, R5.
        entry::find(&trace, trace_id, &self.set.ids, &self.groups, &mut self.worked_on, &mut self.entries);
        self.exits.find(&trace, &self.tree.downward, &self.groups);
        exit::targets(&trace, &self.tree.downward, &self.groups, &mut self.clusters, &mut targets);
        // R6.
        let settled = Settled {
            trace,
            downward: &self.tree.downward,
            identities: &identities,
            groups: &self.groups,
            entries: &self.entries,
            exits: &self.exits,
            targets: &targets,
        };
        self.answers.find(&settled);
        let made = of(&settled, &self.answers);
        let (taken, distinct) = (self.set.order.len(), self.set.distinct);
        self.identities = emptied(identities);
        self.targets = emptied(targets);
        // Ranks are by start.
        let [start, last] = [trace.ranks().next(), trace.ranks().last()].map(|rank| rank.map_or(0, |rank| trace.at(rank).start));
        (made, Summary { spans: taken, start, last, copies: spans.len() - distinct, left_out: distinct - taken, unnamed: 0 })
    }
}

/// Gives the node of each request the parts that only spans inside of it tell.
fn complete<'a>(trace: &Trace<'_, 'a>, groups: &Groups, identities: &mut [Identity<'a>]) {
    for rank in trace.ranks() {
        let top = groups.tops[rank as usize];
        if top != rank {
            let node = identities[rank as usize].node;
            identities[top as usize].node.complete(&node);
        }
    }
}

/// An empty vector with the memory of another, whose elements could not live as long: collecting in place keeps it.
fn emptied<T, U>(mut column: Vec<T>) -> Vec<U> {
    column.clear();
    column.into_iter().filter_map(|_| None).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: a vector emptied for another trace. Guarantee: its memory is kept, so that no trace allocates it anew.
    #[test]
    fn memory_is_kept() {
        let identities = vec![Identity::default(); 100];
        let place = identities.as_ptr() as usize;
        let emptied: Vec<Identity<'static>> = emptied(identities);
        assert!(emptied.is_empty() && emptied.capacity() >= 100 && emptied.as_ptr() as usize == place);
    }

    /// Scenario: more spans than are taken at once, in both orders. Guarantee: the first to start are taken, the rest counted.
    #[test]
    fn spans_past_the_limit_are_counted() {
        let span = |n: u8| Span { span_id: [n; 8], parent_span_id: [n - 1; 8], start: n.into(), service: "a", ..Span::default() };
        let mut spans: Vec<_> = (1..=5).map(span).collect();
        spans.push(spans[4]);
        for _ in 0..2 {
            let mut hops = Vec::new();
            let summary = TraceHops::new().append_limited(&[1; 16], &spans, 3, &mut hops, None);
            assert_eq!(summary, Summary { spans: 3, start: 1, last: 3, copies: 1, left_out: 2, unnamed: 0 });
            spans.reverse();
        }
    }
}
