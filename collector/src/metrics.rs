//! What the receivers count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub reason: &'static str,
}

/// Counters of the receivers.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) requests: Counter,
    pub(crate) bytes: Counter,
    pub(crate) spans: Counter,
    pub(crate) rejected_spans: Counter,
    pub(crate) refused: Family<Reason, Counter>,
    pub(crate) seconds: Histogram,
    pub(crate) connections: Counter,
}

impl Metrics {
    /// Makes the counters and registers them under `meshlake_otlp_`.
    pub fn new(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            requests: Counter::default(),
            bytes: Counter::default(),
            spans: Counter::default(),
            rejected_spans: Counter::default(),
            refused: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            connections: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("meshlake_otlp");
        let m = &metrics;
        registry.register("requests", "Requests received", m.requests.clone());
        registry.register("received_bytes", "Bytes of request bodies received, compressed where they were", m.bytes.clone());
        registry.register(
            "accepted_spans",
            "Spans acknowledged: durable and queryable; those of a byte-identical retry count again",
            m.spans.clone(),
        );
        registry.register("rejected_spans", "Spans that can't be kept, told in partial success", m.rejected_spans.clone());
        registry.register("refused_requests", "Requests refused, by reason", m.refused.clone());
        registry.register("request_seconds", "Time from the request's head to its acknowledgement", m.seconds.clone());
        registry.register("connections", "Connections accepted", m.connections.clone());
        metrics
    }

    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }
}
