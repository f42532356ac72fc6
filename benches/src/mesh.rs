//! A mesh by parameters: a tree of calls over many services, each hop seen by two proxies.

use std::{ops::Range, rc::Rc};

use anyhow::ensure;
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::{
    ids::mix,
    spans::{Hop, Lane, Proxy, Side, Traffic, TrafficSpan},
};

/// Hops of one trace at most.
const HOPS_MAX: usize = 10_000;

/// Spans of one round aimed at most: about 30 MB encoded.
const ROUND_SPANS: usize = 32_768;

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

/// The shape of a mesh. Every trace enters at a gateway, which calls one service; each service calls `fan_out` others, down
/// to `depth` hops. So a trace has `1 + fan_out + … + fan_out^(depth-1)` hops and twice as many spans.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Shape {
    /// Services in the mesh; every third has three versions
    #[arg(long, default_value_t = 12)]
    pub services: usize,

    /// Hops from the gateway to the last service
    #[arg(long, default_value_t = 4)]
    pub depth: u32,

    /// Calls of each service
    #[arg(long, default_value_t = 2)]
    pub fan_out: usize,
}

impl Shape {
    /// One round of traces of this mesh, enough of them that each proxy fills requests of `spans_per_request`.
    ///
    /// # Errors
    /// A shape with no services, or with more than 10,000 hops a trace.
    pub fn traffic(&self, spans_per_request: usize, seed: u64) -> anyhow::Result<Traffic> {
        let hops = self.hops();
        ensure!(
            self.services > 0 && (1..=HOPS_MAX).contains(&hops),
            "cannot build the mesh: --services {} --depth {} --fan-out {} make {hops} hops a trace; 1 to {HOPS_MAX} are allowed",
            self.services,
            self.depth,
            self.fan_out,
        );
        let mut mesh = Mesh::new(*self, hops, seed);
        // A multiple of the request's size leaves no request half full, where that fits.
        let whole = spans_per_request * 200_usize.div_ceil(spans_per_request);
        let traces = whole.min((ROUND_SPANS / (2 * hops)).max(1));
        (0..traces).for_each(|_| mesh.trace());
        Ok(mesh.traffic)
    }

    fn hops(&self) -> usize {
        (0..self.depth).map(|level| self.fan_out.saturating_pow(level)).fold(0, usize::saturating_add)
    }
}

struct Mesh {
    shape: Shape,
    hops: usize,
    /// Gateway first, then the versions of each service; the lane of the same index is its exporter.
    proxies: Vec<Proxy>,
    /// For each service, its proxies.
    versions: Vec<Vec<usize>>,
    hosts: Vec<String>,
    traffic: Traffic,
    spans: u32,
    random: u64,
}

/// A position in a trace's tree of calls.
#[derive(Clone, Copy)]
struct Call {
    caller: usize,
    parent: Option<u32>,
    /// Position in the tree, breadth first: the children of `i` are `i * fan_out + 1 …`.
    node: usize,
    start: u64,
}

impl Mesh {
    fn new(shape: Shape, hops: usize, seed: u64) -> Self {
        let mut mesh = Self {
            shape,
            hops,
            proxies: vec![gateway()],
            versions: Vec::new(),
            hosts: Vec::new(),
            traffic: Traffic::default(),
            spans: 0,
            random: seed,
        };
        for index in 0..shape.services {
            let versions = if index % 3 == 2 { 3 } else { 1 };
            let first = mesh.proxies.len();
            mesh.proxies.extend((1..=versions).map(|version| sidecar(index, version)));
            mesh.versions.push((first..mesh.proxies.len()).collect());
            let proxy = &mesh.proxies[first];
            mesh.hosts.push(format!("{}.{}.svc.cluster.local", proxy.service, proxy.namespace));
        }
        let lanes = mesh.proxies.iter().map(|p| Lane { resource: p.resource(), scope: p.scope(), spans: Vec::new() });
        mesh.traffic.lanes = lanes.collect();
        mesh
    }

    fn trace(&mut self) {
        let end = self.call(Call { caller: 0, parent: None, node: 0, start: 0 });
        // Half as much again, for times are stretched; and traces of a round overlap as real ones do.
        let start_before_end = end * 3 / 2 + self.below(1_000_000) * 1_000;
        self.traffic.traces.push(start_before_end);
    }

