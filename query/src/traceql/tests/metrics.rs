use meshlake_traceql::{Accumulator, Body};

use super::super::whole::WholeTraces;
use super::{metrics, store};
use crate::testing::{batch, tenant};

const METRICS: &[&str] = &[
    "{} | rate()",
    "{ status = error } | rate() by(resource.service.name)",
    "{ nestedSetParent < 0 } | count_over_time() by(name, .http.method)",
    "{ span.retries >= 1 } || { .x = \"red\" } | sum_over_time(.retries) by(kind)",
    "{ kind = server } | quantile_over_time(duration, .5, .9) by(status)",
    "{ .d < 1 } | max_over_time(duration) by(event.x)",
    "{} | histogram_over_time(duration)",
    "{} | min_over_time(event:timeSinceStart) by(instrumentation:name)",
    "{ status = error } >> { kind = client } | rate() by(name)",
    "{ kind = server } && { .x != nil } | avg_over_time(duration) by(rootName)",
    "{} | by(name) | count() > 1 | count_over_time()",
    "{ traceDuration > 2s } | max_over_time(traceDuration) by(rootServiceName)",
    "({ status = error } | rate()) / ({} | rate()) * 100 > 1",
    "{} | rate() by(trace:id) | topk(3)",
    "{ span.meshlake.entry } | rate() by(span.meshlake.node)",
    "{ status = error } | count_over_time() by(span.meshlake.caller, span.meshlake.callee)",
    "{ .x != nil } | compare({ span.meshlake.entry }, 3)",
    "{ nestedSetParent < 0 } | compare({ status = error }, 3)",
    "{} | compare({ resource.service.name = \"shop\" })",
    "{ rootName = \"db\" } || { event:name = \"retry\" } | compare({ rootServiceName = \"shop\" && .x != nil }, 5)",
    "{ .retries > 0 } | compare({ kind = server }, 2, 1767225800000000000, 1767226200000000000)",
];

/// Scenario: metrics that ask each span on its own, and such that need whole traces, in steps and at once. Guarantee: series,
/// samples and exemplars are those of all traces, each taken in as it stands.
#[tokio::test]
async fn metrics_count_what_the_traces_say() {
    let (own, engine) = store(23).await;
    let rows = batch(&own);
    for text in METRICS {
        for asked in [metrics(text, 60_000_000_000, 50), metrics(text, 0, 0)] {
            let Body::Metrics(series) = &asked.query.body else { panic!("{text}") };
            let mut expected = Accumulator::new(series, asked.grid().unwrap(), asked.limits().unwrap());
            let all = WholeTraces::new([&rows].into_iter(), &asked.query, &asked.query.conditions()).unwrap();
            all.traces().try_for_each(|trace| expected.add(&trace)).unwrap();
            let expected = expected.finish();
            assert!(!expected.series.is_empty(), "{text}");
            let got = engine.traceql_metrics(&tenant("a"), &asked).await.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{text}");
        }
    }
}
