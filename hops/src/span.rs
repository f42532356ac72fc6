//! The input: what the rules read of a span.
//!
//! Texts are borrowed, and empty where the span does not say. Field names are those of the columns of `spans`, or of the
//! attributes.

use crate::host;
use crate::upstream::Upstream;

/// The kind of a span, as OTLP has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanKind {
    /// Not stated, or a number that OTLP does not define.
    #[default]
    Unspecified,
    /// Work within a process.
    Internal,
    /// A request that was received.
    Server,
    /// A request that was sent.
    Client,
    /// A message that was sent.
    Producer,
    /// A message that was received.
    Consumer,
}

impl SpanKind {
    /// The kind that the column `kind` names.
    pub fn parse(text: &str) -> SpanKind {
        match text {
            "internal" => SpanKind::Internal,
            "server" => SpanKind::Server,
            "client" => SpanKind::Client,
            "producer" => SpanKind::Producer,
            "consumer" => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        }
    }

    /// The side of a request that spans of this kind describe.
    pub fn side(self) -> Side {
        match self {
            SpanKind::Client | SpanKind::Producer => Side::Client,
            SpanKind::Server | SpanKind::Consumer => Side::Server,
            SpanKind::Unspecified | SpanKind::Internal => Side::Inner,
        }
    }
}

/// The side of a request that a span describes. A trace has one span per (span id, side).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The caller's.
    Client,
    /// The callee's.
    Server,
    /// Neither.
    #[default]
    Inner,
}

/// Who writes a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// An SDK in an application.
    #[default]
    Application,
    /// The proxy of one pod (`node_id` `sidecar~`).
    Sidecar,
    /// A proxy at the edge of the mesh (`node_id` `router~`).
    Gateway,
    /// A proxy in front of services (`node_id` `waypoint~`).
    Waypoint,
    /// A proxy whose span has no `node_id` that says which: `router … egress`, `mirror`, `async … egress`.
    Proxy,
}

impl Role {
    /// The role by the columns `proxy` and `component`.
    pub fn of(proxy: &str, component: &str) -> Role {
        match (proxy, component) {
            ("sidecar", _) => Role::Sidecar,
            ("gateway", _) => Role::Gateway,
            ("waypoint", _) => Role::Waypoint,
            (_, "proxy") => Role::Proxy,
            _ => Role::Application,
        }
    }
}

/// The parts of a span's resource by which two resources are equal or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource<'a> {
    /// `service.name`.
    pub service_name: &'a str,
    /// `service.namespace`.
    pub service_namespace: &'a str,
    /// `service.instance.id`.
    pub service_instance_id: &'a str,
    /// `k8s.namespace.name`.
    pub k8s_namespace_name: &'a str,
    /// `k8s.pod.name`.
    pub k8s_pod_name: &'a str,
    /// `k8s.pod.ip`.
    pub k8s_pod_ip: &'a str,
    /// `host.name`.
    pub host_name: &'a str,
}

/// What a waypoint says of one end of a request: `istio.source_*` or `istio.destination_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End<'a> {
    /// `…_cluster_id`.
    pub cluster: &'a str,
    /// `…_namespace`.
    pub namespace: &'a str,
    /// `…_workload`.
    pub workload: &'a str,
    /// `…_canonical_service`.
    pub service: &'a str,
    /// `…_app_version`.
    pub version: &'a str,
}

impl End<'_> {
    /// Whether it tells who: `unknown` is Istio's word for nothing.
    pub(crate) fn is_known(&self) -> bool {
        !known(self.workload).is_empty() || !known(self.service).is_empty()
    }
}

/// The text, unless it is Istio's word for nothing.
pub(crate) fn known(text: &str) -> &str {
    if text == "unknown" { "" } else { text }
}

/// A span link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The trace of the span that is linked.
    pub trace_id: [u8; 16],
    /// The span that is linked.
    pub span_id: [u8; 8],
}

