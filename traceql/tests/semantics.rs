//! What teams get wrong about searches in TraceQL, a test for each row of the notes on its semantics; rows 14 to 20 are in `metrics.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::borrow::Cow;

use common::series::{SECOND, instant, series};
use common::{Spans, error, evaluate, ids, pipeline, query, search, span, trace};
use meshlake_traceql::*;

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

/// Scenario: row 1, searches in a range, which a span before it, one in it and one after it overlap. Guarantee: structure sees all of them;
/// the trace is found only if a span of the answer starts in the range; of a filter before `&& {}`, too, and of the left side of `>> {}`.
#[test]
fn row_1_time_range_of_searches() {
    let all = trace(vec![span(1, 0, "root").takes(100), span(2, 1, "a"), span(3, 2, "b").with("n", 1)]);
    for (text, found_at) in [
        ("{}", &[1, 2, 3][..]),
        ("{ name = \"a\" }", &[2]),
        ("{ name = \"root\" } >> { name = \"a\" }", &[2]),
        ("{ name = \"a\" } && { name = \"b\" }", &[2, 3]),
        ("{ name = \"a\" } && {}", &[2]),
        ("{} && { name = \"a\" && !(.n = 1) }", &[2]),
        ("{ .n + 1 = 2 } && {}", &[3]),
        ("{ .n + 1 = 2 } && { name = \"a\" }", &[2, 3]),
        ("{ name = \"a\" } && { true && (.n = 1 || true) }", &[2]),
        ("{ name = \"root\" } >> {}", &[]),
        ("{ name = \"a\" } &>> {}", &[2]),
        ("({ name = \"a\" } || { name = \"b\" }) && {}", &[2, 3]),
        ("({ name = \"a\" } && {}) || {}", &[1, 2, 3]),
        ("{ name = \"c\" } !>> {}", &[1, 2, 3]),
        ("{} | { name = \"b\" }", &[3]),
    ] {
        let view = View::new(&all);
        let query = query(text);
        let spansets = view.pipeline(pipeline(&query)).unwrap();
        assert!(!spansets.is_empty(), "{text}");
        let starts: Vec<u64> =
            (0..5).filter(|at| view.is_found(pipeline(&query), &spansets, |span| all.spans[span].start == *at)).collect();
        assert_eq!(starts, found_at, "{text}");
    }
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

/// Scenario: row 22, how an answer is limited is for who asks traces one by one: `searches_find_what_the_traces_say` and `pages_are_one_search`
/// of the crate `query` are about that. Guarantee: hints reach it.
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
        ("{ .a && span.meshlake.entry }", true),
        ("{ .meshlake.entry }", false),
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
    for (text, is_parent) in
        [("{ .a } >> { .b }", true), ("{ .a } &> { .b }", true), ("{ .a } << { .b }", false), ("{ .a } ~ { .b }", false)]
    {
        let TracePredicate::All(all) = needs(text).trace else { panic!("{text}") };
        let [left, TracePredicate::Has(_)] = &all[..] else { panic!("{text}") };
        assert_eq!(matches!(left, TracePredicate::Parent(_)), is_parent, "{text}");
    }
    assert!(matches!(needs("{ .a } !> { .b }").trace, TracePredicate::Has(_)));
    assert_eq!(needs("{ false }").span, Predicate::Any(Vec::new()));
    assert_eq!(needs("by(.a) | { .b = 1 }").span, Predicate::ANY_SPAN);
    assert_eq!(
        needs("{ name = \"x\" && duration > 1 } | by(status)").intrinsics,
        [Intrinsic::Duration, Intrinsic::Name, Intrinsic::Status]
    );
    assert!(needs("{} | compare({ .b })").all_attributes);
}

/// Scenario: queries that ask each span on its own, and others; `nestedSetParent` where it asks for roots, and where it asks for more.
/// Guarantee: metrics take spans as traces of their own, or with their root, only where no other span matters.
#[test]
fn spans_on_their_own() {
    for (text, reach) in [
        ("{ .a } | rate() by(name)", Reach::Span),
        ("({ .b } | select(.c)) || { .a } | rate()", Reach::Span),
        ("{ .a } && { .b } | rate()", Reach::Trace),
        ("{ .a } | by(name) | rate()", Reach::Trace),
        ("{ .a } | count() > 1 | rate()", Reach::Trace),
        ("{ rootName = \"x\" } | rate() by(rootServiceName)", Reach::Root),
        ("{ rootName = \"x\" } && {} | rate()", Reach::Trace),
        ("{ .a } | compare({ .b })", Reach::Root),
        ("{ .a } | compare({ traceDuration > 1s })", Reach::Trace),
        ("{ .a } | compare({ span.meshlake.entry })", Reach::Trace),
        ("{ .a } | rate() by(span.meshlake.node)", Reach::Trace),
        ("{ .a } | rate() by(nestedSetParent)", Reach::Trace),
        ("({ .a } | rate()) / ({ .a } > {} | rate())", Reach::Trace),
        ("{ nestedSetParent < 0 && .a } | rate()", Reach::Span),
        ("{ -1 != nestedSetParent } | rate()", Reach::Span),
        ("{ nestedSetParent >= 0 } | rate()", Reach::Span),
        ("{ nestedSetParent <= 0 } | rate()", Reach::Trace),
        ("{ nestedSetParent > 0 } | rate()", Reach::Trace),
        ("{ nestedSetParent = 1 } | rate()", Reach::Trace),
        ("{ nestedSetParent < 1.5 } | rate()", Reach::Trace),
    ] {
        assert_eq!(query(text).conditions().reach, reach, "{text}");
    }
    assert_eq!(query("{ nestedSetParent < 0 }").conditions().intrinsics, [Intrinsic::ParentId]);
}

