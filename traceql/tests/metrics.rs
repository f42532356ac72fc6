//! What teams get wrong about metrics in TraceQL: rows 14 to 20 of the notes on its semantics, exemplars and limits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::series::{SECOND, answer, instant, series};
use common::{Spans, error, query, span, trace};
use meshlake_traceql::limits::COMPARE_VALUES_MAX;
use meshlake_traceql::*;

/// Scenario: row 14, the intervals of a range. Guarantee: start down, end up, one more before; right-closed, stamped with their
/// end; steps that nobody asked for.
#[test]
fn row_14_grid() {
    let grid = Grid::range(61 * SECOND, 179 * SECOND, Some(60 * SECOND)).unwrap();
    let times: Vec<u64> = (0..grid.len() as u32).map(|interval| grid.time(interval) / SECOND).collect();
    assert_eq!(times, [60, 120, 180]);
    for (second, interval) in [(0, None), (1, Some(0)), (60, Some(0)), (61, Some(1)), (120, Some(1)), (180, Some(2)), (181, None)] {
        assert_eq!(grid.interval(second * SECOND), interval, "{second}");
    }
    assert_eq!(Grid::range(60 * SECOND, 120 * SECOND, Some(30 * SECOND)).unwrap().time(0), 60 * SECOND);
    let ended = [0, 59, 60, 61, 179].map(|second| grid.ended_by(second * SECOND) / SECOND);
    assert_eq!(ended, [0, 0, 60, 60, 120]);
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

/// Scenario: row 19, stages of series and arithmetic. Guarantee: the top is chosen at each time; samples go, then empty series;
/// equal labels are joined, and a series without labels with all.
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

/// Scenario: row 20, compare(). Guarantee: the baseline is the rest; the window is right-closed; the most frequent values, totals
/// and a mark where there are more; nothing of durations, ids and positions.
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

/// Scenario: values of several spans at once, and missing ones. Guarantee: they count as those of one span after the other.
#[test]
fn values_are_compared_at_once() {
    let at = |id: u8, host: &str| trace(vec![span(id, 0, "op").starts(SECOND).with("host", host)]);
    let query = query("{} | compare({ status = error }, 1)");
    let Body::Metrics(expr) = &query.body else { panic!() };
    let new = || Accumulator::new(expr, instant(), MetricsLimits { series: 100, exemplars: 0 });
    let hosts = |accumulator: Accumulator| {
        let series = accumulator.finish().series.into_iter();
        series.filter(|series| series.labels[1].0 == "span.host").map(|series| format!("{series:?}")).collect::<Vec<_>>()
    };
    let (mut one_by_one, mut at_once) = (new(), new());
    ["a", "b", "b"].into_iter().zip(1..).for_each(|(host, id)| one_by_one.add(&at(id, host)).unwrap());
    let time = at_once.compared_at(SECOND).unwrap();
    let selected = at_once.selects(&at(1, "a"), time.in_window).unwrap().unwrap();
    let spans = ComparedSpans { selected, interval: time.interval };
    let counts = |counts: &[u64]| -> Vec<ComparedCount> {
        counts.iter().enumerate().map(|(value, count)| ComparedCount { value, spans, count: *count }).collect()
    };
    at_once.add_counts("span.host", &[Value::text("a"), Value::Nil, Value::text("b")], &counts(&[1, 7, 2]));
    at_once.add_counts("span.other", &[Value::Nil], &counts(&[1]));
    assert_eq!(at_once.clone().finish().series.len(), 3);
    assert_eq!(hosts(at_once), hosts(one_by_one));
    // More values than there is room for: the most frequent are kept, wherever they stand in the list.
    let mut many = new();
    let values: Vec<Value<'_>> = (0..=COMPARE_VALUES_MAX as i64).map(Value::Int).collect();
    let last = values.len() - 1;
    many.add_counts(
        "span.host",
        &values,
        &counts(&(0..values.len()).map(|value| if value == last { 3 } else { 1 }).collect::<Vec<_>>()),
    );
    // There is none any more: those that are kept still count, others only in the totals.
    many.add_counts("span.host", &[Value::Int(-1), Value::Int(last as i64)], &counts(&[9, 4]));
    let hosts = hosts(many);
    let has = |label: &str, spans: usize| {
        let samples = format!("[{spans}.0]");
        hosts.iter().any(|series| series.contains(label) && series.contains(&samples))
    };
    assert!(has(&format!("Int({last})"), 7) && has("baseline_total", values.len() + 2 + 13), "{hosts:?}");
    assert!(!hosts.iter().any(|series| series.contains("Int(-1)")), "{hosts:?}");
    assert!(hosts.iter().any(|series| series.contains("__too_many_values__")), "{hosts:?}");
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
    // A quantile is the middle of its bucket, which the least span may be above.
    assert_eq!(quantiles.iter().map(|series| series.exemplars.len()).collect::<Vec<_>>(), [0, 1]);
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

/// Scenario: queries that sums of spans answer, and such that have to see the spans. Guarantee: it is said what the sums have to be
/// by, and of.
#[test]
fn what_sums_answer() {
    use Intrinsic::{Kind, Name, Status};
    let needed = |text: &str| query(text).sums().map(|needed| (needed.keys, needed.durations, needed.totals));
    assert_eq!(needed("{} | rate()"), Some((vec![], false, false)));
    assert_eq!(needed("{ span:name = \"a\" } | rate() by(resource.service.name, name)"), Some((vec![Name], false, false)));
    assert_eq!(needed("{ kind = server } || { status = error } | count_over_time()"), Some((vec![Status, Kind], false, false)));
    assert_eq!(needed("{} | quantile_over_time(duration, .5) by(name)"), Some((vec![Name], true, false)));
    assert_eq!(
        needed("({ status = error } | avg_over_time(duration)) / ({} | rate()) > 1 | topk(3)"),
        Some((vec![Status], true, true))
    );
    assert_eq!(needed("{ duration > 1s } | rate()"), Some((vec![Intrinsic::Duration], false, false)));
    for text in [
        "{}",
        "{} | max_over_time(duration)",
        "{} | quantile_over_time(traceDuration, .5)",
        "{} | sum_over_time(.a)",
        "{} | compare({ status = error })",
        "{ status = error } >> {} | rate()",
        "{} | count() > 1 | rate()",
        "{ rootName = \"a\" } | rate()",
    ] {
        assert_eq!(needed(text), None, "{text}");
    }
}
