//! What the API counts.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Routes are patterns of our own, so the number of series has a bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: &'static str,
    route: String,
}

/// Requests by route and status, and their seconds by route.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    requests: Family<Request, Counter>,
    seconds: Family<Route, Histogram>,
}

impl HttpMetrics {
    /// Makes the metrics and registers them under `meshlake_http_`.
    pub(crate) fn new(registry: &mut Registry) -> HttpMetrics {
        let metrics = HttpMetrics { requests: Family::default(), seconds: Family::new_with_constructor(histogram) };
        let registry = registry.sub_registry_with_prefix("meshlake_http");
        registry.register("requests", "Requests of the API; status 499: the client went away", metrics.requests.clone());
        registry.register("request_seconds", "Time from the request's head to the answer's", metrics.seconds.clone());
        metrics
    }

    /// Counts a request that was answered, or given up by the client (status 499).
    pub(crate) fn record(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&Request { method, route: route.to_owned(), status }).inc();
        self.seconds.get_or_create(&Route { method, route: route.to_owned() }).observe(took.as_secs_f64());
    }
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}
