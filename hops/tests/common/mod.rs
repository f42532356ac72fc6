//! Spans in few words, and hops as text.

#![allow(dead_code, unreachable_pub)]

pub mod oracle;
pub mod random;

use meshlake_hops::{End, Hop, Link, Node, NodeKind, Resource, Role, Span, SpanKind, TraceHops};

pub const TRACE: [u8; 16] = [0xab; 16];

fn text(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// The address of a workload's pod.
pub fn ip(workload: &str) -> &'static str {
    text(format!("10.0.{}.{}", workload.len(), workload.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte))))
}

/// The name of a workload's pod.
pub fn pod(workload: &str) -> &'static str {
    text(format!("{workload}-6f76498fc8-58wpn"))
}

/// The host of a service.
pub fn host(service: &str) -> &'static str {
    text(format!("{service}.shop.svc.cluster.local"))
}

/// The service of a workload `reviews-v2`.
fn service_of(workload: &'static str) -> (&'static str, &'static str) {
    workload.split_once('-').unwrap_or((workload, "v1"))
}

fn span(id: u8, kind: SpanKind) -> Span<'static> {
    // By default each span lies within those of lesser ids.
    Span { span_id: [id; 8], kind, start: 1_000 + u64::from(id) * 10, end: 9_000 - u64::from(id) * 10, ..Span::default() }
}

