//! R7 Hops and R8 Fields: one hop an entry, and one an exit that nothing answers.

use crate::flags::Flags;
use crate::hop::{Direction, Hop, Key, Report, Via};
use crate::node::{Node, NodeKind};
use crate::span::{Role, Span, SpanKind};
use crate::weight;

use super::answer::{Answers, Settled, Verdict};
use super::crossing::Joint;
use super::exit::{self, queue};
use super::node::of_end;
use super::{NONE, Trace, fill};

/// Writes hops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'s, 'a> {
    pub settled: Settled<'s, 'a>,
    pub answers: &'s Answers,
    /// By rank of an entry, the first server-side span inside that no waypoint writes; else [`NONE`].
    pub served: &'s [u32],
    pub trace_id: &'s [u8; 16],
}

/// Finds, for each waypoint's span, who served its request.
pub(crate) fn served(settled: &Settled<'_, '_>, served: &mut Vec<u32>) {
    let trace = &settled.trace;
    fill(served, trace, NONE);
    for rank in trace.ranks() {
        let top = settled.groups.tops[rank as usize];
        let span = trace.at(rank);
        if top != rank && served[top as usize] == NONE && span.is_server() && !span.is_waypoint() {
            served[top as usize] = rank;
        }
    }
}

/// Who asked, and what speaks for it.
struct Caller<'a> {
    node: Node<'a>,
    flags: Flags,
}

