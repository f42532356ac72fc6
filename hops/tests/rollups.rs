//! Rollups of files against the hops of all spans.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::comparison_to_empty, missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::random::trace;
use meshlake_hops::rollup::{Count, LeftOut, Measures, Numbers, Part, Rollup, RollupBuilder, Sums, minute};
use meshlake_hops::{Flags, Histogram, Hop, Report, Span, Summary, Tally, TraceHops};
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

/// The rollups of the files, written and read back.
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
        let (head, minutes) = builder.finish().encode();
        let mut rollup = Rollup::decode(&head).unwrap();
        rollup.decode_minutes(&minutes).unwrap();
        assert_eq!(rollup.encode(), (head, minutes));
        rollup
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

/// What the parts say that hold, and what they left out.
fn summed(rollups: &[Rollup], minutes: Option<std::ops::RangeInclusive<u64>>) -> (Sums, LeftOut) {
    let (mut sums, mut left_out, mut scratch) = (Sums::new(), LeftOut::default(), Measures::default());
    for rollup in rollups {
        for part in &rollup.parts {
            let mut numbers = Numbers::default();
            let mut add = |key: u32, measures: &Measures| sums.add(rollup, &mut numbers, key, measures);
            let blocks: Vec<_> = match &minutes {
                None => vec![rollup.total(part)],
                Some(minutes) => rollup.minutes(part, minutes.clone()).map(|block| block.unwrap().1).collect(),
            };
            blocks.into_iter().for_each(|block| left_out.add(block.read(&mut scratch, &mut add).unwrap(), 1));
        }
    }
    (sums, left_out)
}

fn check(sums: &Sums, expected: &BTreeMap<String, Said>) {
    let counts = [
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
    let mut keys = 0;
    for (key, ends, measures) in sums.rows() {
        keys += 1;
        assert!(ends.iter().all(|end| *end < sums.ends()));
        let name = format!("{:?}", (key.caller, key.callee, key.via, key.operation, key.protocol));
        let said = expected.get(&name).unwrap_or_else(|| panic!("{name} is not there: {measures:?}"));
        assert_eq!(counts.map(|count| measures.count(count)).to_vec(), said.counts, "{name}");
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Scenario: traces whose spans lie in several files at random, each file's rollup made from what is before it alone. Guarantee: all of them, whole and
    /// cut down to some minutes, add up to the hops of all spans; weights and what was left out, too.
    #[test]
    fn files_add_up(traces in prop::collection::vec(scattered(), 1..4), first in 0..4u64, length in 0..8u64) {
        let rollups = rollups(&traces);
        let (sums, left_out) = summed(&rollups, None);
        check(&sums, &expected(&traces, 0..=u64::MAX));
        let edge = |(key, _, measures): (meshlake_hops::rollup::RollupKey<'_>, _, &Measures)| {
            (format!("{:?}", (key.caller, key.callee, key.via)), measures.tally())
        };
        prop_assert_eq!(tallies(sums.rows().map(edge)), expected_tallies(&traces));
        let unnamed: usize = traces.iter().enumerate().map(|(number, trace)| h(number, &of(trace, 0..FILES)).1.unnamed).sum();
        prop_assert_eq!(left_out, LeftOut { unnamed: unnamed as i64, spans: 0 });
        let minutes = first..=first + length;
        check(&summed(&rollups, Some(minutes.clone())).0, &expected(&traces, minutes));
    }

    /// Scenario: the same. Guarantee: an exemplar of an edge is a trace that has a hop on it.
    #[test]
    fn exemplars_are_on_their_edge(traces in prop::collection::vec(scattered(), 1..4)) {
        let (sums, _) = summed(&rollups(&traces), None);
        let hops: Vec<Vec<String>> = traces.iter().enumerate().map(|(number, trace)| {
            let spans = of(trace, 0..FILES);
            h(number, &spans).0.iter().map(|hop| format!("{:?}", (hop.caller, hop.callee, hop.via, hop.operation, hop.protocol))).collect()
        }).collect();
        for (key, _, measures) in sums.rows() {
            let name = format!("{:?}", (key.caller, key.callee, key.via, key.operation, key.protocol));
            for (_, id) in [measures.slowest, measures.latest_error].into_iter().flatten() {
                prop_assert!(hops[usize::from(id.0[0]) - 1].contains(&name), "{} {:?}", name, id);
            }
        }
    }

    /// Scenario: an encoding with a byte changed, or cut anywhere. Guarantee: it is read as another or refused, and nothing breaks.
    #[test]
    fn damage_breaks_nothing(traces in prop::collection::vec(scattered(), 1..3), at in any::<prop::sample::Index>(), byte: u8) {
        let (mut head, mut minutes) = rollups(&traces)[FILES - 1].encode();
        for bytes in [&mut head, &mut minutes] {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if let Ok(mut rollup) = Rollup::decode(&head) {
            let _ = rollup.decode_minutes(&minutes);
            let keys = rollup.keys() as u32;
            let read = |block: meshlake_hops::rollup::Block<'_>| {
                let _ = block.read(&mut Measures::default(), |key, _| assert!(key < keys));
            };
            for part in &rollup.parts {
                read(rollup.total(part));
                rollup.minutes(part, 0..=u64::MAX).flatten().for_each(|(_, block)| read(block));
            }
        }
        prop_assert!(Rollup::decode(&head[..at.index(head.len())]).is_err() || head.len() < 2);
    }
}

/// Scenario: the rollup of two traces, the second with a span in a file before. Guarantee: the bytes of version 1, for ever.
#[test]
fn golden_rollup() {
    let spans = common::pair();
    let scattered: Vec<Scattered> =
        vec![spans.iter().map(|span| (*span, 1)).collect(), spans.iter().zip([0, 1]).map(|(span, file)| (*span, file)).collect()];
    let (head, minutes) = rollups(&scattered)[1].encode();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let golden = include_str!("golden/rollup-v1.txt");
    assert_eq!(format!("{}\n{}\n", hex(&head), hex(&minutes)), golden);
    let parts: Vec<Part> = Rollup::decode(&head).unwrap().parts;
    assert_eq!(parts.iter().map(|part| part.before.len()).collect::<Vec<_>>(), [0, 1]);
}
