//! Random traces and random queries: the oracle says the same; what is printed reads back; what a scan may skip does not matter;
//! parts merge; and no text does harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::oracle::metrics::Range;
use common::{Spans, evaluate, oracle, pipeline, query, random};
use meshlake_traceql::*;
use proptest::prelude::*;

const LIMITS: MetricsLimits = MetricsLimits { series: 10_000, exemplars: 1_000 };
const RANGE: Range = Range { start: 1_002, end: 1_010, step: 3 };

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
}

fn series_expr(query: &Query) -> &SeriesExpr {
    match &query.body {
        Body::Metrics(series) => series,
        Body::Search(_) => panic!("{query} is of no series"),
    }
}

fn grid() -> Grid {
    Grid::range(RANGE.start, RANGE.end, Some(RANGE.step)).unwrap()
}

fn accumulate(query: &Query, traces: &[Spans]) -> Result<Accumulator, EvalError> {
    let mut accumulator = Accumulator::new(series_expr(query), grid(), LIMITS);
    traces.iter().try_for_each(|trace| accumulator.add(trace))?;
    Ok(accumulator)
}

/// Takes in the first spans of traces as `compare()` does by columns: all values of an attribute together.
fn add_by_attribute(into: &mut Accumulator, traces: &[Spans]) {
    let mut attributes = BTreeMap::<String, (Vec<Value<'static>>, Vec<ComparedCount>)>::new();
    for trace in traces {
        let Some(at) = into.compared_at(trace.facts(0).start) else { continue };
        let Some(selected) = into.selects(trace, at.in_window).unwrap() else { continue };
        let spans = ComparedSpans { selected, interval: at.interval };
        let mut count = |attribute: String, value: Value<'_>| {
            let (values, counts) = attributes.entry(attribute).or_default();
            counts.push(ComparedCount { value: values.len(), spans, count: 1 });
            values.push(value.into_owned());
        };
        let view = View::new(trace);
        for intrinsic in ComparedSpans::INTRINSICS {
            count(intrinsic.name().to_owned(), view.attribute(0, &Attribute::Intrinsic(intrinsic)));
        }
        for event in 0..trace.events(0) {
            count(Intrinsic::EventName.name().to_owned(), Value::text(trace.event(0, event).name));
        }
        trace.each_attribute(0, &mut |scope, name, value| {
            count(Attribute::Named(Named { scope, name: name.to_owned(), slot: 0 }).to_string(), value);
        });
    }
    attributes.iter().for_each(|(attribute, (values, counts))| into.add_counts(attribute, values, counts));
}

/// Whether numbers are the same, or as near as a histogram comes.
fn near(left: f64, right: f64, quantile: bool) -> bool {
    let error = if quantile { 0.011 * left.abs() + 1.0 } else { 1e-9 * left.abs() };
    left == right || left.is_nan() && right.is_nan() || (left - right).abs() <= error
}

/// The spans that pass, on their own.
fn passing(trace: &Spans, predicate: &Predicate) -> Spans {
    let view = View::new(trace);
    let spans = trace.spans.iter().enumerate().filter(|(place, _)| predicate.passes(&view, *place));
    Spans { id: trace.id, spans: spans.map(|(_, span)| span.clone()).collect() }
}

/// What sums answer.
const FUNCTIONS: [&str; 6] = [
    "rate()",
    "count_over_time()",
    "quantile_over_time(duration, 0, .5, .9, 1)",
    "histogram_over_time(duration)",
    "sum_over_time(duration)",
    "avg_over_time(span:duration)",
];
const BY: [&str; 4] = ["", " by(name)", " by(resource.service.name, .a)", " by(kind, status, event.a)"];

/// Each span thrice, at other times, for itself. Where durations are added up, no span ends before it starts.
fn thrice(traces: &[Spans], totals: bool) -> Vec<Spans> {
    let mut all = Vec::new();
    for (trace, span) in traces.iter().flat_map(|trace| trace.spans.iter().map(move |span| (trace, span))) {
        for copy in 0..3u8 {
            let mut span = span.clone().starts(span.start + u64::from(copy)).takes(span.duration + 4 * i64::from(copy));
            span.id += 10 * copy;
            span.duration = if totals { span.duration.max(0) } else { span.duration };
            all.push(Spans { id: trace.id, spans: vec![span] });
        }
    }
    all
}

