//! What every request gets: an id, a line in the log, a place in the metrics, and headers that keep browsers careful.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, header};
use tracing::Instrument;

use crate::api::Api;

const REQUEST_ID: &str = "x-request-id";
/// As nginx counts requests whose client went away before the answer.
const CLIENT_GONE: u16 = 499;

/// Middleware around all routes.
pub(crate) async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let mut observed = Observed {
        api,
        method: method_name(request.method()),
        route,
        began: Instant::now(),
        status: CLIENT_GONE,
        span: span.clone(),
    };
    let mut response = next.run(request).instrument(span).await;
    observed.status = response.status().as_u16();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Logs and counts a request when it ends, also when it ends by being dropped.
struct Observed {
    api: Api,
    method: &'static str,
    route: String,
    began: Instant,
    status: u16,
    span: tracing::Span,
}

impl Drop for Observed {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.api.metrics().record(self.method, &self.route, self.status, took);
        let _entered = self.span.enter();
        let (method, route, status) = (self.method, self.route.as_str(), self.status);
        let ms = took.as_secs_f64() * 1_000.0;
        if route.starts_with("/api/") || route.starts_with("/tempo") || status >= 400 {
            tracing::info!(method, route, status, ms, "answered");
        } else {
            tracing::debug!(method, route, status, ms, "answered");
        }
    }
}

/// The id that the client sent, where it is short plain text; else a fresh one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fit = |value: &&HeaderValue| (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    headers.get(REQUEST_ID).filter(fit).cloned().unwrap_or_else(fresh_id)
}

fn fresh_id() -> HeaderValue {
    HeaderValue::from_str(&random_hex()).unwrap_or(HeaderValue::from_static("0"))
}

/// 16 hex digits that nobody has seen before.
pub(crate) fn random_hex() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    // The standard library keys it from the operating system's randomness.
    format!("{:016x}", RandomState::new().hash_one(COUNTER.fetch_add(1, Ordering::Relaxed)))
}

/// The method, with a bound on the number of names.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_id_is_kept_only_if_it_is_short_and_plain() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(header::HeaderName::from_static(REQUEST_ID), HeaderValue::from_static(value))])
        };
        assert_eq!(request_id(&with("8f0c-1")), "8f0c-1");
        for wrong in ["", "two words"] {
            assert_eq!(request_id(&with(wrong)).len(), 16);
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
