//! Kiali's Tempo client, over HTTP.

use meshlake_config::Config;
use serde_json::{Value, json};

use super::{RANGE, escaped};
use crate::api::Health;
use crate::fixture::{Answer, TRACE, get, healthy, send, starting};
use crate::router;

async fn kiali(path: &str) -> Answer {
    get(path, &[("accept", "application/json"), ("content-type", "application/json")]).await
}

/// Scenario: the traces of a service. Guarantee: the first span is one of the service, and says so, for Kiali names the trace by it and
/// indexes it without asking.
#[tokio::test]
async fn a_search_begins_with_the_service() {
    let query = r#"{ .service.name = "reviews" && .http.method = "GET" } && {  }| select(status, .service_name, .node_id, .component, .upstream_cluster, .http.method, .response_flags, resource.hostname, name)"#;
    let path = format!("/tempo/api/search?end=1785589200&limit=100&minDuration=1ms&q={}&spss=10&start=1785582000", escaped(query));
    let document = kiali(&path).await.json();
    let traces = document["traces"].as_array().unwrap();
    assert_eq!(traces.len(), 1);
    let set = &traces[0]["spanSet"];
    assert_eq!((&set["matched"], set["spans"].as_array().unwrap().len()), (&json!(3), 3));
    let first = &set["spans"][0];
    assert_eq!((&first["name"], &first["durationNanos"]), (&json!("GET /reviews/0"), &json!("10000000")));
    let attribute = |key: &str| {
        let all = first["attributes"].as_array().unwrap();
        all.iter().find(|attribute| attribute["key"] == key).map_or(Value::Null, |attribute| attribute["value"].clone())
    };
    assert_eq!(attribute("service.name"), json!({"stringValue": "reviews"}));
    assert_eq!(attribute("http.method"), json!({"stringValue": "GET"}));
    assert_eq!(attribute("status"), json!({"stringValue": "unset"}));
}

/// Scenario: one trace. Guarantee: protobuf's JSON with the list under its old name; what Kiali indexes is there.
#[tokio::test]
async fn a_trace_is_batches() {
    let document = kiali(&format!("/tempo/api/traces/{TRACE}")).await.json();
    let batches = document["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 3);
    let of_gateway = batches.iter().find(|batch| batch["scopeSpans"][0]["spans"][0]["spanId"] == "AAAAAAAAAAE=").unwrap();
    let names = of_gateway["resource"]["attributes"].as_array().unwrap();
    assert!(names.contains(&json!({"key": "service.name", "value": {"stringValue": "gateway"}})));
    let span = &of_gateway["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["traceId"], &span["kind"]), (&json!("AAAAAAAAAAAAAAAAAAAAoQ=="), &json!("SPAN_KIND_SERVER")));
    assert_eq!((&span["startTimeUnixNano"], &span["name"]), (&json!("1785585600000000007"), &json!("GET /productpage")));
    assert_eq!(of_gateway["scopeSpans"].as_array().unwrap().len(), 1);
}

/// Scenario: health checks, ready and not, below the path of the settings and at the root of the port. Guarantee: 200 once queries are
/// answered, 503 before.
#[tokio::test]
async fn kiali_finds_tempo() {
    for base in ["/tempo", ""] {
        assert_eq!(kiali(&format!("{base}/api/echo")).await.status.as_u16(), 200);
        kiali(&format!("{base}/status/services")).await.json();
        assert!(kiali(&format!("{base}/api/status/buildinfo")).await.json()["version"].is_string());
        let starting = router(starting(&Config::default(), Health { ready: false, ..healthy() }));
        for path in ["/status/services", "/ready", "/api/search?q=%7B%7D", "/api/traces/a1"] {
            let answer = send(&starting, http::Method::GET, &format!("{base}{path}"), &[], "").await;
            assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"), "{base}{path}");
        }
    }
}

/// Scenario: the check of the configuration tries port 3200, for Tempo with the braces as they are, then for Jaeger; and what it finds is
/// taken for the address. Guarantee: a search's answer, no Jaeger, and all that Kiali asks there.
#[tokio::test]
async fn the_root_is_tempos_too() {
    let found = kiali("/api/search?q={}").await;
    assert_eq!(found.status.as_u16(), 200);
    assert!(found.json()["traces"].is_array());
    assert_eq!(kiali("/api/services").await.status.as_u16(), 404);
    for path in [format!("/api/search?q=%7B%7D&{RANGE}"), format!("/api/traces/{TRACE}"), "/api/search/tags".to_owned()] {
        let at_root = kiali(&path).await;
        assert_eq!(at_root.status.as_u16(), 200, "{path}");
        assert_eq!(at_root.json(), kiali(&format!("/tempo{path}")).await.json(), "{path}");
    }
}

/// Scenario: the path of Tempo's operator, with and without the header. Guarantee: the tenant of the path, and no other by the header (P8).
#[tokio::test]
async fn the_path_may_name_the_tenant() {
    let found = async |path: &str, headers: &[(&str, &str)]| {
        let answer = get(&format!("{path}/api/search?q=%7B%7D&{RANGE}"), headers).await;
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
        answer.json()["traces"].as_array().unwrap().iter().map(|trace| trace["traceID"].clone()).collect::<Vec<_>>()
    };
    let of_other = [json!("000000000000000000000000000000a3")];
    assert_eq!(found("/api/traces/v1/other/tempo", &[]).await, of_other);
    assert_eq!(found("/api/traces/v1/other/tempo", &[("x-scope-orgid", "other")]).await, of_other);
    assert_eq!(found("/tempo", &[("x-scope-orgid", "other")]).await, of_other);
    assert_eq!(found("/tempo", &[]).await.len(), 2);
    let trace = get("/api/traces/v1/other/tempo/api/traces/a3", &[]).await;
    assert_eq!(trace.json()["batches"].as_array().unwrap().len(), 1);
    let values = get(&format!("/api/traces/v1/other/tempo/api/v2/search/tag/resource.service.name/values?{RANGE}"), &[]).await;
    assert_eq!(values.json()["tagValues"], json!([{"type": "string", "value": "secret"}]));
    assert_eq!(get("/tempo/api/traces/a3", &[]).await.status.as_u16(), 404);
    for (path, headers) in [
        ("/api/traces/v1/other/tempo/api/traces/a3", &[("x-scope-orgid", "default")][..]),
        ("/api/traces/v1/a|b/tempo/api/traces/a3", &[]),
        ("/tempo/api/traces/a1", &[("x-scope-orgid", "a"), ("x-scope-orgid", "b")]),
    ] {
        let path = path.replace('|', "%7C");
        assert_eq!(get(&path, headers).await.status.as_u16(), 400, "{path}");
    }
}