impl<'a> Writer<'_, 'a> {
    /// Appends the hops in the order of their keys' ranks; the number of exits that name nobody.
    pub(crate) fn write(&self, hops: &mut Vec<Hop<'a>>) -> u32 {
        let mut unnamed = 0;
        for rank in self.settled.trace.ranks() {
            let at = rank as usize;
            if self.settled.entries[at] {
                hops.push(self.entry(rank));
            }
            if self.settled.exits.marks[at] && !self.answers.answered[at] {
                if self.settled.targets[at].is_known() { hops.push(self.exit(rank)) } else { unnamed += 1 }
            }
        }
        unnamed
    }

    /// R7 (1).
    pub(crate) fn entry(&self, rank: u32) -> Hop<'a> {
        let Settled { trace, identities, .. } = &self.settled;
        let span = trace.at(rank);
        let callee = self.settled.node(rank);
        let caller = self.caller(rank, callee);
        let exit = Some(self.answers.exits[rank as usize]).filter(|exit| *exit != NONE);
        let call = exit.map(|exit| trace.at(exit));
        let attempts = exit.map_or(1, |exit| self.answers.attempts[exit as usize]);
        let attempt = self.answers.ordinals[rank as usize].max(1);
        let last = exit.filter(|_| attempt == attempts);
        let mut hop = self.hop(rank, Direction::In);
        hop.caller = caller.node;
        hop.callee = *callee;
        hop.via = span.is_waypoint().then(|| via(span));
        hop.caller_span = last.map(|exit| trace.order[exit as usize]);
        hop.caller_report = last.map(|exit| Report::of(trace.at(exit)));
        hop.callee_report = Some(self.callee_report(rank));
        hop.attempt = attempt;
        let mirrored = call.is_some_and(Span::is_mirror);
        hop.calls = u32::from(attempt == attempts && !mirrored);
        hop.messages = if span.kind == SpanKind::Consumer { span.links.len().max(1) as u32 } else { 0 };
        let of_call = exit.map_or(Flags::NONE, |exit| exit::flags(trace.at(exit), &self.settled.targets[exit as usize]));
        hop.flags |= caller.flags | of_call | Flags::RETRY.when(attempt > 1);
        hop.flags |= Flags::ASSUMED.when(identities[self.settled.groups.tops[rank as usize] as usize].assumed);
        if let Some(call) = call {
            let missing = |own: &mut Option<u64>, other| *own = own.or(other);
            missing(&mut hop.request_bytes, bytes(call.request_size));
            missing(&mut hop.response_bytes, bytes(call.response_size));
            if hop.protocol.is_empty() {
                hop.protocol = protocol(call);
            }
            hop.method = either(hop.method, method(call));
        }
        let message = span.kind == SpanKind::Consumer || call.is_some_and(|call| call.kind == SpanKind::Producer);
        self.network(&mut hop, attempts == 1 && !message);
        hop.mtls = span.mtls();
        hop.weight = self.weight(span, call);
        hop
    }

    /// R7 (2).
    fn exit(&self, rank: u32) -> Hop<'a> {
        let at = rank as usize;
        let span = self.settled.trace.at(rank);
        let caller = self.settled.node(rank);
        let target = &self.settled.targets[at];
        let mut hop = self.hop(rank, Direction::Out);
        hop.caller = *caller;
        hop.callee = target.node(caller);
        hop.caller_span = Some(hop.span);
        hop.caller_report = Some(Report::of(span));
        hop.calls = u32::from(!span.is_mirror());
        hop.messages = if span.kind == SpanKind::Producer { span.links.len().max(1) as u32 } else { 0 };
        let silent = self.answers.silent[at] && target.is_in_mesh();
        hop.flags |= exit::flags(span, target) | Flags::IMPLIED.when(silent);
        hop.flags |= Flags::UNRESOLVED.when(target.may_answer() && !silent);
        hop.flags |= Flags::ASSUMED.when(self.settled.identities[self.settled.groups.tops[at] as usize].assumed);
        self.network(&mut hop, false);
        hop.weight = self.weight(span, None);
        hop
    }

    /// What any hop has of its key span.
    fn hop(&self, rank: u32, direction: Direction) -> Hop<'a> {
        let Trace { order, .. } = &self.settled.trace;
        let span = self.settled.trace.at(rank);
        Hop {
            key: Key { span_id: span.span_id, side: span.kind.side(), direction },
            span: order[rank as usize],
            caller_span: None,
            time: span.start,
            caller: Node::default(),
            callee: Node::default(),
            via: None,
            protocol: protocol(span),
            method: method(span),
            operation: span.name,
            caller_report: None,
            callee_report: None,
            network: None,
            request_bytes: bytes(span.request_size),
            response_bytes: bytes(span.response_size),
            attempt: 1,
            calls: 0,
            messages: 0,
            flags: Flags::NONE,
            mtls: None,
            weight: None,
        }
    }

    fn caller(&self, rank: u32, callee: &Node<'a>) -> Caller<'a> {
        let of = |node| Caller { node, flags: Flags::NONE };
        let kind = |kind| of(Node::of_kind(kind));
        if let Some(name) = self.settled.queue_of(rank) {
            return of(queue(name, callee));
        }
        let span = self.settled.trace.at(rank);
        let Joint::Crossing(parent) = self.settled.groups.joints[rank as usize] else {
            let absent = self.settled.groups.joints[rank as usize] == Joint::Absent;
            return match absent {
                _ if span.source.is_known() => of(of_end(&span.source)),
                true => Caller { flags: Flags::UNRESOLVED, ..kind(NodeKind::Missing) },
                false if span.role == Role::Gateway => kind(NodeKind::Outside),
                false => kind(NodeKind::Unknown),
            };
        };
        if self.settled.received_by(rank).is_some() {
            return kind(NodeKind::Unknown);
        }
        let node = *self.settled.node(parent);
        let top = self.settled.groups.tops[parent as usize];
        let assumed = Flags::ASSUMED.when(self.settled.identities[top as usize].assumed);
        match self.answers.verdicts[rank as usize] {
            Verdict::Assumed => Caller { node, flags: assumed | Flags::ASSUMED },
            Verdict::Proved | Verdict::NotAsked => Caller { node, flags: assumed },
            Verdict::Contradicted => {
                let target = &self.settled.targets[parent as usize];
                let node = if target.is_in_mesh() { target.node(&node) } else { of_end(&span.source) };
                Caller { node, flags: Flags::IMPLIED }
            }
        }
    }

    /// What the callee saw: all of it by the entry, but the time that an application took by its own span.
    fn callee_report(&self, rank: u32) -> Report<'a> {
        let span = self.settled.trace.at(rank);
        let mut report = Report::of(span);
        let served = self.served[rank as usize];
        if span.is_waypoint() && served != NONE {
            report.latency = self.settled.trace.at(served).duration();
        }
        report
    }

    /// The time between the two sides, where their clocks allow it.
    fn network(&self, hop: &mut Hop<'a>, comparable: bool) {
        let latencies = [&hop.caller_report, &hop.callee_report].map(|report| report.as_ref().map(|report| report.latency));
        hop.flags |= Flags::CLOCK_SKEW.when(latencies.contains(&Some(None)));
        if let (true, [Some(Some(caller)), Some(Some(callee))]) = (comparable, latencies) {
            hop.network = caller.checked_sub(callee);
            hop.flags |= Flags::CLOCK_SKEW.when(hop.network.is_none());
        }
    }

    /// A hop is seen if both its spans are kept, which the larger threshold decides.
    fn weight(&self, span: &Span<'_>, call: Option<&Span<'_>>) -> Option<u64> {
        let threshold = |span: &Span<'_>| weight::threshold(span.trace_state, self.trace_id);
        let own = threshold(span)?;
        let larger = match call {
            Some(call) => own.max(threshold(call)?),
            None => own,
        };
        weight::weight(larger)
    }
}

fn via<'a>(span: &Span<'a>) -> Via<'a> {
    Via { cluster: span.cluster, namespace: span.namespace, workload: span.workload }
}

fn either<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

fn bytes(size: Option<i64>) -> Option<u64> {
    size.and_then(|size| u64::try_from(size).ok())
}

fn method<'a>(span: &Span<'a>) -> &'a str {
    either(span.http_method, span.rpc_method)
}

fn protocol<'a>(span: &Span<'a>) -> &'a str {
    let http = !span.http_method.is_empty() || !span.http_protocol.is_empty() || span.http_status.is_some();
    match span {
        _ if !span.db_system.is_empty() => span.db_system,
        _ if !span.messaging_destination.is_empty() || !span.messaging_system.is_empty() => "messaging",
        _ if span.grpc_status.is_some() || span.rpc_system == "grpc" => "grpc",
        _ if http => "http",
        _ => span.rpc_system,
    }
}
