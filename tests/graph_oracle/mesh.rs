//! Random traces of a mesh in two clusters, with every feature of the table of cases (`docs/service-graph.md`).

mod gateways;
mod messages;

use meshlake_hops::{End, Resource, Role, Span, SpanKind};

use crate::store::{Chance, TraceId};

/// 2026-01-01T00:00:00Z, nanoseconds.
pub const START: u64 = 1_767_225_600_000_000_000;
pub const MINUTE: u64 = 60_000_000_000;
/// A trace begins no further calls once it has so many spans.
const SPANS_ENOUGH: usize = 25;

/// HTTP status, gRPC status, response flags, and whether they say that the request failed.
type Outcome = (Option<i64>, Option<i64>, &'static str, bool);
const OUTCOMES: [Outcome; 11] = [
    (Some(200), None, "-", false),
    (Some(200), None, "-", false),
    (Some(200), None, "-", false),
    (Some(200), Some(0), "-", false),
    (Some(404), None, "-", false),
    (Some(500), None, "-", true),
    (Some(503), None, "UF", true),
    (Some(0), None, "DC", true),
    (Some(200), None, "UC", true),
    (Some(200), Some(14), "-", true),
    (Some(200), Some(5), "-", false),
];
const NO_ROUTE: Outcome = (Some(404), None, "NR", false);
/// Where proxies send requests for hosts out of the mesh; nowhere, if they have no route.
const EXTERNAL_CLUSTERS: [&str; 5] =
    ["outbound|443||api.example.com", "PassthroughCluster", "BlackHoleCluster", "connect_originate", ""];

#[derive(Clone, Copy, PartialEq)]
pub struct Workload {
    pub cluster: &'static str,
    pub service: &'static str,
    pub version: &'static str,
}

const SERVICES: [(&str, &str); 5] =
    [("frontend", "v1"), ("reviews", "v1"), ("reviews", "v2"), ("details", "v1"), ("ratings", "v1")];

fn text(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

impl Workload {
    fn name(self) -> &'static str {
        text(format!("{}-{}", self.service, self.version))
    }

    fn namespace(self) -> &'static str {
        match self.service {
            "gateway" | "egress" => "istio-system",
            "ratings" => "data",
            _ => "shop",
        }
    }

    fn zone(self) -> &'static str {
        if self.version == "v1" { "z1" } else { "z2" }
    }

    fn pod(self) -> &'static str {
        text(format!("{}-6f76498fc8-58wp{}", self.name(), if self.cluster == "c1" { "n" } else { "k" }))
    }

    fn address(self) -> &'static str {
        let letters = self.name().bytes().fold(0u8, |sum, letter| sum.wrapping_mul(31).wrapping_add(letter));
        text(format!("10.{}.{}.{letters}", &self.cluster[1..], self.service.len()))
    }

    fn host(self) -> &'static str {
        text(format!("{}.{}.svc.cluster.local", self.service, self.namespace()))
    }

    /// Where a proxy sends what is for it.
    fn upstream(self) -> &'static str {
        text(format!("outbound|9080||{}", self.host()))
    }

    fn end(self) -> End<'static> {
        let (cluster, namespace, service, version) = (self.cluster, self.namespace(), self.service, self.version);
        End { cluster, namespace, workload: self.name(), service, version }
    }
}

/// The span with the request's host, as a proxy of `of` sees it.
fn asked_for(span: Span<'static>, of: Workload, upstream_cluster: &'static str) -> Span<'static> {
    Span {
        upstream_cluster,
        http_url: text(format!("http://{}:9080/x", of.service)),
        name: text(format!("{}:9080/*", of.host())),
        ..span
    }
}

/// The same of a host out of the mesh.
fn out_of_mesh(span: Span<'static>, upstream_cluster: &'static str) -> Span<'static> {
    Span { upstream_cluster, http_url: "https://api.example.com/pay", name: "api.example.com:443/*", ..span }
}

