//! Settings of admission, decoding and mesh identity.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize,
    limits::{Checked, hours, minutes, number, require, seconds, time},
};

/// From acceptance of a request to its acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// Bytes of requests admitted and not yet answered; past it requests are refused, to be retried.
    pub memory_limit: ByteSize,
    /// Threads that decode; 0: half of the cores, at least one.
    pub decode_threads: u32,
    /// Time within which a byte-identical request is acknowledged and not stored again.
    #[serde(with = "crate::duration")]
    pub dedupe_window: Duration,
    /// Requests remembered for that at most.
    pub dedupe_max_requests: u32,
    /// A span that starts later than now plus this is kept and flagged.
    #[serde(with = "crate::duration")]
    pub clock_future: Duration,
    /// A span that starts earlier than now minus this is kept and flagged.
    #[serde(with = "crate::duration")]
    pub clock_past: Duration,
    /// Attributes that name a span's cluster; the first that is present wins.
    pub cluster_sources: Vec<ClusterSource>,
    /// The cluster of spans that name none; empty: none.
    pub default_cluster: String,
}

/// An attribute that names a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterSource {
    /// `k8s.cluster.name` of the resource, OpenTelemetry's convention.
    #[serde(rename = "k8s.cluster.name")]
    K8sClusterName,
    /// `istio.cluster_id` of the span, as Istio's proxies write it.
    #[serde(rename = "istio.cluster_id")]
    IstioClusterId,
}

impl Default for Ingest {
    fn default() -> Self {
        Self {
            memory_limit: ByteSize::mib(64),
            decode_threads: 0,
            dedupe_window: minutes(5),
            dedupe_max_requests: 1_000_000,
            clock_future: minutes(10),
            clock_past: hours(720),
            cluster_sources: vec![ClusterSource::K8sClusterName, ClusterSource::IstioClusterId],
            default_cluster: String::new(),
        }
    }
}

impl Ingest {
    pub(crate) fn validate(&self, max_request_size: ByteSize) -> Checked {
        let allowed = format!("at least otlp.max_request_size ({max_request_size})");
        require(self.memory_limit >= max_request_size, "ingest.memory_limit", self.memory_limit, allowed)?;
        number("ingest.decode_threads", self.decode_threads, 0..=1024)?;
        time("ingest.dedupe_window", self.dedupe_window, seconds(0)..=hours(24))?;
        number("ingest.dedupe_max_requests", self.dedupe_max_requests, 0..=100_000_000)?;
        time("ingest.clock_future", self.clock_future, seconds(0)..=hours(24 * 365))?;
        time("ingest.clock_past", self.clock_past, hours(1)..=hours(24 * 3650))?;
        let repeated = (1..self.cluster_sources.len()).any(|i| self.cluster_sources[..i].contains(&self.cluster_sources[i]));
        require(!repeated, "ingest.cluster_sources", format!("{:?}", self.cluster_sources), "each source once")
    }
}
