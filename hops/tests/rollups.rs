//! Rollups of files against the hops of all spans.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::random::trace;
use meshlake_hops::rollup::{
    Count, Grain, Keys, Latencies, LeftOut, Measures, Numbers, Outline, Part, Rollup, RollupBuilder, RollupKey, SideMeasures, Sums,
    Total, minute, read_rows, read_totals,
};
use meshlake_hops::{ErrorClass, Flags, Histogram, Hop, Node, Report, Span, Summary, Tally, TraceHops};
use proptest::prelude::*;

const FILES: usize = 4;

/// A trace over some minutes, each span in one of the files.
type Scattered = Vec<(Span<'static>, usize)>;

fn scattered() -> impl Strategy<Value = Scattered> {
    (trace(), prop::collection::vec(0..FILES, 14), 1..30u64).prop_map(|(spans, files, scale)| {
        let seconds = scale * 1_000_000_000;
        let slow = |span: Span<'static>| {
            let (start, length) = (span.start * seconds, span.end.wrapping_sub(span.start).cast_signed());
            Span { start, end: start.wrapping_add_signed(length.wrapping_mul(seconds.cast_signed())), ..span }
        };
        spans.into_iter().map(slow).zip(files).collect()
    })
}

fn id(number: usize) -> [u8; 16] {
    [number as u8 + 1; 16]
}

fn h<'a>(number: usize, spans: &[Span<'a>]) -> (Vec<Hop<'a>>, Summary) {
    let mut hops = Vec::new();
    let summary = TraceHops::new().append(&id(number), spans, &mut hops);
    (hops, summary)
}

fn of(trace: &Scattered, files: std::ops::Range<usize>) -> Vec<Span<'static>> {
    trace.iter().filter(|(_, file)| files.contains(file)).map(|(span, _)| *span).collect()
}

const NAMES: [&str; FILES] = ["a", "b", "c", "d"];

/// The rollups of the files.
fn rollups(traces: &[Scattered]) -> Vec<Rollup> {
    let of_file = |file: usize| {
        let mut builder = RollupBuilder::new();
        for (number, trace) in traces.iter().enumerate() {
            let (own, before, all) = (of(trace, file..file + 1), of(trace, 0..file), of(trace, 0..file + 1));
            let [own_hops, before_hops, all_hops] = [&own, &before, &all].map(|spans| h(number, spans));
            if !own.is_empty() {
                builder.add_trace(id(number), &own_hops.0, own_hops.1);
            }
            if !own.is_empty() && !before.is_empty() {
                let earlier: Vec<&str> =
                    (0..file).filter(|earlier| trace.iter().any(|(_, of)| of == earlier)).map(|file| NAMES[file]).collect();
                let [own, before, all] = [&own_hops, &before_hops, &all_hops].map(|(hops, summary)| (&hops[..], *summary));
                builder.correct(&earlier, id(number), all, [before, own]);
            }
        }
        builder.finish()
    };
    (0..FILES).map(of_file).collect()
}

