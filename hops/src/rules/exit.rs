//! R5 Exit: a span by which a node asks, one call; and whom it asks.

use crate::flags::Flags;
use crate::host::{self, Place};
use crate::node::{Node, NodeKind};
use crate::span::Span;
use crate::upstream::Upstream;

use super::crossing::{Groups, Joint};
use super::{NONE, Trace, fill};

mod clusters;

pub(crate) use clusters::Clusters;

/// Whom a client span names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    kind: NodeKind,
    /// The host as it stands in the span, or another name. Empty if the span names nobody.
    pub name: &'a str,
    port: Option<u16>,
    place: Place,
    /// What the name of the span's own cluster means.
    cluster: Flags,
}

impl<'a> Target<'a> {
    /// D of the span alone.
    fn of(span: &Span<'a>, clusters: &mut Clusters) -> Target<'a> {
        let target = clusters.target(span.upstream_cluster);
        // A message goes to its queue, whatever carries it there.
        let is_cluster = target.is_known() && !span.is_send();
        if is_cluster { target } else { Target { cluster: target.cluster, ..Target::by_attributes(span) } }
    }

    /// Whom the name of the span's own cluster names, if it names somebody.
    fn of_cluster(cluster: &'a str) -> Target<'a> {
        let upstream = Upstream::parse(cluster);
        let target = match upstream.host {
            "" => Target::default(),
            host => Target::host(NodeKind::External, host),
        };
        Target { cluster: upstream.flags, ..target }
    }

    /// D of a span whose cluster names nobody.
    fn by_attributes(span: &Span<'a>) -> Target<'a> {
        if span.is_send() {
            return Target::named(NodeKind::Queue, span.messaging_destination);
        }
        // What a proxy calls its peer is who sent the request.
        let address = if span.is_application() { host::without_port(span.peer_address) } else { "" };
        let server = host::without_port(span.server_address);
        if !span.db_system.is_empty() {
            return Target::database(span, server, address);
        }
        if !span.messaging_destination.is_empty() {
            return Target::named(NodeKind::Queue, span.messaging_destination);
        }
        let url = host::of_url(span.http_url);
        if !url.is_empty() {
            return Target::host(NodeKind::External, url);
        }
        if span.is_application() && !span.peer_service.is_empty() {
            return Target::named(NodeKind::External, span.peer_service);
        }
        match (server, address) {
            ("", "") => Target::named(NodeKind::External, span.rpc_service),
            ("", host) | (host, _) => Target::host(NodeKind::External, host),
        }
    }

    fn database(span: &Span<'a>, server: &'a str, address: &'a str) -> Target<'a> {
        let named = |name| Target::named(NodeKind::Database, name);
        if !span.peer_service.is_empty() {
            return named(span.peer_service);
        }
        if !server.is_empty() {
            let port = span.server_port.and_then(|port| u16::try_from(port).ok());
            return Target { port, ..Target::host(NodeKind::Database, server) };
        }
        match (address, span.db_namespace) {
            ("", "") => named(span.db_system),
            ("", name) => named(name),
            (host, _) => Target::host(NodeKind::Database, host),
        }
    }

    fn host(kind: NodeKind, name: &'a str) -> Target<'a> {
        let place = host::place(name);
        let kind = if kind == NodeKind::External && place == Place::Mesh { NodeKind::Workload } else { kind };
        Target { kind, name, place, ..Target::default() }
    }

    fn named(kind: NodeKind, name: &'a str) -> Target<'a> {
        Target { kind, name, ..Target::default() }
    }

    pub(crate) fn is_known(&self) -> bool {
        !self.name.is_empty()
    }

    /// The service of the mesh that it names, if it names one.
    pub(crate) fn is_in_mesh(&self) -> bool {
        self.place == Place::Mesh
    }

    /// Whether a span of the callee may still come.
    pub(crate) fn may_answer(&self) -> bool {
        matches!(self.kind, NodeKind::Workload | NodeKind::External) && self.place != Place::Public
    }

    /// The node that no span tells of. A name that means something only where the caller is gets the caller's place; a queue
    /// only its cluster, for who sends and who receives are often of two namespaces.
    pub(crate) fn node(&self, caller: &Node<'a>) -> Node<'a> {
        let node = Node { service: self.name, port: self.port, ..Node::of_kind(self.kind) };
        match (self.place, host::in_mesh(self.name)) {
            (Place::Mesh, Some((service, namespace))) => Node { service, namespace, ..node },
            (Place::Public, _) => node,
            _ if self.kind == NodeKind::Queue => queue(self.name, caller),
            _ => Node { cluster: caller.cluster, namespace: caller.namespace, ..node },
        }
    }
}

/// A queue that this node talks to.
pub(crate) fn queue<'a>(name: &'a str, node: &Node<'a>) -> Node<'a> {
    Node { service: name, cluster: node.cluster, ..Node::of_kind(NodeKind::Queue) }
}

/// What a call's own span says of its way; `target` is whom it asks.
pub(crate) fn flags(span: &Span<'_>, target: &Target<'_>) -> Flags {
    // Most have none, which is `-`.
    let no_route = span.response_flags.len() > 1 && span.response_flags.split(',').any(|flag| flag == "NR");
    target.cluster
        | Flags::NO_ROUTE.when(no_route)
        | Flags::MIRROR.when(span.is_mirror())
        | Flags::RETRY.when(span.retry_count.is_some_and(|count| count > 0))
}

/// The calls of a trace, by rank.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    /// Whether the span is an exit.
    pub marks: Vec<bool>,
    /// The last call with no call inside, at the span or inside of it, that the requests below it are attempts of; else [`NONE`].
    pub last_inside: Vec<u32>,
    /// The innermost send that the span is inside of, if it carries the message; else [`NONE`].
    sends: Vec<u32>,
    /// Whether a call is inside the span.
    holds: Vec<bool>,
    /// Whether a send is inside the span.
    holds_send: Vec<bool>,
}

/// Whether a span is a call: to wait for messages, or to settle them, is none.
fn is_call(span: &Span<'_>) -> bool {
    span.is_client() && !span.is_receive() && !span.is_settle()
}

/// Whether a span is a call that sends a message.
pub(crate) fn is_send(span: &Span<'_>) -> bool {
    is_call(span) && span.is_send()
}

impl Exits {
    /// Finds the exits: calls with no call inside. A mirrored request is a call beside the one it copies. A message that is sent is
    /// a call that nobody answers; the calls inside carry it to its queue, and are its detail.
    pub(crate) fn find(&mut self, trace: &Trace<'_, '_>, downward: &[u32], groups: &Groups) {
        self.find_sends(trace, downward, groups);
        fill(&mut self.marks, trace, false);
        fill(&mut self.last_inside, trace, NONE);
        fill(&mut self.holds, trace, false);
        fill(&mut self.holds_send, trace, false);
        for &rank in downward.iter().rev() {
            let span = trace.at(rank);
            let (at, call, send) = (rank as usize, is_call(span), is_send(span));
            let innermost = call && !self.holds[at];
            self.marks[at] = if send { !self.holds_send[at] } else { innermost && self.sends[at] == NONE };
            if innermost && !send {
                self.last_inside[at] = rank;
            }
            if let Joint::Inside(parent) = groups.joints[at]
                && !span.is_mirror()
            {
                let parent = parent as usize;
                self.holds[parent] |= call || self.holds[at];
                self.holds_send[parent] |= send || self.holds_send[at];
                // Who answers what is around a send does not answer what carries the message.
                let last = if send { NONE } else { self.last_inside[at] };
                if last != NONE && (self.last_inside[parent] == NONE || self.last_inside[parent] < last) {
                    self.last_inside[parent] = last;
                }
            }
        }
    }

    fn find_sends(&mut self, trace: &Trace<'_, '_>, downward: &[u32], groups: &Groups) {
        fill(&mut self.sends, trace, NONE);
        for &rank in downward {
            if let Joint::Inside(parent) = groups.joints[rank as usize]
                && !trace.at(rank).is_mirror()
            {
                let around = self.sends[parent as usize];
                self.sends[rank as usize] = if is_send(trace.at(parent)) { parent } else { around };
            }
        }
    }

    /// The call that a span's own time is spent on: an exit's on itself, that of what carries a message on sending it.
    pub(crate) fn call(&self, rank: u32) -> Option<u32> {
        let (at, carries) = (rank as usize, self.last_inside[rank as usize] == rank);
        if self.marks[at] { Some(rank) } else { Some(self.sends[at]).filter(|send| carries && *send != NONE) }
    }
}

/// Settles whom each call asks: by its own span, else by the nearest client span around it that names somebody.
pub(crate) fn targets<'a>(
    trace: &Trace<'_, 'a>,
    downward: &[u32],
    groups: &Groups,
    clusters: &mut Clusters,
    targets: &mut Vec<Target<'a>>,
) {
    fill(targets, trace, Target::default());
    for &rank in downward {
        let span = trace.at(rank);
        let own = if span.is_client() { Target::of(span, clusters) } else { Target::default() };
        targets[rank as usize] = match groups.joints[rank as usize] {
            Joint::Inside(parent) if !own.is_known() && !span.is_mirror() => {
                Target { cluster: own.cluster, ..targets[parent as usize] }
            }
            _ => own,
        };
    }
}
