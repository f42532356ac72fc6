//! What teams get wrong about TraceQL, a test for each row of the table in `docs/traceql.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::borrow::Cow;

use common::{Spans, evaluate, ids, query, search, span, trace};
use meshlake_traceql::*;

const SECOND: u64 = 1_000_000_000;
const LIMITS: MetricsLimits = MetricsLimits { series: 100, exemplars: 100 };

fn answer(text: &str, traces: &[Spans], grid: Grid) -> Vec<Series> {
    let query = query(text);
    let Body::Metrics(series) = &query.body else { panic!("{text} is of no series") };
    let mut accumulator = Accumulator::new(series, grid, LIMITS);
    traces.iter().for_each(|trace| accumulator.add(trace).unwrap());
    accumulator.finish().series
}

/// Series by their labels, as text.
fn series(text: &str, traces: &[Spans], grid: Grid) -> Vec<(String, Vec<f64>)> {
    let labels = |series: &Series| {
        let labels = series.labels.iter().map(|(name, value)| format!("{name}={value}"));
        labels.collect::<Vec<_>>().join(",")
    };
    answer(text, traces, grid).iter().map(|series| (labels(series), series.values.clone())).collect()
}

/// Ten seconds of a trace, one interval.
fn instant() -> Grid {
    Grid::instant(0, 10 * SECOND).unwrap()
}

fn error(text: &str) -> Error {
    match text.parse::<Query>() {
        Ok(query) => panic!("{query} is valid"),
        Err(error) => error,
    }
}

/// A root with two children, the first of which has a child:  1 -> (2 -> 4, 3).
fn family() -> Spans {
    trace(vec![span(1, 0, "root"), span(2, 1, "a"), span(3, 1, "b"), span(4, 2, "leaf")])
}

/// Scenario: row 1, a child in the range whose parent is before it. Guarantee: structure sees both; only the child is counted.
#[test]
fn row_1_time_range() {
    let all = [trace(vec![span(1, 0, "root").starts(5 * SECOND), span(2, 1, "a").starts(15 * SECOND)])];
    let grid = Grid::range(10 * SECOND, 20 * SECOND, Some(5 * SECOND)).unwrap();
    assert_eq!(
        series("{} >> {} | count_over_time()", &all, grid),
        [("__name__=\"count_over_time\"".to_owned(), vec![0.0, 1.0, 0.0])]
    );
    assert_eq!(series("{} | count_over_time()", &all, grid)[0].1, [0.0, 1.0, 0.0]);
    assert_eq!(series("{ rootName = \"root\" } | count_over_time()", &all, grid)[0].1, [0.0, 1.0, 0.0]);
}

/// Scenario: row 2, operators without brackets. Guarantee: their levels are Tempo's.
#[test]
fn row_2_precedence() {
    for (plain, bracketed) in [
        ("{ .a || .b && .c }", "{ (.a || .b) && .c }"),
        ("{ .a && .b || .c }", "{ (.a && .b) || .c }"),
        ("{ !.a = .b }", "{ (!.a) = .b }"),
        ("{ !.a && .b }", "{ (!.a) && .b }"),
        ("{ .a + 1 = 2 * .b ^ 2 ^ .c }", "{ (.a + 1) = (2 * (.b ^ (2 ^ .c))) }"),
        ("{ -.a ^ 2 = 1 }", "{ (-(.a ^ 2)) = 1 }"),
        ("{ .a = .b = true }", "{ (.a = .b) = true }"),
        ("{ .a - 1 - 2 = 1 }", "{ ((.a - 1) - 2) = 1 }"),
        ("{.a} && {.b} >> {.c}", "{.a} && ({.b} >> {.c})"),
        ("{.a} || {.b} && {.c}", "({.a} || {.b}) && {.c}"),
        ("{.a} > {.b} !~ {.c}", "({.a} > {.b}) !~ {.c}"),
    ] {
        assert_eq!(query(plain), query(bracketed), "{plain}");
    }
}

/// Scenario: row 3, structural operators. Guarantee: right-hand spans, each once and never itself; `&` forms both sides; several
/// spansets fail and say what helps.
#[test]
fn row_3_structural_results() {
    let trace = family();
    assert_eq!(ids("{} >> {}", &trace), [2, 3, 4]);
    assert_eq!(ids("{} > {}", &trace), [2, 3, 4]);
    assert_eq!(ids("{} << {}", &trace), [1, 2]);
    assert_eq!(ids("{ name = \"leaf\" } << {}", &trace), [1, 2]);
    assert_eq!(ids("{ name = \"leaf\" } < {}", &trace), [2]);
    assert_eq!(ids("{} ~ {}", &trace), [2, 3]);
    assert_eq!(ids("{ name = \"root\" } &>> { name = \"leaf\" }", &trace), [1, 4]);
    assert_eq!(ids("{ name = \"a\" } &~ {}", &trace), [2, 3]);
    assert_eq!(ids("{ name = \"leaf\" } &< {}", &trace), [2, 4]);
    let several = search("({} | by(name)) >> ({})", &trace).unwrap_err();
    assert!(several.contains("consider using coalesce()"), "{several}");
    assert_eq!(ids("({} | by(name) | coalesce()) >> ({})", &trace), [2, 3, 4]);
}

