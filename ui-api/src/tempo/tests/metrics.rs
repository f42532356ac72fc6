//! Numbers over time, as Grafana asks for them.

use serde_json::{Value, json};

use super::strict::check;
use super::{escaped, grafana};
use crate::fixture::TRACE;

/// Ten minutes before the spans, and ten after.
const RANGE: &str = "start=1785585000&end=1785586200";

async fn range(query: &str, rest: &str) -> Value {
    let answer = grafana(&format!("/api/metrics/query_range?q={}&{RANGE}{rest}", escaped(query))).await;
    assert_eq!(answer.status.as_u16(), 200, "{query} {answer:?}");
    check("QueryRangeResponse", &answer.json());
    answer.json()
}

fn label(series: &Value, key: &str) -> Option<Value> {
    let labels = series["labels"].as_array().unwrap();
    labels.iter().find(|label| label["key"] == key).map(|label| label["value"].clone())
}

fn times(series: &Value) -> Vec<i64> {
    let samples = series["samples"].as_array().unwrap();
    samples.iter().map(|sample| sample["timestampMs"].as_str().unwrap().parse().unwrap()).collect()
}

fn sum(series: &Value) -> f64 {
    series["samples"].as_array().unwrap().iter().map(|sample| sample["value"].as_f64().unwrap()).sum()
}

/// Scenario: spans by service, in steps of a minute and of 15 s, however the step is written. Guarantee: each span counts once, at a
/// multiple of the step.
#[tokio::test]
async fn counts_stand_on_the_grid() {
    for (step, millis) in [("&step=1m", 60_000), ("&step=60", 60_000), ("&step=15s", 15_000)] {
        let answer = range("{} | count_over_time() by(resource.service.name)", step).await;
        let series = answer["series"].as_array().unwrap();
        assert_eq!(series.len(), 4);
        for one in series {
            let name = label(one, "resource.service.name").unwrap();
            assert!((sum(one) - 1.0).abs() < 1e-9, "{name}");
            assert!(times(one).iter().all(|time| time % millis == 0));
            assert!(times(one).windows(2).all(|pair| pair[1] - pair[0] == millis));
        }
    }
    let answer = range("{} | rate()", "").await;
    assert_eq!(label(&answer["series"][0], "__name__"), Some(json!({"stringValue": "rate"})));
    // Twenty minutes by 240 are 5 s.
    assert!(times(&answer["series"][0]).windows(2).all(|pair| pair[1] - pair[0] == 5_000));
    assert!((sum(&answer["series"][0]) * 5.0 - 4.0).abs() < 1e-9);
}

/// Scenario: exemplars are wanted, and not. Guarantee: each leads to a trace by the label that Grafana makes a link of.
#[tokio::test]
async fn exemplars_lead_to_traces() {
    let query = "{ resource.service.name = \"gateway\" } | quantile_over_time(duration, 0.9)";
    let answer = range(query, "&step=1m&exemplars=100").await;
    let exemplar = &answer["series"][0]["exemplars"][0];
    assert_eq!(label(exemplar, "trace:id"), Some(json!({"stringValue": TRACE})));
    assert_eq!((&exemplar["timestampMs"], &exemplar["value"]), (&json!("1785585600000"), &json!(0.01)));
    assert!(label(&answer["series"][0], "p").is_some_and(|p| p == json!({"doubleValue": 0.9})));
    let answer = range(&format!("{query} with(exemplars=false)"), "&step=1m").await;
    assert_eq!(answer["series"][0]["exemplars"], Value::Null);
}

/// Scenario: the comparison and the heat map of Traces Drilldown. Guarantee: the labels by which it tells the series.
#[tokio::test]
async fn drilldown_compares_and_paints() {
    let answer = range("{} | compare({resource.service.name = \"reviews\"}, 10)", "&step=20m").await;
    let kinds: Vec<_> = answer["series"].as_array().unwrap().iter().filter_map(|series| label(series, "__meta_type")).collect();
    for kind in ["baseline", "selection", "baseline_total", "selection_total"] {
        assert!(kinds.contains(&json!({"stringValue": kind})), "{kind}: {kinds:?}");
    }
    let answer = range("{} | histogram_over_time(duration) with(sample=true)", "&step=1m").await;
    assert!(label(&answer["series"][0], "__bucket").is_some_and(|bucket| bucket["doubleValue"].is_number()));
}

/// Scenario: one number for the whole range. Guarantee: of each series, and read as strictly as a search.
#[tokio::test]
async fn an_instant_is_one_number() {
    let query = escaped("{} | count_over_time() by(resource.service.name)");
    let answer = grafana(&format!("/api/metrics/query?q={query}&{RANGE}")).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    check("QueryInstantResponse", &answer.json());
    let series = answer.json()["series"].as_array().unwrap().clone();
    assert_eq!(series.len(), 4);
    assert!(series.iter().all(|one| one["value"] == json!(1.0)));
}
