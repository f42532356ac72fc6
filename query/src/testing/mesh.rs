//! Traces as a mesh writes them, and what H reads of a row, straight from the row.

use std::collections::BTreeMap;

use meshlake_hops::{End, Link as HopLink, Resource as HopResource, Role, Span, SpanKind};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Link;

use super::{Chance, START, SpanRow, int, text};
use crate::trace_id::TraceId;

const SERVICES: [&str; 4] = ["productpage", "reviews", "details", "ratings"];

/// A request that is being written: its trace, the span above it, and when it starts.
#[derive(Clone, Copy)]
struct At<'a> {
    tenant: &'a str,
    trace: u128,
    trace_state: Option<&'a str>,
    parent: Option<u64>,
    start: u64,
    depth: u64,
}

/// Traces of `tenant` that start in 1,000 s from `START`: through a gateway or not, over sidecars and waypoints, to databases and queues, with
/// spans that are lost, copied, retried or fail.
pub(crate) fn mesh_rows(chance: &mut Chance, tenant: &str, traces: u64) -> Vec<SpanRow> {
    let mut rows = Vec::new();
    for _ in 0..traces {
        let trace = u128::from(chance.next()) << 64 | u128::from(chance.next() | 1 << 55);
        let start = START + chance.below(1_000_000_000_000);
        let trace_state = chance.pick(&[None, Some("ot=th:8"), Some("ot=th:0")]);
        let at = At { tenant, trace, trace_state, parent: None, start, depth: 0 };
        let gateway = chance.below(3) > 0;
        request(chance, &mut rows, at, if gateway { "gateway" } else { "loadgen" }, "productpage");
    }
    let copies: Vec<SpanRow> = rows.iter().filter(|_| chance.below(30) == 0).cloned().collect();
    rows.retain(|_| chance.below(20) > 0);
    rows.extend(copies);
    rows
}

/// A proxy's span.
fn proxy(chance: &mut Chance, at: At<'_>, role: &'static str, service: &str, kind: &'static str) -> SpanRow {
    let status = chance.pick(&["200", "200", "200", "404", "503"]);
    let node_id =
        format!("{}~10.0.0.{}~{service}-v1-abc.shop~shop.svc.cluster.local", role.replace("gateway", "router"), service.len());
    let mut attributes = vec![
        text("node_id", &node_id),
        text("component", "proxy"),
        text("istio.mesh_id", "mesh"),
        text("http.method", chance.pick(&["GET", "POST"])),
        text("http.status_code", status),
        text("response_flags", if status == "503" { "UF" } else { "-" }),
        text("request_size", "12"),
    ];
    match at.start % 3 {
        0 => attributes.push(text("source.principal", "spiffe://cluster.local/ns/shop/sa/any")),
        1 => attributes.push(text("source.principal", "-")),
        _ => {}
    }
    if chance.below(6) == 0 {
        attributes.push(text("retry.count", "1"));
    }
    SpanRow {
        tenant: at.tenant.to_owned(),
        trace: at.trace,
        span: chance.next(),
        parent: at.parent,
        start: at.start,
        duration: chance.below(900_000_000) as i64,
        name: format!("{service}.shop.svc.cluster.local:9080/*"),
        kind: Some(kind),
        error: status == "503",
        service: Some(service.to_owned()),
        namespace: Some("shop".to_owned()),
        cluster: Some(chance.pick(&["c1", "c1", "c2"]).to_owned()),
        workload: Some(format!("{service}-v1")),
        version: Some("v1".to_owned()),
        zone: Some(chance.pick(&["z1", "z2"]).to_owned()),
        pod: Some(format!("{service}-v1-abc")),
        proxy: Some(role),
        trace_state: at.trace_state.map(str::to_owned),
        attributes,
        resource: Resource { attributes: vec![text("service.name", service)], ..Resource::default() },
        ..SpanRow::default()
    }
}