/// Scenario: row 4, negated forms. Guarantee: right-hand spans that stand so to none of the left side, which may be empty; spans
/// whose position is not known pass.
#[test]
fn row_4_negated_forms() {
    let trace = trace(vec![span(1, 0, "root"), span(2, 1, "a"), span(3, 1, "b"), span(4, 2, "leaf"), span(5, 99, "orphan")]);
    assert_eq!(ids("{ name = \"a\" } !>> {}", &trace), [1, 2, 3, 5]);
    assert_eq!(ids("{ name = \"root\" } !> {}", &trace), [1, 4, 5]);
    assert_eq!(ids("{ name = \"leaf\" } !< {}", &trace), [1, 3, 4, 5]);
    assert_eq!(ids("{ name = \"leaf\" } !<< {}", &trace), [3, 4, 5]);
    assert_eq!(ids("{ name = \"a\" } !~ {}", &trace), [1, 2, 4, 5]);
    assert_eq!(ids("{ name = \"none\" } !>> { name = \"leaf\" }", &trace), [4]);
    assert_eq!(ids("{} !>> { name = \"none\" }", &trace), []);
}

/// Scenario: row 5, nested-set numbers of trees, orphans, several roots, ids of several spans. Guarantee: preorder from 1, children by
/// (start, id); what no root leads to has zeros and stands to nothing.
#[test]
fn row_5_nested_set() {
    let numbers = |trace: &Spans, span: u8| {
        let view = View::new(trace);
        let place = trace.spans.iter().position(|own| own.id == span).unwrap();
        use Intrinsic::*;
        [NestedSetLeft, NestedSetRight, NestedSetParent].map(|of| match view.attribute(place, &Attribute::Intrinsic(of)) {
            Value::Int(number) => number,
            other => panic!("{other}"),
        })
    };
    let tree = family();
    assert_eq!([1, 2, 4, 3].map(|span| numbers(&tree, span)), [[1, 8, -1], [2, 5, 1], [3, 4, 2], [6, 7, 1]]);
    let later = trace(vec![span(1, 0, "root"), span(2, 1, "a").starts(9), span(3, 1, "b").starts(3)]);
    assert_eq!(numbers(&later, 3)[0], 2);

    let orphans = trace(vec![span(1, 0, "root"), span(5, 99, "orphan"), span(6, 5, "below")]);
    assert_eq!([5, 6].map(|span| numbers(&orphans, span)), [[0; 3]; 2]);
    assert_eq!(ids("{ name = \"orphan\" } > {}", &orphans), []);
    assert_eq!(ids("{ nestedSetParent < 0 }", &orphans), [1]);
    assert_eq!(ids("{} | { childCount = 1 }", &orphans), [5]);

    let rootless = trace(vec![span(1, 9, "a"), span(2, 1, "b")]);
    assert_eq!(ids("{ nestedSetLeft = 0 }", &rootless), [1, 2]);
    let circle = trace(vec![span(1, 0, "root"), span(2, 3, "a"), span(3, 2, "b"), span(4, 4, "itself")]);
    assert_eq!(ids("{ nestedSetLeft = 0 }", &circle), [2, 3, 4]);
    let thrice = trace(vec![span(1, 0, "root"), span(2, 1, "a"), span(2, 1, "b").starts(3), span(2, 1, "c").starts(4)]);
    assert_eq!(ids("{ nestedSetLeft > 0 }", &thrice), []);

    let roots = trace(vec![span(1, 0, "a"), span(2, 0, "b"), span(3, 1, "c")]);
    assert_eq!(ids("{} ~ {}", &roots), [1, 2]);
    assert_eq!(numbers(&roots, 2), [5, 6, -1]);

    // Zipkin: client and server of one id, whose parents are chosen by kind.
    let twins = trace(vec![
        span(1, 0, "root"),
        span(2, 1, "client").kind(Kind::Client),
        span(2, 2, "server").starts(3).kind(Kind::Server),
        span(4, 2, "work"),
    ]);
    assert_eq!(ids("{ name = \"client\" } > { name = \"server\" }", &twins), [2]);
    assert_eq!(ids("{ name = \"server\" } > {}", &twins), [4]);
    assert_eq!(ids("{ name = \"client\" } > {}", &twins), [2]);
}

/// Scenario: row 6, spansets joined; Kiali names a trace by its first span. Guarantee: `&&` needs both sides; the side with fewer spans
/// comes first, the right one on a tie.
#[test]
fn row_6_spanset_logic() {
    let trace = family();
    assert_eq!(ids("{ name = \"leaf\" } && {}", &trace), [4, 1, 2, 3]);
    assert_eq!(ids("{ name = \"leaf\" } && {} | select(status)", &trace), [4, 1, 2, 3]);
    assert_eq!(ids("{} && { name = \"leaf\" }", &trace), [4, 1, 2, 3]);
    assert_eq!(ids("{ name = \"root\" } && { name = \"leaf\" }", &trace), [4, 1]);
    assert_eq!(ids("{ name = \"root\" } && { name = \"none\" }", &trace), []);
    assert_eq!(ids("{ name = \"root\" } || { name = \"none\" }", &trace), [1]);
    assert_eq!(ids("{ name = \"root\" } || {}", &trace), [1, 2, 3, 4]);
}

