//! The HTTP surface of Meshlake: REST under `/api/mesh/v1`, health, metrics and a small page, all on one port.
//!
//! The crate exists so that questions have one address and one set of manners, whatever answers them: parameters that are
//! checked and named, errors as RFC 9457 problem documents, one tenant a request (P8), limits with the right status (P6). It
//! knows nothing of files and plans: each handler translates a request into one call of [`meshlake_query::Engine`] and the
//! answer into the content type that the client prefers.
//!
//! | route | answers |
//! |---|---|
//! | `GET /api/mesh/v1/services` | services with span and error counts |
//! | `GET /api/mesh/v1/services/{service}/operations` | operations of a service |
//! | `GET /api/mesh/v1/traces` | summaries of the traces found, by pages |
//! | `GET /api/mesh/v1/traceql` | traces and spans that a search in TraceQL finds, by pages |
//! | `GET /api/mesh/v1/traces/{trace_id}` | one trace as OTLP, JSON or protobuf (P5) |
//! | `GET /api/mesh/v1/graph` | who calls whom, as JSON, DOT or for Grafana's Node Graph panel |
//! | `GET /api/mesh/v1/latency` | requests, errors and latencies, step by step |
//! | `GET /api/mesh/v1/traces/{trace_id}/critical-path`, `GET /api/mesh/v1/critical-path` | what end-to-end times consist of |
//! | `GET /api/mesh/v1/propagation` | who drops the context of requests |
//! | `POST /api/mesh/v1/sql` | one read-only statement, as JSON, CSV or Arrow |
//! | `GET /api/mesh/v1/compaction`, `POST …/pause`, `…/resume` | whether this process merges files |
//! | `GET /api/mesh/v1/openapi.json` | what is below `/api/mesh/v1`, exactly |
//! | `/tempo/…`, `/api/traces/v1/{tenant}/tempo/…`, `/tempopb.StreamingQuerier/…` | the API of Grafana Tempo, over HTTP and gRPC |
//! | `GET /healthz`, `/readyz`, `/metrics`, `/` | for the operator |
//!
//! | status | problem |
//! |---|---|
//! | 400 | a parameter, the tenant, the body or the SQL is wrong |
//! | 404, 405, 406, 415 | no such route or trace; method; `accept`; `content-type` |
//! | 409 | compaction can't be paused: it is off |
//! | 408, 413 | the body came too slowly; it passes `api.max_body_size` |
//! | 422 | more rows than `query.max_rows` |
//! | 503 | starting; out of memory (`query.memory_limit`); with `retry-after` |
//! | 504 | longer than `query.timeout` |
//!
//! The wiring, in the order of a start: [`Api::new`], [`router`], [`serve`] (health answers from here on), and [`Api::start`]
//! with the engine once the store is open; queries are answered once its health is ready. Run it on the queries' runtime, not
//! on that of ingest (P7).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod accept;
mod api;
mod attributes;
mod body;
mod budget;
mod compaction;
mod critical_path;
mod deletions;
mod exposition;
#[cfg(test)]
mod fixture;
mod graph;
mod heatmap;
mod hops;
mod latency;
mod metrics;
mod observe;
mod operational;
mod otlp_json;
mod params;
mod problem;
mod propagation;
mod reply;
mod routes;
mod rows;
mod sample;
mod server;
mod services;
mod sql;
mod tempo;
mod time;
mod timestamps;
mod traceql;
mod traces;

pub use api::{Api, Health, HealthProbe};
pub use routes::router;
pub use server::serve;
