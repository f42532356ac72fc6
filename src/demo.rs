//! `--demo`: a Bookinfo-shaped stream of spans, sent through the server's own OTLP port like anybody else's.
//!
//! A gateway, productpage, details, reviews (three versions) and ratings, each behind a sidecar that writes what Envoy under
//! Istio writes. A few requests fail, a few are slow.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use tokio::net::TcpStream;
use tracing::{info, warn};

/// Requests at the gateway each second.
const REQUESTS: u64 = 20;
/// Seconds of the past that there is something to see of at once.
const HISTORY: u64 = 300;

/// Sends history, then live traffic, until the process ends.
pub(crate) async fn run(otlp: SocketAddr, api: SocketAddr) {
    info!("demo: sending Bookinfo traffic; look at http://{api}/");
    if let Err(error) = send(otlp).await {
        warn!(%error, "demo stopped");
    }
}

async fn send(otlp: SocketAddr) -> anyhow::Result<()> {
    let (mut sender, connection) = handshake(TokioIo::new(TcpStream::connect(otlp).await?)).await?;
    tokio::spawn(connection);
    let mut random = Random(now());
    for second in (0..HISTORY).rev() {
        export(&mut sender, otlp, &mut random, now() - second * 1_000_000_000).await?;
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        export(&mut sender, otlp, &mut random, now()).await?;
    }
}

/// Sends the traffic of the second before `end` (nanoseconds).
async fn export(sender: &mut SendRequest<Full<Bytes>>, otlp: SocketAddr, random: &mut Random, end: u64) -> anyhow::Result<()> {
    let mut proxies = Vec::new();
    for request in 0..REQUESTS {
        Trace::new(random, end - 1_000_000_000 + request * 1_000_000_000 / REQUESTS).write(&mut proxies);
    }
    let body = ExportTraceServiceRequest { resource_spans: proxies }.encode_to_vec();
    sender.ready().await?;
    let request = Request::post("/v1/traces")
        .header(header::HOST, otlp.to_string())
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "own OTLP port answered {}", response.status());
    Ok(())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Splitmix64: a demo needs no better randomness.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// Nanoseconds between `ms` and three times as much.
    fn latency(&mut self, ms: u64) -> u64 {
        (ms + self.next() % (2 * ms)) * 1_000_000 + self.next() % 1_000_000
    }
}

/// A workload behind a proxy.
#[derive(Clone, Copy)]
struct Workload {
    service: &'static str,
    version: &'static str,
    namespace: &'static str,
    pod: &'static str,
    proxy: &'static str,
    zone: &'static str,
}

const fn sidecar(service: &'static str, version: &'static str, pod: &'static str, zone: &'static str) -> Workload {
    Workload { service, version, namespace: "bookinfo", pod, proxy: "sidecar", zone }
}

const GATEWAY: Workload = Workload {
    service: "istio-ingressgateway",
    version: "latest",
    namespace: "istio-system",
    pod: "istio-ingressgateway-86b5cbdd9c-4kq8n",
    proxy: "router",
    zone: "eu-west-1a",
};
const PRODUCTPAGE: Workload = sidecar("productpage", "v1", "productpage-v1-7d9f6c5b87-x5tlq", "eu-west-1b");
const DETAILS: Workload = sidecar("details", "v1", "details-v1-6d86fd9949-2fqvz", "eu-west-1a");
const RATINGS: Workload = sidecar("ratings", "v1", "ratings-v1-5f9699cfdf-p9wtx", "eu-west-1c");
const REVIEWS: [Workload; 3] = [
    sidecar("reviews", "v1", "reviews-v1-545db77b95-8mwkd", "eu-west-1a"),
    sidecar("reviews", "v2", "reviews-v2-7bf8c9648f-c7h6r", "eu-west-1b"),
    sidecar("reviews", "v3", "reviews-v3-84779c7bbc-zl2vn", "eu-west-1c"),
];

/// One request at the gateway and all that it causes.
struct Trace<'a> {
    random: &'a mut Random,
    id: [u8; 16],
    start: u64,
}