/// Scenario: row 7, attributes that are missing. Guarantee: every comparison is false; `nil` asks for them; `!` of a comparison is
/// true, of the attribute itself fails; what is always there cannot be asked for.
#[test]
fn row_7_missing_attributes() {
    let trace = trace(vec![span(1, 0, "has").with("a", "x").with("n", 1).with("flag", true), span(2, 1, "lacks")]);
    for nothing in
        ["{ .a != \"x\" }", "{ .a !~ \"x\" }", "{ .a != .b }", "{ .b != .c }", "{ .n < 1 }", "{ .zzz = .zzz }", "{ nil = nil }"]
    {
        assert_eq!(ids(nothing, &trace), [], "{nothing}");
    }
    assert_eq!(ids("{ .a != nil }", &trace), [1]);
    assert_eq!(ids("{ nil != .a }", &trace), [1]);
    assert_eq!(ids("{ .a = nil }", &trace), [2]);
    assert_eq!(ids("{ !(.a = \"x\") }", &trace), [2]);
    assert_eq!(ids("{ span:parentID != nil }", &trace), [2]);
    for failing in ["{ !.flag }", "{ !.a }", "{ -.n > 0 }"] {
        assert!(search(failing, &trace).is_err(), "{failing}");
    }
    assert_eq!(ids("{ .n = 1 && !.flag }", &trace), []);
    assert_eq!(error("{ name = nil }").kind, ErrorKind::Type);
    assert_eq!(error("{ resource.service.name = nil }").kind, ErrorKind::Type);
    assert_eq!(ids("{ resource.service.name != nil }", &trace), []);
}

/// Scenario: row 8, values of different types. Guarantee: numbers compare with numbers, durations in nanoseconds; nothing else
/// does; integers divide to integers, and not by zero.
#[test]
fn row_8_types() {
    let trace = trace(vec![span(1, 0, "int").with("s", 500).takes(7), span(2, 1, "text").with("s", "500").takes(3)]);
    assert_eq!(ids("{ .s != \"200\" }", &trace), [2]);
    assert_eq!(ids("{ .s != 200 }", &trace), [1]);
    assert_eq!(ids("{ .s = 500.0 }", &trace), [1]);
    assert_eq!(ids("{ .s >= 500ns }", &trace), [1]);
    assert_eq!(ids("{ duration > 5 }", &trace), [1]);
    assert_eq!(ids("{ duration > 6.5 }", &trace), [1]);
    assert_eq!(ids("{ .s / 3 = 166 }", &trace), [1]);
    assert_eq!(ids("{ .s / 3.0 = 166 }", &trace), []);
    assert!(search("{ .s / 0 = 1 }", &trace).is_err());
    assert!(search("{ .s % 0 = 1 }", &trace).is_err());
    assert_eq!(ids("{ .s / 0.0 > 1 }", &trace), [1]);
    for wrong in ["{ status > error }", "{ kind <= server }", "{ status = \"error\" }", "{ name = 3 }", "{ true < false }"] {
        assert_eq!(error(wrong).kind, ErrorKind::Type, "{wrong}");
    }
    assert_eq!(ids("{ .s = error }", &trace), []);
}

/// Scenario: row 9, one name in several scopes. Guarantee: filters look at span, resource, event, link, instrumentation; groups of
/// metrics at span and resource.
#[test]
fn row_9_scope() {
    let mut linked = span(4, 1, "link");
    linked.links.push((1, vec![("x".to_owned(), Value::Int(4))]));
    let mut library = span(5, 1, "library");
    library.instrumentation.push(("x".to_owned(), Value::Int(5)));
    let trace = trace(vec![
        span(1, 0, "span").with("x", 1).of_resource("x", 2).event("e", &[("x", 3)]),
        span(2, 1, "resource").of_resource("x", 2).event("e", &[("x", 3)]),
        span(3, 1, "event").event("e", &[("x", 3)]),
        linked,
        library,
    ]);
    for x in 1..=5 {
        assert_eq!(ids(&format!("{{ .x = {x} }}"), &trace), [x], "{x}");
    }
    assert_eq!(ids("{ resource.x = 2 }", &trace), [1, 2]);
    assert_eq!(ids("{ event.x = 3 }", &trace), [1, 2, 3]);
    assert_eq!(ids("{ link.x = 4 }", &trace), [4]);
    assert_eq!(ids("{ instrumentation.x = 5 }", &trace), [5]);
    let groups: Vec<_> =
        series("{} | count_over_time() by(.x)", &[trace], instant()).into_iter().map(|(labels, _)| labels).collect();
    assert_eq!(groups, [".x=nil", ".x=1", ".x=2"]);
}

/// Scenario: row 10, arrays. Guarantee: any element matches, for `!=` and `!~` all; two arrays and arithmetic fail.
#[test]
fn row_10_arrays() {
    let array = |values: &'static [i64]| Value::Array(Array::Int(Cow::Borrowed(values)));
    let texts = Value::Array(Array::Text(vec!["foo".into(), "bar".into()]));
    let trace = trace(vec![span(1, 0, "a").with("n", array(&[1, 5])).with("t", texts), span(2, 1, "b").with("n", array(&[]))]);
    for (matches, text) in [
        (&[1][..], "{ .n = 5 }"),
        (&[1], "{ 5 = .n }"),
        (&[1], "{ .n > 4 }"),
        (&[1], "{ 4 < .n }"),
        (&[2], "{ .n != 5 }"),
        (&[1, 2], "{ .n != 7 }"),
        (&[], "{ .n != \"x\" }"),
        (&[1], "{ .n < 1.5 }"),
        (&[1], "{ .t =~ \"f.*\" }"),
        (&[], "{ .t !~ \"f.*\" }"),
        (&[1], "{ .t !~ \"x\" }"),
        (&[], "{ .n =~ \"5\" }"),
    ] {
        assert_eq!(ids(text, &trace), matches, "{text}");
    }
    assert!(search("{ .n = .n }", &trace).is_err());
    assert!(search("{ .n + 1 = 2 }", &trace).is_err());
}

