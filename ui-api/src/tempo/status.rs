//! What is asked to see whether Tempo is there, and which.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::api::Api;

/// The version of Tempo whose API this is: Grafana of 2023 to 2025 streams searches from 2.2 on, and metrics from 2.7 on.
const TEMPO_VERSION: &str = "2.8.0";

/// Grafana's health check; only the status counts.
pub(super) async fn echo() -> &'static str {
    "echo"
}

/// Whether queries are answered.
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str, Failure> {
    api.engine()?;
    Ok("ready")
}

pub(super) async fn build_info() -> Json<Value> {
    let revision = concat!("meshlake-", env!("CARGO_PKG_VERSION"));
    Json(json!({"version": TEMPO_VERSION, "revision": revision, "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}))
}

/// Kiali's health check; only the status counts.
pub(super) async fn services(State(api): State<Api>) -> Result<Json<Value>, Failure> {
    api.engine()?;
    Ok(Json(json!({"meshlake": "Running"})))
}
