use meshlake_traceql::Grid;

use super::super::summed::Summable;
use super::{metrics, query};
use crate::Engine;
use crate::testing::{Chance, SpanRow, TestSource, int, random_rows, tenant, text};

const MINUTE: u64 = 60_000_000_000;

/// Conditions, and what is asked of the spans that are so.
const SUMMED: &[(&str, &str)] = &[
    ("true", "{ ($) } | rate()"),
    ("resource.service.name != \"reviews\"", "{ ($) } | rate() by(resource.service.name)"),
    ("span:kind = server", "{ ($) } || { ($) && status = ok } | count_over_time() by(name, status)"),
    ("name =~ \"GET.*\" || status = error", "{ ($) } | quantile_over_time(duration, 0, .5, .9, 1) by(resource.service.name, kind)"),
    ("resource.service.name = \"details\"", "{ ($) } | histogram_over_time(duration) by(name)"),
    ("true", "({ ($) && status = error } | rate() by(name)) / ({ ($) } | rate() by(name)) > 0.1 | topk(2)"),
    ("kind = client", "{ ($) } | avg_over_time(duration) by(resource.service.name)"),
    ("resource.service.name >= \"p\"", "{ ($) } | sum_over_time(duration)"),
];

/// Asks for what every span has, but no sum is by.
const SEEN: &str = "(duration >= 0ns || duration < 0ns)";

/// Spans in live batches, fresh files that others share, and lake files with and without sums beside them. Some say no service, some say a
/// number for one. None is shorter than `least`.
async fn store(seed: u64, least: i64) -> Engine {
    let mut chance = Chance(seed);
    let mut parts: Vec<Vec<SpanRow>> = vec![Vec::new(); 8];
    for mut row in random_rows(&mut chance, "a", 300) {
        row.resource.attributes = match chance.below(12) {
            0 => Vec::new(),
            1 => vec![int("service.name", 7)],
            _ => vec![text("service.name", chance.pick(&["productpage", "reviews", "details", ""]))],
        };
        row.duration = chance.pick(&[-5, 0, 1, 2, 4_096, 4_097, row.duration]).max(least);
        row.kind = Some(chance.pick(&["server", "client", "9"]));
        parts[chance.below(8) as usize].push(row);
    }
    let mut source = TestSource::new();
    for (index, mut part) in parts.into_iter().enumerate() {
        match index {
            0..3 => source.add_summed_file(&part).await,
            3 => source.add_lake_file(&part, true).await,
            _ => {
                part.extend(random_rows(&mut chance, "b", 5));
                if index < 6 { source.add_file(&part).await } else { source.add_live(&part) }
            }
        }
    }
    source.engine()
}

/// Scenario: metrics that sums of spans answer, over spans wherever they may be, and the same asked so that each span has to be seen; where spans
/// end before they start, and where all take time. Guarantee: series, samples and exemplars are the same.
#[tokio::test]
async fn sums_say_what_spans_say() {
    for (seed, least) in [(31, i64::MIN), (32, 1)] {
        let engine = store(seed, least).await;
        for (condition, of) in SUMMED {
            for step in [MINUTE, 7 * MINUTE] {
                let summed = metrics(&of.replace('$', condition), step, 50);
                let seen = metrics(&of.replace('$', &format!("({condition}) && {SEEN}")), step, 50);
                let by_sums = [&summed, &seen].map(|asked| Summable::of(&asked.query, &asked.grid().unwrap()).is_some());
                assert_eq!(by_sums, [true, false], "{}", summed.query);
                let mut answers = Vec::new();
                for asked in [summed, seen] {
                    let answer = engine.traceql_metrics(&tenant("a"), &asked).await;
                    answers.push(answer.unwrap_or_else(|error| panic!("{}: {error}", asked.query)));
                }
                assert!(!answers[0].series.is_empty(), "{of}");
                assert_eq!(format!("{:?}", answers[0]), format!("{:?}", answers[1]), "{of} with {condition}, {least}");
            }
        }
    }
}

/// Scenario: questions that sums tell nothing of: other attributes, other functions, intervals within minutes. Guarantee: spans are asked.
#[test]
fn what_sums_do_not_tell() {
    let grid = |step: u64| Grid::range(100 * MINUTE, 200 * MINUTE, Some(step)).unwrap();
    let told = |text: &str, grid: Grid| Summable::of(&query(text), &grid).is_some();
    assert!(told("{} | rate()", grid(MINUTE)) && told("{} | rate()", Grid::instant(MINUTE, 61 * MINUTE).unwrap()));
    for text in [
        "{ .service.name = \"shop\" } | rate()",
        "{} | rate() by(span.service.name)",
        "{} | rate() by(resource.service.version)",
        "{ statusMessage = \"\" } | rate()",
        "{ nestedSetParent < 0 } | rate()",
        "{} | rate() by(rootServiceName)",
        "{ duration > 1s } | rate()",
        "{} | max_over_time(duration)",
    ] {
        assert!(!told(text, grid(MINUTE)), "{text}");
    }
    assert!(!told("{} | rate()", grid(MINUTE / 2)) && !told("{} | rate()", grid(3 * MINUTE / 2)));
    assert!(!told("{} | rate()", Grid::instant(MINUTE, 61 * MINUTE + 1).unwrap()));
    assert!(!told("{} | rate()", Grid::instant(MINUTE + 1, 61 * MINUTE + 1).unwrap()));
}
