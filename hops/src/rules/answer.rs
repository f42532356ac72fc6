//! R6 Answer: which request answers which call.

use crate::host;
use crate::node::{Node, equal};
use crate::span::Span;

use super::crossing::{Groups, Joint};
use super::exit::{Exits, Target, is_send};
use super::node::{Identity, of_end};
use super::{NONE, Trace, fill};

/// What is known of a request below a client span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has no client span above.
    #[default]
    NotAsked,
    /// It answers the client's call.
    Proved,
    /// It answers the client's call, for nothing says otherwise.
    Assumed,
    /// Whom the client called sends no spans, and forwarded the headers.
    Contradicted,
}

/// Which entries answer which exits, by rank.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Of each entry.
    pub verdicts: Vec<Verdict>,
    /// The exit that each entry is an attempt of, or the call that carries a message; else [`NONE`].
    pub exits: Vec<u32>,
    /// Which attempt each entry is, from 1; 0 if of no exit.
    pub ordinals: Vec<u32>,
    /// How many attempts each exit has.
    pub attempts: Vec<u32>,
    /// Whether each exit is answered; of other spans, whether exits inside are.
    pub answered: Vec<bool>,
    /// Whether an entry below each client span proves that whom it called sends no spans.
    pub silent: Vec<bool>,
}

/// What has been settled before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled<'s, 'a> {
    pub trace: Trace<'s, 'a>,
    pub downward: &'s [u32],
    pub identities: &'s [Identity<'a>],
    pub groups: &'s Groups,
    pub entries: &'s [bool],
    pub exits: &'s Exits,
    pub targets: &'s [Target<'a>],
}

impl<'s, 'a> Settled<'s, 'a> {
    /// The node of the request that a span is work of.
    pub(crate) fn node(&self, rank: u32) -> &'s Node<'a> {
        &self.identities[self.groups.tops[rank as usize] as usize].node
    }

    /// The queue that an entry takes a message from; none if it takes none.
    pub(crate) fn queue_of(&self, rank: u32) -> Option<&'a str> {
        let span = self.trace.at(rank);
        let named = |name: &'a str| Some(name).filter(|name| !name.is_empty());
        let own = if span.kind == crate::SpanKind::Consumer { named(span.messaging_destination) } else { None };
        let Joint::Crossing(parent) = self.groups.joints[rank as usize] else { return own };
        let sent = Some(self.trace.at(parent)).filter(|parent| parent.is_send());
        let received = self.received_by(rank).map(|receive| self.trace.at(receive));
        own.or_else(|| named(received?.messaging_destination)).or_else(|| named(sent?.messaging_destination))
    }

    /// The receive whose message an entry is the processing of.
    pub(crate) fn received_by(&self, rank: u32) -> Option<u32> {
        let Joint::Crossing(parent) = self.groups.joints[rank as usize] else { return None };
        Some(self.groups.receives[parent as usize]).filter(|receive| *receive != NONE)
    }
}

impl Answers {
    /// Judges each entry, and counts the attempts of each exit in the order of their ranks.
    pub(crate) fn find(&mut self, settled: &Settled<'_, '_>) {
        let trace = &settled.trace;
        fill(&mut self.verdicts, trace, Verdict::NotAsked);
        fill(&mut self.exits, trace, NONE);
        fill(&mut self.ordinals, trace, 0);
        fill(&mut self.attempts, trace, 0);
        fill(&mut self.answered, trace, false);
        fill(&mut self.silent, trace, false);
        for rank in trace.ranks().filter(|rank| settled.entries[*rank as usize]) {
            let Joint::Crossing(parent) = settled.groups.joints[rank as usize] else { continue };
            let message = settled.queue_of(rank).is_some() || settled.received_by(rank).is_some();
            if !message && trace.at(parent).is_client() {
                self.judge(settled, parent, rank);
            }
        }
        self.spread(settled);
    }

    fn judge(&mut self, settled: &Settled<'_, '_>, parent: u32, rank: u32) {
        let verdict = judge(settled, parent, rank);
        self.verdicts[rank as usize] = verdict;
        if verdict == Verdict::Contradicted {
            self.silent[parent as usize] = true;
            return;
        }
        self.answered[parent as usize] = true;
        let exit = settled.exits.last_inside[parent as usize];
        self.exits[rank as usize] = exit;
        if exit != NONE {
            self.attempts[exit as usize] += 1;
            self.ordinals[rank as usize] = self.attempts[exit as usize];
        }
    }

    /// Who answers a call answers the calls inside of it, but no copy of it, and no message that is sent.
    fn spread(&mut self, settled: &Settled<'_, '_>) {
        for &rank in settled.downward {
            let span = settled.trace.at(rank);
            if let Joint::Inside(parent) = settled.groups.joints[rank as usize]
                && !span.is_mirror()
                && !is_send(span)
            {
                self.answered[rank as usize] |= self.answered[parent as usize];
                self.silent[rank as usize] |= self.silent[parent as usize];
            }
        }
    }
}

fn judge(settled: &Settled<'_, '_>, parent: u32, rank: u32) -> Verdict {
    let (span, node) = (settled.trace.at(rank), settled.node(parent));
    if span.source.is_known() {
        if of_end(&span.source).same(node) {
            return Verdict::Proved;
        }
        // An application that only its own name tells of may be whom the mesh names otherwise.
        if !node.workload.is_empty() {
            return Verdict::Contradicted;
        }
    }
    if is_of_proxies(settled, parent, rank) {
        return Verdict::Proved;
    }
    let client = settled.trace.at(parent);
    let speaker = if client.is_application() { Some(parent) } else { settled.identities[parent as usize].asked };
    let asked = speaker.map_or("", |speaker| settled.trace.at(speaker).requested_host());
    let target = &settled.targets[parent as usize];
    let (requested, destination) = (span.received_host(), span.destination_host());
    if host::same(requested, target.name) || host::same(requested, asked) || host::same(destination, target.name) {
        Verdict::Proved
    } else if target.is_in_mesh() && !(requested.is_empty() && destination.is_empty()) {
        Verdict::Contradicted
    } else {
        Verdict::Assumed
    }
}

/// Whether the proxies agree on it: by the name that they give to the request, or by the address that it came from.
fn is_of_proxies(settled: &Settled<'_, '_>, parent: u32, rank: u32) -> bool {
    let (client, span) = (settled.trace.at(parent), settled.trace.at(rank));
    if span.is_application() {
        return false;
    }
    if !client.is_application() && !span.name.is_empty() && equal(client.name, span.name) {
        return true;
    }
    let address = host::without_port(span.peer_address);
    let proxy = settled.identities[parent as usize].proxy;
    !address.is_empty() && proxy.is_some_and(|proxy| settled.trace.at(proxy).node_address() == address)
}

/// Whether the hosts say that the application below a proxy is not who the proxy sent the request to: of both a host is known,
/// and none of the proxy's is the application's.
pub(crate) fn other_host(proxy: &Span<'_>, application: &Span<'_>) -> bool {
    if !application.is_server() {
        return false;
    }
    let asked = application.received_host();
    let mut hosts = [proxy.requested_host(), proxy.destination_host()].into_iter().filter(|host| !host.is_empty()).peekable();
    !asked.is_empty() && hosts.peek().is_some() && !hosts.any(|host| host::same(asked, host))
}