/// Scenario: row 11, regular expressions. Guarantee: they match whole texts, `.` newlines too, in Go's dialect; only constants.
#[test]
fn row_11_regular_expressions() {
    let trace = trace(vec![span(1, 0, "shop"), span(2, 1, "shop\nkeeper"), span(3, 1, "a7")]);
    assert_eq!(ids("{ name =~ \"hop\" }", &trace), []);
    assert_eq!(ids("{ name =~ \".hop\" }", &trace), [1]);
    assert_eq!(ids("{ name =~ \"shop.*\" }", &trace), [1, 2]);
    assert_eq!(ids("{ name !~ \"shop|x\" }", &trace), [2, 3]);
    assert_eq!(ids("{ name =~ `a\\d` }", &trace), [3]);
    assert_eq!(error("{ name =~ .x }").kind, ErrorKind::Type);
    assert_eq!(error("{ name =~ \"(\" }").kind, ErrorKind::Type);
    assert_eq!(error("{ .x =~ 5 }").kind, ErrorKind::Type);
}

/// Scenario: row 12, pipelines. Guarantee: groups by typed values, the missing one among them; groups of groups; coalesced without
/// what was computed; aggregates skip what is missing and drop spansets without any; only `aggregate op number` is answered.
#[test]
fn row_12_pipelines() {
    let trace =
        trace(vec![span(1, 0, "a").with("x", 1), span(2, 1, "a").with("x", "1"), span(3, 1, "b"), span(4, 2, "b").with("x", 1)]);
    assert_eq!(search("{} | by(.x)", &trace).unwrap(), [vec![1, 4], vec![2], vec![3]]);
    assert_eq!(search("{} | by(.x) | by(name)", &trace).unwrap(), [[1], [4], [2], [3]]);
    assert_eq!(search("{} | by(.x) | count() > 1", &trace).unwrap(), [[1, 4]]);
    assert_eq!(ids("{} | by(name) | coalesce() | count() = 4", &trace), [1, 2, 3, 4]);
    assert_eq!(ids("{ name = \"a\" } >> {} | count() = 3", &trace), [2, 3, 4]);
    assert_eq!(search("{} | by(name) | max(.x) >= 1", &trace).unwrap(), [vec![1, 2], vec![3, 4]]);
    assert_eq!(ids("{} | sum(.x) = 2", &trace), [1, 2, 3, 4]);
    assert_eq!(ids("{} | avg(.x) = 1", &trace), [1, 2, 3, 4]);
    assert_eq!(search("{ name = \"b\" } | by(.x) | min(.x) < 5", &trace).unwrap(), [[4]]);
    let grouped = query("{} | by(.x) | count() > 1");
    let sets = evaluate(&grouped, &trace).unwrap();
    assert_eq!(sets[0].attributes, [("by(.x)".to_owned(), Value::Int(1)), ("count()".to_owned(), Value::Int(2))]);
    let coalesced = query("{} | by(.x) | count() > 1 | coalesce()");
    assert!(evaluate(&coalesced, &trace).unwrap()[0].attributes.is_empty());
    for unsupported in ["3 < count()", "{} | count() + 1 > 2", "({} | count()) > ({} | count())", "{} | 2 > 1"] {
        let error = error(unsupported);
        assert_eq!(error.kind, ErrorKind::Unsupported, "{unsupported}");
        assert!(error.to_string().contains("not yet supported"));
    }
}

/// Scenario: row 13, select. Guarantee: it changes nothing of the spans, whatever it names.
#[test]
fn row_13_select() {
    let trace = family();
    assert_eq!(ids("{ name != \"a\" } | select(.missing, name) | count() = 3", &trace), [1, 3, 4]);
    let Body::Search(pipeline) = query("{} | select(.a, span.b, name)").body else { panic!() };
    let Stage::Select(attributes) = &pipeline.stages[1] else { panic!() };
    assert_eq!(attributes.iter().map(Attribute::key).collect::<Vec<_>>(), ["a", "b", "name"]);
}

