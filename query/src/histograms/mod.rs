//! Functions on histograms of latencies in SQL. A histogram is a value of type binary, as [`meshlake_hops::Histogram`] encodes it.
//!
//! | function | answer |
//! |---|---|
//! | `histogram_build(bigint)` | aggregate: the histogram of the values, nanoseconds; null without any. Null and negative values are skipped: what ends before it starts has no duration |
//! | `histogram_merge(histogram)` | aggregate: the sum of histograms; null without any value |
//! | `histogram_quantile(histogram, q)` | bigint: nearest rank, wrong by 1.1 % at most |
//! | `histogram_share_below(histogram, bigint)` | double: the share of the values that the threshold is not exceeded by |
//! | `histogram_buckets(histogram)` | list of structs `low`, `high`, `count`: the buckets that are not empty, ascending; both bounds belong to a bucket |
//!
//! Null gives null, and so does a quantile or a share of no values. Bytes that are no histogram are an error.

mod aggregates;
mod functions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use meshlake_hops::Histogram;

use aggregates::HistogramAggregate;
use functions::HistogramFunction;

/// Those that answer a row for a row.
pub(crate) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    HistogramFunction::all().into_iter().map(|function| Arc::new(ScalarUDF::from(function))).collect()
}

/// Those that answer a histogram for many rows.
pub(crate) fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    HistogramAggregate::all().into_iter().map(|aggregate| Arc::new(AggregateUDF::from(aggregate))).collect()
}

fn decode(function: &str, bytes: &[u8]) -> Result<Histogram> {
    Histogram::decode(bytes).map_err(|error| exec_datafusion_err!("{function}: these bytes are no histogram: {error}"))
}
