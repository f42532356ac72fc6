//! What the oracle makes of the spans that were sent, and its plain sums.

use std::collections::{BTreeMap, BTreeSet};

use meshlake_hops::{Flags, Hop, Report, Span};
use meshlake_query::{Estimate, HopCounts, TimeRange};

use crate::estimate::estimate;
use crate::hop_cases::oracle;
use crate::mesh::MINUTE;
use crate::store::TraceId;

/// All hops, each with its trace.
pub struct Known {
    pub hops: Vec<(TraceId, Hop<'static>)>,
    /// When each trace starts, and how many calls of it name nobody.
    unnamed: Vec<(u64, u64)>,
}

impl Known {
    pub fn of(traces: &BTreeMap<TraceId, Vec<Span<'static>>>) -> Known {
        let mut known = Known { hops: Vec::new(), unnamed: Vec::new() };
        for (trace, spans) in traces {
            let (hops, unnamed) = oracle::hops(trace, spans);
            known.hops.extend(hops.into_iter().map(|hop| (*trace, hop)));
            known.unnamed.push((spans.iter().map(|span| span.start).min().unwrap(), unnamed as u64));
        }
        known
    }

    pub fn within(&self, range: TimeRange) -> impl Iterator<Item = &(TraceId, Hop<'static>)> {
        self.hops.iter().filter(move |(_, hop)| holds(range, hop.time))
    }

    /// What an answer that is made of some hops of a range says of it.
    pub fn counts<'k>(&self, range: TimeRange, hops: impl Iterator<Item = &'k Hop<'static>>) -> HopCounts {
        let mut counts = HopCounts::default();
        for hop in hops {
            counts.requests += 1;
            counts.unresolved += u64::from(hop.flags.contains(Flags::UNRESOLVED));
            counts.assumed += u64::from(hop.flags.contains(Flags::ASSUMED));
        }
        counts.unnamed = self.unnamed.iter().filter(|(start, _)| holds(range, *start)).map(|(_, unnamed)| unnamed).sum();
        counts
    }
}

/// Ranges of hops are right-closed.
fn holds(range: TimeRange, time: u64) -> bool {
    (range.start as u64 * 1_000) < time && time <= range.end as u64 * 1_000
}

/// What one side of some hops tells.
#[derive(Debug, Default, PartialEq)]
pub struct SideSums {
    pub reports: u64,
    /// By class, without those that did not fail.
    pub errors: BTreeMap<&'static str, u64>,
    pub latencies: Vec<u64>,
}

impl SideSums {
    fn add(&mut self, report: Option<Report<'_>>) {
        let Some(report) = report else { return };
        self.reports += 1;
        if report.error.as_str() != "none" {
            *self.errors.entry(report.error.as_str()).or_default() += 1;
        }
        self.latencies.extend(report.latency);
    }

    /// Those that count as errors: 4xx are the caller's fault.
    pub fn failures(&self) -> u64 {
        self.errors.iter().filter(|(class, _)| **class != "http_4xx").map(|(_, count)| count).sum()
    }
}

/// Sums of some hops.
#[derive(Default)]
pub struct Sums {
    pub requests: u64,
    pub errors: u64,
    pub calls: u64,
    pub attempts: u64,
    pub messages: u64,
    pub unresolved: u64,
    pub assumed: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub mtls: u64,
    pub plain_text: u64,
    pub cross_zone: u64,
    pub cross_cluster: u64,
    pub caller: SideSums,
    pub callee: SideSums,
    pub network: Vec<u64>,
    pub protocols: BTreeMap<String, u64>,
    /// The traces that the hops are of.
    pub traces: BTreeSet<TraceId>,
    /// The weights of what is sampled together: hops of a trace, within a minute, whose ends are the same in every part.
    weights: BTreeMap<(TraceId, u64, String), Vec<Option<u64>>>,
}

impl Sums {
    pub fn add(&mut self, trace: TraceId, hop: &Hop<'static>) {
        let has = |flag| u64::from(hop.flags.contains(flag));
        let differ = |a: &str, b: &str| u64::from(!a.is_empty() && !b.is_empty() && a != b);
        let told = hop.callee_report.or(hop.caller_report);
        let class = told.map_or("none", |report| report.error.as_str());
        self.requests += 1;
        self.errors += u64::from(class != "none" && class != "http_4xx");
        self.calls += u64::from(hop.calls);
        self.attempts += 1 - has(Flags::MIRROR);
        self.messages += u64::from(hop.messages);
        self.unresolved += has(Flags::UNRESOLVED);
        self.assumed += has(Flags::ASSUMED);
        self.request_bytes += hop.request_bytes.unwrap_or(0);
        self.response_bytes += hop.response_bytes.unwrap_or(0);
        self.mtls += u64::from(hop.mtls == Some(true));
        self.plain_text += u64::from(hop.mtls == Some(false));
        self.cross_zone += differ(hop.caller.zone, hop.callee.zone);
        self.cross_cluster += differ(hop.caller.cluster, hop.callee.cluster);
        self.caller.add(hop.caller_report);
        self.callee.add(hop.callee_report);
        self.network.extend(hop.network);
        if !hop.protocol.is_empty() {
            *self.protocols.entry(hop.protocol.to_owned()).or_default() += 1;
        }
        self.traces.insert(trace);
        let ends = format!("{:?}", (hop.caller, hop.callee, hop.via));
        self.weights.entry((trace, hop.time.div_ceil(MINUTE), ends)).or_default().push(hop.weight);
    }

    /// The sum of the known weights, and how many there are.
    pub fn weight(&self) -> (u64, u64) {
        let known = || self.weights.values().flatten().flatten();
        (known().sum(), known().count() as u64)
    }

    pub fn estimate(&self) -> Option<Estimate> {
        estimate(self.weights.values())
    }
}

/// The histogram bucket of the nearest-rank quantile, in percent.
pub fn quantile(values: &[u64], percent: usize) -> Option<i64> {
    let mut values = values.to_vec();
    values.sort_unstable();
    let rank = (percent * values.len()).div_ceil(100).max(1);
    values.get(rank - 1).map(|value| bucket(*value))
}

/// The bucket that OpenTelemetry's exponential histogram of scale 5 has a value in: `(2^(i/32), 2^((i+1)/32)]`.
pub fn bucket(value: u64) -> i64 {
    if value == 0 { i64::MIN } else { ((value as f64).log2() * 32.0).ceil() as i64 - 1 }
}
