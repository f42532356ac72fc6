use meshlake_config::{ByteSize, Query as Limits};
use meshlake_traceql::{Attribute, Intrinsic};

use super::super::TraceQlMetrics;
use super::{ALL, asked, metrics, query, store};
use crate::QueryError;
use crate::testing::{Chance, TestSource, random_rows, tenant};
use crate::types::TimeRange;

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
