//! What answers made of hops have in common.

use meshlake_query::HopCounts;
use serde::Serialize;

/// How many hops an answer is made of, and how far they can be relied on.
#[derive(Serialize)]
pub(crate) struct Counts {
    requests: u64,
    unresolved: u64,
    assumed: u64,
    unnamed: u64,
    left_out: u64,
}

impl From<HopCounts> for Counts {
    fn from(counts: HopCounts) -> Counts {
        let HopCounts { requests, unresolved, assumed, unnamed, left_out } = counts;
        Counts { requests, unresolved, assumed, unnamed, left_out }
    }
}

/// Latencies, nanoseconds.
#[derive(Serialize)]
pub(crate) struct Quantiles {
    p50: Option<u64>,
    p90: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
}

impl From<meshlake_query::Quantiles> for Quantiles {
    fn from(quantiles: meshlake_query::Quantiles) -> Quantiles {
        Quantiles { p50: quantiles.p50, p90: quantiles.p90, p95: quantiles.p95, p99: quantiles.p99 }
    }
}
