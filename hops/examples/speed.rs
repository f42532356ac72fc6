//! Nanoseconds a span that H takes: `cargo run --release -p meshlake-hops --example speed`.

use std::time::Instant;

use meshlake_hops::{Histogram, Hop, Resource, Role, Span, SpanKind, TraceHops};

const WORKLOADS: [(&str, &str, &str, &str); 5] = [
    ("istio-ingressgateway", "istio-ingressgateway-79788cd94-wgmsp", "istio-system", "10.0.0.1"),
    ("productpage", "productpage-v1-6f89b6c557-sg2bc", "bookinfo", "10.0.0.2"),
    ("details", "details-v1-7745b6fcf4-mrz75", "bookinfo", "10.0.0.3"),
    ("reviews", "reviews-v2-6f76498fc8-58wpn", "bookinfo", "10.0.0.4"),
    ("ratings", "ratings-v1-77bdbf89bb-qd48j", "bookinfo", "10.0.0.5"),
];
/// Caller and callee of each request, as positions above.
const REQUESTS: [(usize, usize); 4] = [(0, 1), (1, 2), (1, 3), (3, 4)];
/// Few enough to stay in the cache, as spans do that have just been read from columns.
const TRACES: usize = 50;
/// Times that they are taken in one measurement, and measurements, of which the best counts.
const REPEATS: usize = 200;
const ROUNDS: usize = 20;

struct Texts {
    nodes: Vec<String>,
    names: Vec<String>,
    clusters: Vec<String>,
    urls: Vec<String>,
    services: Vec<String>,
}

fn texts() -> Texts {
    let of = |make: &dyn Fn(usize) -> String| (0..WORKLOADS.len()).map(make).collect();
    let service = |at: usize| WORKLOADS[at].0;
    let namespace = |at: usize| WORKLOADS[at].2;
    Texts {
        nodes: of(&|at| {
            let kind = if at == 0 { "router" } else { "sidecar" };
            let (_, pod, namespace, ip) = WORKLOADS[at];
            format!("{kind}~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local")
        }),
        names: of(&|at| format!("{}.{}.svc.cluster.local:9080/*", service(at), namespace(at))),
        clusters: of(&|at| format!("outbound|9080||{}.{}.svc.cluster.local", service(at), namespace(at))),
        urls: of(&|at| format!("http://{}:9080/{}/0", service(at), service(at))),
        services: of(&|at| format!("{}.{}", service(at), namespace(at))),
    }
}

fn span<'a>(texts: &'a Texts, of: usize, asked: usize, kind: SpanKind) -> Span<'a> {
    let (service, pod, namespace, _) = WORKLOADS[of];
    Span {
        kind,
        name: &texts.names[asked],
        role: if of == 0 { Role::Gateway } else { Role::Sidecar },
        tagged: true,
        cluster: "Kubernetes",
        namespace,
        workload: pod.rsplitn(3, '-').last().unwrap_or(pod),
        service,
        version: "v1",
        zone: "eu-west-1b",
        pod,
        node_id: &texts.nodes[of],
        resource: Resource { service_name: &texts.services[of], ..Resource::default() },
        upstream_cluster: if kind == SpanKind::Client { &texts.clusters[asked] } else { "inbound|9080||" },
        http_url: &texts.urls[asked],
        http_method: "GET",
        http_protocol: "HTTP/1.1",
        http_status: Some(200),
        response_flags: "-",
        request_size: Some(0),
        response_size: Some(442),
        ..Span::default()
    }
}

/// Eight spans, as Istio writes them for a page of Bookinfo.
fn trace<'a>(texts: &'a Texts, number: u64) -> Vec<Span<'a>> {
    let id = |at: u64| (number * 16 + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let server_of = |workload: usize| REQUESTS.iter().position(|(_, callee)| *callee == workload);
    let mut spans = Vec::new();
    for (at, (caller, callee)) in REQUESTS.into_iter().enumerate() {
        let times = |inset: u64| (1_000_000 * at as u64 + inset, 20_000_000 - 1_000_000 * at as u64 - inset);
        let above = server_of(caller).map_or([0; 8], |server| id(2 * server as u64 + 1));
        let (start, end) = times(0);
        let (span_id, parent_span_id) = (id(2 * at as u64), above);
        spans.push(Span { span_id, parent_span_id, start, end, ..span(texts, caller, callee, SpanKind::Client) });
        let (start, end) = times(100_000);
        let server = Span { peer_address: WORKLOADS[caller].3, ..span(texts, callee, callee, SpanKind::Server) };
        spans.push(Span { span_id: id(2 * at as u64 + 1), parent_span_id: span_id, start, end, ..server });
    }
    spans.sort_by_key(|span| span.span_id);
    spans
}

fn main() {
    let texts = texts();
    let traces: Vec<Vec<Span<'_>>> = (0..TRACES as u64).map(|number| trace(&texts, number)).collect();
    let spans: usize = traces.iter().map(Vec::len).sum();
    let mut worker = TraceHops::new();
    let mut hops: Vec<Hop<'_>> = Vec::new();
    let mut latency = Histogram::new();
    let (mut best, mut best_recorded, mut found) = (f64::MAX, f64::MAX, 0);
    for _ in 0..ROUNDS {
        for record in [false, true] {
            let start = Instant::now();
            found = 0;
            for trace in traces.iter().cycle().take(TRACES * REPEATS) {
                hops.clear();
                worker.append(&[7; 16], trace, &mut hops);
                found += hops.len();
                if record {
                    let latencies = hops.iter().filter_map(|hop| hop.callee_report?.latency);
                    latencies.for_each(|nanoseconds| latency.record(nanoseconds));
                }
            }
            let nanoseconds = start.elapsed().as_nanos() as f64 / (spans * REPEATS) as f64;
            let best = if record { &mut best_recorded } else { &mut best };
            *best = best.min(nanoseconds);
        }
    }
    println!("{} spans, {found} hops: {best:.0} ns a span; {best_recorded:.0} with latencies recorded", spans * REPEATS);
}
