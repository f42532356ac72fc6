//! The hops of one edge, summed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use meshlake_hops::rollup::{Best, Count, Measures, RollupKey, SideMeasures};
use meshlake_hops::{Histogram, Tally};

use super::answer::{EdgeSide, Exemplar, GraphEdge, MutualTls, Quantiles};
use crate::trace_id::TraceId;

/// Sums that do not depend on the order of hops (P4).
#[derive(Debug, Default)]
pub(crate) struct EdgeTotals {
    measures: Measures,
    protocols: BTreeMap<String, u64>,
    cross_zone: u64,
    cross_cluster: u64,
}

impl EdgeTotals {
    pub(crate) fn add(&mut self, key: &RollupKey<'_>, measures: &Measures) {
        let requests = measures.count(Count::Requests);
        self.measures.merge(measures);
        if let Some(count) = self.protocols.get_mut(key.protocol) {
            *count += requests;
        } else if !key.protocol.is_empty() {
            self.protocols.insert(key.protocol.to_owned(), requests);
        }
        self.cross_zone += requests * u64::from(differ(key.caller.zone, key.callee.zone));
        self.cross_cluster += requests * u64::from(differ(key.caller.cluster, key.callee.cluster));
    }

    pub(crate) fn tally(&self) -> Tally {
        self.measures.tally()
    }

    /// The latencies that each side tells, the callee's first.
    pub(crate) fn latencies(&self) -> [(&'static str, Histogram); 2] {
        let SideMeasures { latency: callee, .. } = &self.measures.callee;
        [("callee", callee.histogram()), ("caller", self.measures.caller.latency.histogram())]
    }

    pub(crate) fn requests(&self) -> u64 {
        self.measures.count(Count::Requests)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.measures.count(Count::Errors)
    }

    /// The edge, in a range of so many seconds.
    pub(crate) fn edge(self, source: String, target: String, seconds: f64) -> GraphEdge {
        let EdgeTotals { measures, protocols, cross_zone, cross_cluster } = self;
        let exemplar = |best: Best| best.map(|(value, Reverse(id))| Exemplar { trace_id: TraceId(id), value });
        let requests = measures.count(Count::Requests);
        let (yes, no) = (measures.count(Count::MutualTls), measures.count(Count::PlainText));
        GraphEdge {
            source,
            target,
            requests,
            calls: measures.count(Count::Calls),
            attempts: measures.count(Count::Attempts),
            messages: measures.count(Count::Messages),
            rate: requests as f64 / seconds,
            errors: measures.count(Count::Errors),
            caller: side(&measures.caller),
            callee: side(&measures.callee),
            network: Quantiles::of(&measures.network.histogram()),
            request_bytes: measures.count(Count::RequestBytes),
            response_bytes: measures.count(Count::ResponseBytes),
            protocols: protocols.into_iter().collect(),
            estimate: measures.tally().estimate(),
            slowest: exemplar(measures.slowest),
            latest_error: exemplar(measures.latest_error),
            cross_zone,
            cross_cluster,
            mtls: MutualTls { yes, no, unknown: requests - yes - no },
            unresolved: measures.count(Count::Unresolved),
            assumed: measures.count(Count::Assumed),
        }
    }
}

fn side(measures: &SideMeasures) -> EdgeSide {
    let errors = measures.classes().map(|(class, count)| (class.as_str(), count)).collect();
    EdgeSide {
        reports: u64::try_from(measures.reports).unwrap_or(0),
        errors,
        latency: Quantiles::of(&measures.latency.histogram()),
    }
}

/// Whether both are known and not the same.
fn differ(a: &str, b: &str) -> bool {
    !a.is_empty() && !b.is_empty() && a != b
}
