//! The rules once more: small, slow and obvious, written from their text. It shares the input and output types with the crate,
//! and no code.

pub mod path;
mod said;

use std::collections::{BTreeMap, BTreeSet};

use meshlake_hops::{Direction, Flags, Hop, Key, Node, NodeKind, Role, Side, Span, SpanKind, Via};

use said::*;

/// The hops of a trace and the number of unnamed exits. Positions of spans in the input are zero.
pub fn hops<'a>(trace_id: &[u8; 16], spans: &[Span<'a>]) -> (Vec<Hop<'a>>, usize) {
    Oracle::of(trace_id, set(spans)).write()
}

/// The spans that count, and the node of each.
pub fn nodes<'a>(trace_id: &[u8; 16], spans: &[Span<'a>]) -> Vec<(Span<'a>, Node<'a>)> {
    let Oracle { spans, merged, .. } = Oracle::of(trace_id, set(spans));
    spans.into_iter().zip(merged).collect()
}

/// R0.
fn set<'a>(spans: &[Span<'a>]) -> Vec<Span<'a>> {
    let mut kept: BTreeMap<([u8; 8], Side), Span<'a>> = BTreeMap::new();
    for span in spans {
        let best = kept.entry((span.span_id, span.kind.side())).or_insert(*span);
        if (span.end, span) > (best.end, &*best) {
            *best = *span;
        }
    }
    let mut spans: Vec<_> = kept.into_values().collect();
    spans.sort_by_key(|span| (span.start, span.span_id, span.kind.side()));
    spans
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Up {
    Root,
    Absent,
    At(usize),
}

#[derive(Clone, Copy, Default, Debug)]
struct Known<'a> {
    node: Node<'a>,
    pod: &'a str,
    address: &'a str,
    requested: &'a str,
    mesh: bool,
    assumed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Judged {
    Proved,
    Assumed,
    Contradicted,
}

#[derive(Default)]
struct Oracle<'a> {
    trace_id: [u8; 16],
    spans: Vec<Span<'a>>,
    parents: Vec<Up>,
    nodes: Vec<Known<'a>>,
    crossing: Vec<Option<bool>>,
    merged: Vec<Node<'a>>,
}

impl<'a> Oracle<'a> {
    /// What the rules settle of a set of spans, but for the hops.
    fn of(trace_id: &[u8; 16], spans: Vec<Span<'a>>) -> Oracle<'a> {
        let mut oracle = Oracle { trace_id: *trace_id, spans, ..Oracle::default() };
        let all: Vec<usize> = (0..oracle.spans.len()).collect();
        oracle.parents = all.iter().map(|&i| oracle.named_parent(i)).collect();
        oracle.cut_cycles();
        let nodes: Vec<_> = all.iter().map(|&i| oracle.identity(i)).collect();
        oracle.nodes = nodes;
        let tucked: Vec<_> = all.iter().map(|&i| oracle.beside(i, |t| oracle.one_node(t, i) && !oracle.other_pod(t, i))).collect();
        for (i, proxy) in tucked.into_iter().enumerate() {
            oracle.parents[i] = proxy.map_or(oracle.parents[i], Up::At);
        }
        oracle.crossing = vec![None; all.len()];
        all.iter().for_each(|&i| {
            oracle.decide_crossing(i);
        });
        let merged: Vec<_> = all.iter().map(|&i| oracle.merged(i)).collect();
        oracle.merged = merged;
        oracle
    }

    /// R1, but for cycles.
    fn named_parent(&self, i: usize) -> Up {
        let s = &self.spans[i];
        let twins = |id| {
            let mut twins: Vec<usize> = (0..self.spans.len()).filter(|&j| self.spans[j].span_id == id).collect();
            twins.sort_by_key(|&j| self.spans[j].kind.side());
            twins
        };
        let mine = twins(s.span_id);
        let place = mine.iter().position(|&j| j == i).unwrap();
        if place > 0 {
            return Up::At(mine[place - 1]);
        }
        match s.parent_span_id {
            [0, 0, 0, 0, 0, 0, 0, 0] => Up::Root,
            id if id == s.span_id => Up::Absent,
            id => twins(id).last().map_or(Up::Absent, |&j| Up::At(j)),
        }
    }

    fn cut_cycles(&mut self) {
        let mut cut = BTreeSet::new();
        for i in 0..self.spans.len() {
            let mut ring = vec![i];
            while let Up::At(next) = self.parents[ring[ring.len() - 1]] {
                if next == i {
                    cut.insert(*ring.iter().min().unwrap());
                }
                if ring.contains(&next) {
                    break;
                }
                ring.push(next);
            }
        }
        cut.into_iter().for_each(|i| self.parents[i] = Up::Absent);
    }

    fn above(&self, i: usize) -> Option<usize> {
        if let Up::At(parent) = self.parents[i] { Some(parent) } else { None }
    }

    /// R2.
    fn identity(&self, i: usize) -> Known<'a> {
        if !app(&self.spans[i]) {
            return self.proxy_identity(i);
        }
        if let Some(known) = self.pod_identity(i) {
            return known;
        }
        let top = self.top_of_application(i);
        if let Some(proxy) = self.proxy_above(top).or_else(|| self.proxy_beside(top)) {
            return Known { mesh: false, ..self.proxy_identity(proxy) };
        }
        let below: Vec<usize> = (0..self.spans.len())
            .filter(|&j| self.spans[j].role == Role::Sidecar && client(&self.spans[j]))
            .filter(|&j| self.above(j).is_some_and(|p| self.only_named(p) && self.top_of_application(p) == top))
            .collect();
        if let Some(&first) = below.first() {
            let first = self.proxy_identity(first);
            let assumed = below.iter().any(|&j| !same(&first.node, &self.proxy_identity(j).node));
            return Known { mesh: false, assumed, ..first };
        }
        Known { node: own(&self.spans[top]), pod: self.spans[top].pod, ..Known::default() }
    }

