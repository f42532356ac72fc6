//! Latencies beside those of the oracle's hops.

use std::collections::BTreeMap;

use meshlake_hops::Hop;
use meshlake_query::{Engine, GroupBy, LatencyQuery, LatencySide, TimeRange};

use crate::known::{Known, Sums, bucket, quantile};
use crate::store::Chance;

const PERCENTS: [usize; 3] = [50, 95, 99];

/// A question about some callees in a range.
pub fn question(chance: &mut Chance, range: TimeRange) -> LatencyQuery {
    let mut maybe = |texts: &[&str]| chance.one_in(4).then(|| chance.pick(texts).to_owned());
    let (service, workload) = (maybe(&["frontend", "reviews", "mail", "db-0"]), maybe(&["reviews-v1", "details-v1"]));
    let (operation, cluster) = (maybe(&["handle", "mail process", "GET"]), maybe(&["c1", "c2"]));
    let namespace = maybe(&["shop", "data"]);
    let is_whole = range.start % 60_000_000 == 0 && range.end % 60_000_000 == 0;
    let step = if is_whole { 60_000_000 * chance.pick(&[1, 7, 60]) } else { (range.end - range.start) / 7 + 1 };
    let groups = [
        None,
        Some(GroupBy::Operation),
        Some(GroupBy::Workload),
        Some(GroupBy::Version),
        Some(GroupBy::Cluster),
        Some(GroupBy::Caller),
    ];
    LatencyQuery {
        range,
        step,
        service,
        operation,
        workload,
        namespace,
        cluster,
        side: chance.pick(&[LatencySide::Caller, LatencySide::Callee]),
        group_by: chance.pick(&groups),
        quantiles: ["0.5", "0.95", "0.99"].map(|quantile| quantile.parse().unwrap()).to_vec(),
    }
}

fn asks_for(query: &LatencyQuery, hop: &Hop<'_>) -> bool {
    let is = |asked: &Option<String>, part: &str| asked.as_deref().is_none_or(|asked| asked == part);
    is(&query.service, hop.callee.service)
        && is(&query.operation, hop.operation)
        && is(&query.workload, hop.callee.workload)
        && is(&query.namespace, hop.callee.namespace)
        && is(&query.cluster, hop.callee.cluster)
}

fn group<'a>(query: &LatencyQuery, hop: &Hop<'a>) -> &'a str {
    match query.group_by {
        None => "",
        Some(GroupBy::Operation) => hop.operation,
        Some(GroupBy::Workload) => hop.callee.workload,
        Some(GroupBy::Version) => hop.callee.version,
        Some(GroupBy::Cluster) => hop.callee.cluster,
        Some(GroupBy::Caller) if !hop.caller.service.is_empty() => hop.caller.service,
        Some(GroupBy::Caller) if !hop.caller.workload.is_empty() => hop.caller.workload,
        Some(GroupBy::Caller) => hop.caller.kind.as_str(),
    }
}

/// Guarantee: each point is of the oracle's hops of its group and step.
pub async fn check(engine: &Engine, known: &Known, query: &LatencyQuery, context: &str) {
    let context = format!("{context}, {query:?}");
    let latency = engine.latency(&Default::default(), query).await.unwrap();
    let hops = || known.within(query.range).filter(|(_, hop)| asks_for(query, hop));
    assert_eq!(latency.counts, known.counts(query.range, hops().map(|(_, hop)| hop)), "{context}");
    let mut expected = BTreeMap::<(String, i64), Sums>::new();
    for (trace, hop) in hops() {
        let step = (hop.time - query.range.start as u64 * 1_000).div_ceil(query.step as u64 * 1_000) as i64;
        let end = (query.range.start + step * query.step).min(query.range.end);
        expected.entry((group(query, hop).to_owned(), end)).or_default().add(*trace, hop);
    }
    let expected: BTreeMap<(String, i64), _> = expected
        .into_iter()
        .map(|(place, sums)| {
            let side = if query.side == LatencySide::Caller { &sums.caller } else { &sums.callee };
            let quantiles = PERCENTS.map(|percent| quantile(&side.latencies, percent)).to_vec();
            (place, (sums.requests, side.reports, side.failures(), quantiles))
        })
        .collect();
    let mut answered = BTreeMap::new();
    for series in latency.series {
        for point in series.points {
            let begin = query.range.start + (point.end - 1 - query.range.start) / query.step * query.step;
            assert_eq!(point.rate, point.requests as f64 / ((point.end - begin) as f64 / 1e6), "{context}");
            let quantiles: Vec<Option<i64>> = point.latency.iter().map(|value| value.map(bucket)).collect();
            let place = (series.group.clone().unwrap_or_default(), point.end);
            let before = answered.insert(place, (point.requests, point.reports, point.errors, quantiles));
            assert_eq!(before, None, "a point twice: {context}");
        }
    }
    assert_eq!(answered, expected, "{context}");
}