/// Scenario: row 14, the intervals of a range. Guarantee: start down, end up, one more before; right-closed, stamped with their end;
/// steps that nobody asked for.
#[test]
fn row_14_grid() {
    let grid = Grid::range(61 * SECOND, 179 * SECOND, Some(60 * SECOND)).unwrap();
    let times: Vec<u64> = (0..grid.len() as u32).map(|interval| grid.time(interval) / SECOND).collect();
    assert_eq!(times, [60, 120, 180]);
    for (second, interval) in [(0, None), (1, Some(0)), (60, Some(0)), (61, Some(1)), (120, Some(1)), (180, Some(2)), (181, None)] {
        assert_eq!(grid.interval(second * SECOND), interval, "{second}");
    }
    assert_eq!(Grid::range(60 * SECOND, 120 * SECOND, Some(30 * SECOND)).unwrap().time(0), 60 * SECOND);
    let instant = Grid::range(61 * SECOND, 181 * SECOND, Some(120 * SECOND)).unwrap();
    assert_eq!((instant.len(), instant.time(0), instant.interval(61 * SECOND)), (1, 181 * SECOND, None));
    for (range, step) in [
        (30.0, 0.05),
        (60.0, 1.0),
        (1_200.0, 5.0),
        (3_600.0, 15.0),
        (6.0 * 3_600.0, 60.0),
        (24.0 * 3_600.0, 300.0),
        (7.0 * 86_400.0, 2_400.0),
        (30.0 * 86_400.0, 3.0 * 3_600.0),
    ] {
        let end = SECOND * 1_000_000 + (range * SECOND as f64) as u64;
        assert_eq!(Grid::range(SECOND * 1_000_000, end, None).unwrap().step_seconds(), step, "{range}");
    }
    let spans = [trace(vec![
        span(1, 0, "a").starts(60 * SECOND),
        span(2, 1, "b").starts(61 * SECOND),
        span(3, 1, "c").starts(120 * SECOND),
    ])];
    assert_eq!(series("{} | rate()", &spans, grid)[0].1, [1.0 / 60.0, 2.0 / 60.0, 0.0]);
    assert!(
        Grid::range(5, 5, None).is_err() && Grid::range(0, SECOND, Some(0)).is_err() && Grid::range(0, SECOND, Some(1)).is_err()
    );
}

/// Scenario: row 15, intervals without spans. Guarantee: counts, histograms and quantiles are 0; the others have no sample.
#[test]
fn row_15_gaps() {
    let spans = [trace(vec![span(1, 0, "a").starts(15 * SECOND).with("n", -3)])];
    let grid = Grid::range(10 * SECOND, 20 * SECOND, Some(10 * SECOND / 2)).unwrap();
    for counted in ["rate()", "count_over_time()", "histogram_over_time(duration)", "quantile_over_time(duration, .5)"] {
        let values = &series(&format!("{{}} | {counted}"), &spans, grid)[0].1;
        assert!(values[0] == 0.0 && values[1] > 0.0 && values[2] == 0.0, "{counted} {values:?}");
    }
    for of in ["min", "max", "avg", "sum"] {
        let values = &series(&format!("{{}} | {of}_over_time(.n)"), &spans, grid)[0].1;
        assert!(values[0].is_nan() && values[1] == -3.0 && values[2].is_nan(), "{of} {values:?}");
    }
    assert!(series("{} | sum_over_time(.missing)", &spans, grid).is_empty());
    assert!(series("{ false } | rate()", &spans, grid).is_empty());
}

/// Scenario: row 16, quantiles and histograms. Guarantee: nearest rank within 1.1 %, label `p` a float; buckets of powers of two of
/// nanoseconds, their bound in seconds, inclusive; floats are dropped.
#[test]
fn row_16_quantiles() {
    let spans: Vec<_> = (1..=100).map(|id| span(id, 0, "a").takes(i64::from(id) * 1_000_000).with("f", 1.5)).collect();
    let spans = [trace(spans)];
    let quantiles = series("{} | quantile_over_time(duration, 0.5, .99, 1)", &spans, instant());
    let labels: Vec<_> = quantiles.iter().map(|(labels, _)| labels.as_str()).collect();
    assert_eq!(labels, ["p=0.5", "p=0.99", "p=1.0"]);
    for ((_, values), exact) in quantiles.iter().zip([0.050, 0.099, 0.100]) {
        assert!((values[0] / exact - 1.0).abs() <= 0.011, "{values:?} {exact}");
    }
    let powers = [trace([1, 2, 3, 4, 1024].iter().zip(1..).map(|(nanos, id)| span(id, 0, "a").takes(*nanos)).collect())];
    let buckets = series("{} | histogram_over_time(duration)", &powers, instant());
    let expected = [("__bucket=2e-9", 1.0), ("__bucket=4e-9", 2.0), ("__bucket=1.024e-6", 1.0)];
    assert_eq!(buckets, expected.map(|(label, count)| (label.to_owned(), vec![count])));
    assert!(series("{} | quantile_over_time(.f, .5)", &spans, instant()).is_empty());
    assert!(series("{} | histogram_over_time(.f)", &spans, instant()).is_empty());
}

/// Scenario: row 17, units. Guarantee: durations of spans are seconds, other durations nanoseconds, but in quantiles and buckets
/// seconds; a duration that series are compared with is seconds.
#[test]
fn row_17_units() {
    let spans = [trace(vec![span(1, 0, "a").takes(2_000_000_000)])];
    let value = |text: &str| series(text, &spans, instant())[0].1[0];
    assert_eq!(value("{} | max_over_time(duration)"), 2.0);
    assert_eq!(value("{} | avg_over_time(span:duration)"), 2.0);
    assert_eq!(value("{} | max_over_time(traceDuration)"), 2e9);
    assert!((value("{} | quantile_over_time(traceDuration, .5)") - 2.0).abs() < 0.03);
    assert_eq!(series("{} | histogram_over_time(trace:duration)", &spans, instant())[0].0, "__bucket=2.147483648");
    assert_eq!(value("{} | max_over_time(duration) > 1500ms"), 2.0);
    assert!(series("{} | max_over_time(duration) > 2s", &spans, instant()).is_empty());
}