/// What is said of a key in some minutes.
#[derive(Debug, Default, PartialEq)]
struct Said {
    counts: Vec<u64>,
    latency: [Histogram; 3],
    classes: [BTreeMap<&'static str, u64>; 2],
    tally: Tally,
    last_error: Option<u64>,
}

/// A histogram that knows no more than its buckets.
fn buckets(histogram: &Histogram) -> Vec<(u64, u64)> {
    histogram.buckets().map(|bucket| (bucket.high, bucket.count)).collect()
}

/// Straight from the hops.
fn expected(traces: &[Scattered], minutes: std::ops::RangeInclusive<u64>) -> BTreeMap<String, Said> {
    let mut said = BTreeMap::<String, Said>::new();
    for (number, trace) in traces.iter().enumerate() {
        let all = of(trace, 0..FILES);
        let hops = h(number, &all).0;
        let within = |hop: &&Hop<'_>| minutes.contains(&minute(hop.time));
        for hop in hops.iter().filter(within) {
            let key = format!("{:?}", (hop.caller, hop.callee, hop.via, hop.operation, hop.protocol));
            let said = said.entry(key).or_default();
            let told = hop.callee_report.or(hop.caller_report);
            let failed = told.is_some_and(|report| report.error.is_error());
            let flag = |flag| u64::from(hop.flags.contains(flag));
            let more = [
                1,
                failed.into(),
                hop.calls.into(),
                1 - flag(Flags::MIRROR),
                hop.messages.into(),
                flag(Flags::UNRESOLVED),
                flag(Flags::ASSUMED),
                hop.request_bytes.unwrap_or(0),
                hop.response_bytes.unwrap_or(0),
            ];
            said.counts.resize(more.len(), 0);
            said.counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
            let latency = |report: Option<Report<'_>>| report.and_then(|report| report.latency);
            let latencies = [latency(hop.caller_report), latency(hop.callee_report), hop.network];
            said.latency.iter_mut().zip(latencies).for_each(|(all, one)| one.into_iter().for_each(|one| all.record(one)));
            for (classes, report) in said.classes.iter_mut().zip([hop.caller_report, hop.callee_report]) {
                let class = report.map_or("none", |report| report.error.as_str());
                if class != "none" {
                    *classes.entry(class).or_default() += 1;
                }
            }
        }
    }
    said
}

/// What the parts say, from their encodings, and what they left out.
fn summed(rollups: &[Rollup], minutes: Option<std::ops::RangeInclusive<u64>>) -> (Total, LeftOut) {
    let (mut sums, mut left_out, mut scratch) = (Sums::new(), LeftOut::default(), Measures::default());
    for sections in rollups.iter().map(Rollup::encode) {
        let (outline, keys) = (Outline::decode(&sections[0]).unwrap(), Keys::decode(&sections[1]).unwrap());
        let mut numbers = Numbers::default();
        for part in &outline.parts {
            left_out.add(part.left_out(minutes.as_ref().unwrap_or(&(0..=u64::MAX))), 1);
            let mut add = |key, measures: &Measures| sums.add(&keys, &mut numbers, key, measures);
            let Some(minutes) = &minutes else {
                read_totals(&sections[part.totals], keys.len(), &mut scratch, add).unwrap();
                continue;
            };
            for section in part.rows_of(Grain::Keys, None) {
                let add = |_, key, measures: &Measures| add(key, measures);
                read_rows(&sections[section], keys.len(), (minutes, |_| true), &mut scratch, add).unwrap();
            }
        }
    }
    (sums.finish(), left_out)
}

/// The keys that have hops, and their sums.
fn rows(total: &Total) -> Vec<(String, Measures)> {
    let mut rows = Vec::new();
    total.read(&mut Measures::default(), |key, measures| {
        let key = total.keys.key(key);
        let name = format!("{:?}", (key.caller, key.callee, key.via, key.operation, key.protocol));
        if measures.count(Count::Requests) > 0 {
            rows.push((name, measures.clone()));
        }
    });
    rows
}

/// What a hop counts in, besides its weight and whether it was over mutual TLS.
const COUNTED: [Count; 9] = [
    Count::Requests,
    Count::Errors,
    Count::Calls,
    Count::Attempts,
    Count::Messages,
    Count::Unresolved,
    Count::Assumed,
    Count::RequestBytes,
    Count::ResponseBytes,
];

fn check(total: &Total, expected: &BTreeMap<String, Said>) {
    let mut keys = 0;
    for (name, measures) in rows(total) {
        keys += 1;
        let said = expected.get(&name).unwrap_or_else(|| panic!("{name} is not there: {measures:?}"));
        assert_eq!(COUNTED.map(|count| measures.count(count)).to_vec(), said.counts, "{name}");
        let latencies = [&measures.caller.latency, &measures.callee.latency, &measures.network];
        for (found, expected) in latencies.iter().zip(&said.latency) {
            let found = found.histogram();
            assert_eq!((buckets(&found), found.count(), found.sum()), (buckets(expected), expected.count(), expected.sum()));
            assert_eq!(found.quantile(0.9), expected.quantile(0.9));
        }
        for (side, expected) in [&measures.caller, &measures.callee].iter().zip(&said.classes) {
            let classes: BTreeMap<_, _> = side.classes().map(|(class, count)| (class.as_str(), count)).collect();
            assert_eq!(&classes, expected);
        }
    }
    assert_eq!(keys, expected.len());
}

/// The weights of an edge, whatever the operation, summed over minutes.
fn tallies<'a>(rows: impl Iterator<Item = (String, Tally)> + 'a) -> BTreeMap<String, Tally> {
    let mut tallies = BTreeMap::<String, Tally>::new();
    rows.for_each(|(edge, tally)| tallies.entry(edge).or_default().merge(&tally));
    tallies
}