/// Scenario: what has to be there for an answer, and what is in it. Guarantee: a trace is found by what its answer needs; if some of that is
/// anything, by what the first filter needs that asks for something.
#[test]
fn traces_are_found_by_what_says_most() {
    let of = |text: &str| query(text).conditions();
    let a = of("{ .a = 1 }").answer;
    for text in [
        "{ name = \"x\" } >> { .a = 1 }",
        "{} !> { .a = 1 }",
        "{ .a = 1 } && {}",
        "{} | { .a = 1 }",
        "{ .a = 1 } >> {}",
        "{} << { .a = 1 }",
    ] {
        assert_eq!(of(text).found_by, a, "{text}");
    }
    for text in ["{}", "{ .a = 1 } || {}", "{ .a = 1 } !> {}", "{ !(.a = 1) }", "{ !(.a = 1) } && { .b = 1 }"] {
        assert_eq!(of(text).found_by, Predicate::ANY_SPAN, "{text}");
    }
    assert_eq!(of("{ .a = 1 } && {}").answer, Predicate::ANY_SPAN);
    assert!(matches!(of("{ .a = 1 } &> { .b = 1 }").answer, Predicate::Any(any) if any.len() == 2));
}

/// Scenario: attributes in filters, stages and `select()`. Guarantee: answers carry each once: if it is only compared with constants,
/// where that holds, else wherever it is; never what every answer has as a field.
#[test]
fn answers_carry_what_is_named() {
    let trace = trace(vec![
        span(1, 0, "a").with("x", 1).with("y", 5).event("e", &[("z", 1), ("z", 2)]).event("f", &[("z", 7)]),
        span(2, 1, "b").with("x", 2).status(Status::Error),
    ]);
    let carried = |text: &str| -> Vec<String> {
        let (query, view) = (query(text), View::new(&trace));
        let of_span = |span: usize| {
            let shown = pipeline(&query).shown();
            let said = shown.iter().map(|shown| format!("{}={}", shown.attribute.key(), shown.value(&view, span)));
            said.filter(|said| !said.ends_with("nil")).collect::<Vec<_>>().join(" ")
        };
        (0..2).map(of_span).collect()
    };
    assert_eq!(carried("{ .x = 1 } && {}"), ["x=1", ""]);
    assert_eq!(carried("{ .x = 1 } && {} | select(.x, status)"), ["x=1 status=unset", "x=2 status=error"]);
    assert_eq!(carried("{ .x = 1 || .x > 1 || name = \"a\" } | by(.y) | avg(duration) > 0"), ["x=1 y=5", "x=2"]);
    assert_eq!(carried("{ event.z > 1 || !(status = ok) }"), ["z=7 status=unset", "status=error"]);
    assert_eq!(carried("{ .x + 1 > .y }"), ["x=1 y=5", "x=2"]);
}

/// Scenario: what the service graph makes of spans, which have attributes of the same names. Guarantee: with the scope `span` it is what the graph
/// tells, missing where it tells nothing; without, it is the attribute. Only queries that name it read the graph.
#[test]
fn the_graph_tells_of_spans() {
    let of = |entry, node: &str, ends: Option<(&str, &str)>| common::Graph {
        entry,
        node: Some(node.to_owned()),
        caller: ends.map(|(caller, _)| caller.to_owned()),
        callee: ends.map(|(_, callee)| callee.to_owned()),
    };
    let mut trace = family();
    trace.spans[0].graph = of(true, "gateway/c1/shop/gw", None);
    trace.spans[1].graph = of(true, "workload/c1/shop/a", Some(("gateway/c1/shop/gw", "workload/c1/shop/a")));
    trace.spans[2].graph = of(false, "workload/c1/shop/a", None);
    trace.spans[3] = trace.spans[3].clone().with("meshlake.entry", true).with("meshlake.node", "own");
    assert_eq!(ids("{ span.meshlake.entry }", &trace), [1, 2]);
    assert_eq!(ids("{ !span.meshlake.entry }", &trace), [3, 4]);
    assert_eq!(ids("{ .meshlake.entry }", &trace), [4]);
    assert_eq!(ids("{ .meshlake.node = \"own\" && span.\"meshlake.node\" = nil }", &trace), [4]);
    assert_eq!(ids("{ span.meshlake.caller != nil && span.meshlake.callee =~ \"workload/.*\" }", &trace), [2]);
    assert_eq!(ids("{ span.meshlake.entry } > { span.meshlake.node = \"workload/c1/shop/a\" }", &trace), [2, 3]);
    assert_eq!(search("{} | by(span.meshlake.node)", &trace), Ok(vec![vec![1], vec![2, 3], vec![4]]));
    let counts = series("{ span.meshlake.entry } | count_over_time() by(span.meshlake.node)", &[trace], instant());
    let labels: Vec<&str> = counts.iter().map(|(labels, _)| labels.as_str()).collect();
    assert_eq!(labels, ["span.meshlake.node=\"gateway/c1/shop/gw\"", "span.meshlake.node=\"workload/c1/shop/a\""]);
    assert!(counts.iter().all(|(_, values)| values == &[1.0]));
    let conditions = |text: &str| query(text).conditions();
    assert!(
        conditions("{} | select(span.meshlake.callee)").reads_graph() && !conditions("{ .meshlake.node = \"x\" }").reads_graph()
    );
    let [shown] = &pipeline(&query("{} | select(span.meshlake.callee)")).shown()[..] else { panic!() };
    assert_eq!(shown.attribute.key(), "meshlake.callee");
}