/// Scenario: row 18, labels. Guarantee: at most five (four with a label of the function); missing ones are left out, but for one if
/// all are; without any the name; values keep their type.
#[test]
fn row_18_labels() {
    let spans = [trace(vec![span(1, 0, "a").with("x", 200).with("y", "z"), span(2, 1, "a").with("x", "200"), span(3, 1, "a")])];
    let labels = |text: &str| series(text, &spans, instant()).into_iter().map(|(labels, _)| labels).collect::<Vec<_>>();
    assert_eq!(labels("{} | rate() by(span.x, span.y)"), ["span.x=nil", "span.x=200,span.y=\"z\"", "span.x=\"200\""]);
    assert_eq!(labels("{} | rate()"), ["__name__=\"rate\""]);
    assert_eq!(labels("{} | quantile_over_time(duration, .5) by(.x)"), [".x=200,p=0.5", ".x=\"200\",p=0.5", "p=0.5"]);
    assert!("{} | rate() by(.a, .b, .c, .d, .e)".parse::<Query>().is_ok());
    assert_eq!(error("{} | rate() by(.a, .b, .c, .d, .e, .f)").kind, ErrorKind::Limit);
    assert_eq!(error("{} | quantile_over_time(duration, .5) by(.a, .b, .c, .d, .e)").kind, ErrorKind::Limit);
}

/// Scenario: row 19, stages of series and arithmetic. Guarantee: the top is chosen at each time; samples go, then empty series; equal
/// labels are joined, and a series without labels with all.
#[test]
fn row_19_series() {
    let at = |id: u8, name: &str, second: u64| span(id, 0, name).starts(second * SECOND);
    let spans = [trace(vec![at(1, "a", 1), at(2, "a", 1), at(3, "b", 1), at(4, "b", 6), at(5, "b", 6), at(6, "c", 6)])];
    let grid = Grid::range(5 * SECOND, 10 * SECOND - 1, Some(5 * SECOND)).unwrap();
    let text = |text: &str| {
        let row = |(labels, values): (String, Vec<f64>)| format!("{labels} {values:?}");
        series(text, &spans, grid).into_iter().map(row).collect::<Vec<_>>()
    };
    let counts = "{} | count_over_time() by(name)";
    assert_eq!(text(counts), ["name=\"a\" [2.0, 0.0]", "name=\"b\" [1.0, 2.0]", "name=\"c\" [0.0, 1.0]"]);
    assert_eq!(text(&format!("{counts} | topk(1)")), ["name=\"a\" [2.0, NaN]", "name=\"b\" [NaN, 2.0]"]);
    assert_eq!(text(&format!("{counts} | bottomk(1)")), ["name=\"a\" [NaN, 0.0]", "name=\"c\" [0.0, NaN]"]);
    assert_eq!(text(&format!("{counts} | topk(3)")), text(counts));
    assert_eq!(text(&format!("{counts} > 1")), ["name=\"a\" [2.0, NaN]", "name=\"b\" [NaN, 2.0]"]);
    let share = format!("({counts}) / ({{}} | count_over_time())");
    assert_eq!(
        text(&share),
        [
            "name=\"a\" [0.6666666666666666, 0.0]",
            "name=\"b\" [0.3333333333333333, 0.6666666666666666]",
            "name=\"c\" [0.0, 0.3333333333333333]"
        ]
    );
    assert_eq!(
        text("({} | count_over_time()) + ({} | count_over_time())"),
        ["__name__=\"(count_over_time + count_over_time)\" [6.0, 6.0]"]
    );
    assert_eq!(
        text("({ name = \"a\" } | count_over_time() by(name)) * ({} | count_over_time() by(name))"),
        ["name=\"a\" [4.0, 0.0]"]
    );
    assert_eq!(text(&format!("({counts}) * 2 > 3")), ["name=\"a\" [4.0, NaN]", "name=\"b\" [NaN, 4.0]"]);
    assert_eq!(text("1 / ({ name = \"a\" } | count_over_time())"), ["__name__=\"count_over_time\" [0.5, NaN]"]);
}

/// Scenario: row 20, compare(). Guarantee: the baseline is the rest; the window is right-closed; the most frequent values, totals and
/// a mark where there are more; nothing of durations, ids and positions.
#[test]
fn row_20_compare() {
    let at = |id: u8, host: &str, second: u64, status| span(id, 0, "op").starts(second * SECOND).status(status).with("host", host);
    let spans = [trace(vec![
        at(1, "a", 1, Status::Error),
        at(2, "b", 2, Status::Error),
        at(3, "b", 3, Status::Ok),
        at(4, "c", 4, Status::Ok),
        at(5, "d", 5, Status::Ok),
    ])];
    let compared = |text: &str| {
        series(text, &spans, instant()).into_iter().filter(|(labels, _)| labels.contains("span.host")).collect::<Vec<_>>()
    };
    let row = |labels: &str, value: f64| (labels.to_owned(), vec![value]);
    assert_eq!(
        compared("{} | compare({ status = error })"),
        [
            row("__meta_type=\"baseline\",span.host=\"b\"", 1.0),
            row("__meta_type=\"baseline\",span.host=\"c\"", 1.0),
            row("__meta_type=\"baseline\",span.host=\"d\"", 1.0),
            row("__meta_type=\"baseline_total\",span.host=nil", 3.0),
            row("__meta_type=\"selection\",span.host=\"a\"", 1.0),
            row("__meta_type=\"selection\",span.host=\"b\"", 1.0),
            row("__meta_type=\"selection_total\",span.host=nil", 2.0),
        ]
    );
    let window = compared("{} | compare({ status = error }, 1, 1000000000, 2000000000)");
    let labels: Vec<_> = window.iter().map(|(labels, values)| (labels.as_str(), values[0])).collect();
    assert!(labels[0].1.is_nan());
    assert_eq!(
        labels[1..],
        [
            ("__meta_type=\"baseline\",span.host=\"a\"", 1.0),
            ("__meta_type=\"baseline_total\",span.host=nil", 4.0),
            ("__meta_type=\"selection\",span.host=\"b\"", 1.0),
            ("__meta_type=\"selection_total\",span.host=nil", 1.0),
        ]
    );
    assert_eq!(labels[0].0, "__meta_error=\"__too_many_values__\",span.host=nil");
    let names: std::collections::BTreeSet<_> = answer("{} | compare({ status = error })", &spans, instant())
        .into_iter()
        .map(|series| series.labels[1].0.clone())
        .collect();
    let expected =
        ["instrumentation:name", "instrumentation:version", "kind", "name", "rootName", "span.host", "status", "statusMessage"];
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(error("{} | compare({ status = error }) | topk(1)").kind, ErrorKind::Type);
    assert_eq!(error("{} | compare({ status = error }, 1001)").kind, ErrorKind::Limit);
}

