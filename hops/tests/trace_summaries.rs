//! Summaries of traces against their spans.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use meshlake_hops::trace_summary::{
    SERVICES_MAX, ServiceCounts, StoredTrace, TEXTS_MAX, TRACES, Told, TraceOutline, TraceSpan, TraceSummaryBuilder,
};
use proptest::prelude::*;

const NAMES: [&str; 3] = ["", "GET /", "pay"];

#[derive(Clone, Debug)]
struct Drawn {
    span: u8,
    start: i64,
    duration: i64,
    error: bool,
    service: Option<String>,
    root: Option<&'static str>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let service = prop::option::weighted(0.9, prop::sample::select(vec!["", "shop", "cart", "pay"]));
    let root = prop::option::weighted(0.3, prop::sample::select(NAMES.to_vec()));
    // Few ids and starts, so that there are copies and several first roots; some starts that are as late as can be.
    let start = prop_oneof![9 => 0..5i64, 1 => i64::MAX - 1..=i64::MAX];
    let duration = prop_oneof![8 => -5..1_000_000i64, 1 => Just(i64::MAX)];
    (0..6u8, start, duration, any::<bool>(), service, root).prop_map(|(span, start, duration, error, service, root)| {
        let service = service.map(str::to_owned);
        Drawn { span, start, duration, error, service, root }
    })
}

/// Traces whose ids differ in a few bits alone.
fn traces(count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = BTreeMap<u128, Vec<Drawn>>> {
    let id = (0..1u128 << 20, any::<bool>()).prop_map(|(id, high)| if high { id << 100 } else { id });
    prop::collection::btree_map(id, prop::collection::vec(drawn(), 1..5), count)
}

fn sections(traces: &BTreeMap<u128, Vec<Drawn>>) -> Vec<Vec<u8>> {
    let mut builder = TraceSummaryBuilder::new();
    for (id, spans) in traces {
        for span in spans {
            let [service, root] = [span.service.as_deref(), span.root].map(|text| text.map(|text| builder.text(text)));
            builder.add(&TraceSpan {
                trace_id: id.to_be_bytes(),
                span_id: [span.span; 8],
                start: i128::from(span.start) * 1_000,
                duration: span.duration,
                error: span.error,
                service,
                root,
            });
        }
    }
    builder.finish()
}

/// What is told of a trace, its services sorted.
fn told<'o>(outline: &'o TraceOutline, sections: &[Vec<u8>], id: u128) -> Told<'o> {
    let id = id.to_be_bytes();
    let Some(section) = outline.section(&id) else { return Told::Absent };
    let mut told = outline.find(&sections[section], &id).unwrap();
    if let Told::Trace(trace) = &mut told {
        trace.services.sort_unstable();
    }
    told
}

fn expected(spans: &[Drawn]) -> StoredTrace<'_> {
    let start_of = |span: &Drawn| i128::from(span.start) * 1_000;
    let start = spans.iter().map(start_of).min().unwrap();
    let end = spans.iter().map(|span| start_of(span) + i128::from(span.duration.max(0))).max().unwrap();
    let saturated = |value: i128| value.min(i64::MAX.into()) as i64;
    let roots = spans.iter().filter_map(|span| Some((span.start, span.span, span.service.as_deref(), span.root?)));
    let mut services = BTreeMap::<&str, (u64, u64)>::new();
    for span in spans {
        if let Some(service) = &span.service {
            let (spans, errors) = services.entry(service).or_default();
            (*spans, *errors) = (*spans + 1, *errors + u64::from(span.error));
        }
    }
    StoredTrace {
        start: saturated(start),
        duration: saturated(end - start),
        spans: spans.len() as u64,
        errors: spans.iter().filter(|span| span.error).count() as u64,
        has_copies: spans.iter().map(|span| span.span).collect::<BTreeSet<_>>().len() < spans.len(),
        root: roots.min().map(|(_, _, service, name)| (service, name)),
        services: services.into_iter().map(|(service, (spans, errors))| ServiceCounts { service, spans, errors }).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Scenario: traces of several blocks, with copies of spans, several roots and none, times that no 64 bits hold. Guarantee: of
    /// each is told what its spans say, and of others that they are not there.
    #[test]
    fn summaries_are_those_of_spans(traces in traces(1..3 * TRACES), others in prop::collection::vec(0..1u128 << 20, 20)) {
        let sections = sections(&traces);
        let outline = TraceOutline::decode(&sections[0]).unwrap();
        prop_assert_eq!(sections.len(), 1 + traces.len().div_ceil(TRACES));
        for (id, spans) in &traces {
            prop_assert_eq!(told(&outline, &sections, *id), Told::Trace(expected(spans)));
        }
        for id in others.into_iter().filter(|id| !traces.contains_key(id)) {
            prop_assert_eq!(told(&outline, &sections, id), Told::Absent);
        }
    }

    /// Scenario: sections with bytes changed, and cut. Guarantee: they are read as others or refused, and nothing breaks.
    #[test]
    fn damage_breaks_nothing(
        traces in traces(1..20),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let whole = sections(&traces);
        let mut damaged = whole.clone();
        for bytes in &mut damaged {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        }
        let outlines = [&whole[0], &damaged[0]].map(|section| TraceOutline::decode(section));
        for outline in outlines.iter().flatten() {
            for id in traces.keys().map(|id| id.to_be_bytes()) {
                let _ = (outline.section(&id), outline.find(&damaged[1], &id));
            }
        }
    }
}