/// A span of one trace. Texts are empty, numbers none where the span does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span<'a> {
    /// Its id.
    pub span_id: [u8; 8],
    /// Its parent's id; zero for a root.
    pub parent_span_id: [u8; 8],
    /// Nanoseconds since the epoch.
    pub start: u64,
    /// Nanoseconds since the epoch.
    pub end: u64,
    /// Its kind.
    pub kind: SpanKind,
    /// Its name.
    pub name: &'a str,
    /// `tracestate`, of which `ot=` is read.
    pub trace_state: &'a str,
    /// Column `error`: by the code where there is one, else by the status.
    pub error: bool,
    /// Its links.
    pub links: &'a [Link],

    /// Who writes it.
    pub role: Role,
    /// Whether a proxy's `istio.*` tags say whose it is; column `mesh_id` is not null.
    pub tagged: bool,
    /// Column `cluster`.
    pub cluster: &'a str,
    /// Column `namespace`.
    pub namespace: &'a str,
    /// Column `workload`.
    pub workload: &'a str,
    /// Column `service`.
    pub service: &'a str,
    /// Column `version`.
    pub version: &'a str,
    /// Column `zone`.
    pub zone: &'a str,
    /// Column `pod`.
    pub pod: &'a str,
    /// `node_id`, of which the address is read.
    pub node_id: &'a str,
    /// Its resource.
    pub resource: Resource<'a>,

    /// `upstream_cluster`.
    pub upstream_cluster: &'a str,
    /// `istio.source_*`.
    pub source: End<'a>,
    /// `istio.destination_*`.
    pub destination: End<'a>,
    /// Column `peer_address`: of a proxy's span who sent the request, of an application's span whom it was sent to.
    pub peer_address: &'a str,
    /// `peer.service` of an application's span.
    pub peer_service: &'a str,
    /// Column `server_address`.
    pub server_address: &'a str,
    /// Column `server_port`.
    pub server_port: Option<i64>,
    /// `http.url`, `url.full`.
    pub http_url: &'a str,

    /// Column `http_method`.
    pub http_method: &'a str,
    /// Column `http_protocol`.
    pub http_protocol: &'a str,
    /// Column `http_status_code`; 0 where there was no response.
    pub http_status: Option<i64>,
    /// Column `grpc_status_code`.
    pub grpc_status: Option<i64>,
    /// Column `response_flags`.
    pub response_flags: &'a str,
    /// Column `request_size`, bytes.
    pub request_size: Option<i64>,
    /// Column `response_size`, bytes.
    pub response_size: Option<i64>,
    /// `retry.count`.
    pub retry_count: Option<i64>,
    /// `rpc.system`.
    pub rpc_system: &'a str,
    /// `rpc.service`.
    pub rpc_service: &'a str,
    /// `rpc.method`.
    pub rpc_method: &'a str,
    /// Column `db_system`.
    pub db_system: &'a str,
    /// `db.namespace`, `db.name`.
    pub db_namespace: &'a str,
    /// `messaging.system`.
    pub messaging_system: &'a str,
    /// Column `messaging_destination`.
    pub messaging_destination: &'a str,
    /// `messaging.operation.type`, `messaging.operation`.
    pub messaging_operation: &'a str,

    /// `source.principal`: whom the certificate names that the client of the connection showed; `-` if it showed none.
    pub source_principal: &'a str,
}

impl<'a> Span<'a> {
    pub(crate) fn id(&self) -> u64 {
        u64::from_be_bytes(self.span_id)
    }

    pub(crate) fn parent_id(&self) -> u64 {
        u64::from_be_bytes(self.parent_span_id)
    }

    /// Nanoseconds from start to end; none if it ends before it starts.
    pub(crate) fn duration(&self) -> Option<u64> {
        self.end.checked_sub(self.start)
    }

    /// The side that it describes. What a waypoint sends on is the request that it received, so it makes no call.
    pub(crate) fn side(&self) -> Side {
        match self.kind.side() {
            Side::Client if self.is_waypoint() => Side::Inner,
            side => side,
        }
    }

    pub(crate) fn is_client(&self) -> bool {
        self.side() == Side::Client
    }

    pub(crate) fn is_server(&self) -> bool {
        self.side() == Side::Server
    }

    pub(crate) fn is_application(&self) -> bool {
        self.role == Role::Application
    }

    pub(crate) fn is_waypoint(&self) -> bool {
        self.role == Role::Waypoint || (!self.is_application() && self.upstream_cluster.starts_with("inbound-vip|"))
    }

    pub(crate) fn is_sidecar(&self) -> bool {
        self.role == Role::Sidecar && !self.is_waypoint()
    }

    pub(crate) fn is_mirror(&self) -> bool {
        self.name == "mirror" && !self.is_application() && self.is_client()
    }

    /// Messages that an application waited for; it is no work on a message.
    pub(crate) fn is_receive(&self) -> bool {
        self.messaging_operation == "receive"
    }

    pub(crate) fn is_settle(&self) -> bool {
        self.messaging_operation == "settle"
    }

    /// Work on a message.
    pub(crate) fn is_process(&self) -> bool {
        self.messaging_operation == "process" && self.is_server()
    }

    /// A message sent to a queue that has a name.
    pub(crate) fn is_send(&self) -> bool {
        self.kind == SpanKind::Producer && !self.messaging_destination.is_empty()
    }

    /// Whether the request came over mutual TLS; none where no tag tells, or the tag tells of another connection: that of an application to
    /// its own sidecar, and that within the tunnel to a waypoint.
    pub(crate) fn mtls(&self) -> Option<bool> {
        let received = !self.is_application() && !self.is_waypoint() && (self.is_server() || self.role == Role::Gateway);
        (received && !self.source_principal.is_empty()).then(|| self.source_principal != "-")
    }

    /// The address in `node_id`.
    pub(crate) fn node_address(&self) -> &'a str {
        self.node_id.split('~').nth(1).unwrap_or_default()
    }

    /// The host that was asked for, by the name that the client or the server saw; empty if there is none, or it is no name.
    pub(crate) fn requested_host(&self) -> &'a str {
        match host::name(host::of_url(self.http_url)) {
            "" => host::name(host::without_port(self.server_address)),
            name => name,
        }
    }

    /// The host that was asked for of who received this request. Of an application's client span that is not known: its hosts
    /// are those that it calls.
    pub(crate) fn received_host(&self) -> &'a str {
        if self.is_application() && self.is_client() { "" } else { self.requested_host() }
    }

    /// The host that a waypoint sends the request to.
    pub(crate) fn destination_host(&self) -> &'a str {
        if self.is_waypoint() { Upstream::parse(self.upstream_cluster).host } else { "" }
    }
}
