use meshlake_config::Tenant;
use meshlake_query::{Engine, TraceQlMetrics};
use meshlake_traceql::{Body, Query};

use crate::common::oracle::metrics::{Range, series};
use crate::common::{Spans, query};
use crate::search::refused;
use crate::store::Chance;
use crate::traffic::{MINUTE, START};

/// Guarantee: the series and samples are the oracle's, quantiles within 1.1 %.
pub async fn check(chance: &mut Chance, engine: &Engine, known: &[Spans], text: &str, context: &str) {
    let asked = question(chance, query(text));
    let Body::Metrics(expr) = &asked.query.body else { panic!("{text} is of no series") };
    let expected = series(expr, known, &Range { start: asked.start, end: asked.end, step: asked.step });
    let got = engine.traceql_metrics(&Tenant::default(), &asked).await;
    let (got, expected) = match (got, expected) {
        (Ok(got), Ok(expected)) => (got, expected),
        // Whether a query sees what it fails on, hangs on what it has to look at.
        (Ok(_), Err(_)) => return,
        (Err(error), Err(_)) => return refused(&error, text, context),
        (Err(error), Ok(_)) => panic!("{text}: {error}; {context}"),
    };
    assert!(!got.truncated);
    let labels: Vec<_> = got.series.iter().map(|series| series.labels.clone()).collect();
    assert_eq!(labels, expected.keys().cloned().collect::<Vec<_>>(), "{text}: {context}");
    let unit = if text.contains("duration") || text.contains("Start") { 1e9 } else { 1.0 };
    for (series, values) in got.series.iter().zip(expected.values()) {
        assert_eq!(series.values.len(), values.len(), "{text}: {context}");
        let same = series.values.iter().zip(values).all(|(a, b)| near(*b * unit, *a * unit, text.contains("quantile")));
        assert!(same, "{text}: {:?} {:?} {values:?}; {context}", series.labels, series.values);
    }
}

fn question(chance: &mut Chance, query: Query) -> TraceQlMetrics {
    let (start, length) = (START + chance.below(190 * MINUTE), (1 + chance.below(60)) * MINUTE + 1);
    let step = chance.pick(&[MINUTE, 7 * MINUTE, 60 * MINUTE]);
    TraceQlMetrics {
        query,
        start,
        end: start + length,
        step,
        instant: false,
        exemplars: chance.pick(&[0, 100]),
        max_series: 10_000,
    }
}

/// Whether numbers are the same, or as near as a histogram comes.
fn near(left: f64, right: f64, quantile: bool) -> bool {
    let error = if quantile { 0.011 * left.abs() + 1.0 } else { 1e-9 * left.abs() };
    left == right || left.is_nan() && right.is_nan() || (left - right).abs() <= error
}