fn expected_tallies(traces: &[Scattered]) -> BTreeMap<String, Tally> {
    let mut rows = Vec::new();
    for (number, trace) in traces.iter().enumerate() {
        let mut weights = BTreeMap::<(String, u64), Vec<Option<u64>>>::new();
        for hop in h(number, &of(trace, 0..FILES)).0 {
            let edge = format!("{:?}", (hop.caller, hop.callee, hop.via));
            weights.entry((edge, minute(hop.time))).or_default().push(hop.weight);
        }
        for ((edge, _), mut weights) in weights {
            let mut tally = Tally::default();
            tally.add_trace(&mut weights);
            rows.push((edge, tally));
        }
    }
    tallies(rows.into_iter())
}

const GRAINS: [Grain; 2] = [Grain::Keys, Grain::Operations];

/// Callee, name and minute.
type Operation = (String, String, u64);

/// Caller, callee, operation, minute, latency, and whether it failed.
type Asked = (usize, usize, usize, u64, u64, bool);

fn asked() -> impl Strategy<Value = Asked> {
    (0..4usize, 0..2usize, 0..2usize, 1..4u64, 1..9u64, any::<bool>())
}

fn hop(&(caller, callee, operation, minute, latency, failed): &Asked) -> Hop<'static> {
    let spans = common::pair();
    let template = h(0, &spans).0[0];
    let node = |number: usize| Node { service: ["a", "b", "c", "d"][number], ..Node::default() };
    let error = if failed { ErrorClass::Http5xx } else { ErrorClass::None };
    Hop {
        caller: node(caller),
        callee: node(callee),
        operation: ["get", "put"][operation],
        time: minute * meshlake_hops::rollup::MINUTE,
        callee_report: template.callee_report.map(|report| Report { latency: Some(latency), error, ..report }),
        ..template
    }
}

/// Minutes, keys and sums.
fn rows_of(rollup: &Rollup, part: &Part, grain: Grain, wanted: Option<&[bool]>) -> Vec<(u64, u32, Measures)> {
    let (mut rows, minutes) = (Vec::new(), 0..=u64::MAX);
    for section in part.rows_of(grain, wanted) {
        let is_wanted = |key: u32| wanted.is_none_or(|wanted| wanted[key as usize]);
        let add = |minute, key, measures: &Measures| rows.push((minute, key, measures.clone()));
        let section = rollup.section(section).unwrap();
        read_rows(section, rollup.keys.len(), (&minutes, is_wanted), &mut Measures::default(), add).unwrap();
    }
    rows
}

/// The rows of a grain by operation, summed.
fn by_operation(rollup: &Rollup, part: &Part, grain: Grain) -> BTreeMap<Operation, Measures> {
    let mut sums = BTreeMap::<Operation, Measures>::new();
    for (minute, key, measures) in rows_of(rollup, part, grain, None) {
        let key = rollup.keys.key(key);
        sums.entry((format!("{:?}", key.callee), key.operation.to_owned(), minute)).or_default().merge(&measures);
    }
    sums.retain(|_, sums| plain(sums) != plain(&Measures::default()));
    sums
}

/// What is summed by operation, too: all but what is of traces.
fn plain(sums: &Measures) -> ([i64; 9], [i64; 2], [SideMeasures; 2], Latencies) {
    let tls = [Count::MutualTls, Count::PlainText].map(|count| sums.signed(count));
    (COUNTED.map(|count| sums.signed(count)), tls, [sums.caller.clone(), sums.callee.clone()], sums.network.clone())
}

