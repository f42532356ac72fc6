//! Health, metrics, the description of the API, and the page.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use crate::api::Api;
use crate::observe::random_hex;

const OPENAPI: &str = include_str!("openapi.json");
/// `{nonce}` is filled in for each answer.
const PAGE: &str = include_str!("page.html");

/// `GET /healthz`: the process lives.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub(crate) async fn readyz(State(api): State<Api>) -> Response {
    let readiness = api.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": readiness.ready, "problems": readiness.problems}))).into_response()
}

/// `GET /metrics`
pub(crate) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], api.metrics_text())
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
