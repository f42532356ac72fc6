//! The routes.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use http::{Method, Uri};

use crate::api::Api;
use crate::observe::observe;
use crate::problem::{Kind, Problem};
use crate::{
    attributes, compaction, critical_path, deletions, graph, heatmap, latency, operational, propagation, services, sql, tempo,
    traceql, traces,
};

/// Every path of our own with what answers there; `openapi.json` describes each of them, and a test compares the two.
pub(crate) fn routes() -> Vec<(&'static str, MethodRouter<Api>)> {
    vec![
        ("/", get(operational::page)),
        ("/healthz", get(operational::healthz)),
        ("/readyz", get(operational::readyz)),
        ("/metrics", get(operational::metrics)),
        ("/api/mesh/v1/openapi.json", get(operational::openapi)),
        ("/api/mesh/v1/services", get(services::services)),
        ("/api/mesh/v1/services/{service}/operations", get(services::operations)),
        ("/api/mesh/v1/attributes", get(attributes::attributes)),
        ("/api/mesh/v1/attributes/{name}/values", get(attributes::values)),
        ("/api/mesh/v1/traces", get(traces::search)),
        ("/api/mesh/v1/traces/{trace_id}", get(traces::trace).delete(deletions::trace)),
        ("/api/mesh/v1/traces/{trace_id}/critical-path", get(critical_path::of_trace)),
        ("/api/mesh/v1/traceql", get(traceql::search)),
        ("/api/mesh/v1/critical-path", get(critical_path::of_range)),
        ("/api/mesh/v1/propagation", get(propagation::propagation)),
        ("/api/mesh/v1/graph", get(graph::graph)),
        ("/api/mesh/v1/graph/diff", get(graph::diff::diff)),
        ("/api/mesh/v1/latency", get(latency::latency)),
        ("/api/mesh/v1/latency/heatmap", get(heatmap::heatmap)),
        ("/api/mesh/v1/deletions", get(deletions::list).post(deletions::create)),
        ("/api/mesh/v1/deletions/{id}", get(deletions::receipt)),
        ("/api/mesh/v1/compaction", get(compaction::status)),
        ("/api/mesh/v1/compaction/pause", post(compaction::pause)),
        ("/api/mesh/v1/compaction/resume", post(compaction::resume)),
        ("/api/mesh/v1/sql", post(sql::sql)),
    ]
}

/// The service for [`crate::serve`].
pub fn router(api: Api) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (path, handler)| router.route(path, handler));
    router
        .merge(tempo::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(api.max_body_size()))
        .layer(from_fn_with_state(api.clone(), observe))
        .with_state(api)
}

/// What is asked where no route is.
async fn not_found(uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, format!("there is nothing at {}; /api/mesh/v1/openapi.json describes what there is", uri.path()))
}

/// What is asked with a method that the route does not have.
async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} does not take {method}; the header allow says what it takes", uri.path()))
}

#[cfg(test)]
mod hops_tests;
#[cfg(test)]
mod openapi_tests;
#[cfg(test)]
mod tests;
