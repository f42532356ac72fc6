//! The proxies of a mesh, and the spans that they write of its traces.

use std::{mem, ops::Range, rc::Rc};

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::{
    chance::Chance,
    spans::{Hop, Lane, Proxy, Side, Traffic, TrafficSpan},
};

const WORDS: [&str; 16] = [
    "cart",
    "checkout",
    "catalog",
    "payment",
    "shipping",
    "currency",
    "email",
    "frontend",
    "search",
    "session",
    "profile",
    "inventory",
    "pricing",
    "reviews",
    "ratings",
    "orders",
];
const NAMESPACES: [&str; 4] = ["shop", "payments", "identity", "default"];
const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];

/// A gateway and the sidecars of services; every third service has three versions.
pub(crate) struct Fleet {
    /// Gateway first, then the versions of each service; the lane of the same index is its exporter.
    proxies: Vec<Proxy>,
    /// For each service, its proxies.
    versions: Vec<Range<usize>>,
    hosts: Vec<String>,
    traffic: Traffic,
    spans: u32,
    chance: Chance,
}

/// A request to a service, in the tree that a trace is. The first of a tree comes from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) service: usize,
    /// What the service then calls, one after the other: places in the tree.
    pub(crate) calls: Vec<usize>,
}

/// Who calls: its proxy, and the number of the span within which it does.
#[derive(Clone, Copy)]
struct Caller {
    proxy: usize,
    parent: Option<u32>,
}

impl Fleet {
    pub(crate) fn new(services: usize, seed: u64) -> Self {
        let mut fleet = Self {
            proxies: vec![gateway()],
            versions: Vec::new(),
            hosts: Vec::new(),
            traffic: Traffic::default(),
            spans: 0,
            chance: Chance::new(seed),
        };
        for index in 0..services {
            let versions = if index % 3 == 2 { 3 } else { 1 };
            let first = fleet.proxies.len();
            fleet.proxies.extend((1..=versions).map(|version| sidecar(index, version)));
            fleet.versions.push(first..fleet.proxies.len());
            let proxy = &fleet.proxies[first];
            fleet.hosts.push(format!("{}.{}.svc.cluster.local", proxy.service, proxy.namespace));
        }
        fleet.traffic = fleet.no_traffic();
        fleet
    }

    /// Spans since traffic was last taken.
    pub(crate) fn spans(&self) -> usize {
        self.spans as usize
    }

    /// The traces since traffic was last taken, as one round.
    pub(crate) fn take(&mut self) -> Traffic {
        self.spans = 0;
        let none = self.no_traffic();
        mem::replace(&mut self.traffic, none)
    }

    fn no_traffic(&self) -> Traffic {
        let lanes = self.proxies.iter().map(|p| Lane { resource: p.resource(), scope: p.scope(), spans: Vec::new() });
        Traffic { traces: Vec::new(), lanes: lanes.collect() }
    }

    /// Adds a trace that ends at most about `spread` (microseconds, not 0) before the end of the round.
    pub(crate) fn trace(&mut self, tree: &[Call], spread: u64) {
        let end = self.call(tree, 0, Caller { proxy: 0, parent: None }, 0);
        // Half as much again, for times are stretched; and traces of a round overlap as real ones do.
        let start_before_end = end * 3 / 2 + self.chance.below(spread) * 1_000;
        self.traffic.traces.push(start_before_end);
    }

    /// Adds both spans of a call and, between them, those of the calls that it causes. Returns its end.
    fn call(&mut self, tree: &[Call], place: usize, caller: Caller, caller_start: u64) -> u64 {
        let service = tree[place].service;
        let choice = self.chance.below(self.versions[service].len() as u64) as usize;
        let callee = self.versions[service].start + choice;
        let (client, server) = (self.spans, self.spans + 1);
        self.spans += 2;
        let start = caller_start + self.micros(50, 400);
        let mut now = start + self.micros(200, 3_000);
        for next in &tree[place].calls {
            now = self.call(tree, *next, Caller { proxy: callee, parent: Some(server) }, now);
            now += self.micros(20, 500);
        }
        let end = now + self.micros(50, 400);
        let side = if caller.parent.is_none() { Side::Root } else { Side::Client };
        let (client_span, server_span) = self.hop(service, caller.proxy, callee, side);
        self.add(caller.proxy, client_span, client, caller.parent, caller_start..end);
        self.add(callee, server_span, server, Some(client), start..now);
        end
    }

    fn hop(&mut self, service: usize, caller: usize, callee: usize, side: Side) -> (Rc<Span>, Rc<Span>) {
        let item = self.chance.below(1_000);
        let failed = self.chance.below(100) == 0;
        let (request_size, response_size) = (self.chance.below(64) as u32 * 16, self.chance.below(4096) as u32);
        let host = &self.hosts[service];
        let (url, user_agent) = match side {
            Side::Root => (format!("http://shop.example.com/{}/{item}", self.proxies[callee].service), "curl/8.5.0"),
            _ => (format!("http://{host}:9080/api/v1/items/{item}"), "-"),
        };
        let hop = Hop {
            host,
            url: &url,
            peer_address: &self.proxies[caller].address,
            user_agent,
            request_size,
            response_size,
            status_code: if failed { 503 } else { 200 },
        };
        (Rc::new(self.proxies[caller].span(side, &hop)), Rc::new(self.proxies[callee].span(Side::Server, &hop)))
    }

    fn add(&mut self, proxy: usize, span: Rc<Span>, number: u32, parent: Option<u32>, time: Range<u64>) {
        let trace = self.traffic.traces.len() as u32;
        self.traffic.lanes[proxy].spans.push(TrafficSpan { span, trace, number, parent, start: time.start, end: time.end });
    }

    /// Some whole microseconds, in nanoseconds.
    fn micros(&mut self, least: u64, most: u64) -> u64 {
        (least + self.chance.below(most - least)) * 1_000
    }
}

fn gateway() -> Proxy {
    Proxy {
        role: "router",
        address: "10.0.0.1".into(),
        pod: "istio-ingressgateway-7d9f6c5b8-x0kqz".into(),
        service: "istio-ingressgateway".into(),
        namespace: "istio-system".into(),
        version: "latest".into(),
        zone: ZONES[0],
    }
}

fn sidecar(index: usize, version: usize) -> Proxy {
    let service = format!("{}-{index:03}", WORDS[index % WORDS.len()]);
    Proxy {
        role: "sidecar",
        address: format!("10.{version}.{}.{}", index / 250, index % 250 + 1),
        pod: format!("{service}-v{version}-7d9f6c5b8-x{index:03}q"),
        service,
        namespace: NAMESPACES[index % NAMESPACES.len()].into(),
        version: format!("v{version}"),
        zone: ZONES[(index + version) % ZONES.len()],
    }
}