/// Scenario: row 21, a span with several events and links. Guarantee: within one pair of braces, one event and one link are meant;
/// between braces, any.
#[test]
fn row_21_events_and_links() {
    let trace = trace(vec![span(1, 0, "a").event("a", &[("x", 1)]).event("b", &[("x", 2)])]);
    assert_eq!(ids("{ event:name = \"a\" && event.x = 1 }", &trace), [1]);
    assert_eq!(ids("{ event:name = \"a\" && event.x = 2 }", &trace), []);
    assert_eq!(ids("{ event:name = \"a\" } && { event.x = 2 }", &trace), [1]);
    assert_eq!(ids("{ event.x = 2 || event.x = 7 }", &trace), [1]);
    assert_eq!(ids("{ event.x != 1 }", &trace), [1]);
    assert_eq!(ids("{ event.x = 3 }", &trace), []);
    assert_eq!(ids("{ event:timeSinceStart = 5ns && event.x = 2 }", &trace), [1]);
    assert_eq!(ids("{} | by(event:name) | count() = 1", &trace), [1]);
}

/// Scenario: row 22, how an answer is limited is for who asks traces one by one. Guarantee: hints reach it.
#[test]
fn row_22_hints() {
    let parsed = query("{} with(most_recent=true, sample=0.5) with(most_recent=false)");
    assert_eq!(parsed.hint("most_recent"), Some(&Literal::Bool(false)));
    assert_eq!(parsed.hint("sample"), Some(&Literal::Float(0.5)));
    assert_eq!(parsed.hint("safe"), None);
}

/// Scenario: row 23, where Tempo computes wrongly. Guarantee: not we.
#[test]
fn row_23_bugs_not_copied() {
    let trace = trace(vec![
        span(1, 0, "a").with("n", -1).with("f", -1.5).with("m", 1),
        span(2, 1, "b").with("n", -2).with("f", -2.5).with("m", 2.5),
    ]);
    assert_eq!(ids("{ 2 ^ 3 = 8 }", &trace), [1, 2]);
    assert_eq!(ids("{ .n ^ 2 = 4 }", &trace), [2]);
    assert_eq!(ids("{} | avg(.n) = -1.5", &trace), [1, 2]);
    assert_eq!(ids("{} | min(.f) = -2.5 | max(.f) = -1.5", &trace), [1, 2]);
    assert_eq!(ids("{} | sum(.m) = 3.5 | avg(.m) = 1.75", &trace), [1, 2]);
    assert_eq!(ids("{ .zzz || .n = -1 }", &trace), [1]);
    assert_eq!(series("{} | max_over_time(.f)", &[trace], instant())[0].1, [-1.5]);
}

/// Scenario: exemplars. Guarantee: spans that the series was made of, no more than asked for; of counts they carry the count; of
/// quantiles they are of the least quantile that is not below them.
#[test]
fn exemplars() {
    let traces: Vec<Spans> = (1..=3u8)
        .map(|id| Spans {
            id: [id; 16],
            spans: vec![span(id, 0, "a").starts(u64::from(id) * SECOND).takes(i64::from(id) * 1_000_000_000)],
        })
        .collect();
    let grid = Grid::range(SECOND, 3 * SECOND, Some(SECOND)).unwrap();
    let rate = answer("{} | count_over_time()", &traces, grid);
    let ids: Vec<_> = rate[0].exemplars.iter().map(|exemplar| (exemplar.trace_id[0], exemplar.value, exemplar.interval)).collect();
    assert_eq!(ids, [(1, 1.0, 0), (2, 1.0, 1), (3, 1.0, 2)]);
    assert_eq!(answer("{} | max_over_time(duration)", &traces, grid)[0].exemplars[2].value, 3.0);
    let quantiles = answer("{} | quantile_over_time(duration, 0, 1)", &traces, instant());
    assert_eq!(quantiles.iter().map(|series| series.exemplars.len()).collect::<Vec<_>>(), [1, 0]);
    let query = query("{} | rate()");
    let Body::Metrics(expr) = &query.body else { panic!() };
    let mut limited = Accumulator::new(expr, grid, MetricsLimits { series: 100, exemplars: 2 });
    traces.iter().for_each(|trace| limited.add(trace).unwrap());
    assert_eq!(limited.finish().series[0].exemplars.len(), 2);
}