/// `of` answers for a request that `caller` sent, from a time to another.
#[derive(Clone, Copy)]
struct Asked {
    caller: Option<Workload>,
    of: Workload,
    above: [u8; 8],
    /// What is above that, if the span above is a call.
    around: Option<[u8; 8]>,
    time: (u64, u64),
    depth: u32,
}

struct Writer<'c> {
    chance: &'c mut Chance,
    trace: TraceId,
    trace_state: &'static str,
    spans: Vec<Span<'static>>,
}

/// A trace whose first span starts at `start`. Some of its spans are never sent, and of some a copy ends later.
pub fn trace(chance: &mut Chance, start: u64) -> (TraceId, Vec<Span<'static>>) {
    // Mostly of such randomness that no threshold drops them.
    let kept = if chance.one_in(10) { 0 } else { 3 << 54 };
    let id = u128::from(chance.next()) << 64 | u128::from(chance.next() | kept);
    let trace_state = chance.pick(&["", "ot=th:8", "ot=th:0", "ot=th:c"]);
    let mut writer = Writer { chance, trace: id.to_be_bytes(), trace_state, spans: Vec::new() };
    writer.begin(start);
    let Writer { chance, trace, mut spans, .. } = writer;
    spans.retain(|_| !chance.one_in(25));
    let copies: Vec<Span<'static>> = spans.iter().filter(|_| chance.one_in(40)).copied().collect();
    spans.extend(copies.into_iter().map(|span| Span { end: span.end + 7_000, ..span }));
    (trace, spans)
}

/// A call and the request that answers it, of one trace, in that order.
pub fn pair(trace: TraceId, start: u64, delay: u64) -> [Span<'static>; 2] {
    let of = |service| Workload { cluster: "c1", service, version: "v1" };
    let (caller, callee) = (of("frontend"), of("details"));
    let mut writer = Writer { chance: &mut Chance(1), trace, trace_state: "", spans: Vec::new() };
    let time = (start, start + 500_000_000);
    let client = writer.proxy(Role::Sidecar, caller, SpanKind::Client, [0; 8], time);
    let client = asked_for(client, callee, callee.upstream());
    let time = (time.0 + delay, time.1 + delay);
    let server = writer.proxy(Role::Sidecar, callee, SpanKind::Server, client.span_id, time);
    [client, Span { peer_address: caller.address(), ..asked_for(server, callee, "inbound|9080||") }]
}

