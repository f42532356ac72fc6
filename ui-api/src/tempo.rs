//! The API of Grafana Tempo, so that Grafana's Tempo data source, Traces Drilldown and Kiali work as they are.
//!
//! What each client relies on was read in its code, and is told where it matters: fields that must not be missing, and answers that are
//! parsed so strictly that none may be there which a client of May 2025 does not know.
//!
//! | route below `/tempo`, `/api/traces/v1/{tenant}/tempo` and at the root | answers |
//! |---|---|
//! | `GET /api/v2/traces/{id}`, `/api/traces/{id}` | a trace |
//! | `GET /api/search` | the traces that a TraceQL query finds |
//! | `GET /api/v2/search/tags`, `/api/search/tags` | names of attributes |
//! | `GET /api/v2/search/tag/{tag}/values`, `/api/search/tag/{tag}/values` | values of one |
//! | `GET /api/metrics/query_range`, `/api/metrics/query` | numbers over time, and over the whole range |
//! | `GET /api/echo`, `/ready`, `/api/status/buildinfo`, `/status/services` | whether and what it is |
//!
//! The same questions are answered over gRPC as `tempopb.StreamingQuerier`, on the same port, for clients look for it on the host and port
//! of the URL. A request over HTTP is read into the message of the call over gRPC, and answered by the same function.
//!
//! ```text
//! GET ?q=… ─> params ─> proto::SearchRequest ─┐                               ┌─> JSON or protobuf (reply)
//!                                             ├─> search ─> Engine ─> answer ─┤
//! gRPC frame ─> proto::SearchRequest ─────────┘                               └─> frames (grpc)
//! ```

mod caller;
mod columns;
mod failure;
mod grpc;
mod legacy;
mod metrics;
mod params;
mod proto;
mod reply;
mod search;
mod status;
mod tags;
#[cfg(test)]
mod tests;
mod trace;
mod values;

use axum::Router;
use axum::routing::{get, post};

use crate::api::Api;

/// The routes of Tempo's API, wherever they are put.
fn over_http() -> Router<Api> {
    Router::new()
        .route("/api/echo", get(status::echo))
        .route("/ready", get(status::ready))
        .route("/api/status/buildinfo", get(status::build_info))
        .route("/status/services", get(status::services))
        .route("/api/v2/traces/{id}", get(trace::v2))
        .route("/api/traces/{id}", get(trace::v1))
        .route("/api/search", get(search::over_http))
        .route("/api/v2/search/tags", get(tags::v2_over_http))
        .route("/api/search/tags", get(tags::v1_over_http))
        // A tag may have slashes: all up to the last `/values` is it.
        .route("/api/v2/search/tag/{*rest}", get(values::v2_over_http))
        .route("/api/search/tag/{*rest}", get(values::v1_over_http))
        .route("/api/metrics/query_range", get(metrics::range_over_http))
        .route("/api/metrics/query", get(metrics::instant_over_http))
}

/// The routes of Tempo's API where its clients look for them. Tempo itself has them at the root: there Kiali tries whether a port is
/// Tempo's, and then suggests the root as the address.
pub(crate) fn routes() -> Router<Api> {
    over_http()
        .nest("/tempo", over_http())
        .nest("/api/traces/v1/{tenant}/tempo", over_http())
        .route("/tempopb.StreamingQuerier/{method}", post(grpc::streaming_querier))
}
