//! A mesh by parameters: a tree of calls over many services, each hop seen by two proxies.

use anyhow::ensure;

use crate::{
    fleet::{Call, Fleet},
    spans::Traffic,
};

/// Hops of one trace at most.
const HOPS_MAX: usize = 10_000;

/// Spans of one round aimed at most: about 30 MB encoded.
const ROUND_SPANS: usize = 32_768;

/// Within so many microseconds of a round its traces end.
const SPREAD: u64 = 1_000_000;

/// The shape of a mesh. Every trace enters at a gateway, which calls one service; each service calls `fan_out` others, down
/// to `depth` hops. So a trace has `1 + fan_out + … + fan_out^(depth-1)` hops and twice as many spans.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Shape {
    /// Services in the mesh; every third has three versions
    #[arg(long, default_value_t = 12)]
    pub services: usize,

    /// Hops from the gateway to the last service
    #[arg(long, default_value_t = 4)]
    pub depth: u32,

    /// Calls of each service
    #[arg(long, default_value_t = 2)]
    pub fan_out: usize,
}

impl Shape {
    /// One round of traces of this mesh, enough of them that each proxy fills requests of `spans_per_request`.
    ///
    /// # Errors
    /// A shape with no services, or with more than 10,000 hops a trace.
    pub fn traffic(&self, spans_per_request: usize, seed: u64) -> anyhow::Result<Traffic> {
        let hops = self.hops();
        ensure!(
            self.services > 0 && (1..=HOPS_MAX).contains(&hops),
            "cannot build the mesh: --services {} --depth {} --fan-out {} make {hops} hops a trace; 1 to {HOPS_MAX} are allowed",
            self.services,
            self.depth,
            self.fan_out,
        );
        let tree: Vec<Call> = (0..hops).map(|node| self.node(node, hops)).collect();
        let mut fleet = Fleet::new(self.services, seed);
        // A multiple of the request's size leaves no request half full, where that fits.
        let whole = spans_per_request * 200_usize.div_ceil(spans_per_request);
        let traces = whole.min((ROUND_SPANS / (2 * hops)).max(1));
        (0..traces).for_each(|_| fleet.trace(&tree, SPREAD));
        Ok(fleet.take())
    }

    /// A node of the tree, which is numbered breadth first.
    fn node(&self, node: usize, hops: usize) -> Call {
        let first = node * self.fan_out + 1;
        Call { service: node % self.services, calls: (first..(first + self.fan_out).min(hops)).collect() }
    }

    fn hops(&self) -> usize {
        (0..self.depth).map(|level| self.fan_out.saturating_pow(level)).fold(0, usize::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message;

    use super::*;
    use crate::spans::TrafficSpan;

    const SHAPE: Shape = Shape { services: 12, depth: 3, fan_out: 2 };

    /// Scenario: a round of a small mesh. Guarantee: trees of CLIENT and SERVER in turn, callee within caller in time.
    #[test]
    fn traces_are_trees_of_hops() {
        let traffic = SHAPE.traffic(5, 1).unwrap();
        let spans: HashMap<u32, &TrafficSpan> = traffic.lanes.iter().flat_map(|l| &l.spans).map(|s| (s.number, s)).collect();
        assert_eq!(spans.len(), traffic.traces.len() * 2 * (1 + 2 + 4));
        assert_eq!(spans.len(), traffic.span_count());
        assert_eq!(spans.values().filter(|span| span.parent.is_none()).count(), traffic.traces.len());
        for span in spans.values() {
            assert!(span.end * 5 / 4 <= traffic.traces[span.trace as usize], "ends before now, even when stretched");
            if let Some(parent) = span.parent {
                let parent = spans[&parent];
                assert_eq!(parent.trace, span.trace);
                assert_ne!(parent.span.kind, span.span.kind);
                assert!(parent.start <= span.start && span.end <= parent.end);
            }
        }
    }

    /// Scenario: the spans' size. Guarantee: near that of real ones, with 21 attributes (22 if failed).
    #[test]
    fn spans_have_the_size_of_real_ones() {
        let traffic = SHAPE.traffic(5, 1).unwrap();
        let spans = traffic.lanes.iter().flat_map(|lane| &lane.spans);
        // 8 + 8 + 16 bytes of ids with their tags and two times come on top of what is encoded here.
        let bytes: usize = spans.clone().map(|span| span.span.encoded_len() + 38 + 18).sum();
        let mean = bytes / traffic.span_count();
        assert!((850..=980).contains(&mean), "{mean}");
        for span in spans {
            assert_eq!(span.span.attributes.len(), if span.span.status.is_some() { 22 } else { 21 });
        }
    }

    /// Scenario: shapes that cannot be. Guarantee: refused, not built for ever.
    #[test]
    fn impossible_shapes_are_refused() {
        for (services, depth, fan_out) in [(0, 2, 2), (5, 0, 2), (5, 30, 4)] {
            assert!(Shape { services, depth, fan_out }.traffic(5, 1).is_err());
        }
    }
}