fn request(chance: &mut Chance, rows: &mut Vec<SpanRow>, at: At<'_>, caller: &str, callee: &str) {
    let role = if caller == "gateway" { "gateway" } else { "sidecar" };
    let mut client = proxy(chance, at, role, caller, "client");
    client.attributes.push(text("upstream_cluster", &format!("outbound|9080||{callee}.shop.svc.cluster.local")));
    client.peer_service = Some(callee.to_owned());
    let mut parent = client.span;
    rows.push(client);
    if chance.below(4) == 0 {
        let at = At { parent: Some(parent), start: at.start + 1_000, ..at };
        let mut waypoint = proxy(chance, at, "waypoint", "waypoint", "server");
        waypoint.attributes.push(text("upstream_cluster", &format!("inbound-vip|9080|http|{callee}.shop.svc.cluster.local")));
        waypoint.attributes.push(text("istio.source_workload", &format!("{caller}-v1")));
        waypoint.attributes.push(text("istio.source_namespace", "shop"));
        waypoint.attributes.push(text("istio.destination_workload", &format!("{callee}-v1")));
        waypoint.attributes.push(text("istio.destination_canonical_service", callee));
        parent = waypoint.span;
        rows.push(waypoint);
    }
    let at = At { parent: Some(parent), start: at.start + 2_345, ..at };
    let server = proxy(chance, at, "sidecar", callee, "server");
    let at = At { parent: Some(server.span), start: at.start + 1_000_000, depth: at.depth + 1, ..at };
    rows.push(server);
    for _ in 0..if at.depth < 4 { chance.below(3) } else { 0 } {
        match chance.below(6) {
            0 => rows.push(database(chance, at, callee)),
            1 => message(chance, rows, at, callee),
            _ => {
                let next = chance.pick(&SERVICES);
                request(chance, rows, at, callee, next);
            }
        }
    }
}

/// An SDK's span.
fn application(chance: &mut Chance, at: At<'_>, service: &str, kind: &'static str, name: &str) -> SpanRow {
    SpanRow {
        tenant: at.tenant.to_owned(),
        trace: at.trace,
        span: chance.next(),
        parent: at.parent,
        start: at.start,
        duration: chance.below(90_000_000) as i64,
        name: name.to_owned(),
        kind: Some(kind),
        service: Some(service.to_owned()),
        namespace: Some("shop".to_owned()),
        trace_state: at.trace_state.map(str::to_owned),
        resource: Resource {
            attributes: vec![text("service.name", service), text("k8s.pod.ip", &format!("10.0.0.{}", service.len()))],
            ..Resource::default()
        },
        ..SpanRow::default()
    }
}

fn database(chance: &mut Chance, at: At<'_>, service: &str) -> SpanRow {
    let mut span = application(chance, at, service, "client", "SELECT");
    span.attributes = vec![text("db.system", "mysql"), text(chance.pick(&["db.name", "db.namespace"]), "orders")];
    if chance.below(2) == 0 {
        span.attributes.extend([text("server.address", "db-0"), int("server.port", 3306)]);
    }
    span
}

/// Sent to a queue, received from it and linked.
fn message(chance: &mut Chance, rows: &mut Vec<SpanRow>, at: At<'_>, service: &str) {
    let tags = |operation: &str| {
        vec![
            text("messaging.system", "kafka"),
            text("messaging.destination.name", "mail"),
            text("messaging.operation.type", operation),
        ]
    };
    let sent = SpanRow { attributes: tags("send"), ..application(chance, at, service, "producer", "mail send") };
    let at = At { parent: Some(sent.span), start: at.start + 5_000, ..at };
    let link = Link { trace_id: at.trace.to_be_bytes().to_vec(), span_id: sent.span.to_be_bytes().to_vec(), ..Link::default() };
    let received = application(chance, at, "mailer", "consumer", "mail process");
    rows.push(sent);
    rows.push(SpanRow { attributes: tags("process"), links: vec![link], ..received });
}

