//! An API over a few spans in memory.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Int16Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::cast;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use http::{HeaderMap, Method, Request, StatusCode};
use meshlake_config::Config;
use meshlake_query::{Compaction, Engine, MemorySource};
use meshlake_storage::spans_schema;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tower::ServiceExt;

use crate::api::{Api, Health};
use crate::routes::router;

/// 2026-08-01T12:00:00Z, microseconds.
pub(crate) const START: i64 = 1_785_585_600_000_000;
/// A range around the spans.
pub(crate) const RANGE: &str = "start=2026-08-01T11:00:00Z&end=2026-08-01T13:00:00Z";
pub(crate) const TRACE: &str = "000000000000000000000000000000a1";

/// Counts for hours: 4 to the power of 16 rows.
pub(crate) const SLOW_QUERY: &str = "select count(*) from spans a, spans b, spans c, spans d, spans e, spans f, spans g, spans h, \
     spans i, spans j, spans k, spans l, spans m, spans n, spans o, spans p where a.duration + p.duration < 0";

/// Tenant, trace (its last byte), span, parent, service, name, error; each starts a second after the one before it and takes 10 ms.
type Span = (&'static str, u8, u8, Option<u8>, &'static str, &'static str, bool);

const SPANS: [Span; 5] = [
    ("default", 0xa1, 1, None, "gateway", "GET /productpage", false),
    ("default", 0xa1, 2, Some(1), "productpage", "GET /productpage", false),
    ("default", 0xa1, 3, Some(2), "reviews", "GET /reviews/0", true),
    ("default", 0xa2, 4, None, "ratings", "GET /ratings/1", false),
    ("other", 0xa3, 5, None, "secret", "GET /secret", false),
];

fn id<const N: usize>(last: u8) -> [u8; N] {
    std::array::from_fn(|at| if at + 1 == N { last } else { 0 })
}

fn batch() -> RecordBatch {
    let text =
        |of: fn(&Span) -> &'static str| -> ArrayRef { Arc::new(SPANS.iter().map(|span| Some(of(span))).collect::<StringArray>()) };
    let same = |value: &'static str| -> ArrayRef { Arc::new(StringArray::from(vec![value; SPANS.len()])) };
    let schema = spans_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        let column: ArrayRef = match field.name().as_str() {
            "tenant" => text(|span| span.0),
            // Without a workload, applications of one resource are one.
            "service" | "service_name" | "workload" => text(|span| span.4),
            "name" => text(|span| span.5),
            "kind" => same("server"),
            "http_method" => same("GET"),
            "status" => same("unset"),
            "trace_id" => Arc::new(FixedSizeBinaryArray::try_from_iter(SPANS.iter().map(|span| id::<16>(span.1))).unwrap()),
            "span_id" => Arc::new(FixedSizeBinaryArray::try_from_iter(SPANS.iter().map(|span| id::<8>(span.2))).unwrap()),
            "parent_span_id" => Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(SPANS.iter().map(|span| span.3.map(id::<8>)), 8).unwrap(),
            ),
            "start_time" => Arc::new(
                TimestampMicrosecondArray::from_iter_values((0..).take(SPANS.len()).map(|at| START + at * 1_000_000))
                    .with_timezone("UTC"),
            ),
            "start_nanos" => Arc::new(Int16Array::from(vec![7; SPANS.len()])),
            "duration" => Arc::new(Int64Array::from(vec![10_000_000; SPANS.len()])),
            "error" => Arc::new(SPANS.iter().map(|span| Some(span.6)).collect::<BooleanArray>()),
            "origins" => Arc::new(Int64Array::from(vec![0; SPANS.len()])),
            _ => new_null_array(field.data_type(), SPANS.len()),
        };
        cast(&column, field.data_type()).unwrap()
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// The API over [`SPANS`], with these settings.
pub(crate) fn api(config: &Config) -> Api {
    api_of_health(config, healthy())
}

/// The same, in a process that is so.
pub(crate) fn api_of_health(config: &Config, health: Health) -> Api {
    let api = starting(config, health);
    let engine = Engine::new(Arc::new(MemorySource::new(vec![batch()])), &config.query).unwrap();
    api.start(engine, Arc::new(Compaction::new(config.compaction.enabled)));
    api
}

/// A process that is well.
pub(crate) fn healthy() -> Health {
    Health { ready: true, alive: true, problems: Vec::new() }
}

/// An API that has no engine yet.
pub(crate) fn starting(config: &Config, health: Health) -> Api {
    let mut registry = Registry::default();
    registry.register("meshlake_example", "A metric of the rest of the process", Gauge::<i64>::default());
    Api::new(config, Arc::new(move || health.clone()), registry)
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that this is a problem document of this status, and gives its detail.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!((self.status.as_u16(), self.header("content-type")), (status, "application/problem+json"), "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], status);
        assert!(document["type"].as_str().unwrap().starts_with("urn:meshlake:problem:"));
        document["detail"].as_str().unwrap().to_owned()
    }
}

/// Sends one request to a router.
pub(crate) async fn send(router: &Router, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let builder =
        headers.iter().fold(Request::builder().method(method).uri(path), |builder, (name, value)| builder.header(*name, *value));
    let response = router.clone().oneshot(builder.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, usize::MAX).await.unwrap() }
}

/// GET with the default settings.
pub(crate) async fn get(path: &str, headers: &[(&str, &str)]) -> Answer {
    send(&router(api(&Config::default())), Method::GET, path, headers, Body::empty()).await
}

/// POST of a statement.
pub(crate) async fn sql(config: &Config, query: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("content-type", "application/json")], headers].concat();
    let body = serde_json::json!({"query": query}).to_string();
    send(&router(api(config)), Method::POST, "/api/mesh/v1/sql", &headers, body).await
}