impl Writer<'_> {
    fn begin(&mut self, at: u64) {
        let cluster = self.chance.pick(&["c1", "c2"]);
        let frontend = Workload { cluster, service: "frontend", version: "v1" };
        let gateway = Workload { service: "gateway", ..frontend };
        match self.chance.below(8) {
            0 => self.call(Role::Gateway, gateway, frontend, [0; 8], at, 0),
            1 => self.silent(Role::Gateway, gateway, [0; 8], at, 0),
            2 | 3 => self.ingress(gateway, frontend, at),
            4 => {
                let generator = Workload { service: "loadgen", ..frontend };
                let time = (at, at + self.took());
                let root = self.app(generator, SpanKind::Internal, [0; 8], time, "visit");
                let above = self.add(root);
                self.call(Role::Sidecar, generator, frontend, above, at + 1_000, 0);
            }
            // A root; then one whose parent nobody sends, of a known or an unknown caller.
            way => {
                let above = if way == 5 { [0; 8] } else { self.id() };
                let caller = (way == 7).then_some(gateway);
                let time = (at, at + self.took());
                self.serve(Asked { caller, of: frontend, above, around: None, time, depth: 0 });
            }
        }
    }

    fn id(&mut self) -> [u8; 8] {
        (self.chance.next() | 1).to_be_bytes()
    }

    fn took(&mut self) -> u64 {
        1_000_000 + self.chance.below(900_000_000)
    }

    fn add(&mut self, span: Span<'static>) -> [u8; 8] {
        self.spans.push(span);
        span.span_id
    }

    fn span(&mut self, kind: SpanKind, above: [u8; 8], (start, end): (u64, u64)) -> Span<'static> {
        // Clocks differ.
        let end = if self.chance.one_in(40) { start - 3_000 } else { end };
        Span { span_id: self.id(), parent_span_id: above, start, end, kind, trace_state: self.trace_state, ..Span::default() }
    }

    fn proxy(&mut self, role: Role, of: Workload, kind: SpanKind, above: [u8; 8], time: (u64, u64)) -> Span<'static> {
        let (kinds, namespace) = (
            match role {
                Role::Gateway => "router",
                Role::Waypoint => "waypoint",
                _ => "sidecar",
            },
            of.namespace(),
        );
        let node_id = format!("{kinds}~{}~{}.{namespace}~{namespace}.svc.cluster.local", of.address(), of.pod());
        let (http_status, grpc_status, response_flags, error) = self.chance.pick(&OUTCOMES);
        let source_principal = match kind {
            SpanKind::Server => self.chance.pick(&["", "-", "spiffe://cluster.local/ns/shop/sa/any"]),
            _ => "",
        };
        Span {
            role,
            tagged: true,
            cluster: of.cluster,
            namespace,
            workload: of.name(),
            service: of.service,
            version: of.version,
            zone: of.zone(),
            pod: of.pod(),
            node_id: text(node_id),
            resource: Resource { service_name: text(format!("{}.{namespace}", of.service)), ..Resource::default() },
            http_method: self.chance.pick(&["GET", "POST"]),
            http_protocol: "HTTP/1.1",
            http_status,
            grpc_status,
            response_flags,
            error,
            request_size: Some(self.chance.below(1_000) as i64),
            response_size: Some(self.chance.below(100_000) as i64),
            source_principal,
            ..self.span(kind, above, time)
        }
    }

    /// An SDK's span; it knows its pod or not.
    fn app(&mut self, of: Workload, kind: SpanKind, above: [u8; 8], time: (u64, u64), name: &'static str) -> Span<'static> {
        let service = if of.service == "details" { "details-java" } else { of.service };
        let (http_status, error) =
            self.chance.pick(&[(None, false), (None, false), (None, true), (Some(200), false), (Some(500), true)]);
        let mut span = Span { name, service, http_status, error, ..self.span(kind, above, time) };
        span.resource.service_name = service;
        match self.chance.below(4) {
            0 => {
                (span.cluster, span.namespace, span.workload, span.pod) = (of.cluster, of.namespace(), of.name(), of.pod());
                (span.resource.k8s_namespace_name, span.resource.k8s_pod_name) = (of.namespace(), of.pod());
            }
            1 => span.resource.k8s_pod_ip = of.address(),
            _ => {}
        }
        span
    }

    /// A span that the proxy of `of` sends without its node id.
    fn bare(&mut self, name: &'static str, of: &Span<'static>, time: (u64, u64)) -> Span<'static> {
        let Span { resource, service, namespace, .. } = *of;
        let (http_status, grpc_status, response_flags, error) = self.chance.pick(&OUTCOMES);
        Span {
            name,
            role: Role::Proxy,
            resource,
            service,
            namespace,
            http_status,
            grpc_status,
            response_flags,
            error,
            ..self.span(SpanKind::Client, of.span_id, time)
        }
    }

    /// A call by way of the caller's proxy, and what becomes of it.
    fn call(&mut self, role: Role, caller: Workload, callee: Workload, above: [u8; 8], at: u64, depth: u32) {
        let end = at + self.took();
        let mut above = above;
        if role == Role::Sidecar && self.chance.one_in(3) {
            let sdk = self.app(caller, SpanKind::Client, above, (at, end), "GET");
            above = self.add(Span { http_url: text(format!("http://{}:9080/x", callee.service)), ..sdk });
        }
        let client = self.proxy(role, caller, SpanKind::Client, above, (at + 1_000, end - 1_000));
        let mut client = asked_for(client, callee, callee.upstream());
        client.retry_count = self.chance.one_in(8).then_some(1);
        let id = self.add(client);
        if self.chance.one_in(15) {
            self.mirror(&client, caller, callee);
        }
        // Some services are silent; some answer the third time.
        let attempts = self.chance.pick(&[0, 1, 1, 1, 1, 1, 1, 1, 2, 3]);
        for attempt in 0..attempts {
            let time = (at + 2_000 + attempt * (end - at) / 4, end - 2_000);
            self.serve(Asked { caller: Some(caller), of: callee, above: id, around: Some(above), time, depth });
        }
    }

    /// A call to an application that writes no span, nor does a proxy of its own, but forwards the headers to whom it calls.
    fn silent(&mut self, role: Role, caller: Workload, above: [u8; 8], at: u64, depth: u32) {
        let end = at + self.took();
        let callee = Workload { cluster: caller.cluster, service: "cart", version: "v1" };
        let client = self.proxy(role, caller, SpanKind::Client, above, (at, end));
        let id = self.add(asked_for(client, callee, callee.upstream()));
        let mut asked =
            Asked { caller: Some(caller), of: callee, above: id, around: Some(above), time: (at + 1_000, end - 1_000), depth };
        if self.chance.one_in(3) {
            (asked.above, asked.around) = (self.waypoint(&asked), None);
        }
        for _ in 0..=self.chance.below(2) {
            let start = at + 2_000 + self.chance.below((end - at) / 2);
            let of = self.other(callee);
            self.serve(Asked { caller: Some(callee), of, time: (start, end - 2_000), ..asked });
        }
    }

    /// A copy of a request for another version, which is traced or not.
    fn mirror(&mut self, of: &Span<'static>, caller: Workload, callee: Workload) {
        let copied = Workload { version: "v2", ..callee };
        let time = (of.start + 1_000, of.end);
        let upstream_cluster = text(format!("outbound|9080|v2|{}", copied.host()));
        let mirror = Span { upstream_cluster, ..self.bare("mirror", of, time) };
        let above = self.add(mirror);
        if self.chance.one_in(2) {
            self.serve(Asked { caller: Some(caller), of: copied, above, around: Some(of.span_id), time, depth: 3 });
        }
    }

    fn serve(&mut self, asked: Asked) {
        let Asked { of, mut above, time: (start, end), depth, .. } = asked;
        if self.chance.one_in(4) {
            above = self.waypoint(&asked);
            if self.chance.one_in(3) {
                return;
            }
        }
        let from = above;
        let has_sidecar = !self.chance.one_in(6);
        if has_sidecar {
            above = self.sidecar(&asked, above);
        }
        if !has_sidecar || self.chance.one_in(2) {
            // Since Istio 1.30 the proxy's span may stand beside the application's.
            let parent = if self.chance.one_in(5) { from } else { above };
            let mut sdk = self.app(of, SpanKind::Server, parent, (start + 800, end - 800), "handle");
            sdk.server_address = self.chance.pick(&["", "", of.service]);
            above = self.add(sdk);
        }
        let most = if depth < 3 { 3 } else { 1 };
        for _ in 0..self.chance.below(most) {
            let later = if self.chance.one_in(6) { 90_000_000_000 } else { 400_000_000 };
            let at = start + 10_000 + self.chance.below(later);
            self.ask(of, above, at, depth + 1);
        }
    }

    /// What the proxy of who is asked writes.
    fn sidecar(&mut self, asked: &Asked, above: [u8; 8]) -> [u8; 8] {
        let time = (asked.time.0 + 500, asked.time.1 - 500);
        let server = self.proxy(Role::Sidecar, asked.of, SpanKind::Server, above, time);
        let mut server = asked_for(server, asked.of, "inbound|9080||");
        server.peer_address = asked.caller.filter(|_| !self.chance.one_in(4)).map_or("", Workload::address);
        if let Some(around) = asked.around.filter(|_| asked.above == above && self.chance.one_in(15)) {
            // Zipkin: both sides of a request have one id.
            (server.span_id, server.parent_span_id) = (above, around);
        }
        self.add(server)
    }

    fn waypoint(&mut self, asked: &Asked) -> [u8; 8] {
        let of = asked.of;
        let proxy = Workload { service: "waypoint", version: "v1", ..of };
        let span = self.proxy(Role::Waypoint, proxy, SpanKind::Server, asked.above, asked.time);
        let mut span = asked_for(span, of, text(format!("inbound-vip|9080|http|{}", of.host())));
        if let Some(caller) = asked.caller.filter(|_| self.chance.one_in(2)) {
            span.source = caller.end();
        }
        if self.chance.one_in(2) {
            span.destination = of.end();
        }
        if self.chance.one_in(2) {
            // Istio 1.28 and 1.29 call it what it stands in front of.
            span.resource.service_name = of.host();
        }
        self.add(span)
    }

    /// Something that a workload asks for while it works.
    fn ask(&mut self, caller: Workload, above: [u8; 8], at: u64, depth: u32) {
        if self.spans.len() > SPANS_ENOUGH {
            return;
        }
        match self.chance.below(14) {
            0 => self.database(caller, above, at),
            1 => self.external(caller, above, at),
            2 => self.egress(caller, above, at),
            3 | 4 => self.message(caller, above, at),
            5 => {
                // It says nothing of whom it calls.
                let time = (at, at + self.took());
                let call = self.app(caller, SpanKind::Client, above, time, "call");
                self.add(call);
            }
            6 => self.call(Role::Sidecar, caller, caller, above, at, depth),
            7 => self.silent(Role::Sidecar, caller, above, at, depth),
            8 => {
                // Nobody writes the call.
                let (of, time) = (self.other(caller), (at, at + self.took()));
                self.serve(Asked { caller: Some(caller), of, above, around: None, time, depth });
            }
            _ => {
                let callee = self.other(caller);
                self.call(Role::Sidecar, caller, callee, above, at, depth);
            }
        }
    }

    /// Whom a workload may call.
    fn other(&mut self, caller: Workload) -> Workload {
        let (service, version) = self.chance.pick(&SERVICES);
        let cluster = if self.chance.one_in(5) { self.chance.pick(&["c1", "c2"]) } else { caller.cluster };
        Workload { cluster, service, version }
    }

    fn database(&mut self, caller: Workload, above: [u8; 8], at: u64) {
        let end = at + self.took();
        let sdk = self.app(caller, SpanKind::Client, above, (at, end), "SELECT");
        let mut sdk = Span { db_system: "mysql", db_namespace: "orders", http_status: None, error: false, ..sdk };
        if self.chance.one_in(2) {
            (sdk.server_address, sdk.server_port) = ("db-0", Some(3306));
        }
        let id = self.add(sdk);
        if self.chance.one_in(3) {
            let proxy = self.proxy(Role::Sidecar, caller, SpanKind::Client, id, (at + 1_000, end - 1_000));
            self.add(Span { upstream_cluster: "PassthroughCluster", name: "db-0:3306/*", ..proxy });
        }
    }

    fn external(&mut self, caller: Workload, above: [u8; 8], at: u64) {
        let (mut above, end) = (above, at + self.took());
        if self.chance.one_in(2) {
            let sdk = self.app(caller, SpanKind::Client, above, (at, end), "POST");
            above = self.add(Span { http_url: "https://api.example.com/pay", ..sdk });
        }
        let call = self.proxy(Role::Sidecar, caller, SpanKind::Client, above, (at + 1_000, end - 1_000));
        let mut call = out_of_mesh(call, self.chance.pick(&EXTERNAL_CLUSTERS));
        if call.upstream_cluster.is_empty() {
            (call.http_status, call.grpc_status, call.response_flags, call.error) = NO_ROUTE;
        }
        self.add(call);
    }
}
