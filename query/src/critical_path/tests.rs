use std::collections::{BTreeMap, BTreeSet};

use meshlake_hops::{CriticalPath, TraceHops};

use super::{ClassTimes, CriticalPaths, PathQuery, PathRow};
use crate::testing::{Chance, START, SpanRow, TestSource, each_trace, mesh_rows, scatter, tenant};
use crate::types::TimeRange;
use crate::{Class, Engine, NodeName, QueryError, TraceId};

const START_MICROS: i64 = (START / 1000) as i64;
const ALL: TimeRange = TimeRange { start: START_MICROS - 1, end: START_MICROS + 2_000_000_000 };
/// The first part of the traces, and the rest.
const FIRST: TimeRange = TimeRange { start: ALL.start, end: START_MICROS + 400_000_000 };
const REST: TimeRange = TimeRange { start: FIRST.end, end: ALL.end };

fn asked(range: TimeRange) -> PathQuery {
    PathQuery { range, baseline: None, service: None, operation: None, traces: 100_000, limit: 100_000 }
}

/// Two tenants over live batches and files.
async fn mesh(seed: u64) -> (Vec<SpanRow>, Engine) {
    let mut chance = Chance(seed);
    let rows = mesh_rows(&mut chance, "a", 150);
    let foreign = mesh_rows(&mut chance, "b", 50);
    let engine = scatter(&mut chance, &[rows.clone(), foreign].concat()).await.engine();
    (rows, engine)
}

/// What tells a row from others.
type Key = (NodeName, Option<String>, Class);

/// Time of each row and in how many paths it is, number of paths and time of all; of the paths that begin in the range.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    rows: BTreeMap<Key, (u128, u64)>,
    paths: u64,
    time: u128,
}

impl Sums {
    fn add(&mut self, path: &CriticalPath<'_>, spans: &[meshlake_hops::Span<'_>], range: TimeRange) {
        if path.start <= range.start as u64 * 1000 || path.start > range.end as u64 * 1000 {
            return;
        }
        (self.paths, self.time) = (self.paths + 1, self.time + u128::from(path.end - path.start));
        let mut seen = BTreeSet::new();
        for segment in &path.segments {
            let operation = segment.span.map(|span| spans[span as usize].name.to_owned()).filter(|name| !name.is_empty());
            let key = (NodeName::of(&segment.node), operation, segment.class);
            let row = self.rows.entry(key.clone()).or_default();
            row.0 += u128::from(segment.to - segment.from);
            row.1 += u64::from(seen.insert(key));
        }
    }

    fn of(rows: &[SpanRow], query: &PathQuery, of_trace: impl Fn(TraceId) -> bool) -> Sums {
        let mut sums = Sums::default();
        let mut worker = TraceHops::new();
        each_trace(rows, |id, spans| {
            let is = |asked: &Option<String>, text: &str| asked.as_ref().is_none_or(|asked| asked == text);
            let paths = match (&query.service, &query.operation) {
                (None, None) => vec![worker.critical_path(&id.0, spans)],
                (service, operation) => {
                    worker.critical_paths(&id.0, spans, |hop| is(service, hop.callee.service) && is(operation, hop.operation))
                }
            };
            paths.iter().filter(|_| of_trace(id)).for_each(|path| sums.add(path, spans, query.range));
        });
        sums
    }

    fn answered(answer: &CriticalPaths) -> Sums {
        let key = |row: &PathRow| (row.node.clone(), row.operation.clone(), row.class);
        let rows = answer.rows.iter().map(|row| (key(row), (row.range.time, row.range.paths))).collect();
        Sums { rows, paths: answer.range.paths, time: answer.range.time }
    }
}

fn total(classes: &ClassTimes) -> u128 {
    classes.application + classes.proxy + classes.network + classes.unknown
}

/// Scenario: random traces of a mesh over live batches and files, with another tenant's; whole traces, requests of a service, of an
/// operation; in ranges of which one begins where the other ends. Guarantee: each row is the sum of the paths of the spans as they were
/// written, each path is in one of the ranges, shares sum to one and classes to the whole.
#[tokio::test]
async fn rows_are_the_sums_of_paths() {
    let (rows, engine) = mesh(3).await;
    let operation = Some("reviews.shop.svc.cluster.local:9080/*".to_owned());
    for (service, operation) in [(None, None), (Some("reviews".to_owned()), None), (None, operation.clone())] {
        let mut paths = Vec::new();
        for range in [ALL, FIRST, REST] {
            let query = PathQuery { service: service.clone(), operation: operation.clone(), ..asked(range) };
            let answer = engine.critical_paths(&tenant("a"), &query).await.unwrap();
            assert_eq!(Sums::answered(&answer), Sums::of(&rows, &query, |_| true), "{query:?}");
            assert!(!answer.rows.is_empty() && !answer.truncated && !answer.range.sample.is_partial());
            assert_eq!(total(&answer.range.classes), answer.range.time);
            let shares: f64 = answer.rows.iter().map(|row| row.range.share).sum();
            let means: f64 = answer.rows.iter().map(|row| row.range.mean).sum();
            let mean = answer.range.time as f64 / answer.range.paths as f64;
            assert!((shares - 1.0).abs() < 1e-9 && (means / mean - 1.0).abs() < 1e-9, "{shares} {means}");
            assert!(answer.rows.is_sorted_by(|a, b| a.range.time >= b.range.time));
            paths.push(answer.range.paths);
        }
        assert_eq!(paths[0], paths[1] + paths[2]);
    }
}

