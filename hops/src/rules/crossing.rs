//! R3 Crossing: where a request goes from one node to another, or leaves a node and comes back.

use crate::span::SpanKind;

use super::answer::other_host;
use super::entry::is_asked;
use super::node::{Evidence, Identity};
use super::parent::{Parent, Tree};
use super::siblings::Siblings;
use super::{NONE, Trace, fill};

/// How a span is linked to what is above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Joint {
    /// It names no parent.
    #[default]
    Root,
    /// Its parent is not there.
    Absent,
    /// It is another request than its parent's.
    Crossing(u32),
    /// It is work of its parent's request.
    Inside(u32),
}

/// Spans by the requests that they are work of.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By rank.
    pub joints: Vec<Joint>,
    /// By rank, the topmost span of the same request.
    pub tops: Vec<u32>,
    /// By rank, the receive of messages that it is inside of, or is itself; else [`NONE`].
    pub receives: Vec<u32>,
}

/// Puts application spans inside the proxy span of the same request that stands beside them; true if any was moved.
pub(crate) fn tuck(trace: &Trace<'_, '_>, siblings: &Siblings, identities: &[Identity<'_>], tree: &mut Tree) -> bool {
    let mut moved = false;
    for rank in trace.ranks() {
        let of_its_node = |proxy| same(trace, identities, proxy, rank) && !other_pod(identities, proxy, rank);
        if let Some(proxy) = siblings.around(trace, &tree.parents, rank, of_its_node) {
            tree.parents[rank as usize] = Parent::Linked(proxy);
            moved = true;
        }
    }
    moved
}

impl Groups {
    /// Tells crossings from links inside a request.
    pub(crate) fn divide(&mut self, trace: &Trace<'_, '_>, tree: &Tree, identities: &[Identity<'_>]) {
        fill(&mut self.joints, trace, Joint::Root);
        fill(&mut self.tops, trace, NONE);
        fill(&mut self.receives, trace, NONE);
        for &rank in &tree.downward {
            let joint = match tree.parents[rank as usize] {
                Parent::Root => Joint::Root,
                Parent::Absent => Joint::Absent,
                Parent::Linked(parent) if self.crosses(trace, identities, parent, rank) => Joint::Crossing(parent),
                Parent::Linked(parent) => Joint::Inside(parent),
            };
            let (top, receive) = match joint {
                Joint::Inside(parent) => (self.tops[parent as usize], self.receives[parent as usize]),
                _ => (rank, NONE),
            };
            self.joints[rank as usize] = joint;
            self.tops[rank as usize] = top;
            self.receives[rank as usize] = if trace.at(rank).is_receive() { rank } else { receive };
        }
    }

    fn crosses(&self, trace: &Trace<'_, '_>, identities: &[Identity<'_>], parent: u32, rank: u32) -> bool {
        let (above, span) = (trace.at(parent), trace.at(rank));
        let itself = above.is_client() && span.is_server();
        let other_pod = above.is_server() && span.is_server() && other_pod(identities, parent, rank);
        // Who receives messages in batches works on each by itself.
        let message = span.is_process() && self.receives[parent as usize] != NONE;
        itself || other_pod || message || self.is_polled(trace, parent, rank) || !same(trace, identities, parent, rank)
    }

    /// Whether a message comes out of a queue in the midst of work that nobody asked for, as where a loop polls.
    fn is_polled(&self, trace: &Trace<'_, '_>, parent: u32, rank: u32) -> bool {
        let span = trace.at(rank);
        let top = self.tops[parent as usize];
        let unasked = matches!(self.joints[top as usize], Joint::Root | Joint::Absent) && !is_asked(trace.at(top));
        span.kind == SpanKind::Consumer && !span.messaging_destination.is_empty() && unasked
    }
}

/// Whether both spans are of one node. Between a waypoint and an application below it hosts decide, for a waypoint names the
/// service that was asked for, and an application itself.
fn same(trace: &Trace<'_, '_>, identities: &[Identity<'_>], above: u32, rank: u32) -> bool {
    let (a, b) = (&identities[above as usize], &identities[rank as usize]);
    let (proxy, span) = (trace.at(above), trace.at(rank));
    if !proxy.is_waypoint() || !span.is_application() {
        return a.node.same(&b.node);
    }
    if b.evidence != Evidence::Mesh {
        return !other_host(proxy, span);
    }
    let differ = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
    if differ(a.node.cluster, b.node.cluster) || differ(a.node.namespace, b.node.namespace) {
        return false;
    }
    match (a.node.workload, b.node.workload) {
        ("", _) | (_, "") => !other_host(proxy, span),
        (a, b) => a == b,
    }
}

fn other_pod(identities: &[Identity<'_>], a: u32, b: u32) -> bool {
    let (a, b) = (identities[a as usize].pod, identities[b as usize].pod);
    !a.is_empty() && !b.is_empty() && a != b
}
