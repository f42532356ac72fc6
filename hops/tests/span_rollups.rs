//! Rollups of spans against the spans.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use meshlake_hops::Histogram;
use meshlake_hops::rollup::{Latencies, read_rows};
use meshlake_hops::span_rollup::{SpanKey, SpanKeys, SpanOutline, SpanRollup, SpanRollupBuilder, read_counts};
use proptest::prelude::*;

const SERVICES: [Option<&str>; 4] = [None, Some(""), Some("shop"), Some("cart")];
const NAMES: [&str; 3] = ["", "GET /", "pay"];
const KINDS: [&str; 2] = ["server", "client"];

/// A span: its key by numbers, its start in seconds, its duration.
type Drawn = (usize, usize, usize, u64, i64);

fn drawn() -> impl Strategy<Value = Drawn> {
    (0..SERVICES.len(), 0..NAMES.len(), 0..KINDS.len(), 0..600u64, -5..1_000_000i64)
}

fn key((service, name, kind, ..): &Drawn) -> SpanKey<'static> {
    SpanKey { service: SERVICES[*service], name: NAMES[*name], kind: KINDS[*kind], status: "unset" }
}

fn rollup(spans: &[Drawn]) -> SpanRollup {
    let mut builder = SpanRollupBuilder::new();
    for span in spans {
        let number = builder.number(&key(span));
        builder.add(number, span.3 * 1_000_000_000, span.4);
    }
    builder.finish()
}

/// By minute and key: how many, and how long.
type Said = BTreeMap<(u64, String), (u64, Histogram)>;

fn expected(spans: &[Drawn], keep: impl Fn(u64, &SpanKey<'_>) -> bool) -> Said {
    let mut said = Said::new();
    for span in spans {
        let minute = span.3.div_ceil(60);
        if keep(minute, &key(span)) {
            let (count, durations) = said.entry((minute, format!("{:?}", key(span)))).or_default();
            *count += 1;
            durations.record(u64::try_from(span.4).unwrap_or(0));
        }
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Scenario: random spans, some minutes and one service asked for. Guarantee: counts and durations are those of the spans; the bytes do not depend on
    /// the order of the spans.
    #[test]
    fn sums_are_those_of_spans(spans in prop::collection::vec(drawn(), 0..60), service in 0..SERVICES.len(), first in 0..4u64, length in 0..9u64) {
        let (minutes, sections) = (first..=first + length, rollup(&spans).encode());
        let mut reversed = spans.clone();
        reversed.reverse();
        prop_assert_eq!(&rollup(&reversed).encode(), &sections);
        let (outline, keys) = (SpanOutline::decode(&sections[0]).unwrap(), SpanKeys::decode(&sections[1]).unwrap());
        let wanted: Vec<bool> = (0..keys.len() as u32).map(|number| keys.key(number).service == SERVICES[service]).collect();
        let mut said = Said::new();
        let name = |key| format!("{:?}", keys.key(key));
        for number in outline.counts_of(Some(&wanted)) {
            let add = |minute, key, count| said.entry((minute, name(key))).or_default().0 += count;
            read_counts(&sections[number], keys.len(), &minutes, |key| wanted[key as usize], add).unwrap();
        }
        for number in outline.durations_of(Some(&wanted)) {
            let add = |minute, key, sums: &Latencies| said.entry((minute, name(key))).or_default().1.merge(&sums.histogram());
            let asked = (&minutes, |key: u32| wanted[key as usize]);
            read_rows(&sections[number], keys.len(), asked, &mut Latencies::default(), add).unwrap();
        }
        let expected = expected(&spans, |minute, key| minutes.contains(&minute) && key.service == SERVICES[service]);
        let buckets = |said: &Said| -> Vec<_> {
            said.iter().map(|(row, (count, durations))| {
                let buckets: Vec<_> = durations.buckets().map(|bucket| (bucket.high, bucket.count)).collect();
                (row.clone(), *count, buckets, durations.sum())
            }).collect()
        };
        prop_assert_eq!(buckets(&said), buckets(&expected));
        let all: Vec<u64> = spans.iter().map(|span| span.3.div_ceil(60)).collect();
        prop_assert_eq!((outline.first, outline.last), (all.iter().min().copied().unwrap_or(0), all.iter().max().copied().unwrap_or(0)));
    }

    /// Scenario: sections with a byte changed. Guarantee: they are read as others or refused, and nothing breaks.
    #[test]
    fn damage_breaks_nothing(spans in prop::collection::vec(drawn(), 1..30), at in any::<prop::sample::Index>(), byte: u8) {
        let mut sections = rollup(&spans).encode();
        for bytes in &mut sections {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        let keys = SpanKeys::decode(&sections[1]).map_or(3, |keys| keys.len());
        let _ = SpanOutline::decode(&sections[0]);
        for section in &sections {
            let _ = read_counts(section, keys, &(0..=u64::MAX), |_| true, |_, key, _| assert!((key as usize) < keys));
        }
    }
}

/// Scenario: the rollup of three spans. Guarantee: the bytes of version 1, for ever.
#[test]
fn golden_span_rollup() {
    let sections = rollup(&[(2, 1, 0, 61, 1_000), (2, 1, 0, 61, 2_000_000), (0, 2, 1, 200, 0)]).encode();
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    assert_eq!(sections.iter().map(hex).collect::<String>(), include_str!("golden/span-rollup-v1.txt"));
}
