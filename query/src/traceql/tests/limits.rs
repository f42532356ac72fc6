use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use meshlake_config::{ByteSize, Query as Limits};
use meshlake_traceql::{Accumulator, Attribute, Intrinsic, Value};

use super::super::TraceQlMetrics;
use super::super::compared::{Compared, SharedSums};
use super::super::metrics::Sums;
use super::super::rooted::Roots;
use super::{ALL, asked, metrics, query, store};
use crate::QueryError;
use crate::testing::{Chance, START, SpanRow, TestSource, batch, int, random_rows, tenant};
use crate::types::TimeRange;
use crate::view::View;

/// Scenario: questions that cannot be asked, and queries that fail on a span. Guarantee: the error says what is wrong, as one of the
/// person who asked.
#[tokio::test]
async fn what_cannot_be_asked_is_refused() {
    let (_, engine) = store(25).await;
    let a = tenant("a");
    let refused = |error: QueryError, why: &str| match error {
        QueryError::Invalid { message } => assert!(message.contains(why), "{message}"),
        other => panic!("{other:?}"),
    };
    for (text, limit, range, why) in [
        ("{} | rate()", 1, ALL, "metrics"),
        ("{}", 0, ALL, "limit is 0"),
        ("{}", 10_001, ALL, "limit is 10001"),
        ("{}", 1, TimeRange { start: 5, end: 5 }, "empty"),
        ("{ !span.x }", 1_000, ALL, "needs a boolean"),
    ] {
        refused(engine.traceql_search(&a, &asked(text, range, limit)).await.unwrap_err(), why);
    }
    let plain = metrics("{} | rate()", 60_000_000_000, 0);
    for (wrong, why) in [
        (TraceQlMetrics { query: query("{}"), ..plain.clone() }, "searches for traces"),
        (TraceQlMetrics { end: plain.start, ..plain.clone() }, "not after its start"),
        (TraceQlMetrics { step: 1, ..plain.clone() }, "intervals"),
        (TraceQlMetrics { max_series: 0, ..plain.clone() }, "limit of series is 0"),
        (TraceQlMetrics { exemplars: 10_001, ..plain.clone() }, "limit of exemplars is 10001"),
        (TraceQlMetrics { query: query("{ 1 / .retries = 1 } | rate()"), ..plain.clone() }, "divided by zero"),
    ] {
        refused(engine.traceql_metrics(&a, &wrong).await.unwrap_err(), why);
    }
    let metrics = query("{} | rate()");
    refused(
        engine.traceql_values(&a, &Attribute::Intrinsic(Intrinsic::Name), Some(&metrics), ALL, 1).await.unwrap_err(),
        "not of metrics",
    );
}

/// Scenario: more series than are asked for; and numbers that need more memory than there is. Guarantee: the answer says that it is cut off
/// (P10); the query ends with an error (P6).
#[tokio::test]
async fn answers_have_limits() {
    let mut chance = Chance(26);
    let rows = random_rows(&mut chance, "a", 600);
    let mut source = TestSource::new();
    source.add_live(&rows);
    let engine = source.engine_with(&Limits { memory_limit: ByteSize::mib(16), ..Limits::default() });
    let of_ids = metrics("{} | rate() by(trace:id)", 60_000_000_000, 0);
    let few = TraceQlMetrics { max_series: 10, ..of_ids.clone() };
    let answer = engine.traceql_metrics(&tenant("a"), &few).await.unwrap();
    assert!(answer.series.len() == 10 && answer.truncated);
    let many = TraceQlMetrics { step: 65_000_000, ..of_ids };
    let error = engine.traceql_metrics(&tenant("a"), &many).await.unwrap_err();
    assert!(matches!(error, QueryError::OutOfMemory { .. }), "{error:?}");
}

/// Scenario: `compare()` of spans each of which has an attribute of its own, in as many intervals as there may be, and at once; with
/// memory for what is held, and with less. Guarantee: what is held is little more than what it counts, and reserved; without room for
/// it, it is taken in, and only where that is too much the query ends with an error (P6).
#[tokio::test]
async fn attributes_of_one_span_are_held_within_limits() {
    const SPANS: u64 = 5_000;
    let row = |span: u64| SpanRow {
        tenant: "a".to_owned(),
        trace: span.into(),
        span,
        start: START + 100_000_000_000 + span * 100_000_000,
        attributes: vec![int(&format!("own.{span}"), 1)],
        ..SpanRow::default()
    };
    let spans = batch(&(1..=SPANS).map(row).collect::<Vec<_>>());
    let with = async |step: u64, memory_limit: u64| {
        let limits = Limits { memory_limit: ByteSize::mib(memory_limit), ..Limits::default() };
        let (spans, asked) = (spans.clone(), metrics("{} | compare({ status = error })", step, 0));
        TestSource::new().engine_with(&limits).run(&tenant("a"), move |view| compared(view, asked, spans)).await
    };
    let (held, _) = with(65_000_000, 64).await.unwrap();
    assert!(held < SPANS as usize * 1_600, "{held}");
    let error = with(65_000_000, 1).await.unwrap_err();
    assert!(matches!(error, QueryError::OutOfMemory { .. }), "{error:?}");
    let (_, attributes) = with(0, 1).await.unwrap();
    assert!(attributes > SPANS as usize, "{attributes}");
}

/// What is held after a batch; and if all is asked for at once, the series of the answer that count the spans of an attribute.
async fn compared(view: View, asked: TraceQlMetrics, spans: RecordBatch) -> Result<(usize, usize)> {
    let roots = Roots::of(&view, &[]).await?;
    let memory = MemoryConsumer::new("test").register(&view.lookups.runtime.memory_pool);
    let series = Sums { accumulator: Accumulator::new(asked.series()?, asked.grid()?, asked.limits()?), memory };
    let (empty, series) = (series.apart(), Arc::new(SharedSums::new(series)));
    let mut compared = Compared::new(&asked.query, &asked.query.conditions(), series.clone(), 1);
    compared.add(&spans, &roots)?;
    let held = compared.bytes();
    let reserved = view.lookups.runtime.memory_pool.reserved();
    if !asked.instant {
        assert!(reserved >= held, "{reserved} {held}");
        return Ok((held, 0));
    }
    compared.close()?;
    let sums = series.replace(empty);
    assert_eq!(sums.memory.size(), sums.accumulator.bytes());
    let is_total = |labels: &[(String, Value<'_>)]| labels[0].1 == Value::text("baseline_total");
    Ok((held, sums.accumulator.finish().series.iter().filter(|series| is_total(&series.labels)).count()))
}
