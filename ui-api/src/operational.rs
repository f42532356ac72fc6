//! Health, metrics, the description of the API, and the page.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::accept;
use crate::api::Api;
use crate::exposition;
use crate::observe::random_hex;

const OPENAPI: &str = include_str!("openapi.json");
/// `{nonce}` is filled in for each answer.
const PAGE: &str = include_str!("page.html");

/// `GET /healthz`: 503 if only a restart helps.
pub(crate) async fn healthz(State(api): State<Api>) -> (StatusCode, String) {
    let health = api.health();
    if health.alive {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", health.problems.join("\n")))
}

/// `GET /readyz`
pub(crate) async fn readyz(State(api): State<Api>) -> Response {
    let health = api.health();
    let ready = health.ready && health.alive;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready, "problems": health.problems}))).into_response()
}

/// `GET /metrics`: OpenMetrics for who asks for it, else what every scraper reads.
pub(crate) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> impl IntoResponse {
    let text = api.metrics_text();
    let (content_type, text) = match accept::choose(&headers, &["text/plain", "application/openmetrics-text"]) {
        Ok("application/openmetrics-text") => ("application/openmetrics-text; version=1.0.0; charset=utf-8", text),
        _ => ("text/plain; version=0.0.4; charset=utf-8", exposition::prometheus(&text)),
    };
    ([(header::CONTENT_TYPE, content_type), (header::VARY, "accept")], text)
}

/// `GET /api/mesh/v1/openapi.json`
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

/// `GET /`: a page that runs its own script only, and stands in no other page's frame.
pub(crate) async fn page() -> impl IntoResponse {
    let nonce = format!("{}{}", random_hex(), random_hex());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()), (header::CONTENT_SECURITY_POLICY, policy)],
        PAGE.replace("{nonce}", &nonce),
    )
}