/// Both grains say the same of each operation; and no operation is read from twice as many rows as it has minutes.
fn check_operations(rollup: &Rollup) {
    for part in &rollup.outline.parts {
        let [of_keys, of_operations] = GRAINS.map(|grain| {
            let sums = by_operation(rollup, part, grain);
            sums.into_iter().map(|(operation, sums)| (operation, plain(&sums))).collect::<BTreeMap<_, _>>()
        });
        assert_eq!(of_operations, of_keys);
        let (mut rows, mut minutes) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, BTreeSet<u64>>::new());
        for (minute, key, _) in rows_of(rollup, part, Grain::Operations, None) {
            let RollupKey { callee, operation, .. } = rollup.keys.key(key);
            *rows.entry((callee, operation)).or_default() += 1;
            minutes.entry((callee, operation)).or_default().insert(minute);
        }
        assert!(rows.iter().all(|(operation, rows)| *rows < 2 * minutes[operation].len()), "{rows:?} {minutes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Scenario: traces whose spans lie in several files at random, each file's rollup made from what is before it alone. Guarantee: all of them, whole and
    /// cut down to some minutes, add up to the hops of all spans; weights and what was left out, too.
    #[test]
    fn files_add_up(traces in prop::collection::vec(scattered(), 1..4), first in 0..4u64, length in 0..8u64) {
        let rollups = rollups(&traces);
        let (total, left_out) = summed(&rollups, None);
        check(&total, &expected(&traces, 0..=u64::MAX));
        let mut edges = Vec::new();
        total.read(&mut Measures::default(), |key, measures| {
            let key = total.keys.key(key);
            if measures.count(Count::Requests) > 0 {
                edges.push((format!("{:?}", (key.caller, key.callee, key.via)), measures.tally()));
            }
        });
        prop_assert_eq!(tallies(edges.into_iter()), expected_tallies(&traces));
        let unnamed: usize = traces.iter().enumerate().map(|(number, trace)| h(number, &of(trace, 0..FILES)).1.unnamed).sum();
        prop_assert_eq!(left_out, LeftOut { unnamed: unnamed as i64, spans: 0 });
        let minutes = first..=first + length;
        check(&summed(&rollups, Some(minutes.clone())).0, &expected(&traces, minutes));
    }

    /// Scenario: the same. Guarantee: an exemplar of an edge is a trace that has a hop on it.
    #[test]
    fn exemplars_are_on_their_edge(traces in prop::collection::vec(scattered(), 1..4)) {
        let (total, _) = summed(&rollups(&traces), None);
        let hops: Vec<Vec<String>> = traces.iter().enumerate().map(|(number, trace)| {
            let spans = of(trace, 0..FILES);
            h(number, &spans).0.iter().map(|hop| format!("{:?}", (hop.caller, hop.callee, hop.via, hop.operation, hop.protocol))).collect()
        }).collect();
        for (name, measures) in rows(&total) {
            for (_, id) in [measures.slowest, measures.latest_error].into_iter().flatten() {
                prop_assert!(hops[usize::from(id.0[0]) - 1].contains(&name), "{} {:?}", name, id);
            }
        }
    }

    /// Scenario: the same. Guarantee: the rows of operations are those of their keys, summed, in each part.
    #[test]
    fn operations_are_the_sums_of_their_keys(traces in prop::collection::vec(scattered(), 1..4)) {
        rollups(&traces).iter().for_each(check_operations);
    }

    /// Scenario: hops of a few callers, callees, operations and minutes, some of which turn out to be others. Guarantee: the same; and the rows of
    /// operations are the sums of the hops.
    #[test]
    fn operations_are_the_sums_of_hops(asked in prop::collection::vec((asked(), prop::option::of(asked())), 1..60)) {
        let mut builder = RollupBuilder::new();
        let mut expected = BTreeMap::<Operation, (i64, i64, Histogram)>::new();
        for (number, (first, last)) in asked.iter().enumerate() {
            builder.add_trace(id(number), &[hop(first)], Summary::default());
            if let Some(last) = last {
                builder.replace(id(number), (&[hop(first)], Summary::default()), (&[hop(last)], Summary::default()));
            }
            let hop = hop(last.as_ref().unwrap_or(first));
            let report = hop.callee_report.unwrap();
            let (requests, errors, latency) =
                expected.entry((format!("{:?}", hop.callee), hop.operation.to_owned(), minute(hop.time))).or_default();
            *requests += 1;
            *errors += i64::from(report.error.is_error());
            latency.record(report.latency.unwrap());
        }
        let rollup = builder.finish();
        check_operations(&rollup);
        let found = by_operation(&rollup, &rollup.outline.parts[0], Grain::Operations);
        prop_assert_eq!(found.len(), expected.len());
        for (operation, (requests, errors, latency)) in expected {
            let sums = &found[&operation];
            prop_assert_eq!((sums.signed(Count::Requests), sums.signed(Count::Errors)), (requests, errors));
            prop_assert_eq!(buckets(&sums.callee.latency.histogram()), buckets(&latency));
        }
    }

    /// Scenario: the sections of some of the keys. Guarantee: they have all rows of these, and no more is read of others.
    #[test]
    fn wanted_keys_are_whole(traces in prop::collection::vec(scattered(), 1..4), wanted in prop::collection::vec(any::<bool>(), 1..40)) {
        let rollup = &rollups(&traces)[FILES - 1];
        let wanted: Vec<bool> = wanted.iter().copied().cycle().take(rollup.keys.len()).collect();
        for (part, grain) in rollup.outline.parts.iter().flat_map(|part| GRAINS.map(|grain| (part, grain))) {
            let mut all = rows_of(rollup, part, grain, None);
            all.retain(|(_, key, _)| wanted[*key as usize]);
            prop_assert_eq!(all, rows_of(rollup, part, grain, Some(&wanted)));
        }
        let Some(last) = rollup.keys.len().checked_sub(1).map(|number| rollup.keys.key(number as u32)) else { return Ok(()) };
        let of_last = rollup.keys.of_callees(Some(last.operation), |callee| *callee == last.callee);
        for (number, is_asked) in (0..).zip(of_last) {
            let key = rollup.keys.key(number);
            prop_assert_eq!(is_asked, (key.operation, key.callee) == (last.operation, last.callee));
        }
    }

    /// Scenario: an encoding with a byte changed, or cut anywhere. Guarantee: it is read as another or refused, and nothing breaks.
    #[test]
    fn damage_breaks_nothing(traces in prop::collection::vec(scattered(), 1..3), at in any::<prop::sample::Index>(), byte: u8) {
        let mut sections = rollups(&traces)[FILES - 1].encode();
        for bytes in sections.iter_mut().filter(|bytes| !bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        let keys = Keys::decode(&sections[1]).map_or(3, |keys| keys.len());
        let minutes = 0..=u64::MAX;
        for section in &sections {
            let _ = read_totals(section, keys, &mut Measures::default(), |key, _| assert!((key as usize) < keys));
            let check = |_, key: u32, _: &Measures| assert!((key as usize) < keys);
            let _ = read_rows(section, keys, (&minutes, |_| true), &mut Measures::default(), check);
        }
        let _ = Outline::decode(&sections[0]);
        for section in &rollups(&traces)[FILES - 1].encode()[..2] {
            let cut = &section[..at.index(section.len())];
            prop_assert!(Outline::decode(cut).is_err() && (Keys::decode(cut).is_err() || cut.len() > 2));
        }
    }
}

/// Scenario: a trace calls one service by two operations and, in the order of keys between them, from another caller. Guarantee: its weights on each edge are
/// taken together, for sampling is by trace.
#[test]
fn weights_are_of_edges_whatever_the_order_of_keys() {
    let spans = common::pair();
    let (template, summary) = (h(0, &spans).0[0], h(0, &spans).1);
    let weight = 4 * meshlake_hops::WEIGHT_ONE;
    let hop = |caller, operation| Hop {
        caller: Node { service: caller, ..template.caller },
        operation,
        weight: Some(weight),
        ..template
    };
    let mut builder = RollupBuilder::new();
    builder.add_trace(id(0), &[hop("x", "a"), hop("y", "a"), hop("x", "b")], summary);
    let (total, _) = summed(&[builder.finish()], None);
    let mut edges = BTreeMap::<String, Tally>::new();
    total.read(&mut Measures::default(), |key, measures| {
        edges.entry(total.keys.key(key).caller.service.to_owned()).or_default().merge(&measures.tally());
    });
    let of = |hops: usize| {
        let mut tally = Tally::default();
        tally.add_trace(&mut vec![Some(weight); hops]);
        tally
    };
    assert_eq!(edges, BTreeMap::from([("x".to_owned(), of(2)), ("y".to_owned(), of(1))]));
    assert_ne!(of(2).variance, 2 * of(1).variance);
}

/// Scenario: the rollup of two traces, the second with a span in a file before. Guarantee: the bytes of version 3, for ever.
#[test]
fn golden_rollup() {
    let spans = common::pair();
    let scattered: Vec<Scattered> =
        vec![spans.iter().map(|span| (*span, 1)).collect(), spans.iter().zip([0, 1]).map(|(span, file)| (*span, file)).collect()];
    let sections = rollups(&scattered)[1].encode();
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    let golden = include_str!("golden/rollup-v3.txt");
    assert_eq!(sections.iter().map(hex).collect::<String>(), golden);
    let parts = Outline::decode(&sections[0]).unwrap().parts;
    assert_eq!(parts.iter().map(|part| part.before.len()).collect::<Vec<_>>(), [0, 1]);
}
