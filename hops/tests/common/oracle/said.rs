//! What single spans and nodes say.

use meshlake_hops::{End, ErrorClass, Flags, Node, NodeKind, Report, Role, Span, SpanKind};

pub fn waypoint(s: &Span<'_>) -> bool {
    s.role == Role::Waypoint || (s.role != Role::Application && s.upstream_cluster.starts_with("inbound-vip|"))
}

pub fn app(s: &Span<'_>) -> bool {
    s.role == Role::Application
}

pub fn client(s: &Span<'_>) -> bool {
    matches!(s.kind, SpanKind::Client | SpanKind::Producer) && !waypoint(s)
}

pub fn server(s: &Span<'_>) -> bool {
    matches!(s.kind, SpanKind::Server | SpanKind::Consumer)
}

pub fn mirror(s: &Span<'_>) -> bool {
    client(s) && !app(s) && s.name == "mirror"
}

pub fn call(s: &Span<'_>) -> bool {
    client(s) && !["receive", "settle"].contains(&s.messaging_operation)
}

pub fn send(s: &Span<'_>) -> bool {
    s.kind == SpanKind::Producer && s.messaging_destination != ""
}

/// A call that sends a message.
pub fn message(s: &Span<'_>) -> bool {
    call(s) && send(s)
}

pub fn process(s: &Span<'_>) -> bool {
    server(s) && s.messaging_operation == "process"
}

pub fn receive(s: &Span<'_>) -> bool {
    s.messaging_operation == "receive"
}

pub fn no_unknown(text: &str) -> &str {
    if text == "unknown" { "" } else { text }
}

pub fn no_port(text: &str) -> &str {
    if let Some(bracketed) = text.strip_prefix('[') {
        return if bracketed.contains(']') { bracketed.split(']').next().unwrap() } else { "" };
    }
    if text.matches(':').count() == 1 { text.split(':').next().unwrap() } else { text }
}

pub fn url_host(url: &str) -> &str {
    let Some(at) = url.find("://") else { return "" };
    let authority = url[at + 3..].split(|c| "/?#".contains(c)).next().unwrap();
    no_port(authority.rsplit('@').next().unwrap())
}

pub fn address(host: &str) -> bool {
    host.contains(':') || host.chars().all(|c| c.is_ascii_digit() || c == '.')
}

pub fn nameable(host: &str) -> &str {
    if address(host) || host == "localhost" || host == "-" { "" } else { host }
}

pub fn mesh_host(host: &str) -> Option<(&str, &str)> {
    let labels: Vec<&str> = host.split('.').collect();
    (labels.len() >= 3 && labels[2] == "svc").then(|| (labels[0], labels[1]))
}

pub fn public(host: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    let last = labels[labels.len() - 1];
    let private = ["svc", "local", "internal", "localdomain", "lan", "home", "test", ""];
    labels.len() > 1 && !address(host) && !private.contains(&last) && mesh_host(host).is_none()
}

pub fn one_host(a: &str, b: &str) -> bool {
    a != "" && b != "" && (a == b || a.starts_with(&format!("{b}.")) || b.starts_with(&format!("{a}.")))
}

/// The host of `upstream_cluster`.
pub fn cluster_host(cluster: &str) -> &str {
    let cluster = cluster.split(';').next().unwrap();
    if let Some(sni) = cluster.strip_prefix("outbound_.") {
        let parts: Vec<&str> = sni.splitn(3, '_').collect();
        return if parts.len() == 3 { parts[2].strip_prefix('.').unwrap_or("") } else { "" };
    }
    let parts: Vec<&str> = cluster.splitn(4, '|').collect();
    if parts.len() == 4 && (parts[0] == "outbound" || parts[0] == "inbound-vip") { parts[3] } else { "" }
}

pub fn asked_host<'a>(s: &Span<'a>) -> &'a str {
    let url = nameable(url_host(s.http_url));
    if url != "" { url } else { nameable(no_port(s.server_address)) }
}

pub fn got_host<'a>(s: &Span<'a>) -> &'a str {
    if app(s) && client(s) { "" } else { asked_host(s) }
}

pub fn vip_host<'a>(s: &Span<'a>) -> &'a str {
    if waypoint(s) { cluster_host(s.upstream_cluster) } else { "" }
}

pub fn hosts_differ(proxy: &Span<'_>, s: &Span<'_>) -> bool {
    let theirs: Vec<&str> = [asked_host(proxy), vip_host(proxy)].into_iter().filter(|host| *host != "").collect();
    server(s) && got_host(s) != "" && !theirs.is_empty() && theirs.iter().all(|host| !one_host(host, got_host(s)))
}

pub fn same(a: &Node<'_>, b: &Node<'_>) -> bool {
    let compatible = |a: &str, b: &str| a == b || a == "" || b == "";
    let names = if a.workload != "" && b.workload != "" { a.workload == b.workload } else { a.service == b.service };
    compatible(a.cluster, b.cluster) && compatible(a.namespace, b.namespace) && names
}

pub fn own<'a>(s: &Span<'a>) -> Node<'a> {
    let kind = if s.role == Role::Gateway { NodeKind::Gateway } else { NodeKind::Workload };
    let Span { cluster, namespace, workload, service, version, zone, .. } = *s;
    Node { kind, cluster, namespace, workload, service, version, zone, port: None }
}

pub fn end_node<'a>(end: &End<'a>) -> Node<'a> {
    Node {
        kind: NodeKind::Workload,
        cluster: no_unknown(end.cluster),
        namespace: no_unknown(end.namespace),
        workload: no_unknown(end.workload),
        service: no_unknown(end.service),
        version: no_unknown(end.version),
        ..Node::default()
    }
}