fn proxy(id: u8, kind: SpanKind, role: Role, workload: &'static str) -> Span<'static> {
    let (service, version) = service_of(workload);
    let kinds = match role {
        Role::Gateway => "router",
        Role::Waypoint => "waypoint",
        _ => "sidecar",
    };
    Span {
        role,
        tagged: true,
        cluster: "c1",
        namespace: "shop",
        workload,
        service,
        version,
        pod: pod(workload),
        node_id: text(format!("{kinds}~{}~{}.shop~shop.svc.cluster.local", ip(workload), pod(workload))),
        resource: Resource { service_name: text(format!("{service}.shop")), ..Resource::default() },
        http_method: "GET",
        http_protocol: "HTTP/1.1",
        http_status: Some(200),
        response_flags: "-",
        ..span(id, kind)
    }
}

/// A sidecar's span of a request that it sends or receives.
pub fn sidecar(id: u8, kind: SpanKind, workload: &'static str) -> Span<'static> {
    proxy(id, kind, Role::Sidecar, workload)
}

/// A span of the ingress gateway.
pub fn gateway(id: u8, kind: SpanKind) -> Span<'static> {
    proxy(id, kind, Role::Gateway, "gw")
}

/// A waypoint's span of a request to a service.
pub fn waypoint(id: u8, service: &'static str) -> Span<'static> {
    Span {
        upstream_cluster: text(format!("inbound-vip|9080|http|{}", host(service))),
        http_url: text(format!("http://{service}:9080/x")),
        name: text(format!("{}:9080/*", host(service))),
        ..proxy(id, SpanKind::Server, Role::Waypoint, "waypoint")
    }
}

/// A proxy's span without `node_id`: `router … egress`, `mirror`.
pub fn bare(id: u8, name: &'static str, of: &Span<'static>) -> Span<'static> {
    Span {
        name,
        role: Role::Proxy,
        resource: of.resource,
        service: of.resource.service_name,
        http_status: Some(200),
        ..span(id, SpanKind::Client)
    }
}

/// An application's span, by its own `service.name`.
pub fn app(id: u8, kind: SpanKind, service: &'static str) -> Span<'static> {
    Span { service, resource: Resource { service_name: service, ..Resource::default() }, ..span(id, kind) }
}

pub trait Build: Sized {
    fn under(self, parent: u8) -> Self;
    fn lasting(self, start: u64, end: u64) -> Self;
    /// The request goes to this service of the mesh.
    fn to(self, service: &'static str) -> Self;
    /// The request came to this service from the pod of that workload.
    fn from(self, service: &'static str, workload: &'static str) -> Self;
    /// The pod is known to Kubernetes.
    fn in_pod(self, workload: &'static str) -> Self;
    fn with(self, change: impl FnOnce(&mut Span<'static>)) -> Self;
}

impl Build for Span<'static> {
    fn under(self, parent: u8) -> Self {
        Span { parent_span_id: [parent; 8], ..self }
    }

    fn lasting(self, start: u64, end: u64) -> Self {
        Span { start, end, ..self }
    }

    fn to(self, service: &'static str) -> Self {
        Span {
            upstream_cluster: text(format!("outbound|9080||{}", host(service))),
            http_url: text(format!("http://{service}:9080/x")),
            name: text(format!("{}:9080/*", host(service))),
            ..self
        }
    }

    fn from(self, service: &'static str, workload: &'static str) -> Self {
        Span {
            upstream_cluster: "inbound|9080||",
            http_url: text(format!("http://{service}:9080/x")),
            name: text(format!("{}:9080/*", host(service))),
            peer_address: ip(workload),
            ..self
        }
    }

    fn in_pod(self, workload: &'static str) -> Self {
        let resource = Resource { k8s_namespace_name: "shop", k8s_pod_name: pod(workload), ..self.resource };
        Span { workload, namespace: "shop", pod: pod(workload), resource, ..self }
    }

    fn with(mut self, change: impl FnOnce(&mut Span<'static>)) -> Self {
        change(&mut self);
        self
    }
}

pub fn end(workload: &'static str) -> End<'static> {
    let (service, version) = service_of(workload);
    End { cluster: "c1", namespace: "shop", workload, service, version }
}

pub fn link(id: u8) -> Link {
    Link { trace_id: TRACE, span_id: [id; 8] }
}

/// A node in a word: its service, with its kind where it is no workload of the mesh.
pub fn label(node: &Node<'_>) -> String {
    match node.kind {
        NodeKind::Workload | NodeKind::Gateway => node.service.to_owned(),
        NodeKind::Outside | NodeKind::Unknown | NodeKind::Missing => node.kind.as_str().to_owned(),
        kind => format!("{}:{}", kind.as_str(), node.service),
    }
}

/// A node as answers of the graph call it at the level of services; none for nobody knows whom.
pub fn service_id(node: &Node<'_>) -> Option<String> {
    let escaped = |text: &str| text.replace('%', "%25").replace('/', "%2F").replace(':', "%3A");
    let (service, workload) = if node.service.is_empty() { ("", node.workload) } else { (node.service, "") };
    let port = node.port.map(|port| format!(":{port}")).unwrap_or_default();
    let [cluster, namespace, service, workload] = [node.cluster, node.namespace, service, workload].map(escaped);
    let id = format!("{}/{cluster}/{namespace}/{service}{port}/{workload}", node.kind.as_str());
    (node.kind != NodeKind::Unknown).then(|| id.trim_end_matches('/').to_owned())
}

/// A hop in a line: the ends, the key, and what flags it has.
pub fn line(hop: &Hop<'_>) -> String {
    let direction = if hop.key.direction == meshlake_hops::Direction::In { "in" } else { "out" };
    let flags: Vec<_> = hop.flags.names().collect();
    let line = format!("{} -> {} ({} {direction}) {}", label(&hop.caller), label(&hop.callee), hop.key.span_id[0], flags.join(","));
    line.trim_end().to_owned()
}

/// The hops of a trace, checked against the oracle, and in other orders and with copies.
pub fn hops(spans: &[Span<'static>]) -> Vec<Hop<'static>> {
    let (found, unnamed) = run(spans);
    let (expected, expected_unnamed) = oracle::hops(&TRACE, spans);
    assert_eq!(found, expected);
    assert_eq!(unnamed, expected_unnamed);
    let mut other = spans.to_vec();
    for _ in spans {
        other.rotate_left(1);
        other.push(other[0]);
        assert_eq!(run(&other).0, expected);
        other.pop();
    }
    other.reverse();
    assert_eq!(run(&other).0, expected);
    found
}

/// The hops without the positions of spans, which are checked to be of their keys; and the number of unnamed exits.
pub fn run<'a>(spans: &[Span<'a>]) -> (Vec<Hop<'a>>, usize) {
    let mut hops = Vec::new();
    let summary = TraceHops::new().append(&TRACE, spans, &mut hops);
    assert_eq!(summary.left_out, 0);
    for hop in &mut hops {
        let span = &spans[hop.span as usize];
        assert_eq!((span.span_id, span.kind.side(), span.start), (hop.key.span_id, hop.key.side, hop.time));
        assert_eq!(hop.caller_span.is_some(), hop.caller_report.is_some());
        hop.span = 0;
        hop.caller_span = hop.caller_span.map(|_| 0);
    }
    (hops, summary.unnamed)
}

/// The hops of a trace as lines.
pub fn lines(spans: &[Span<'static>]) -> Vec<String> {
    hops(spans).iter().map(line).collect()
}

/// A calls B, each with a sidecar.
pub fn pair() -> Vec<Span<'static>> {
    vec![sidecar(1, SpanKind::Client, "a-v1").to("b"), sidecar(2, SpanKind::Server, "b-v1").under(1).from("b", "a-v1")]
}

/// Links to span 3 of the trace and to two of others.
pub fn link_to_3() -> &'static [Link] {
    let other = |trace| Link { trace_id: [trace; 16], span_id: [3; 8] };
    Box::leak(vec![link(3), other(1), other(2)].into_boxed_slice())
}