/// Spans that differ in times and ids only: one of them, and sums of all.
fn sums(spans: &[Spans]) -> Vec<(Spans, Vec<Alike>)> {
    let mut all: std::collections::BTreeMap<String, (Spans, Vec<Alike>)> = std::collections::BTreeMap::new();
    for trace in spans {
        let span = &trace.spans[0];
        let Some(interval) = grid().interval(span.start) else { continue };
        let like = common::Span { id: 0, start: 0, duration: 0, ..span.clone() };
        let (_, sums) = all.entry(format!("{like:?}")).or_insert_with(|| (Spans { id: [0; 16], spans: vec![like] }, Vec::new()));
        let place = sums.iter().position(|sums| sums.interval == interval).unwrap_or_else(|| {
            sums.push(Alike { interval, ..Alike::default() });
            sums.len() - 1
        });
        sums[place].count += 1;
        sums[place].durations.record(u64::try_from(span.duration).unwrap_or(0));
    }
    all.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Scenario: any query. Guarantee: what it prints is read back as the same query, and printed the same again.
    #[test]
    fn queries_read_back(text in random::query()) {
        let parsed = query(&text);
        let printed = parsed.to_string();
        prop_assert_eq!(&query(&printed), &parsed);
        prop_assert_eq!(query(&printed).to_string(), printed);
    }

    /// Scenario: any search of any trace. Guarantee: the spansets, their spans in order and what was computed of them are the
    /// oracle's.
    #[test]
    fn searches_are_the_oracles(trace in random::trace(), text in random::pipeline()) {
        let parsed = query(&text);
        let expected = oracle::search(pipeline(&parsed), &trace);
        let got = evaluate(&parsed, &trace).map_err(|_| oracle::Failed);
        let got = got.map(|all| all.into_iter().map(|set| {
            let spans = set.spans.into_iter().map(|span| span as usize).collect::<Vec<_>>();
            (spans, set.attributes.into_iter().map(|(name, value)| (name, value.into_owned())).collect::<Vec<_>>())
        }).collect::<Vec<_>>());
        prop_assert_eq!(got, expected);
    }

    /// Scenario: any search of any trace, in any range. Guarantee: it is found where the oracle finds it, and then a span that the
    /// conditions ask for is in the range.
    #[test]
    fn traces_are_found_as_by_the_oracle(trace in random::trace(), text in random::pipeline(), range in (998u64..1_012, 1u64..8)) {
        let parsed = query(&text);
        let in_range = |span: usize| (range.0..range.0 + range.1).contains(&trace.spans[span].start);
        let view = View::new(&trace);
        let got = view.pipeline(pipeline(&parsed)).map(|spansets| view.is_found(pipeline(&parsed), &spansets, in_range));
        let expected = oracle::found::is_found(pipeline(&parsed), &trace, in_range);
        prop_assert_eq!(got.clone().map_err(|_| oracle::Failed), expected);
        if got == Ok(true) {
            let found_by = parsed.conditions().found_by;
            prop_assert!((0..trace.spans.len()).any(|span| in_range(span) && found_by.passes(&view, span)), "{:?}", found_by);
        }
    }

    /// Scenario: a trace's spans are kept in another order (P4). Guarantee: the same spans are found, in the same order.
    #[test]
    fn order_does_not_matter(trace in random::trace(), text in random::pipeline()) {
        let parsed = query(&text);
        let mut other = trace.clone();
        other.spans.reverse();
        let find = |trace: &Spans| evaluate(&parsed, trace).ok().map(|all| {
            all.into_iter().map(|set| set.spans.iter().map(|span| (trace.spans[*span as usize].start, trace.spans[*span as usize].id)).collect::<Vec<_>>()).collect::<Vec<_>>()
        });
        // Which of two spans of one id is the parent follows their kinds, not their order; if both are of one kind, either may be.
        let twins = trace.spans.iter().any(|a| trace.spans.iter().filter(|b| a.id == b.id && a.kind == b.kind).count() > 1);
        prop_assume!(!twins);
        prop_assert_eq!(find(&trace), find(&other));
    }

    /// Scenario: any search that does not fail. Guarantee: a trace that matches passes the conditions, each of its spans in an
    /// answer of a single filter does, and if no other spans matter, the spans that pass give the answer on their own.
    #[test]
    fn conditions_are_necessary(trace in random::trace(), text in random::pipeline()) {
        let parsed = query(&text);
        let conditions = parsed.conditions();
        let Ok(found) = evaluate(&parsed, &trace) else { return Ok(()) };
        if found.is_empty() {
            return Ok(());
        }
        prop_assert!(conditions.trace.passes(&View::new(&trace)), "{:?}", conditions.trace);
        let ids = |trace: &Spans, found: &[Spanset<'_>]| found.iter().map(|set| {
            set.spans.iter().map(|span| (trace.spans[*span as usize].start, trace.spans[*span as usize].id)).collect::<Vec<_>>()
        }).collect::<Vec<_>>();
        let left = passing(&trace, &conditions.span);
        let key = |trace: &Spans, span: usize| (trace.spans[span].start, trace.spans[span].id);
        let all: Vec<_> = (0..left.spans.len()).map(|span| key(&left, span)).collect();
        let passed = found.iter().flat_map(|set| &set.spans).all(|span| all.contains(&key(&trace, *span as usize)));
        prop_assert!(passed, "{:?}", conditions.span);
        let answer = passing(&trace, &conditions.answer);
        let all: Vec<_> = (0..answer.spans.len()).map(|span| key(&answer, span)).collect();
        let passed = found.iter().flat_map(|set| &set.spans).all(|span| all.contains(&key(&trace, *span as usize)));
        prop_assert!(passed, "{:?}", conditions.answer);
        if !conditions.whole_trace {
            let again = evaluate(&parsed, &left).unwrap();
            prop_assert_eq!(ids(&trace, &found), ids(&left, &again));
        }
    }

    /// Scenario: spans of any traces, each thrice, summed as far as they differ in times only, and a query that says that sums are
    /// enough. Guarantee: series, samples and exemplars are those of the spans, added one by one.
    #[test]
    fn sums_are_as_good_as_spans(
        traces in prop::collection::vec(random::trace(), 1..4),
        filter in random::condition(1),
        function in prop::sample::select(&FUNCTIONS[..]),
        by in prop::sample::select(&BY[..]),
    ) {
        let parsed = query(&format!("{{ {filter} }} | {function}{by}"));
        let Some(needed) = parsed.sums() else { return Ok(()) };
        prop_assume!(!needed.keys.contains(&Intrinsic::SpanId) && !needed.keys.contains(&Intrinsic::Duration));
        let spans = thrice(&traces, needed.totals);
        let Ok(expected) = accumulate(&parsed, &spans) else { return Ok(()) };
        let mut got = Accumulator::new(series_expr(&parsed), grid(), LIMITS);
        for (like, sums) in sums(&spans) {
            if got.may_count(&like) {
                got.add_alike(&like, &sums).unwrap();
            }
        }
        spans.iter().for_each(|span| got.offer(span));
        prop_assert_eq!(got.bytes() > 0, expected.bytes() > 0);
        prop_assert_eq!(format!("{:?}", got.finish()), format!("{:?}", expected.finish()));
    }

    /// Scenario: any metrics query over any traces. Guarantee: the series and samples are the oracle's, quantiles within 1.1 %.
    #[test]
    fn metrics_are_the_oracles(traces in prop::collection::vec(random::trace(), 0..4), text in random::series()) {
        let parsed = query(&text);
        let expected = oracle::metrics::series(series_expr(&parsed), &traces, &RANGE);
        let got = accumulate(&parsed, &traces).map_err(|_| oracle::Failed).map(|accumulator| accumulator.finish().series);
        prop_assert_eq!(got.is_err(), expected.is_err());
        let (Ok(got), Ok(expected)) = (got, expected) else { return Ok(()) };
        let labels: Vec<_> = got.iter().map(|series| series.labels.clone()).collect();
        prop_assert_eq!(labels, expected.keys().cloned().collect::<Vec<_>>());
        for (series, values) in got.iter().zip(expected.values()) {
            prop_assert_eq!(series.values.len(), values.len());
            let nanos = 1e9 * f64::from(u8::from(text.contains("duration") || text.contains("Start")));
            let unit = if nanos > 0.0 { nanos } else { 1.0 };
            let same = series.values.iter().zip(values).all(|(a, b)| near(*b * unit, *a * unit, text.contains("quantile")));
            prop_assert!(same, "{:?} {:?} {:?}", series.labels, series.values, values);
            prop_assert!(series.exemplars.iter().all(|exemplar| !series.values[exemplar.interval as usize].is_nan()));
        }
    }

    /// Scenario: a metrics query that asks each span on its own, or with the root. Guarantee: each as a trace of its own, or of the
    /// two, gives the same answer; so do its values, each attribute for itself, where all are compared.
    #[test]
    fn spans_on_their_own_are_enough(traces in prop::collection::vec(random::trace(), 0..4), text in random::series()) {
        let parsed = query(&text);
        let reach = parsed.conditions().reach;
        let Ok(whole) = accumulate(&parsed, &traces) else { return Ok(()) };
        if reach == Reach::Trace {
            return Ok(());
        }
        let mut apart = accumulate(&parsed, &[]).unwrap();
        let mut compared = Vec::new();
        for trace in &traces {
            let roots = trace.spans.iter().filter(|span| span.parent == 0 && reach == Reach::Root);
            let root = roots.min_by_key(|span| (span.start, span.id));
            for span in &trace.spans {
                let spans = std::iter::once(span).chain(root).cloned().collect();
                let of_two = Spans { id: trace.id, spans };
                if parsed.conditions().all_attributes {
                    compared.push(of_two);
                } else {
                    apart.add_first(&of_two, 1).unwrap();
                }
            }
        }
        add_by_attribute(&mut apart, &compared);
        let (whole, apart) = (whole.finish(), apart.finish());
        prop_assert_eq!(whole.series.len(), apart.series.len());
        for (a, b) in whole.series.iter().zip(&apart.series) {
            prop_assert_eq!(&a.labels, &b.labels);
            prop_assert!(a.values.iter().zip(&b.values).all(|(a, b)| near(*a, *b, false)), "{:?} {:?}", a, b);
        }
    }

    /// Scenario: the range is counted in three parts, the newest first. Guarantee: in the end, the same answer; before it, only samples that
    /// the whole range has too, at the times of the parts that were counted, unless the query asks for what other times decide.
    #[test]
    fn parts_of_the_range_add_up(
        traces in prop::collection::vec(random::trace(), 0..6),
        text in random::series(),
        cuts in prop::array::uniform2(0u32..4),
    ) {
        let parsed = query(&text);
        let Ok(whole) = accumulate(&parsed, &traces) else { return Ok(()) };
        let whole = whole.finish();
        let mut parts = accumulate(&parsed, &[]).unwrap();
        let [late, early] = [cuts[0].max(cuts[1]), cuts[0].min(cuts[1])].map(|cut| grid().time(cut));
        for (after, until) in [(late, grid().end()), (early, late), (0, early)] {
            parts.count_within(after, until);
            traces.iter().for_each(|trace| parts.add(trace).unwrap());
            if !series_expr(&parsed).is_of_each_time() {
                continue;
            }
            for part in parts.so_far().series {
                let of_whole = whole.series.iter().find(|series| series.labels == part.labels);
                let samples = (0..).zip(&part.values).filter(|(at, value)| grid().time(*at) > after && !value.is_nan());
                for (at, value) in samples {
                    prop_assert!(of_whole.is_some_and(|series| series.values[at as usize] == *value), "{:?} {}", part.labels, at);
                }
            }
        }
        prop_assert_eq!(format!("{:?}", parts.finish()), format!("{:?}", whole));
    }

    /// Scenario: traces are counted in parts, in another order, and merged (P4). Guarantee: the same answer.
    #[test]
    fn parts_merge(traces in prop::collection::vec(random::trace(), 0..6), text in random::series(), at in prop::array::uniform2(0usize..6)) {
        let parsed = query(&text);
        let Ok(whole) = accumulate(&parsed, &traces) else { return Ok(()) };
        let [first, last] = at.map(|at| at.min(traces.len()));
        let (rest, third) = traces.split_at(first.max(last));
        let (first, second) = rest.split_at(first.min(last));
        let mut merged = accumulate(&parsed, second).unwrap().apart();
        [second, third, first].iter().for_each(|part| merged.merge(accumulate(&parsed, part).unwrap()));
        // Histograms may take more or less room, as they came to be.
        prop_assert!(text.contains("over_time") || merged.bytes() == whole.bytes(), "{} {}", merged.bytes(), whole.bytes());
        let (whole, merged) = (whole.finish(), merged.finish());
        prop_assert_eq!(whole.series.len(), merged.series.len());
        for (a, b) in whole.series.iter().zip(&merged.series) {
            prop_assert_eq!(&a.labels, &b.labels);
            prop_assert!(a.values.iter().zip(&b.values).all(|(a, b)| near(*a, *b, false)), "{:?} {:?}", a, b);
            let ids = |series: &Series| series.exemplars.iter().map(|exemplar| (exemplar.interval, exemplar.span_id)).collect::<Vec<_>>();
            prop_assert_eq!(ids(a), ids(b));
        }
    }

    /// Scenario: any text, and any tokens of the language in any order. Guarantee: an answer, which for errors is a place in the
    /// text.
    #[test]
    fn no_text_does_harm(text in any::<String>(), tokens in prop::collection::vec(prop::sample::select(&[
        "{", "}", "(", ")", "|", "&&", "||", ">>", "!~", "&<", "=", "!=", "<", "-", "!", "^", "*", ",", ".a", "span.\"b", "\"x\"", "`", "1",
        "5ms", "1e9", "nil", "true", "error", "name", "by", "count", "coalesce", "rate", "topk", "compare", "with", "select", "quantile_over_time",
        "event:", "parent.", "//", "/*", "\\", "minInt", " ",
    ][..]), 0..20)) {
        for text in [text, tokens.concat(), tokens.join(" ")] {
            if let Err(error) = text.parse::<Query>() {
                let line = text.split('\n').nth(error.line - 1);
                prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{} {:?}", text, error);
                prop_assert!(error.what.starts_with("expected ") || error.kind == ErrorKind::Unsupported, "{}", error);
            }
        }
    }
}