/// Scenario: more series than the limit (P6, P10). Guarantee: the answer has as many, and says that it is not whole.
#[test]
fn too_many_series() {
    let spans = trace((1..=5).map(|id| span(id, 0, "a").with("x", i64::from(id))).collect());
    let query = query("{} | rate() by(.x)");
    let Body::Metrics(expr) = &query.body else { panic!() };
    let mut accumulator = Accumulator::new(expr, instant(), MetricsLimits { series: 3, exemplars: 0 });
    accumulator.add(&spans).unwrap();
    let answer = accumulator.finish();
    assert_eq!((answer.series.len(), answer.truncated), (3, true));
}

/// Scenario: what a scan may skip. Guarantee: tests of one attribute with a constant, joined as the filter is, and nothing that does not
/// follow; other spans matter where positions or the trace are asked for.
#[test]
fn conditions() {
    let needs = |text: &str| query(text).conditions();
    for (text, whole_trace) in [
        ("{ .a = 1 }", false),
        ("{ .a } && { .b } || { .c }", false),
        ("{ .a } | by(name) | count() > 1 | rate() by(status)", false),
        ("{ .a } >> { .b }", true),
        ("({ .a } !~ { .b } | by(name)) || {}", true),
        ("{ rootName = \"x\" }", true),
        ("{ .a } | by(childCount)", true),
        ("{ .a } | select(nestedSetLeft)", true),
        ("{ .a } | max(traceDuration) > 1s", true),
        ("{ .a } | rate() by(rootServiceName)", true),
        ("{ .a } | compare({ .b })", true),
    ] {
        assert_eq!(needs(text).whole_trace, whole_trace, "{text}");
    }
    let Predicate::All(all) = needs("{ .a = 1 && (name =~ \"x\" || 5 < .b) && !(.c = 1) }").span else { panic!() };
    assert!(matches!(&all[..], [Predicate::Test(_, Test::Compare(Comparison::Eq, Literal::Int(1))), Predicate::Any(_)]), "{all:?}");
    let Predicate::Any(any) = &all[1] else { panic!() };
    let [Predicate::Test(_, Test::Match(_, false)), Predicate::Test(_, Test::Compare(op, Literal::Int(5)))] = &any[..] else {
        panic!()
    };
    assert_eq!(*op, Comparison::Gt);
    assert_eq!(needs("{ .a } && {}").span, Predicate::ANY_SPAN);
    assert!(matches!(needs("{ .a } && {}").trace, TracePredicate::All(all) if all.len() == 2));
    assert_eq!(needs("{ false }").span, Predicate::Any(Vec::new()));
    assert_eq!(needs("by(.a) | { .b = 1 }").span, Predicate::ANY_SPAN);
    assert_eq!(
        needs("{ name = \"x\" && duration > 1 } | by(status)").intrinsics,
        [Intrinsic::Duration, Intrinsic::Name, Intrinsic::Status]
    );
    assert!(needs("{} | compare({ .b })").all_attributes);
}

/// Scenario: a huge trace in shapes that tempt to look at all pairs, and many groups. Guarantee: an answer in time.
#[test]
fn huge_traces_are_answered() {
    struct Huge(Vec<(u32, u32)>);
    impl Huge {
        fn id(number: u32) -> [u8; 8] {
            u64::from(number).to_be_bytes()
        }
    }
    impl Trace for Huge {
        fn id(&self) -> [u8; 16] {
            [1; 16]
        }
        fn len(&self) -> usize {
            self.0.len()
        }
        fn facts(&self, span: usize) -> SpanFacts {
            let (id, parent) = self.0[span];
            let (id, parent_id) = (Huge::id(id), Huge::id(parent));
            SpanFacts { id, parent_id, start: span as u64, duration: span as i64, kind: Kind::Server, status: Status::Ok }
        }
        fn name(&self, _: usize) -> &str {
            "huge"
        }
        fn status_message(&self, _: usize) -> &str {
            ""
        }
        fn service_name(&self, _: usize) -> Option<&str> {
            None
        }
        fn instrumentation(&self, _: usize) -> (&str, &str) {
            ("", "")
        }
        fn attribute(&self, _: usize, _: Owner, _: &Named) -> Value<'_> {
            Value::Nil
        }
        fn events(&self, _: usize) -> usize {
            0
        }
        fn event(&self, _: usize, _: usize) -> Event<'_> {
            Event { name: "", since_start: 0 }
        }
        fn links(&self, _: usize) -> usize {
            0
        }
        fn link(&self, _: usize, _: usize) -> Link {
            Link { trace_id: [0; 16], span_id: [0; 8] }
        }
        fn each_attribute(&self, _: usize, _: &mut dyn FnMut(Scope, &str, Value<'_>)) {}
    }
    let shapes: [fn(u32) -> u32; 3] = [|number| number - 1, |number| u32::from(number > 1), |number| number / 2];
    for shape in shapes {
        let huge = Huge((1..=100_000).map(|number| (number, shape(number))).collect());
        for text in [
            "{} >> {}",
            "{} << {}",
            "{} &~ {}",
            "{} !> {}",
            "{} && {} || {}",
            "{} | by(duration) | { true } >> { true }",
            "{} | by(duration) | { true } && { true } | coalesce()",
        ] {
            let start = std::time::Instant::now();
            evaluate(&query(text), &huge).unwrap();
            assert!(start.elapsed().as_secs() < 60, "{text} {:?}", start.elapsed());
        }
    }
}