/// Gives `each` the traces of the rows, as H reads them, straight from the rows: no batch, no file.
pub(crate) fn each_trace(rows: &[SpanRow], mut each: impl FnMut(TraceId, &[Span<'_>])) {
    let mut traces = BTreeMap::<u128, Vec<&SpanRow>>::new();
    rows.iter().for_each(|row| traces.entry(row.trace).or_default().push(row));
    for (trace, rows) in traces {
        let link = |link: &Link| HopLink {
            trace_id: link.trace_id.as_slice().try_into().unwrap(),
            span_id: link.span_id.as_slice().try_into().unwrap(),
        };
        let links: Vec<Vec<HopLink>> = rows.iter().map(|row| row.links.iter().map(link).collect()).collect();
        let spans: Vec<Span<'_>> = rows.iter().zip(&links).map(|(row, links)| span(row, links)).collect();
        each(TraceId(trace.to_be_bytes()), &spans);
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], keys: &[&str]) -> Option<&'a Value> {
    let of_key = |key: &&str| attributes.iter().find(|attribute| attribute.key == **key);
    keys.iter().find_map(of_key)?.value.as_ref()?.value.as_ref()
}

/// What H reads of a row.
pub(crate) fn span<'a>(row: &'a SpanRow, links: &'a [HopLink]) -> Span<'a> {
    let said = |value: Option<&'a Value>| match value {
        Some(Value::StringValue(text)) => text.as_str(),
        _ => "",
    };
    let of_span = |keys: &[&str]| said(attribute(&row.attributes, keys));
    let of_resource = |key: &str| said(attribute(&row.resource.attributes, &[key]));
    let number = |keys: &[&str]| match attribute(&row.attributes, keys) {
        Some(Value::StringValue(text)) => text.parse().ok(),
        Some(Value::IntValue(number)) => Some(*number),
        _ => None,
    };
    let own = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    let upstream_cluster = of_span(&["upstream_cluster"]);
    Span {
        span_id: row.span.to_be_bytes(),
        parent_span_id: row.parent.unwrap_or_default().to_be_bytes(),
        start: row.start,
        end: row.start.wrapping_add(row.duration as u64),
        kind: SpanKind::parse(row.kind.unwrap_or_default()),
        name: &row.name,
        trace_state: own(&row.trace_state),
        error: row.error,
        links,
        role: Role::of(row.proxy.unwrap_or_default(), of_span(&["component"])),
        tagged: attribute(&row.attributes, &["istio.mesh_id"]).is_some(),
        cluster: own(&row.cluster),
        namespace: own(&row.namespace),
        workload: own(&row.workload),
        service: own(&row.service),
        version: own(&row.version),
        zone: own(&row.zone),
        pod: own(&row.pod),
        node_id: of_span(&["node_id"]),
        resource: HopResource {
            service_name: of_resource("service.name"),
            k8s_pod_ip: of_resource("k8s.pod.ip"),
            ..HopResource::default()
        },
        upstream_cluster,
        source: End {
            workload: of_span(&["istio.source_workload"]),
            namespace: of_span(&["istio.source_namespace"]),
            ..End::default()
        },
        destination: End {
            workload: of_span(&["istio.destination_workload"]),
            service: of_span(&["istio.destination_canonical_service"]),
            ..End::default()
        },
        peer_service: if upstream_cluster.is_empty() { own(&row.peer_service) } else { "" },
        server_address: of_span(&["server.address"]),
        server_port: number(&["server.port"]),
        http_method: of_span(&["http.method"]),
        http_status: number(&["http.status_code"]),
        response_flags: of_span(&["response_flags"]),
        request_size: number(&["request_size"]),
        retry_count: number(&["retry.count"]),
        db_system: of_span(&["db.system"]),
        db_namespace: of_span(&["db.namespace", "db.name"]),
        messaging_system: of_span(&["messaging.system"]),
        messaging_destination: of_span(&["messaging.destination.name"]),
        messaging_operation: of_span(&["messaging.operation.type"]),
        source_principal: of_span(&["source.principal"]),
        ..Span::default()
    }
}
