//! Random traces: any order, any copies, any nonsense.

use meshlake_hops::{End, Link, Resource, Role, Span, SpanKind};
use proptest::prelude::*;
use proptest::sample::select;

use super::TRACE;

/// Workloads, each of the service before its dash.
const WORKLOADS: [&str; 4] = ["a-v1", "b-v1", "b-v2", "c-v1"];
const HOSTS: [&str; 7] = ["a", "b", "c", "b.shop.svc.cluster.local", "api.example.com", "10.0.0.1", "localhost"];
const KINDS: [SpanKind; 6] =
    [SpanKind::Client, SpanKind::Server, SpanKind::Internal, SpanKind::Producer, SpanKind::Consumer, SpanKind::Unspecified];
const LINKS: [&[Link]; 3] = [
    &[],
    &[Link { trace_id: TRACE, span_id: [1; 8] }, Link { trace_id: TRACE, span_id: [3; 8] }],
    &[Link { trace_id: [1; 16], span_id: [2; 8] }],
];

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Mostly nothing, else one of these.
fn rarely(of: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => select(of)]
}

fn identity(role: Role, workload: &'static str, span: &mut Span<'static>) {
    let (service, version) = workload.split_once('-').unwrap();
    let kind = match role {
        Role::Application | Role::Proxy => {
            span.service = leak(format!("{service}.shop"));
            span.resource.service_name = span.service;
            return;
        }
        Role::Sidecar => "sidecar",
        Role::Gateway => "router",
        Role::Waypoint => "waypoint",
    };
    (span.cluster, span.namespace, span.workload, span.service, span.version) = ("c1", "shop", workload, service, version);
    (span.tagged, span.pod, span.zone) = (true, leak(format!("{workload}-pod")), "z");
    span.node_id = leak(format!("{kind}~10.1.{}.{}~{workload}-pod.shop~local", service.as_bytes()[0], version.as_bytes()[1]));
    span.resource.service_name = leak(format!("{service}.shop"));
}

prop_compose! {
    fn who()(
        role in select(&[Role::Application, Role::Application, Role::Sidecar, Role::Sidecar, Role::Gateway, Role::Waypoint, Role::Proxy][..]),
        workload in select(&WORKLOADS[..]),
        sdk in rarely(&["sdk", "other-sdk"]),
        detail in 0..20u8,
        cluster in rarely(&["c1", "c2"]),
        source_principal in rarely(&["spiffe://mesh/ns/shop/sa/a", "-"]),
    ) -> Span<'static> {
        let mut span = Span { role, source_principal, ..Span::default() };
        identity(role, workload, &mut span);
        if role == Role::Application {
            if sdk != "" {
                (span.service, span.resource.service_name) = (sdk, sdk);
            }
            let pod = leak(format!("{workload}-pod"));
            match detail {
                0 => span.resource.host_name = pod,
                1 => span.resource.service_instance_id = pod,
                2 => span.resource.service_instance_id = leak(format!("shop.{pod}.main")),
                3 => span.resource.k8s_pod_ip = "10.1.97.49",
                4 => (span.pod, span.workload, span.namespace, span.resource.k8s_namespace_name) = (pod, workload, "shop", "shop"),
                5 => (span.workload, span.cluster) = (workload, cluster),
                6 => span.namespace = "elsewhere",
                7 => (span.pod, span.resource.k8s_namespace_name) = (pod, "elsewhere"),
                _ => {}
            }
        } else {
            match detail {
                0 => span.cluster = cluster,
                1 => span.pod = "another-pod",
                2 if role == Role::Proxy => (span.tagged, span.service) = (true, "b"),
                3 => (span.service, span.workload, span.node_id) = ("", "", ""),
                _ => {}
            }
        }
        span
    }
}

prop_compose! {
    fn target()(
        cluster in 0..12u8,
        service in select(&["a", "b", "c"][..]),
        url in rarely(&HOSTS), server in rarely(&HOSTS), peer in rarely(&["10.1.97.49", "10.1.98.49:80", "mysql"]),
        peer_service in rarely(&["b", "payments"]), db in rarely(&["mysql"]), db_namespace in rarely(&["orders"]),
        destination in rarely(&["orders", "mails"]), operation in rarely(&["receive", "process", "settle"]),
        rpc in rarely(&["shop.Orders"]), name in select(&["x", "x", "y", "mirror", ""][..]),
        source in rarely(&WORKLOADS), tags in rarely(&WORKLOADS),
        port in proptest::option::of(-1..70_000i64),
    ) -> Span<'static> {
        let end = |workload: &'static str| {
            if workload.is_empty() { return End::default() }
            End { cluster: "c1", namespace: "shop", workload, service: workload.split_once('-').unwrap().0, version: "unknown" }
        };
        let upstream_cluster = match cluster {
            0..=3 => leak(format!("outbound|80||{service}.shop.svc.cluster.local")),
            4 => "inbound|80||",
            5 => leak(format!("inbound-vip|80|http|{service}.shop.svc.cluster.local")),
            6 => select_plain(service),
            7 => "outbound|443||api.example.com;",
            8 => "outbound_.80_.v1_.b.shop.svc.cluster.local",
            _ => "",
        };
        let http_url = if url.is_empty() { "" } else { leak(format!("http://{url}:80/x")) };
        Span {
            upstream_cluster, http_url, server_address: server, server_port: port, peer_address: peer, peer_service, name,
            db_system: db, db_namespace, messaging_destination: destination, messaging_operation: operation, rpc_service: rpc,
            source: end(source), destination: end(tags), ..Span::default()
        }
    }
}

