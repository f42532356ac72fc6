//! SQL tables beside sums of the oracle's hops.

use std::collections::BTreeMap;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use meshlake_hops::{Hop, Node};
use meshlake_query::{Engine, TimeRange};

use crate::known::{Known, Sums, bucket, quantile};
use crate::mesh::{MINUTE, START};

const NODE_TEXTS: [&str; 7] = ["kind", "cluster", "namespace", "workload", "service", "version", "zone"];
const LATENCIES: [&str; 3] = ["caller_latency", "callee_latency", "network"];
const PERCENTS: [usize; 2] = [50, 99];
/// What the tables of sums count, in the order of [`numbers`].
const NUMBERS: &str = "requests, errors, calls, attempts, messages, unresolved, assumed, request_bytes, response_bytes, mtls, plain_text, \
    caller_reports, caller_errors, callee_reports, callee_errors";
/// The same as far as `hops` has it, then sums of its latencies and weights.
const NUMBERS_OF_HOPS: &str = "count(*), \
    count(*) filter (where coalesce(callee_error, caller_error) not in ('none', 'http_4xx')), \
    sum(calls), \
    count(*) filter (where array_to_string(flags, ' ') not like '%mirror%'), \
    sum(messages), \
    count(*) filter (where array_to_string(flags, ' ') like '%unresolved%'), \
    count(*) filter (where array_to_string(flags, ' ') like '%assumed%'), \
    coalesce(sum(request_bytes), 0), coalesce(sum(response_bytes), 0), \
    count(*) filter (where mtls), count(*) filter (where not mtls), \
    count(caller_error), count(*) filter (where caller_error not in ('none', 'http_4xx')), \
    count(callee_error), count(*) filter (where callee_error not in ('none', 'http_4xx')), \
    coalesce(sum(caller_latency), 0), coalesce(sum(callee_latency), 0), coalesce(sum(network), 0), \
    coalesce(sum(weight), 0), count(weight)";

/// What rows are of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Table {
    Edges,
    Operations,
}

impl Table {
    fn columns(self) -> String {
        let end = |end: &str| NODE_TEXTS.map(|part| format!("{end}_{part}")).join(", ");
        match self {
            Table::Edges => {
                format!("{}, {}, via_cluster, via_namespace, via_workload, protocol, callee_port", end("caller"), end("callee"))
            }
            Table::Operations => format!("{}, operation, callee_port", end("callee")),
        }
    }

    /// The values of these columns.
    fn key(self, hop: &Hop<'_>) -> Vec<String> {
        let end = |node: &Node<'_>| {
            let Node { kind, cluster, namespace, workload, service, version, zone, .. } = *node;
            [kind.as_str(), cluster, namespace, workload, service, version, zone].map(str::to_owned)
        };
        let port = hop.callee.port.map(|port| port.to_string()).unwrap_or_default();
        let via = hop.via.unwrap_or_default();
        let vias = [via.cluster, via.namespace, via.workload, hop.protocol, &port].map(str::to_owned);
        match self {
            Table::Edges => [&end(&hop.caller)[..], &end(&hop.callee), &vias].concat(),
            Table::Operations => [&end(&hop.callee)[..], &[hop.operation.to_owned(), port]].concat(),
        }
    }
}

fn numbers(sums: &Sums) -> Vec<String> {
    let (caller, callee) = (&sums.caller, &sums.callee);
    let numbers = [
        sums.requests,
        sums.errors,
        sums.calls,
        sums.attempts,
        sums.messages,
        sums.unresolved,
        sums.assumed,
        sums.request_bytes,
        sums.response_bytes,
        sums.mtls,
        sums.plain_text,
        caller.reports,
        caller.failures(),
        callee.reports,
        callee.failures(),
    ];
    numbers.iter().map(u64::to_string).collect()
}

fn latencies(sums: &Sums) -> [&[u64]; 3] {
    [&sums.caller.latencies, &sums.callee.latencies, &sums.network]
}

/// The rows of a query as text; null is empty.
async fn rows(engine: &Engine, query: &str) -> Vec<Vec<String>> {
    let answer = engine.sql(&Default::default(), query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let batches: Vec<_> = answer.batches.try_collect().await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut rows = Vec::new();
    for batch in batches {
        let options = FormatOptions::default();
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()));
    }
    rows
}

/// A moment from the first day of the traces on, microseconds, as SQL reads it.
fn moment(micros: i64) -> String {
    let micros = micros - (START / 1_000) as i64;
    let seconds = micros / 1_000_000;
    let (day, hour, minute) = (seconds / 86_400 + 1, seconds / 3_600 % 24, seconds / 60 % 60);
    format!("'2026-01-{day:02}T{hour:02}:{minute:02}:{:02}.{:06}Z'", seconds % 60, micros % 1_000_000)
}

