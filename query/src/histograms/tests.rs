use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use meshlake_hops::Histogram;

use crate::testing::{Chance, TestSource, mesh_rows, scatter, sql, value};
use crate::{Engine, QueryError};

async fn mesh() -> Engine {
    scatter(&mut Chance(41), &mesh_rows(&mut Chance(42), "a", 100)).await.engine()
}

/// The histogram of a column of latencies, recorded here.
async fn recorded(engine: &Engine, query: &str) -> Histogram {
    let mut histogram = Histogram::new();
    for batch in sql(engine, "a", query).await.unwrap() {
        batch.column(0).as_primitive::<Int64Type>().iter().flatten().for_each(|value| histogram.record(value as u64));
    }
    histogram
}

/// Scenario: the latencies of all hops, as one histogram and as one of each callee, merged, over several partitions. Guarantee: the bytes are those of
/// the histogram that records them one by one; quantiles, shares and buckets are that histogram's.
#[tokio::test]
async fn histograms_of_hops() {
    let engine = mesh().await;
    let expected = recorded(&engine, "SELECT callee_latency FROM hops").await;
    assert!(expected.count() > 100);
    let mut bytes = Vec::new();
    expected.encode(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let all = "(SELECT histogram_build(callee_latency) AS h FROM hops)";
    assert_eq!(value(&engine, "a", &format!("SELECT encode(h, 'hex') FROM {all}")).await, hex);
    let merged = "SELECT encode(histogram_merge(h), 'hex') FROM \
         (SELECT callee_service, operation, histogram_build(callee_latency) AS h FROM hops GROUP BY 1, 2)";
    assert_eq!(value(&engine, "a", merged).await, hex);

    for q in [0.0, 0.5, 0.99, 1.0] {
        let found = value(&engine, "a", &format!("SELECT histogram_quantile(h, {q}) FROM {all}")).await;
        assert_eq!(found, expected.quantile(q).unwrap().to_string(), "{q}");
    }
    for threshold in [-1i64, 0, 100_000_000, i64::MAX] {
        let found = value(&engine, "a", &format!("SELECT histogram_share_below(h, {threshold}) FROM {all}")).await;
        let share = u64::try_from(threshold).map_or(Some(0.0), |threshold| expected.share_below(threshold));
        assert_eq!(found.parse::<f64>().ok(), share, "{threshold}");
    }
    let buckets = format!("SELECT unnest(histogram_buckets(h)) AS bucket FROM {all}");
    let found =
        sql(&engine, "a", &format!("SELECT bucket['low'], bucket['high'], bucket['count'] FROM ({buckets}) ORDER BY 1")).await;
    let mut rows = Vec::new();
    for batch in found.unwrap() {
        let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().values().to_vec();
        let (lows, highs, counts) = (column(0), column(1), column(2));
        rows.extend((0..batch.num_rows()).map(|row| [lows[row], highs[row], counts[row]].map(|number| number as u64)));
    }
    assert_eq!(rows, expected.buckets().map(|bucket| [bucket.low, bucket.high, bucket.count]).collect::<Vec<_>>());
}

/// Scenario: the example of the documentation, over all time. Guarantee: it runs, and its minutes add up to the quantile and the share of all.
#[tokio::test]
async fn the_documented_example_runs() {
    let engine = mesh().await;
    let block = include_str!("../../../docs/service-graph.md").split("```sql").nth(2).and_then(|rest| rest.split("```").next());
    let query = block.unwrap().replace("time > now() - interval '1 hour'", "true");
    let expected = recorded(&engine, "SELECT callee_latency FROM hops WHERE callee_service = 'reviews'").await;
    let found = |column: &str| format!("SELECT {column} FROM ({query}) WHERE service = 'reviews'");
    assert_eq!(value(&engine, "a", &found("p99")).await, expected.quantile(0.99).unwrap().to_string());
    assert_eq!(value(&engine, "a", &found("within_250_ms")).await.parse::<f64>().ok(), expected.share_below(250_000_000));
}

/// Scenario: no rows, nulls, negative durations, an empty histogram. Guarantee: null in, null out; what has no duration is not counted.
#[tokio::test]
async fn nulls() {
    let engine = TestSource::new().engine();
    let values = "(VALUES (-5), (NULL), (7)) AS t(d)";
    for (query, expected) in [
        (format!("SELECT histogram_quantile(histogram_build(d), 1.0) FROM {values}"), "7"),
        (format!("SELECT histogram_quantile(histogram_build(d), 0.0) FROM {values}"), "7"),
        (format!("SELECT histogram_build(d) IS NULL FROM {values} WHERE d < 0"), "true"),
        (format!("SELECT histogram_merge(NULL) IS NULL FROM {values}"), "true"),
        ("SELECT histogram_merge(X'01') IS NULL".to_owned(), "true"),
        ("SELECT histogram_quantile(X'01', 0.5) IS NULL".to_owned(), "true"),
        ("SELECT histogram_share_below(X'01', 5) IS NULL".to_owned(), "true"),
        ("SELECT histogram_quantile(NULL, 0.5) IS NULL".to_owned(), "true"),
        ("SELECT histogram_buckets(NULL) IS NULL".to_owned(), "true"),
        ("SELECT array_length(histogram_buckets(X'01'))".to_owned(), "0"),
    ] {
        assert_eq!(value(&engine, "a", &query).await, expected, "{query}");
    }
}

/// Scenario: bytes that are no histogram, shares that are none, arguments of other types. Guarantee: an error that names the function and what was
/// wrong.
#[tokio::test]
async fn mistakes_are_named() {
    let engine = mesh().await;
    for (query, expected) in [
        (
            "SELECT histogram_quantile(X'02', 0.5)",
            "histogram_quantile: these bytes are no histogram: histogram has version 2, not 1",
        ),
        ("SELECT histogram_share_below(X'', 5)", "histogram_share_below: these bytes are no histogram: histogram ends early"),
        ("SELECT histogram_buckets(trace_id::bytea) FROM hops", "histogram_buckets: these bytes are no histogram"),
        ("SELECT histogram_merge(X'0105')", "histogram_merge: these bytes are no histogram: histogram ends early"),
        (
            "SELECT histogram_quantile(histogram_build(callee_latency), 1.5) FROM hops",
            "1.5 is no quantile; it is a number from 0 to 1",
        ),
        ("SELECT histogram_build(operation, 5) FROM hops", "histogram_build"),
        ("SELECT histogram_quantile(X'01')", "histogram_quantile"),
    ] {
        let error = sql(&engine, "a", query).await.unwrap_err();
        let QueryError::Invalid { message } = &error else { panic!("{query}: {error:?}") };
        assert!(message.contains(expected), "{query}: {message}");
    }
}