fn select_plain(service: &str) -> &'static str {
    match service {
        "a" => "PassthroughCluster",
        "b" => "BlackHoleCluster",
        _ => "main_internal",
    }
}

prop_compose! {
    fn span()(
        who in who(), target in target(), kind in select(&KINDS[..]),
        id in 0..12u8, parent in 0..13u8, start in 0..40u64, length in -3..40i64,
        status in proptest::option::of(select(&[0i64, 200, 404, 503][..])), grpc in proptest::option::of(0..16i64), error: bool,
        flags in select(&["-", "", "NR", "UC,NR", "UF"][..]),
        sizes in proptest::option::of(-1..100i64), retries in proptest::option::of(0..3i64),
        links in select(&LINKS[..]), state in select(&["", "ot=th:0", "ot=th:8", "ot=th:4", "ot=th:c"][..]),
    ) -> Span<'static> {
        Span {
            span_id: [id; 8], parent_span_id: [parent; 8], start, end: start.wrapping_add_signed(length), kind,
            http_status: status, grpc_status: grpc, error, response_flags: flags, request_size: sizes, retry_count: retries, links,
            trace_state: state,
            role: who.role, tagged: who.tagged, cluster: who.cluster, namespace: who.namespace, workload: who.workload,
            service: who.service, version: who.version, zone: who.zone, pod: who.pod, node_id: who.node_id, resource: who.resource,
            source_principal: who.source_principal, ..target
        }
    }
}

/// Spans with no order between them.
fn chaos() -> impl Strategy<Value = Vec<Span<'static>>> {
    prop::collection::vec(span(), 0..14)
}

/// Spans that make a tree: each has an id of its own and, mostly, a parent among those before it, and lies within it. Some pick
/// up the node of their parent, as the spans of one request do.
fn tree() -> impl Strategy<Value = Vec<Span<'static>>> {
    let one = (span(), any::<prop::sample::Index>(), 0..10u8, any::<bool>());
    prop::collection::vec(one, 1..14).prop_map(|parts| {
        let mut spans: Vec<Span<'static>> = Vec::new();
        for (number, (mut span, parent, how, alike)) in parts.into_iter().enumerate() {
            span.span_id = [number as u8 + 1; 8];
            let parent = (number > 0).then(|| spans[parent.index(number)]);
            (span.parent_span_id, span.start, span.end) = match parent {
                Some(parent) if how > 0 => (parent.span_id, parent.start + 1, parent.end.saturating_sub(1)),
                _ => ([if how == 0 { 99 } else { 0 }; 8], 1_000, 2_000),
            };
            match (parent, how) {
                // Beside its parent, under the same span and within it.
                (Some(parent), 1) => span.parent_span_id = parent.parent_span_id,
                // A Zipkin twin.
                (Some(parent), 2) => span.span_id = parent.span_id,
                _ => {}
            }
            if let (Some(parent), true) = (parent, alike) {
                if span.role == parent.role && span.role != Role::Application {
                    let Span { cluster, namespace, workload, service, version, pod, node_id, resource, .. } = parent;
                    span = Span { cluster, namespace, workload, service, version, pod, node_id, resource, ..span };
                } else if span.role == Role::Application {
                    span.resource = Resource { service_name: span.service, ..Resource::default() };
                } else if span.role == Role::Proxy {
                    span.resource = parent.resource;
                }
            }
            spans.push(span);
        }
        spans
    })
}

pub fn trace() -> impl Strategy<Value = Vec<Span<'static>>> {
    prop_oneof![1 => chaos(), 3 => tree()]
}

/// The same at times without regard to parents: clocks that differ, work side by side, work that nobody waited for. Some spans
/// take no time, or less.
pub fn scattered() -> impl Strategy<Value = Vec<Span<'static>>> {
    let times = prop::collection::vec((0..60u64, -2..50i64), 14);
    let first = prop_oneof![Just(1_000u64), Just(u64::MAX - 200)];
    (trace(), times, first).prop_map(|(mut spans, times, first)| {
        for (span, (start, length)) in spans.iter_mut().zip(times) {
            span.start = first + start;
            span.end = span.start.wrapping_add_signed(length);
        }
        spans
    })
}

/// How many of them each property is tested with.
pub fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}
