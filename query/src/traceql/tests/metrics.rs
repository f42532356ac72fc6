use meshlake_traceql::{Accumulator, Body};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::super::whole::WholeTraces;
use super::{metrics, rows, store};
use crate::testing::{Chance, SpanRow, TestSource, batch, tenant};
use crate::{Engine, MetricsPart};

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
    "{} | compare({ status = error })",
    "{ kind != client } | compare({ status = error || kind = server }, 4, 1767225800000000000, 1767226200000000000)",
];

/// Scenario: metrics that ask each span on its own, and such that need whole traces, in steps and at once. Guarantee: series,
/// samples and exemplars are those of all traces, each taken in as it stands.
#[tokio::test]
async fn metrics_count_what_the_traces_say() {
    let (own, engine) = store(23).await;
    for text in METRICS {
        are_as_the_traces_say(&engine, &own, text).await;
    }
}

/// Scenario: lake files in whose maps and lists nothing stands, of which one does not tell, and live spans that have all of them.
/// Guarantee: as of any other spans.
#[tokio::test]
async fn spans_without_items_are_compared() {
    let mut own = rows(&mut Chance(29), "a", 60);
    let (lake, fresh) = (own.len() / 2, own.len() * 3 / 4);
    for row in &mut own[..lake] {
        (row.attributes, row.resource, row.scope_attributes) = (Vec::new(), Resource::default(), Vec::new());
        (row.events, row.links) = (Vec::new(), Vec::new());
    }
    let mut source = TestSource::promoting(Vec::new());
    source.add_lake_file(&own[..lake / 3], true).await;
    source.add_lake_file(&own[lake / 3..2 * lake / 3], true).await;
    source.add_lake_file(&own[2 * lake / 3..lake], false).await;
    let bare = source.engine();
    for text in ["{} | compare({ status = error })", "{ event.x = nil } | compare({ .x = nil }, 3)"] {
        are_as_the_traces_say(&bare, &own[..lake], text).await;
    }
    let mut source = TestSource::promoting(Vec::new());
    source.add_lake_file(&own[..lake], true).await;
    source.add_file(&own[lake..fresh]).await;
    source.add_live(&own[fresh..]);
    let mixed = source.engine();
    for text in ["{} | compare({ status = error })", "{ event:name = \"retry\" || kind = server } | compare({ .x != nil }, 3)"] {
        are_as_the_traces_say(&mixed, &own, text).await;
    }
}

/// Scenario: the range in three parts, the newest first, that begin with intervals, or anywhere if it is one. Guarantee: in the end, series,
/// samples and exemplars are those of the range; before it, so are the samples at the times of the parts that were read.
#[tokio::test]
async fn parts_add_up_to_the_range() {
    let (_, engine) = store(31).await;
    for text in METRICS.iter().filter(|text| !text.contains("compare(")) {
        for asked in [metrics(text, 60_000_000_000, 50), metrics(text, 0, 0)] {
            let whole = engine.traceql_metrics(&tenant("a"), &asked).await.unwrap();
            let (grid, mut so_far, mut last) = (asked.grid().unwrap(), None, None);
            let third = |thirds: u64| grid.start() + (grid.end() - grid.start()) / 3 * thirds;
            let border = |thirds| if asked.instant { third(thirds) } else { grid.ended_by(third(thirds)) };
            for (after, until) in [(border(2), grid.end()), (border(1), border(2)), (grid.start(), border(1))] {
                let part = MetricsPart { after, until };
                let (read, answer) = engine.traceql_metrics_part(&tenant("a"), &asked, part, so_far.take()).await.unwrap();
                for series in answer.series.iter().filter(|_| !asked.instant && !text.contains("topk")) {
                    let same = whole.series.iter().find(|of_whole| of_whole.labels == series.labels).unwrap();
                    let first = (0..).position(|interval| grid.time(interval) > after).unwrap();
                    assert_eq!(format!("{:?}", &series.values[first..]), format!("{:?}", &same.values[first..]), "{text}");
                }
                (so_far, last) = (Some(read), Some(answer));
            }
            assert_eq!(format!("{:?}", last.unwrap()), format!("{whole:?}"), "{text}");
        }
    }
}

/// An answer is that of all traces, each taken in as it stands, in steps and at once.
async fn are_as_the_traces_say(engine: &Engine, own: &[SpanRow], text: &str) {
    let rows = batch(own);
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