impl<'a> Trace<'a> {
    fn new(random: &'a mut Random, start: u64) -> Trace<'a> {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&random.next().to_be_bytes());
        id[8..].copy_from_slice(&random.next().to_be_bytes());
        Trace { random, id, start }
    }

    fn write(&mut self, out: &mut Vec<ResourceSpans>) {
        let reviews = REVIEWS[(self.random.next() % 3) as usize];
        let rates = reviews.version != "v1";
        let rating_failed = rates && self.random.chance(3);
        let rating = if self.random.chance(2) { self.random.latency(150) } else { self.random.latency(3) };
        let review = self.random.latency(6) + if rates { rating } else { 0 };
        let detail = self.random.latency(2);
        let page = self.random.latency(8) + detail + review;
        let root = self.call(out, GATEWAY, PRODUCTPAGE, None, 0, page, 200);
        let detail_at = 2_000_000;
        self.call(out, PRODUCTPAGE, DETAILS, Some(root), detail_at, detail, 200);
        let review_at = detail_at + detail + 1_000_000;
        let parent = self.call(out, PRODUCTPAGE, reviews, Some(root), review_at, review, if rating_failed { 502 } else { 200 });
        if rates {
            self.call(out, reviews, RATINGS, Some(parent), review_at + 2_000_000, rating, if rating_failed { 500 } else { 200 });
        }
    }

    /// A call as two sidecars tell it: the caller's client span and the callee's server span, whose id is returned.
    #[allow(clippy::too_many_arguments)] // A demo's shorthand for the parts of a hop.
    fn call(
        &mut self,
        out: &mut Vec<ResourceSpans>,
        from: Workload,
        to: Workload,
        parent: Option<u64>,
        after: u64,
        duration: u64,
        code: u16,
    ) -> u64 {
        let (client, server) = (self.random.next() | 1, self.random.next() | 1);
        let network = 300_000;
        let host = format!("{}.bookinfo.svc.cluster.local", to.service);
        let operation = format!("{host}:9080/*");
        let span = |id: u64, parent: Option<u64>, kind: SpanKind, of: Workload, upstream: String, start: u64, duration: u64| Span {
            trace_id: self.id.to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
            name: operation.clone(),
            kind: kind as i32,
            start_time_unix_nano: start,
            end_time_unix_nano: start + duration,
            attributes: attributes(of, &host, &upstream, code),
            status: Some(Status { code: if code >= 500 { 2 } else { 0 }, ..Status::default() }),
            ..Span::default()
        };
        let start = self.start + after;
        let upstream = format!("outbound|9080||{host}");
        out.push(export_of(from, span(client, parent, SpanKind::Client, from, upstream, start, duration + 2 * network)));
        out.push(export_of(
            to,
            span(server, Some(client), SpanKind::Server, to, "inbound|9080||".into(), start + network, duration),
        ));
        server
    }
}

fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.into())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn attributes(of: Workload, host: &str, upstream: &str, code: u16) -> Vec<KeyValue> {
    let node_id = format!("{}~10.1.0.1~{}.{}~{}.svc.cluster.local", of.proxy, of.pod, of.namespace, of.namespace);
    vec![
        attribute("node_id", node_id),
        attribute("zone", of.zone),
        attribute("http.url", format!("http://{host}:9080/")),
        attribute("http.method", "GET"),
        attribute("http.protocol", "HTTP/1.1"),
        attribute("component", "proxy"),
        attribute("upstream_cluster", upstream),
        attribute("http.status_code", code.to_string()),
        attribute("response_flags", "-"),
        attribute("istio.mesh_id", "cluster.local"),
        attribute("istio.cluster_id", "demo"),
        attribute("istio.namespace", of.namespace),
        attribute("istio.canonical_service", of.service),
        attribute("istio.canonical_revision", of.version),
    ]
}

/// What one proxy exports: its resource and its span.
fn export_of(proxy: Workload, span: Span) -> ResourceSpans {
    let resource = Resource {
        attributes: vec![
            attribute("service.name", format!("{}.{}", proxy.service, proxy.namespace)),
            attribute("telemetry.sdk.name", "envoy"),
            attribute("telemetry.sdk.language", "cpp"),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "envoy".to_owned(), ..InstrumentationScope::default() };
    ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans: vec![span], ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}
