//! Answers of metrics queries, short enough to be compared with what is expected.

use meshlake_traceql::{Accumulator, Body, Grid, MetricsLimits, Series};

use super::{Spans, query};

pub const SECOND: u64 = 1_000_000_000;
pub const LIMITS: MetricsLimits = MetricsLimits { series: 100, exemplars: 100 };

pub fn answer(text: &str, traces: &[Spans], grid: Grid) -> Vec<Series> {
    let query = query(text);
    let Body::Metrics(series) = &query.body else { panic!("{text} is of no series") };
    let mut accumulator = Accumulator::new(series, grid, LIMITS);
    traces.iter().for_each(|trace| accumulator.add(trace).unwrap());
    accumulator.finish().series
}

/// Series by their labels, as text.
pub fn series(text: &str, traces: &[Spans], grid: Grid) -> Vec<(String, Vec<f64>)> {
    let labels = |series: &Series| {
        let labels = series.labels.iter().map(|(name, value)| format!("{name}={value}"));
        labels.collect::<Vec<_>>().join(",")
    };
    answer(text, traces, grid).iter().map(|series| (labels(series), series.values.clone())).collect()
}

/// Ten seconds of a trace, one interval.
pub fn instant() -> Grid {
    Grid::instant(0, 10 * SECOND).unwrap()
}
