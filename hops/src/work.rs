//! The pieces of work that a trace is made of: what a node did for one request, or because nobody asked.

use crate::node::Node;
use crate::rules::answer::Settled;
use crate::rules::crossing::Joint;
use crate::rules::{NONE, fill};
use crate::span::Span;
use crate::worker::{SPANS_MAX, TraceHops};

/// By whom a piece of work was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asked {
    /// By a request that names a parent, there or lost: it was traced before it came here.
    Traced,
    /// By a request that begins the trace.
    Untraced,
    /// By nobody: the trace begins with it, and with no request. A timer, a batch, or a request whose context was dropped.
    Nobody,
    /// No span tells: what it was done for is lost, or is told by other spans.
    Unknown,
}

/// Spans of one node that belong together: joined by links that are no requests (R3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work<'a> {
    /// Whose work it is.
    pub node: Node<'a>,
    /// The pod; empty if no span tells it.
    pub pod: &'a str,
    /// By whom it was asked for.
    pub asked: Asked,
    /// Start of its topmost span, nanoseconds since the epoch.
    pub start: u64,
    /// End of its topmost span; not before `start`.
    pub end: u64,
    /// The name of its topmost span.
    pub operation: &'a str,
    /// Calls that it made (R5), mirrored ones aside.
    pub calls: u32,
}

impl TraceHops {
    /// Appends the pieces of work of a trace, by their start. `spans` are all that are known of the trace, in any order and with
    /// any copies (P4). Of a trace of more than [`SPANS_MAX`] spans the rest is left out; how many these are is answered.
    pub fn works<'a>(&mut self, trace_id: &[u8; 16], spans: &[Span<'a>], works: &mut Vec<Work<'a>>) -> usize {
        self.settle(trace_id, spans, SPANS_MAX, |settled, _| write(settled, works)).1.left_out
    }
}

fn write<'a>(settled: &Settled<'_, 'a>, works: &mut Vec<Work<'a>>) {
    let trace = &settled.trace;
    // By rank of the topmost span.
    let (mut calls, mut pods) = (Vec::new(), Vec::new());
    fill(&mut calls, trace, 0u32);
    fill(&mut pods, trace, NONE);
    for rank in trace.ranks() {
        let top = settled.groups.tops[rank as usize] as usize;
        calls[top] += u32::from(settled.exits.marks[rank as usize] && !trace.at(rank).is_mirror());
        if pods[top] == NONE && !settled.identities[rank as usize].pod.is_empty() {
            pods[top] = rank;
        }
    }
    for rank in trace.ranks().filter(|rank| settled.groups.tops[*rank as usize] == *rank) {
        let (span, at) = (trace.at(rank), rank as usize);
        works.push(Work {
            node: *settled.node(rank),
            pod: if pods[at] == NONE { "" } else { settled.identities[pods[at] as usize].pod },
            asked: asked(settled, rank),
            start: span.start,
            end: span.end.max(span.start),
            operation: span.name,
            calls: calls[at],
        });
    }
}

fn asked(settled: &Settled<'_, '_>, rank: u32) -> Asked {
    match (settled.groups.joints[rank as usize], settled.entries[rank as usize]) {
        (Joint::Root, true) => Asked::Untraced,
        (Joint::Root, false) if settled.trace.at(rank).is_receive() => Asked::Unknown,
        (Joint::Root, false) => Asked::Nobody,
        (_, true) => Asked::Traced,
        (_, false) => Asked::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{Role, SpanKind};

    fn span(id: u8, parent: u8, kind: SpanKind, service: &'static str) -> Span<'static> {
        let (start, end) = (id.into(), 100 - u64::from(id));
        let parent_span_id = [parent; 8];
        let of = Span { span_id: [id; 8], parent_span_id, start, end, kind, service, workload: service, ..Span::default() };
        Span { role: Role::Sidecar, tagged: true, pod: service, node_id: "sidecar~10.0.0.1~x.y~z", ..of }
    }

    fn works(spans: &[Span<'static>]) -> Vec<(&'static str, Asked, u32)> {
        let mut works = Vec::new();
        assert_eq!(TraceHops::new().works(&[1; 16], spans, &mut works), 0);
        assert!(works.iter().all(|work| work.pod == work.node.service && work.start < work.end));
        works.iter().map(|work| (work.node.service, work.asked, work.calls)).collect()
    }

    /// Scenario: a root call and who answers it, which calls two others; the same without its root; a gateway's lone client span.
    /// Guarantee: each piece of work once, with its calls, and by whom it was asked for.
    #[test]
    fn pieces_of_work() {
        let (client, server) = (SpanKind::Client, SpanKind::Server);
        let spans = [
            span(1, 0, client, "a"),
            span(2, 1, server, "b"),
            span(3, 2, client, "b"),
            span(4, 2, client, "b"),
            span(5, 3, server, "c"),
        ];
        let (b, c) = (("b", Asked::Traced, 2), ("c", Asked::Traced, 0));
        assert_eq!(works(&spans), [("a", Asked::Nobody, 1), b, c]);
        assert_eq!(works(&spans[1..]), [b, c]);
        assert_eq!(works(&spans[2..3]), [("b", Asked::Unknown, 1)], "what it was done for is lost");
        assert_eq!(works(&[Span { parent_span_id: [0; 8], ..spans[1] }]), [("b", Asked::Untraced, 0)]);
        let gateway = Span { role: Role::Gateway, ..spans[0] };
        assert_eq!(works(&[gateway]), [("a", Asked::Untraced, 1)]);
    }
}
