//! What a mesh sent over a time that is past: requests with the times that they would have, to build a store of days in minutes.

use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;

use crate::{
    fleet::Fleet,
    requests::Requests,
    topology::{MeshSize, Topology},
    walk::Walk,
};

/// Spans of which the requests are built, and held, at once: about 60 MB encoded. So many that the proxies of a large mesh have some of
/// them each.
const ROUND_SPANS: u64 = 65_536;

/// Spans of a history at most.
const SPANS_MAX: u64 = 10_000_000_000;

/// Hours of a history at most: ten years.
const HOURS_MAX: f64 = 87_600.0;

/// A mesh that sends at a steady rate.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct History {
    /// The mesh
    #[arg(long, value_enum, default_value_t = MeshSize::Large)]
    pub mesh: MeshSize,

    /// Spans a second
    #[arg(long, default_value_t = 600.0)]
    pub rate: f64,

    /// Hours that the spans are spread over; the last are of now
    #[arg(long, default_value_t = 24.0)]
    pub hours: f64,

    /// Spans of a request at most; a proxy of a large mesh has fewer to send
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub spans_per_request: u32,

    /// Mesh, traces and ids are a function of this
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Spans.
    pub spans: u64,
    /// Traces.
    pub traces: u64,
    /// Edges between services that some trace went through.
    pub walked: usize,
    /// Edges between services.
    pub edges: usize,
}

impl History {
    /// Its spans, about: the last trace may be larger.
    pub fn spans(&self) -> u64 {
        (self.rate * self.hours * 3_600.0) as u64
    }

    /// Gives each request, an encoded `ExportTraceServiceRequest`. Traces start in order but for some seconds;
    /// none ends after `end` (unix nanoseconds), and the first starts `hours` before it, or as much earlier as a trace is long.
    ///
    /// # Errors
    /// Those of `give`; a rate or time of nothing; a mesh that cannot be built.
    pub fn each(&self, end: u64, mut give: impl FnMut(Bytes) -> anyhow::Result<()>) -> anyhow::Result<Sent> {
        let spans = self.spans();
        ensure!(
            (1..=SPANS_MAX).contains(&spans) && 0.0 < self.hours && self.hours <= HOURS_MAX,
            "cannot make {} spans a second for {} hours: allowed are 1 to {SPANS_MAX} spans in up to {HOURS_MAX} hours",
            self.rate,
            self.hours
        );
        let rounds = spans.div_ceil(ROUND_SPANS);
        let length = Duration::from_secs_f64(self.hours * 3_600.0 / rounds as f64);
        let topology = Topology::new(self.mesh, self.seed)?;
        let (services, edges) = (topology.services(), topology.edges());
        let (mut walk, mut fleet) = (Walk::new(topology, self.seed), Fleet::new(services, self.seed));
        let mut sent = Sent { edges, ..Sent::default() };
        for round in 0..rounds {
            let due = (spans * (round + 1) / rounds).saturating_sub(sent.spans);
            if due == 0 {
                continue;
            }
            while (fleet.spans() as u64) < due {
                fleet.trace(&walk.trace(), (length.as_micros() as u64).max(1));
            }
            let traffic = fleet.take();
            sent.traces += traffic.traces.len() as u64;
            // A seed of its own: no round has ids of another.
            let requests = Requests::new(traffic, self.spans_per_request as usize, self.seed.wrapping_add(round << 32))?;
            let round_end = end - length.as_nanos() as u64 * (rounds - 1 - round);
            for index in 0..requests.per_round() as u64 {
                give(requests.body(index, round_end))?;
            }
            sent.spans += requests.spans_per_round() as u64;
        }
        Ok(Sent { walked: walk.walked(), ..sent })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span};
    use prost::Message;

    use super::*;

    const END: u64 = 1_800_000_000_000_000_000;
    const HOUR: u64 = 3_600_000_000_000;

    fn history(rate: f64, hours: f64) -> History {
        History { mesh: MeshSize::Ordinary, rate, hours, spans_per_request: 50, seed: 7 }
    }

    /// All spans, without their attributes, which take most of the memory.
    fn spans(history: &History) -> (Vec<Span>, Sent) {
        let mut all = Vec::new();
        let sent = history.each(END, |body| {
            let request = ExportTraceServiceRequest::decode(body)?;
            let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
            all.extend(spans.map(|span| Span { attributes: Vec::new(), ..span }));
            Ok(())
        });
        (all, sent.unwrap())
    }

    /// Scenario: ten hours of a mesh that need two rounds. Guarantee: as many spans as the rate says, half of them in each half, some in each
    /// hour, none after the end; whole traces, with ids that no other round has; all edges are walked.
    #[test]
    fn spans_are_spread_over_the_hours() {
        let history = history(2.5, 10.0);
        let (spans, sent) = spans(&history);
        assert_eq!(sent.spans, spans.len() as u64);
        assert!(sent.spans > ROUND_SPANS && sent.spans.abs_diff(90_000) < 2_000, "{sent:?}");
        let mut by_hour = [0_u64; 10];
        for span in &spans {
            assert!(span.end_time_unix_nano <= END && span.start_time_unix_nano > END - 10 * HOUR - 60_000_000_000);
            by_hour[9 - ((END - span.start_time_unix_nano) / HOUR).min(9) as usize] += 1;
        }
        let first_half: u64 = by_hour[..5].iter().sum();
        assert!(first_half.abs_diff(45_000) < 3_000 && by_hour.iter().all(|count| *count > 1_000), "{by_hour:?}");
        let ids: HashSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
        assert_eq!(ids.len(), spans.len());
        assert!(spans.iter().all(|span| span.parent_span_id.is_empty() || ids.contains(span.parent_span_id.as_slice())));
        assert_eq!(spans.iter().filter(|span| span.parent_span_id.is_empty()).count() as u64, sent.traces);
        assert_eq!((sent.walked, sent.edges), (1_000, 1_000));
    }

    /// Scenario: the same history twice, and with another seed. Guarantee: the same spans, and others.
    #[test]
    fn a_seed_makes_one_history() {
        let (first, other) = (history(5.0, 0.2), History { seed: 8, ..history(5.0, 0.2) });
        assert!(spans(&first) == spans(&first));
        assert!(spans(&first).0 != spans(&other).0);
    }

    /// Scenario: a history of nothing, without end, and longer than any. Guarantee: refused, with what was asked.
    #[test]
    fn impossible_histories_are_refused() {
        for (rate, hours) in
            [(0.0, 5.0), (-1.0, 5.0), (-1.0, -5.0), (f64::NAN, 5.0), (f64::INFINITY, 5.0), (1e-9, 1e300), (1.0, 1e6)]
        {
            let error = history(rate, hours).each(END, |_| Ok(())).unwrap_err();
            assert!(error.to_string().contains(&format!("{rate} spans a second for {hours} hours")), "{error}");
        }
    }
}
