//! What one round of traffic consists of, and spans in the shape in which Envoy writes them under Istio.

use std::rc::Rc;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{Span, Status, span::SpanKind, status::StatusCode},
};

/// The attribute that carries Envoy's request id.
pub(crate) const REQUEST_ID: &str = "guid:x-request-id";

/// The attribute that names the proxy.
pub(crate) const NODE_ID: &str = "node_id";

const ENVOY_VERSION: &str = "9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL";

/// One round of traffic, to be repeated with fresh ids: whole traces, their spans sorted by the proxies that export them.
#[derive(Debug, Default)]
pub struct Traffic {
    /// For each trace, nanoseconds from its start to the end of the round.
    pub traces: Vec<u64>,
    /// The proxies.
    pub lanes: Vec<Lane>,
}

/// A proxy's exporter: its requests carry its own spans alone.
#[derive(Debug)]
pub struct Lane {
    /// The resource of its requests.
    pub resource: Resource,
    /// The scope of its requests.
    pub scope: InstrumentationScope,
    /// Its spans.
    pub spans: Vec<TrafficSpan>,
}

/// A span of a round.
#[derive(Clone, Debug)]
pub struct TrafficSpan {
    /// Everything but ids and times; those that stand there are written over.
    pub span: Rc<Span>,
    /// Number of its trace in the round.
    pub trace: u32,
    /// Its own number in the round: 0, 1, 2, … over all lanes, each once.
    pub number: u32,
    /// The number of its parent; none for a root.
    pub parent: Option<u32>,
    /// Nanoseconds from the start of the trace to its start.
    pub start: u64,
    /// Nanoseconds from the start of the trace to its end.
    pub end: u64,
}

impl Traffic {
    /// Spans in the round.
    pub fn span_count(&self) -> usize {
        self.lanes.iter().map(|lane| lane.spans.len()).sum()
    }
}

/// A proxy, as its spans describe it.
pub(crate) struct Proxy {
    /// `sidecar` or `router`.
    pub(crate) role: &'static str,
    pub(crate) address: String,
    pub(crate) pod: String,
    pub(crate) service: String,
    pub(crate) namespace: String,
    pub(crate) version: String,
    pub(crate) zone: &'static str,
}

/// Which of the two spans of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The caller's proxy, as the first of the trace.
    Root,
    /// The caller's proxy.
    Client,
    /// The callee's proxy.
    Server,
}

/// What both spans of a hop say.
pub(crate) struct Hop<'a> {
    /// Host of the callee, `reviews.default.svc.cluster.local`.
    pub(crate) host: &'a str,
    pub(crate) url: &'a str,
    pub(crate) peer_address: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) request_size: u32,
    pub(crate) response_size: u32,
    pub(crate) status_code: u16,
}

impl Proxy {
    pub(crate) fn resource(&self) -> Resource {
        let attributes = vec![
            text("telemetry.sdk.name", "envoy"),
            text("telemetry.sdk.language", "cpp"),
            text("telemetry.sdk.version", ENVOY_VERSION),
            text("service.name", format!("{}.{}", self.service, self.namespace)),
        ];
        Resource { attributes, ..Resource::default() }
    }

    pub(crate) fn scope(&self) -> InstrumentationScope {
        InstrumentationScope { name: "envoy".into(), version: ENVOY_VERSION.into(), ..InstrumentationScope::default() }
    }

    /// The proxy's span of a hop. The attributes and their order are those of Envoy 1.40 under Istio's configuration.
    pub(crate) fn span(&self, side: Side, hop: &Hop<'_>) -> Span {
        let failed = hop.status_code >= 500;
        let upstream = match side {
            Side::Server => "inbound|9080||".to_owned(),
            Side::Root | Side::Client => format!("outbound|9080||{}", hop.host),
        };
        let node = format!("{}~{}~{}.{ns}~{ns}.svc.cluster.local", self.role, self.address, self.pod, ns = self.namespace);
        let mut attributes = vec![
            text(NODE_ID, node),
            text("zone", self.zone),
            text(REQUEST_ID, "00000000-0000-9000-0000-000000000000"),
            text("http.url", hop.url),
            text("http.method", "GET"),
            text("downstream_cluster", "-"),
            text("user_agent", hop.user_agent),
            text("http.protocol", "HTTP/1.1"),
            text("peer.address", hop.peer_address),
            text("request_size", hop.request_size.to_string()),
            text("response_size", hop.response_size.to_string()),
            text("component", "proxy"),
            text("upstream_cluster", upstream.clone()),
            text("upstream_cluster.name", upstream),
            text("http.status_code", hop.status_code.to_string()),
            text("response_flags", "-"),
        ];
        if failed {
            attributes.push(text("error", "true"));
        }
        attributes.extend(self.identity(side));
        Span {
            name: format!("{}:9080/*", hop.host),
            kind: if side == Side::Server { SpanKind::Server } else { SpanKind::Client } as i32,
            attributes,
            status: failed.then(|| Status { code: StatusCode::Error as i32, ..Status::default() }),
            flags: if side == Side::Root { 0x101 } else { 0x301 },
            ..Span::default()
        }
    }

    fn identity(&self, side: Side) -> [KeyValue; 5] {
        let cluster = text("istio.cluster_id", "Kubernetes");
        let service = text("istio.canonical_service", self.service.as_str());
        let mesh = text("istio.mesh_id", "cluster.local");
        let revision = text("istio.canonical_revision", self.version.as_str());
        let namespace = text("istio.namespace", self.namespace.as_str());
        match side {
            Side::Root => [cluster, revision, mesh, service, namespace],
            Side::Client => [cluster, service, mesh, revision, namespace],
            Side::Server => [namespace, service, mesh, revision, cluster],
        }
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.into())) };
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

/// The text attribute of that key.
pub(crate) fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let value = span.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    match &value.value {
        Some(Value::StringValue(text)) => Some(text),
        _ => None,
    }
}