/// Guarantee: the sums of `hops` are those of the oracle's, whatever the range.
pub async fn check_hops(engine: &Engine, known: &Known, range: TimeRange, context: &str) {
    let (start, end) = (moment(range.start), moment(range.end));
    let columns = Table::Edges.columns();
    let query = format!(
        "SELECT {columns}, {NUMBERS_OF_HOPS} FROM hops WHERE time >= {start} AND time <= {end} \
         AND (time > {start} OR time_nanos > 0) AND (time < {end} OR time_nanos = 0) GROUP BY {columns}"
    );
    let mut expected = BTreeMap::<Vec<String>, Sums>::new();
    for (trace, hop) in known.within(range) {
        expected.entry(Table::Edges.key(hop)).or_default().add(*trace, hop);
    }
    let row = |(key, sums): (Vec<String>, Sums)| {
        let (weight, known) = sums.weight();
        let totals = latencies(&sums).map(|latencies| latencies.iter().sum::<u64>());
        let more = totals.iter().chain(&[weight, known]).map(u64::to_string).collect();
        [key, numbers(&sums), more].concat()
    };
    let mut expected: Vec<Vec<String>> = expected.into_iter().map(row).collect();
    let mut answered = rows(engine, &query).await;
    expected.sort();
    answered.sort();
    assert_eq!(answered, expected, "{context}, {query}");
}

/// Guarantee: each row of a table of sums is of the oracle's hops of its step (`1m`, `1h`, `1d`: so many minutes), in a range of whole minutes.
pub async fn check_sums(engine: &Engine, known: &Known, table: Table, (name, step): (&str, u64), range: TimeRange, context: &str) {
    let table_name = if table == Table::Edges { "edges" } else { "operations" };
    let quantiles = LATENCIES
        .iter()
        .flat_map(|latency| PERCENTS.map(|percent| format!("histogram_quantile({latency}, {})", percent as f64 / 100.0)));
    let quantiles = quantiles.collect::<Vec<_>>().join(", ");
    let query = format!(
        "SELECT cast(time AS bigint), {}, {NUMBERS}, {quantiles} FROM {table_name}_{name} WHERE time > {} AND time <= {}",
        table.columns(),
        moment(range.start),
        moment(range.end)
    );
    let mut expected = BTreeMap::<(i64, Vec<String>), Sums>::new();
    for (trace, hop) in &known.hops {
        let time = (hop.time.div_ceil(step * MINUTE) * step * MINUTE / 1_000) as i64;
        if range.start < time && time <= range.end {
            expected.entry((time, table.key(hop))).or_default().add(*trace, hop);
        }
    }
    let shown = |bucket: Option<i64>| bucket.map(|bucket| bucket.to_string()).unwrap_or_default();
    let row = |((time, key), sums): ((i64, Vec<String>), Sums)| {
        let buckets = latencies(&sums).map(|values| PERCENTS.map(|percent| shown(quantile(values, percent))));
        [vec![time.to_string()], key, numbers(&sums), buckets.concat()].concat()
    };
    let mut expected: Vec<Vec<String>> = expected.into_iter().map(row).collect();
    let mut answered = rows(engine, &query).await;
    for row in &mut answered {
        let first = row.len() - LATENCIES.len() * PERCENTS.len();
        row[first..].iter_mut().for_each(|value| *value = shown(value.parse().ok().map(bucket)));
    }
    expected.sort();
    answered.sort();
    assert_eq!(answered, expected, "{context}, {query}");
}

/// Guarantee: each row of a table of sums of spans is of the rows of `spans` of its step, in a range of whole minutes (P3).
pub async fn check_spans(engine: &Engine, (name, step): (&str, u64), range: TimeRange, context: &str) {
    let columns = "service_name, name, kind, status";
    let (start, end) = (moment(range.start), moment(range.end));
    let sums = format!(
        "SELECT cast(time AS bigint), {columns}, spans, histogram_quantile(duration, 0.9) FROM spans_{name} WHERE time > {start} AND time <= {end}"
    );
    let counts = format!("SELECT cast(time AS bigint), {columns}, spans FROM spans_{name} WHERE time > {start} AND time <= {end}");
    // Steps are right-closed, to the nanosecond.
    let micros = "(cast(start_time AS bigint) + CASE WHEN start_nanos > 0 THEN 1 ELSE 0 END)";
    let length = step * MINUTE / 1_000;
    let of_step = format!("(({micros} + {length} - 1) / {length} * {length})");
    let scan = format!(
        "SELECT {of_step}, {columns}, count(*), histogram_quantile(histogram_build(greatest(duration, 0)), 0.9) FROM spans \
         WHERE {of_step} > {} AND {of_step} <= {} GROUP BY {of_step}, {columns}",
        range.start, range.end
    );
    let sorted = async |query: &str| {
        let mut rows = rows(engine, query).await;
        rows.sort();
        rows
    };
    // Copies of spans that came in other requests count until they are merged, which may be at any moment.
    loop {
        let (before, sums_of_all, counts_of_all, after) =
            (sorted(&scan).await, sorted(&sums).await, sorted(&counts).await, sorted(&scan).await);
        if before != after {
            continue;
        }
        let mut expected = before;
        assert_eq!(sums_of_all, expected, "{context}, {sums}");
        expected.iter_mut().for_each(|row| _ = row.pop());
        assert_eq!(counts_of_all, expected, "{context}, {counts}");
        return;
    }
}