fn span(trace: u128, service: Option<u32>, root: Option<u32>) -> TraceSpan {
    TraceSpan { trace_id: trace.to_be_bytes(), span_id: [1; 8], start: 5_000, duration: 7, error: true, service, root }
}

/// Scenario: a trace of too many services, one of a root whose name has no room, one whose services have none; others before,
/// between and behind. Guarantee: nothing is told of these, and of the others all.
#[test]
fn what_has_no_room_is_not_told_of() {
    let mut builder = TraceSummaryBuilder::new();
    let shop = builder.text("shop");
    builder.add(&span(1, Some(shop), Some(shop)));
    for number in 0..=SERVICES_MAX {
        let service = builder.text(&number.to_string());
        builder.add(&span(2, Some(service), None));
    }
    let large = builder.text(&"x".repeat(TEXTS_MAX));
    builder.add(&span(3, Some(shop), Some(large)));
    builder.add(&span(4, Some(large), None));
    builder.add(&span(5, Some(shop), Some(shop)));
    let sections = builder.finish();
    let outline = TraceOutline::decode(&sections[0]).unwrap();
    let services = vec![ServiceCounts { service: "shop", spans: 1, errors: 1 }];
    let whole = StoredTrace {
        start: 5_000,
        duration: 7,
        spans: 1,
        errors: 1,
        has_copies: false,
        root: Some((Some("shop"), "shop")),
        services,
    };
    let all = [1, 2, 3, 4, 5].map(|id| told(&outline, &sections, id));
    assert_eq!(all, [Told::Trace(whole.clone()), Told::Untold, Told::Untold, Told::Untold, Told::Trace(whole)]);
}

/// Scenario: the traces of a mesh of 40 services, each a way of 6 to 14 spans from one of 20 roots, in sections that are compressed
/// as those of rollups are. Guarantee: a trace takes less than 22 bytes, of which 12 are the mark, and the bits of start and
/// duration.
#[test]
fn summaries_are_small() {
    let mut state = 7u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let (mut builder, count) = (TraceSummaryBuilder::new(), 20_000u64);
    let texts: Vec<u32> = (0..60).map(|number| builder.text(&format!("service-{number}.shop.svc"))).collect();
    for trace in 0..count {
        let id = (u128::from(trace) << 110 | u128::from(below(1 << 31)) << 40).to_be_bytes();
        let (root, begin) = (below(20) as usize, 1_767_225_600_000_000_000 + below(3_600_000_000) * 1_000);
        for place in 0..6 + root % 5 + below(5) as usize {
            let service = texts[20 + (root * 7 + place) % 40];
            builder.add(&TraceSpan {
                trace_id: id,
                span_id: [place as u8; 8],
                start: i128::from(begin) + place as i128 * 1_000_000,
                duration: 20_000_000 + below(30_000_000) as i64,
                error: below(200) == 0,
                service: Some(service),
                root: (place == 0).then_some(texts[root]),
            });
        }
    }
    let sections = builder.finish();
    let bytes: usize = sections.iter().map(|section| zstd::encode_all(&section[..], 3).unwrap().len() + 12).sum();
    let each = bytes as f64 / count as f64;
    assert!(each < 22.0, "{each}");
}

/// Scenario: the summaries of three traces. Guarantee: the bytes of version 1, for ever.
#[test]
fn golden_trace_summaries() {
    let drawn = |span, start, error, service: Option<&str>, root| Drawn {
        span,
        start,
        duration: 2_000,
        error,
        service: service.map(str::to_owned),
        root,
    };
    let first = vec![drawn(1, 5, false, Some("shop"), Some("GET /")), drawn(2, 6, true, Some("cart"), None)];
    let second = vec![drawn(3, 4, false, None, Some("pay")), drawn(3, 4, false, None, Some("pay"))];
    let third = vec![drawn(4, 900, true, Some("cart"), None)];
    let sections = sections(&BTreeMap::from([(1, first), (2, second), (u128::MAX, third)]));
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    assert_eq!(sections.iter().map(hex).collect::<String>(), include_str!("golden/trace-summaries-v1.txt"));
}
