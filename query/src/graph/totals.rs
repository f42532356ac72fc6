//! The hops of one edge, summed.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use meshlake_hops::rollup::{Best, Count, Measures, RollupKey, SideMeasures, Sum};
use meshlake_hops::{Histogram, Tally};

use super::answer::{EdgeSide, Exemplar, GraphEdge, MutualTls, Quantiles};
use crate::trace_id::TraceId;

/// Sums that do not depend on the order of hops (P4). Until all are added, each may be less than nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct EdgeTotals {
    measures: Measures,
    crossing: Crossing,
}

/// Hops by what they go over.
#[derive(Clone, Debug, Default)]
struct Crossing {
    protocols: BTreeMap<Box<str>, i64>,
    zones: i64,
    clusters: i64,
}

/// The same, as small as it is kept.
pub(crate) struct PackedTotals {
    measures: Box<[u8]>,
    crossing: Crossing,
}

impl PackedTotals {
    pub(crate) fn unpack(&self) -> EdgeTotals {
        let mut measures = Measures::default();
        // It was packed by this program, and has not left it.
        let read = measures.decode(&mut &*self.measures);
        debug_assert!(read.is_some());
        EdgeTotals { measures, crossing: self.crossing.clone() }
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<PackedTotals>() + self.measures.len() + self.crossing.protocols.len() * 64
    }
}

impl Crossing {
    fn add(&mut self, protocol: &str, requests: i64) {
        match self.protocols.get_mut(protocol) {
            Some(count) => *count += requests,
            None => _ = self.protocols.insert(protocol.into(), requests),
        }
    }
}

impl EdgeTotals {
    pub(crate) fn add(&mut self, key: &RollupKey<'_>, measures: &Measures) {
        let requests = measures.signed(Count::Requests);
        self.measures.merge(measures);
        if !key.protocol.is_empty() {
            self.crossing.add(key.protocol, requests);
        }
        self.crossing.zones += requests * i64::from(differ(key.caller.zone, key.callee.zone));
        self.crossing.clusters += requests * i64::from(differ(key.caller.cluster, key.callee.cluster));
    }

    pub(crate) fn merge(&mut self, other: &EdgeTotals) {
        self.measures.merge(&other.measures);
        other.crossing.protocols.iter().for_each(|(protocol, requests)| self.crossing.add(protocol, *requests));
        self.crossing.zones += other.crossing.zones;
        self.crossing.clusters += other.crossing.clusters;
    }

    pub(crate) fn pack(&self) -> PackedTotals {
        let mut measures = Vec::new();
        self.measures.encode(&mut measures);
        PackedTotals { measures: measures.into(), crossing: self.crossing.clone() }
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
    pub(crate) fn edge(&self, source: String, target: String, seconds: f64) -> GraphEdge {
        let EdgeTotals { measures, crossing } = self;
        let whole = |count: i64| u64::try_from(count).unwrap_or(0);
        let protocols = crossing.protocols.iter().filter(|(_, requests)| **requests > 0);
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
            protocols: protocols.map(|(protocol, requests)| (protocol.to_string(), whole(*requests))).collect(),
            estimate: measures.tally().estimate(),
            slowest: exemplar(measures.slowest),
            latest_error: exemplar(measures.latest_error),
            cross_zone: whole(crossing.zones),
            cross_cluster: whole(crossing.clusters),
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
