//! Settings of admission, decoding and mesh identity.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, ClusterRange,
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
    /// What tells a span's cluster; the first that does wins.
    pub cluster_sources: Vec<ClusterSource>,
    /// The clusters of pods by their addresses, for [`ClusterSource::PodAddress`]; the smallest range around an address wins.
    pub cluster_ranges: Vec<ClusterRange>,
    /// The cluster of spans that name none; empty: none.
    pub default_cluster: String,
}

/// What tells a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterSource {
    /// `k8s.cluster.name` of the resource, OpenTelemetry's convention.
    #[serde(rename = "k8s.cluster.name")]
    K8sClusterName,
    /// `istio.cluster_id` of the span, as Istio's proxies write it.
    #[serde(rename = "istio.cluster_id")]
    IstioClusterId,
    /// The address of the pod, in [`Ingest::cluster_ranges`]: that in a proxy's `node_id`, else `k8s.pod.ip` of the resource.
    #[serde(rename = "pod_address")]
    PodAddress,
}

/// Each new identity is looked up in all of them.
const RANGES_MAX: usize = 4096;

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
            cluster_ranges: Vec::new(),
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
        require(!repeated, "ingest.cluster_sources", format!("{:?}", self.cluster_sources), "each source once")?;
        let by_address = self.cluster_sources.contains(&ClusterSource::PodAddress);
        let allowed = "ranges where ingest.cluster_sources has pod_address, and none where it has not";
        require(by_address != self.cluster_ranges.is_empty(), "ingest.cluster_ranges", list(&self.cluster_ranges), allowed)?;
        number("ingest.cluster_ranges", self.cluster_ranges.len(), 0..=RANGES_MAX)?;
        let twice = |i: &usize| self.cluster_ranges[..*i].iter().any(|other| other.is_same_range(&self.cluster_ranges[*i]));
        let repeated = (1..self.cluster_ranges.len()).find(twice).map(|i| &self.cluster_ranges[i]);
        require(
            repeated.is_none(),
            "ingest.cluster_ranges",
            repeated.map(ToString::to_string).unwrap_or_default(),
            "each range once",
        )
    }
}

fn list(ranges: &[ClusterRange]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