    fn proxy_identity(&self, i: usize) -> Known<'a> {
        let s = &self.spans[i];
        if waypoint(s) {
            return Known { node: destination(s), mesh: true, ..Known::default() };
        }
        let address = s.node_id.split('~').nth(1).unwrap_or("");
        let known = Known { node: own(s), pod: s.pod, address, requested: asked_host(s), mesh: true, assumed: false };
        match self.above(i) {
            Some(p) if s.node_id == "" && !app(&self.spans[p]) && self.spans[p].resource == s.resource => {
                let parent = self.proxy_identity(p);
                let taken = Known { requested: or(known.requested, parent.requested), ..parent };
                if !s.tagged || same(&parent.node, &known.node) { taken } else { known }
            }
            _ => known,
        }
    }

    fn pod_identity(&self, i: usize) -> Option<Known<'a>> {
        let s = &self.spans[i];
        let proxies: Vec<usize> = (0..self.spans.len())
            .filter(|&j| !app(&self.spans[j]) && !waypoint(&self.spans[j]))
            .filter(|&j| self.spans[j].node_id != "" && self.spans[j].pod != "")
            .collect();
        let find = |pod: &str, namespace: &str| {
            let mut found: Vec<usize> = proxies.iter().copied().filter(|&j| self.spans[j].pod == pod && pod != "").collect();
            found.retain(|&j| namespace == "" || self.spans[j].namespace == namespace);
            found.into_iter().min_by_key(|&j| (self.spans[j].namespace, j))
        };
        let namespace = s.resource.k8s_namespace_name;
        let instance: Vec<&str> = s.resource.service_instance_id.split('.').collect();
        let by_instance = || {
            let middle = (instance.len() >= 3).then(|| instance[1..instance.len() - 1].join("."))?;
            find(&middle, instance[0])
        };
        let ip = s.resource.k8s_pod_ip;
        let by_ip = || proxies.iter().copied().find(|&j| ip != "" && self.spans[j].node_id.split('~').nth(1).unwrap_or("") == ip);
        let proxy = find(s.pod, namespace)
            .or_else(|| find(s.resource.host_name, namespace))
            .or_else(|| find(s.resource.service_instance_id, namespace))
            .or_else(by_instance)
            .or_else(by_ip);
        match proxy {
            Some(j) => Some(self.proxy_identity(j)),
            None if s.pod != "" || s.workload != "" => Some(Known { node: own(s), pod: s.pod, mesh: true, ..Known::default() }),
            None => None,
        }
    }

    fn only_named(&self, i: usize) -> bool {
        app(&self.spans[i]) && self.pod_identity(i).is_none()
    }

    fn top_of_application(&self, i: usize) -> usize {
        match self.above(i) {
            Some(p) if self.only_named(p) && self.spans[p].resource == self.spans[i].resource => self.top_of_application(p),
            _ => i,
        }
    }

    fn proxy_above(&self, i: usize) -> Option<usize> {
        self.above(i).filter(|&p| {
            let proxy = &self.spans[p];
            let sends_on = waypoint(proxy) || (proxy.role == Role::Sidecar && server(proxy));
            sends_on && !hosts_differ(proxy, &self.spans[i])
        })
    }

    fn proxy_beside(&self, i: usize) -> Option<usize> {
        self.above(i).filter(|&p| client(&self.spans[p]))?;
        self.beside(i, |t| {
            let proxy = &self.spans[t];
            (waypoint(proxy) || proxy.role == Role::Sidecar) && !hosts_differ(proxy, &self.spans[i])
        })
    }

    /// The tightest proxy server span beside an application server span.
    fn beside(&self, i: usize, accept: impl Fn(usize) -> bool) -> Option<usize> {
        let s = &self.spans[i];
        if !app(s) || !server(s) || self.parents[i] == Up::Root {
            return None;
        }
        let siblings = (0..self.spans.len()).filter(|&t| {
            let proxy = &self.spans[t];
            let same_parent = match (self.parents[t], self.parents[i]) {
                (Up::At(a), Up::At(b)) => a == b,
                (Up::Absent, Up::Absent) => proxy.parent_span_id == s.parent_span_id,
                _ => false,
            };
            same_parent && !app(proxy) && server(proxy) && proxy.start <= s.start && proxy.end >= s.end && accept(t)
        });
        siblings.min_by_key(|&t| (self.spans[t].end.checked_sub(self.spans[t].start), t))
    }

    /// R3.
    fn one_node(&self, p: usize, i: usize) -> bool {
        let (a, b) = (&self.nodes[p], &self.nodes[i]);
        if !(waypoint(&self.spans[p]) && app(&self.spans[i])) {
            return same(&a.node, &b.node);
        }
        let hosts = !hosts_differ(&self.spans[p], &self.spans[i]);
        if !b.mesh {
            return hosts;
        }
        let conflict = |a: &str, b: &str| a != "" && b != "" && a != b;
        let both = a.node.workload != "" && b.node.workload != "";
        !conflict(a.node.cluster, b.node.cluster)
            && !conflict(a.node.namespace, b.node.namespace)
            && if both { a.node.workload == b.node.workload } else { hosts }
    }

    fn other_pod(&self, p: usize, i: usize) -> bool {
        let (a, b) = (self.nodes[p].pod, self.nodes[i].pod);
        a != "" && b != "" && a != b
    }

    fn decide_crossing(&mut self, i: usize) -> bool {
        if let Some(known) = self.crossing[i] {
            return known;
        }
        let Some(p) = self.above(i) else {
            self.crossing[i] = Some(false);
            return false;
        };
        self.decide_crossing(p);
        let (a, s) = (self.spans[p], self.spans[i]);
        let top = self.top(p);
        let unasked = self.above(top).is_none() && !self.asked_without_parent(top);
        let crossing = !self.one_node(p, i)
            || (client(&a) && server(&s))
            || (server(&a) && server(&s) && self.other_pod(p, i))
            || (process(&s) && self.receive_around(p).is_some())
            || (s.kind == SpanKind::Consumer && s.messaging_destination != "" && unasked);
        self.crossing[i] = Some(crossing);
        crossing
    }

    fn inside(&self, i: usize) -> Option<usize> {
        self.above(i).filter(|_| self.crossing[i] == Some(false))
    }

    fn top(&self, i: usize) -> usize {
        self.inside(i).map_or(i, |p| self.top(p))
    }

    /// The span itself, if it is a receive, or the nearest that it is inside of.
    fn receive_around(&self, i: usize) -> Option<usize> {
        if receive(&self.spans[i]) { Some(i) } else { self.inside(i).and_then(|p| self.receive_around(p)) }
    }

    fn merged(&self, i: usize) -> Node<'a> {
        let top = self.top(i);
        (0..self.spans.len())
            .filter(|&j| self.top(j) == top)
            .fold(self.nodes[top].node, |node, j| filled(node, &self.nodes[j].node))
    }

    /// R4.
    fn asked_without_parent(&self, i: usize) -> bool {
        server(&self.spans[i]) || waypoint(&self.spans[i]) || self.spans[i].role == Role::Gateway
    }

    fn entry(&self, i: usize) -> bool {
        let asked = if self.above(i).is_some() { self.crossing[i] == Some(true) } else { self.asked_without_parent(i) };
        let worked_on = receive(&self.spans[i])
            && (0..self.spans.len()).filter(|&j| process(&self.spans[j])).any(|j| {
                let links = &self.spans[j].links;
                let below = self.inside(j).is_none() && self.above(j).and_then(|p| self.receive_around(p)) == Some(i);
                below || links.iter().any(|link| link.trace_id == self.trace_id && link.span_id == self.spans[i].span_id)
            });
        asked && !worked_on
    }

    /// R5.
    fn exit(&self, i: usize) -> bool {
        if message(&self.spans[i]) {
            return !self.holds(i, message);
        }
        self.innermost(i) && self.message_around(i).is_none()
    }

    fn innermost(&self, i: usize) -> bool {
        call(&self.spans[i]) && !message(&self.spans[i]) && !self.holds(i, call)
    }

    fn holds(&self, i: usize, what: fn(&Span<'_>) -> bool) -> bool {
        let inner = (0..self.spans.len()).filter(|&j| self.inside(j) == Some(i) && !mirror(&self.spans[j]));
        inner.into_iter().any(|j| what(&self.spans[j]) || self.holds(j, what))
    }

    /// The nearest message being sent that the span carries.
    fn message_around(&self, i: usize) -> Option<usize> {
        let around = self.inside(i).filter(|_| !mirror(&self.spans[i]))?;
        if message(&self.spans[around]) { Some(around) } else { self.message_around(around) }
    }

    /// The last call at or inside that answers below it are attempts of.
    fn last_exit(&self, i: usize) -> Option<usize> {
        let own = Some(i).filter(|_| self.innermost(i));
        let inner = (0..self.spans.len()).filter(|&j| self.inside(j) == Some(i) && !mirror(&self.spans[j]));
        inner.filter(|&j| !message(&self.spans[j])).filter_map(|j| self.last_exit(j)).chain(own).max()
    }

    fn target(&self, i: usize) -> Option<Target<'a>> {
        let s = &self.spans[i];
        let found = if client(s) { target(s) } else { None };
        if mirror(s) { found } else { found.or_else(|| self.inside(i).and_then(|p| self.target(p))) }
    }

    /// R6.
    fn judged(&self, i: usize) -> Option<Judged> {
        let p = self.above(i)?;
        if !self.entry(i) || self.queue(i).is_some() || self.receive_around(p).is_some() || !client(&self.spans[p]) {
            return None;
        }
        let (c, s, node) = (&self.spans[p], &self.spans[i], self.merged[p]);
        let d = self.target(p);
        if end_known(&s.source) && same(&end_node(&s.source), &node) {
            return Some(Judged::Proved);
        }
        if end_known(&s.source) && node.workload != "" {
            return Some(Judged::Contradicted);
        }
        let d_name = d.map_or("", |d| d.1);
        let from = no_port(s.peer_address);
        let asked = if app(c) { asked_host(c) } else { self.nodes[p].requested };
        let proof = (!app(s) && from != "" && self.nodes[p].address == from)
            || one_host(got_host(s), d_name)
            || one_host(got_host(s), asked)
            || one_host(vip_host(s), d_name)
            || (!app(s) && !app(c) && s.name != "" && s.name == c.name);
        let in_mesh = d.is_some_and(|d| d.3 && mesh_host(d.1).is_some());
        Some(match proof {
            true => Judged::Proved,
            false if in_mesh && (got_host(s) != "" || vip_host(s) != "") => Judged::Contradicted,
            false => Judged::Assumed,
        })
    }

    fn queue(&self, i: usize) -> Option<&'a str> {
        let s = &self.spans[i];
        let own = if s.kind == SpanKind::Consumer { s.messaging_destination } else { "" };
        let p = self.above(i).filter(|_| self.crossing[i] == Some(true));
        let received = p.and_then(|p| self.receive_around(p)).map_or("", |r| self.spans[r].messaging_destination);
        let sent = p.filter(|&p| send(&self.spans[p])).map_or("", |p| self.spans[p].messaging_destination);
        [own, received, sent].into_iter().find(|name| *name != "")
    }

    fn answered_by(&self, i: usize, judged: &[Judged]) -> bool {
        let here = (0..self.spans.len()).any(|e| self.above(e) == Some(i) && self.judged(e).is_some_and(|j| judged.contains(&j)));
        let apart = mirror(&self.spans[i]) || message(&self.spans[i]);
        let around = if apart { None } else { self.inside(i) };
        here || around.is_some_and(|p| self.answered_by(p, judged))
    }

    /// R7, R8.
    fn write(&self) -> (Vec<Hop<'a>>, usize) {
        let (mut hops, mut unnamed) = (Vec::new(), 0);
        for i in 0..self.spans.len() {
            if self.entry(i) {
                hops.push(self.entry_hop(i));
            }
            if self.exit(i) && !self.answered_by(i, &[Judged::Proved, Judged::Assumed]) {
                match self.target(i) {
                    Some(target) => hops.push(self.exit_hop(i, target)),
                    None => unnamed += 1,
                }
            }
        }
        (hops, unnamed)
    }

    fn bare(&self, i: usize, direction: Direction) -> Hop<'a> {
        let s = &self.spans[i];
        Hop {
            key: Key { span_id: s.span_id, side: s.kind.side(), direction },
            span: 0,
            caller_span: None,
            time: s.start,
            caller: Node::default(),
            callee: Node::default(),
            via: None,
            protocol: protocol(s),
            method: or(s.http_method, s.rpc_method),
            operation: s.name,
            caller_report: None,
            callee_report: None,
            network: None,
            request_bytes: s.request_size.and_then(|size| size.try_into().ok()),
            response_bytes: s.response_size.and_then(|size| size.try_into().ok()),
            attempt: 1,
            calls: 1,
            messages: 0,
            flags: Flags::NONE,
            mtls: None,
            weight: None,
        }
    }

    fn entry_hop(&self, i: usize) -> Hop<'a> {
        let s = &self.spans[i];
        let mut hop = self.bare(i, Direction::In);
        hop.callee = self.merged[i];
        let (caller, flags) = self.caller(i);
        hop.caller = caller;
        hop.flags |= flags;
        if self.nodes[self.top(i)].assumed {
            hop.flags |= Flags::ASSUMED;
        }
        if waypoint(s) {
            hop.via = Some(Via { cluster: s.cluster, namespace: s.namespace, workload: s.workload });
        }
        let mut callee = report(s);
        let served =
            (0..self.spans.len()).find(|&j| j != i && self.top(j) == i && server(&self.spans[j]) && !waypoint(&self.spans[j]));
        if let (true, Some(j)) = (waypoint(s), served) {
            callee.latency = report(&self.spans[j]).latency;
        }
        hop.callee_report = Some(callee);
        let answers = |e: usize| {
            let judged = self.judged(e).filter(|judged| *judged != Judged::Contradicted)?;
            self.above(e).filter(|_| judged != Judged::Contradicted).and_then(|p| self.last_exit(p))
        };
        let exit = answers(i);
        let attempts: Vec<usize> = (0..self.spans.len()).filter(|&e| exit.is_some() && answers(e) == exit).collect();
        let mut message = s.kind == SpanKind::Consumer;
        if let Some(c) = exit {
            let c = &self.spans[c];
            hop.attempt = 1 + attempts.iter().position(|&e| e == i).unwrap() as u32;
            let last = attempts.last() == Some(&i);
            hop.calls = u32::from(last && !mirror(c));
            if last {
                hop.caller_span = Some(0);
                hop.caller_report = Some(report(c));
            }
            hop.flags |= exit_flags(c);
            hop.protocol = or(hop.protocol, protocol(c));
            hop.method = or(hop.method, or(c.http_method, c.rpc_method));
            hop.request_bytes = hop.request_bytes.or(c.request_size.and_then(|size| size.try_into().ok()));
            hop.response_bytes = hop.response_bytes.or(c.response_size.and_then(|size| size.try_into().ok()));
            message |= c.kind == SpanKind::Producer;
        }
        if hop.attempt > 1 {
            hop.flags |= Flags::RETRY;
        }
        if s.kind == SpanKind::Consumer {
            hop.messages = s.links.len().max(1) as u32;
        }
        for report in [hop.caller_report, hop.callee_report].into_iter().flatten() {
            if report.latency.is_none() {
                hop.flags |= Flags::CLOCK_SKEW;
            }
        }
        let waited = hop.caller_report.and_then(|report| report.latency).filter(|_| attempts.len() <= 1 && !message);
        if let (Some(a), Some(b)) = (waited, callee.latency) {
            hop.network = (a >= b).then(|| a - b);
            if a < b {
                hop.flags |= Flags::CLOCK_SKEW;
            }
        }
        let asked = server(s) && [Role::Sidecar, Role::Proxy].contains(&s.role) || s.role == Role::Gateway;
        hop.mtls = match s.source_principal {
            "" => None,
            _ if waypoint(s) || !asked => None,
            principal => Some(principal != "-"),
        };
        hop.weight = self.weight(&[Some(i), exit].into_iter().flatten().collect::<Vec<_>>());
        hop
    }

    fn caller(&self, i: usize) -> (Node<'a>, Flags) {
        let kind = |kind| Node { kind, ..Node::default() };
        let s = &self.spans[i];
        if let Some(name) = self.queue(i) {
            return (Node { service: name, cluster: self.merged[i].cluster, ..kind(NodeKind::Queue) }, Flags::NONE);
        }
        let Some(p) = self.above(i) else {
            return match self.parents[i] {
                _ if end_known(&s.source) => (end_node(&s.source), Flags::NONE),
                Up::Absent => (kind(NodeKind::Missing), Flags::UNRESOLVED),
                _ if s.role == Role::Gateway => (kind(NodeKind::Outside), Flags::NONE),
                _ => (kind(NodeKind::Unknown), Flags::NONE),
            };
        };
        if self.receive_around(p).is_some() {
            return (kind(NodeKind::Unknown), Flags::NONE);
        }
        let mut flags = if self.nodes[self.top(p)].assumed { Flags::ASSUMED } else { Flags::NONE };
        match self.judged(i) {
            Some(Judged::Contradicted) => match self.target(p) {
                Some(d) if d.3 && mesh_host(d.1).is_some() => (target_node(d, &self.merged[p]), Flags::IMPLIED),
                _ => (end_node(&s.source), Flags::IMPLIED),
            },
            judged => {
                if judged == Some(Judged::Assumed) {
                    flags |= Flags::ASSUMED;
                }
                (self.merged[p], flags)
            }
        }
    }

    fn exit_hop(&self, i: usize, target: Target<'a>) -> Hop<'a> {
        let s = &self.spans[i];
        let mut hop = self.bare(i, Direction::Out);
        hop.caller = self.merged[i];
        hop.callee = target_node(target, &hop.caller);
        hop.caller_span = Some(0);
        hop.caller_report = Some(report(s));
        hop.calls = u32::from(!mirror(s));
        hop.flags |= exit_flags(s);
        let in_mesh = target.3 && mesh_host(target.1).is_some();
        let silent = in_mesh && self.answered_by(i, &[Judged::Contradicted]);
        let expected = [NodeKind::Workload, NodeKind::External].contains(&target.0) && !(target.3 && public(target.1));
        if silent {
            hop.flags |= Flags::IMPLIED;
        } else if expected {
            hop.flags |= Flags::UNRESOLVED;
        }
        if self.nodes[self.top(i)].assumed {
            hop.flags |= Flags::ASSUMED;
        }
        if report(s).latency.is_none() {
            hop.flags |= Flags::CLOCK_SKEW;
        }
        if s.kind == SpanKind::Producer {
            hop.messages = s.links.len().max(1) as u32;
        }
        hop.weight = self.weight(&[i]);
        hop
    }

    /// Of trace states that are `ot=th:` and nothing else.
    fn weight(&self, spans: &[usize]) -> Option<u64> {
        let mut largest = 0u128;
        for &i in spans {
            let digits = self.spans[i].trace_state.strip_prefix("ot=th:")?;
            let threshold = u128::from_str_radix(&format!("{digits:0<14}"), 16).ok()?;
            let random = u128::from_be_bytes(self.trace_id) & ((1 << 56) - 1);
            if random < threshold {
                return None;
            }
            largest = largest.max(threshold);
        }
        let exact = 65_536.0 * (1u64 << 56) as f64 / ((1u64 << 56) as f64 - largest as f64);
        Some(exact.round() as u64)
    }
}