    /// Adds both spans of a call and, between them, those of the calls that it causes. Returns its end.
    fn call(&mut self, call: Call) -> u64 {
        let service = call.node % self.shape.services;
        let choice = self.below(self.versions[service].len() as u64) as usize;
        let callee = self.versions[service][choice];
        let (client, server) = (self.spans, self.spans + 1);
        self.spans += 2;
        let start = call.start + self.micros(50, 400);
        let mut now = start + self.micros(200, 3_000);
        let first = call.node * self.shape.fan_out + 1;
        for node in first..(first + self.shape.fan_out).min(self.hops) {
            now = self.call(Call { caller: callee, parent: Some(server), node, start: now });
            now += self.micros(20, 500);
        }
        let end = now + self.micros(50, 400);
        let side = if call.parent.is_none() { Side::Root } else { Side::Client };
        let (client_span, server_span) = self.hop(service, call, callee, side);
        self.add(call.caller, client_span, client, call.parent, call.start..end);
        self.add(callee, server_span, server, Some(client), start..now);
        end
    }

    fn hop(&mut self, service: usize, call: Call, callee: usize, side: Side) -> (Rc<Span>, Rc<Span>) {
        let item = self.below(1_000);
        let failed = self.below(100) == 0;
        let (request_size, response_size) = (self.below(64) as u32 * 16, self.below(4096) as u32);
        let host = &self.hosts[service];
        let (url, user_agent) = match side {
            Side::Root => (format!("http://shop.example.com/{}/{item}", self.proxies[callee].service), "curl/8.5.0"),
            _ => (format!("http://{host}:9080/api/v1/items/{item}"), "-"),
        };
        let hop = Hop {
            host,
            url: &url,
            peer_address: &self.proxies[call.caller].address,
            user_agent,
            request_size,
            response_size,
            status_code: if failed { 503 } else { 200 },
        };
        (Rc::new(self.proxies[call.caller].span(side, &hop)), Rc::new(self.proxies[callee].span(Side::Server, &hop)))
    }

    fn add(&mut self, proxy: usize, span: Rc<Span>, number: u32, parent: Option<u32>, time: Range<u64>) {
        let trace = self.traffic.traces.len() as u32;
        self.traffic.lanes[proxy].spans.push(TrafficSpan { span, trace, number, parent, start: time.start, end: time.end });
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random) % bound
    }

    /// Some whole microseconds, in nanoseconds.
    fn micros(&mut self, least: u64, most: u64) -> u64 {
        (least + self.below(most - least)) * 1_000
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message;

    use super::*;

    const SHAPE: Shape = Shape { services: 12, depth: 3, fan_out: 2 };

    /// Scenario: a round of a small mesh. Guarantee: trees of CLIENT and SERVER in turn, callee within caller in time.
    #[test]
    fn traces_are_trees_of_hops() {
        let traffic = SHAPE.traffic(5, 1).unwrap();
        let spans: HashMap<u32, &TrafficSpan> = traffic.lanes.iter().flat_map(|l| &l.spans).map(|s| (s.number, s)).collect();
        assert_eq!(spans.len(), traffic.traces.len() * 2 * (1 + 2 + 4));
        assert_eq!(spans.len(), traffic.span_count());
        assert_eq!(spans.values().filter(|span| span.parent.is_none()).count(), traffic.traces.len());
        for span in spans.values() {
            assert!(span.end * 5 / 4 <= traffic.traces[span.trace as usize], "ends before now, even when stretched");
            if let Some(parent) = span.parent {
                let parent = spans[&parent];
                assert_eq!(parent.trace, span.trace);
                assert_ne!(parent.span.kind, span.span.kind);
                assert!(parent.start <= span.start && span.end <= parent.end);
            }
        }
    }

    /// Scenario: the spans' size. Guarantee: near that of real ones, with 21 attributes (22 if failed).
    #[test]
    fn spans_have_the_size_of_real_ones() {
        let traffic = SHAPE.traffic(5, 1).unwrap();
        let spans = traffic.lanes.iter().flat_map(|lane| &lane.spans);
        // 8 + 8 + 16 bytes of ids with their tags and two times come on top of what is encoded here.
        let bytes: usize = spans.clone().map(|span| span.span.encoded_len() + 38 + 18).sum();
        let mean = bytes / traffic.span_count();
        assert!((850..=980).contains(&mean), "{mean}");
        for span in spans {
            assert_eq!(span.span.attributes.len(), if span.span.status.is_some() { 22 } else { 21 });
        }
    }

    /// Scenario: shapes that cannot be. Guarantee: refused, not built for ever.
    #[test]
    fn impossible_shapes_are_refused() {
        for (services, depth, fan_out) in [(0, 2, 2), (5, 0, 2), (5, 30, 4)] {
            assert!(Shape { services, depth, fan_out }.traffic(5, 1).is_err());
        }
    }
}