/// Scenario: a range compared with another, with itself, and with one that has no traces. Guarantee: each side is what it is when asked
/// for alone, rows of either are there, and changes are their differences; none where there is nothing to compare with.
#[tokio::test]
async fn a_baseline_is_a_range_of_its_own() {
    let (rows, engine) = mesh(4).await;
    let compared = PathQuery { baseline: Some(FIRST), ..asked(REST) };
    let answer = engine.critical_paths(&tenant("a"), &compared).await.unwrap();
    let (now, before) = (Sums::of(&rows, &asked(REST), |_| true), Sums::of(&rows, &asked(FIRST), |_| true));
    let baseline = answer.baseline.unwrap();
    assert_eq!(
        (answer.range.paths, answer.range.time, baseline.paths, baseline.time),
        (now.paths, now.time, before.paths, before.time)
    );
    let keys: BTreeSet<&Key> = now.rows.keys().chain(before.rows.keys()).collect();
    assert_eq!(answer.rows.len(), keys.len());
    for row in &answer.rows {
        let key = (row.node.clone(), row.operation.clone(), row.class);
        let of = |sums: &Sums| sums.rows.get(&key).copied().unwrap_or_default();
        let (part, change) = (row.baseline.unwrap(), row.change.unwrap());
        assert_eq!(((row.range.time, row.range.paths), (part.time, part.paths)), (of(&now), of(&before)));
        let mean = |sums: &Sums| of(sums).0 as f64 / sums.paths as f64;
        assert!((change.mean - (mean(&now) - mean(&before))).abs() < 1e-3, "{row:?}");
        assert!((change.share - (row.range.share - part.share)).abs() < 1e-12);
    }
    let same = engine.critical_paths(&tenant("a"), &PathQuery { baseline: Some(ALL), ..asked(ALL) }).await.unwrap();
    assert!(same.rows.iter().all(|row| row.change.is_some_and(|change| change.mean == 0.0 && change.share == 0.0)));
    let empty = TimeRange { start: 1, end: 2 };
    let alone = engine.critical_paths(&tenant("a"), &PathQuery { baseline: Some(empty), ..asked(ALL) }).await.unwrap();
    assert!(alone.rows.iter().all(|row| row.change.is_none() && row.baseline.unwrap().paths == 0));
}

/// Scenario: fewer traces than there are, however they lie in files; fewer rows. Guarantee: those with the smallest last bytes are read,
/// the same each time; the answer says how many of how many, and that it is partial (P10). Rows with most time are kept, and say the
/// same as before.
#[tokio::test]
async fn traces_and_rows_are_limited() {
    let rows = mesh_rows(&mut Chance(5), "a", 150);
    let mut low: Vec<u128> = rows.iter().map(|row| row.trace).collect();
    low.sort_unstable_by_key(|id| (*id as u64, *id));
    low.dedup();
    let all = low.len() as u64;
    low.truncate(20);
    for seed in [1, 2] {
        let engine = scatter(&mut Chance(seed), &rows).await.engine();
        let query = PathQuery { traces: 20, ..asked(ALL) };
        let answer = engine.critical_paths(&tenant("a"), &query).await.unwrap();
        assert_eq!(Sums::answered(&answer), Sums::of(&rows, &query, |id| low.contains(&u128::from_be_bytes(id.0))));
        let sample = answer.range.sample;
        assert_eq!((sample.read, sample.found, sample.is_partial()), (20, all, true));
        let few = engine.critical_paths(&tenant("a"), &PathQuery { limit: 3, ..query }).await.unwrap();
        assert_eq!((&few.rows[..], few.truncated, few.range), (&answer.rows[..3], true, answer.range));
    }
}

/// Scenario: the path of each trace by its id; an unknown id, and another tenant's. Guarantee: the segments of the spans as they were
/// written, which sum to the whole class by class; nothing of what the tenant does not have (P8).
#[tokio::test]
async fn a_trace_has_its_path() {
    let (rows, engine) = mesh(6).await;
    let mut ids = Vec::new();
    let mut expected = Vec::new();
    each_trace(&rows, |id, spans| {
        let path = TraceHops::new().critical_path(&id.0, spans);
        let ids_of = |span: Option<u32>| span.map(|span| spans[span as usize].span_id);
        let segments = path.segments.iter();
        let segments: Vec<_> =
            segments.map(|one| (one.from, one.to, one.class, ids_of(one.span), NodeName::of(&one.node))).collect();
        ids.push(id);
        expected.push((path.start, path.end, path.tops, path.detached, segments));
    });
    for (id, expected) in ids.iter().zip(expected).step_by(7) {
        let path = engine.critical_path(&tenant("a"), *id).await.unwrap().unwrap();
        let segments = path.segments.iter();
        let segments = segments.map(|one| (one.from, one.to, one.class, one.span_id, one.node.clone())).collect();
        assert_eq!((path.start, path.end, path.tops, path.detached, segments), expected);
        assert_eq!(total(&path.classes), u128::from(path.end - path.start));
        assert_eq!(engine.critical_path(&tenant("b"), *id).await.unwrap(), None);
    }
    assert_eq!(engine.critical_path(&tenant("a"), TraceId([7; 16])).await.unwrap(), None);
}

/// Scenario: ranges without length, and no trace allowed. Guarantee: refused as the user's mistake.
#[tokio::test]
async fn wrong_questions_are_refused() {
    let engine = TestSource::new().engine();
    let empty = TimeRange { start: 5, end: 5 };
    for query in [asked(empty), PathQuery { baseline: Some(empty), ..asked(ALL) }, PathQuery { traces: 0, ..asked(ALL) }] {
        let answer = engine.critical_paths(&tenant("a"), &query).await;
        assert!(matches!(answer, Err(QueryError::Invalid { .. })), "{answer:?}");
    }
    assert_eq!(engine.critical_paths(&tenant("a"), &asked(ALL)).await.unwrap().rows, []);
}