pub fn end_known(end: &End<'_>) -> bool {
    no_unknown(end.workload) != "" || no_unknown(end.service) != ""
}

pub fn or<'a>(a: &'a str, b: &'a str) -> &'a str {
    if a != "" { a } else { b }
}

pub fn filled<'a>(a: Node<'a>, b: &Node<'a>) -> Node<'a> {
    Node {
        cluster: or(a.cluster, b.cluster),
        namespace: or(a.namespace, b.namespace),
        workload: or(a.workload, b.workload),
        service: or(a.service, b.service),
        version: or(a.version, b.version),
        zone: or(a.zone, b.zone),
        ..a
    }
}

pub fn destination<'a>(s: &Span<'a>) -> Node<'a> {
    let tags = end_node(&s.destination);
    let host = or(vip_host(s), asked_host(s));
    let (service, namespace) = mesh_host(host).unwrap_or(("", ""));
    if mesh_host(host).is_none() && host != "" && !end_known(&s.destination) {
        return Node { kind: NodeKind::External, service: host, ..Node::default() };
    }
    filled(tags, &Node { cluster: s.cluster, namespace, service, ..Node::default() })
}

/// D: kind, name, port, and whether the name is a host.
pub type Target<'a> = (NodeKind, &'a str, Option<u16>, bool);

pub fn target<'a>(s: &Span<'a>) -> Option<Target<'a>> {
    let host = |kind, name: &'a str| (name != "").then_some((kind, name, None, true));
    let name = |kind, name: &'a str| (name != "").then_some((kind, name, None, false));
    let web = |name: &'a str| host(if mesh_host(name).is_some() { NodeKind::Workload } else { NodeKind::External }, name);
    let peer_address = if app(s) { no_port(s.peer_address) } else { "" };
    let peer_service = if app(s) { s.peer_service } else { "" };
    if send(s) {
        return name(NodeKind::Queue, s.messaging_destination);
    }
    if let Some(found) = web(cluster_host(s.upstream_cluster)) {
        return Some(found);
    }
    if s.db_system != "" {
        let port = s.server_port.and_then(|port| port.try_into().ok());
        return name(NodeKind::Database, s.peer_service)
            .or(host(NodeKind::Database, no_port(s.server_address)).map(|t| (t.0, t.1, port, true)))
            .or(host(NodeKind::Database, peer_address))
            .or(name(NodeKind::Database, s.db_namespace))
            .or(name(NodeKind::Database, s.db_system));
    }
    name(NodeKind::Queue, s.messaging_destination)
        .or(web(url_host(s.http_url)))
        .or(name(NodeKind::External, peer_service))
        .or(web(no_port(s.server_address)))
        .or(web(peer_address))
        .or(name(NodeKind::External, s.rpc_service))
}

pub fn target_node<'a>(target: Target<'a>, caller: &Node<'a>) -> Node<'a> {
    let (kind, name, port, is_host) = target;
    let node = Node { kind, service: name, port, ..Node::default() };
    if is_host && mesh_host(name).is_some() {
        let (service, namespace) = mesh_host(name).unwrap();
        Node { service, namespace, ..node }
    } else if is_host && public(name) {
        node
    } else if kind == NodeKind::Queue {
        Node { cluster: caller.cluster, ..node }
    } else {
        Node { cluster: caller.cluster, namespace: caller.namespace, ..node }
    }
}

pub fn report<'a>(s: &Span<'a>) -> Report<'a> {
    let response_flags = if s.response_flags == "-" { "" } else { s.response_flags };
    let http = s.http_status.unwrap_or(-1);
    let error = if !s.error {
        if (400..500).contains(&http) { ErrorClass::Http4xx } else { ErrorClass::None }
    } else if [2, 4, 12, 13, 14, 15].contains(&s.grpc_status.unwrap_or(-1)) {
        ErrorClass::Grpc
    } else if (500..600).contains(&http) {
        ErrorClass::Http5xx
    } else if http == 0 {
        ErrorClass::NoResponse
    } else if response_flags != "" {
        ErrorClass::ResponseFlags
    } else {
        ErrorClass::Status
    };
    let latency = (s.end >= s.start).then(|| s.end - s.start);
    Report { latency, error, http_status: s.http_status, grpc_status: s.grpc_status, response_flags }
}

pub fn protocol<'a>(s: &Span<'a>) -> &'a str {
    if s.db_system != "" {
        s.db_system
    } else if s.messaging_destination != "" || s.messaging_system != "" {
        "messaging"
    } else if s.grpc_status.is_some() || s.rpc_system == "grpc" {
        "grpc"
    } else if s.http_method != "" || s.http_protocol != "" || s.http_status.is_some() {
        "http"
    } else {
        s.rpc_system
    }
}

pub fn exit_flags(s: &Span<'_>) -> Flags {
    let mut flags = Flags::NONE;
    let cluster = s.upstream_cluster.split(';').next().unwrap();
    match cluster {
        "PassthroughCluster" | "AllowAnyDynamicDNSCluster" => flags |= Flags::PASSTHROUGH,
        "BlackHoleCluster" => flags |= Flags::BLACKHOLE,
        "main_internal"
        | "connect_terminate"
        | "connect_originate"
        | "encap"
        | "forward_inner_connect"
        | "inner_connect_originate"
        | "outer_connect_originate" => flags |= Flags::TUNNEL,
        _ => {}
    }
    if s.response_flags.split(',').any(|flag| flag == "NR") {
        flags |= Flags::NO_ROUTE;
    }
    if mirror(s) {
        flags |= Flags::MIRROR;
    }
    if s.retry_count.unwrap_or(0) > 0 {
        flags |= Flags::RETRY;
    }
    flags
}
