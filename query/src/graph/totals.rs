//! The hops of one edge, summed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use meshlake_hops::{ErrorClass, Flags, Histogram, Hop, Report, Tally};

use super::answer::{EdgeSide, Exemplar, GraphEdge, MutualTls, Quantiles};
use crate::trace_id::TraceId;

/// Sums that do not depend on the order of hops (P4).
#[derive(Debug, Default)]
pub(crate) struct EdgeTotals {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    calls: u64,
    attempts: u64,
    messages: u64,
    caller: SideTotals,
    callee: SideTotals,
    network: Histogram,
    request_bytes: u64,
    response_bytes: u64,
    protocols: BTreeMap<String, u64>,
    pub(crate) tally: Tally,
    slowest: Best,
    latest_error: Best,
    cross_zone: u64,
    cross_cluster: u64,
    mtls: MutualTls,
    unresolved: u64,
    assumed: u64,
}

/// The greatest value, and of its traces the smallest id.
type Best = Option<(u64, Reverse<TraceId>)>;

#[derive(Debug, Default)]
struct SideTotals {
    reports: u64,
    errors: BTreeMap<ErrorClass, u64>,
    latency: Histogram,
}

impl EdgeTotals {
    pub(crate) fn add(&mut self, trace_id: TraceId, hop: &Hop<'_>) {
        let told = hop.callee_report.or(hop.caller_report);
        let failed = told.is_some_and(|report| report.error.is_error());
        self.requests += 1;
        self.errors += u64::from(failed);
        self.calls += u64::from(hop.calls);
        self.attempts += u64::from(!hop.flags.contains(Flags::MIRROR));
        self.messages += u64::from(hop.messages);
        self.caller.add(hop.caller_report.as_ref());
        self.callee.add(hop.callee_report.as_ref());
        hop.network.into_iter().for_each(|network| self.network.record(network));
        self.request_bytes = self.request_bytes.saturating_add(hop.request_bytes.unwrap_or(0));
        self.response_bytes = self.response_bytes.saturating_add(hop.response_bytes.unwrap_or(0));
        if let Some(count) = self.protocols.get_mut(hop.protocol) {
            *count += 1;
        } else if !hop.protocol.is_empty() {
            self.protocols.insert(hop.protocol.to_owned(), 1);
        }
        let latency = told.and_then(|report| report.latency);
        self.slowest = self.slowest.max(latency.map(|latency| (latency, Reverse(trace_id))));
        self.latest_error = self.latest_error.max(failed.then_some((hop.time, Reverse(trace_id))));
        self.cross_zone += u64::from(differ(hop.caller.zone, hop.callee.zone));
        self.cross_cluster += u64::from(differ(hop.caller.cluster, hop.callee.cluster));
        self.mtls.add(hop.mtls);
        self.unresolved += u64::from(hop.flags.contains(Flags::UNRESOLVED));
        self.assumed += u64::from(hop.flags.contains(Flags::ASSUMED));
    }

    /// The latencies that each side tells, the callee's first.
    pub(crate) fn latencies(&self) -> [(&'static str, &Histogram); 2] {
        [("callee", &self.callee.latency), ("caller", &self.caller.latency)]
    }

    /// The edge, in a range of so many seconds.
    pub(crate) fn edge(self, source: String, target: String, seconds: f64) -> GraphEdge {
        let exemplar = |best: Best| best.map(|(value, Reverse(trace_id))| Exemplar { trace_id, value });
        GraphEdge {
            source,
            target,
            requests: self.requests,
            calls: self.calls,
            attempts: self.attempts,
            messages: self.messages,
            rate: self.requests as f64 / seconds,
            errors: self.errors,
            caller: self.caller.side(),
            callee: self.callee.side(),
            network: Quantiles::of(&self.network),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            protocols: self.protocols.into_iter().collect(),
            estimate: self.tally.estimate(),
            slowest: exemplar(self.slowest),
            latest_error: exemplar(self.latest_error),
            cross_zone: self.cross_zone,
            cross_cluster: self.cross_cluster,
            mtls: self.mtls,
            unresolved: self.unresolved,
            assumed: self.assumed,
        }
    }
}

impl SideTotals {
    fn add(&mut self, report: Option<&Report<'_>>) {
        let Some(report) = report else { return };
        self.reports += 1;
        if report.error != ErrorClass::None {
            *self.errors.entry(report.error).or_default() += 1;
        }
        report.latency.into_iter().for_each(|latency| self.latency.record(latency));
    }

    fn side(self) -> EdgeSide {
        let errors = self.errors.iter().map(|(class, count)| (class.as_str(), *count)).collect();
        EdgeSide { reports: self.reports, errors, latency: Quantiles::of(&self.latency) }
    }
}

/// Whether both are known and not the same.
fn differ(a: &str, b: &str) -> bool {
    !a.is_empty() && !b.is_empty() && a != b
}
