use axum::body::Body;
use http::Method;
use meshlake_config::{ByteSize, Config};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::{Value, json};

use crate::api::Health;
use crate::fixture::{Answer, RANGE, SLOW_QUERY, TRACE, api, api_of_health, get, healthy, send, sql, starting};
use crate::router;

const V1: &str = "/api/mesh/v1";

#[tokio::test]
async fn services_and_operations_are_counted_in_the_range() {
    let answer = get(&format!("{V1}/services?{RANGE}"), &[]).await;
    let services = answer.json()["services"].as_array().unwrap().clone();
    let names: Vec<_> = services.iter().map(|service| service["service"].as_str().unwrap()).collect();
    assert_eq!(services.len(), 4, "{names:?}");
    let reviews = services.iter().find(|service| service["service"] == "reviews").unwrap();
    assert_eq!(*reviews, json!({"service": "reviews", "namespace": null, "cluster": null, "spans": 1, "errors": 1}));

    let answer = get(&format!("{V1}/services/reviews/operations?{RANGE}"), &[]).await;
    assert_eq!(answer.json(), json!({"operations": [{"operation": "GET /reviews/0", "kind": "server", "spans": 1, "errors": 1}]}));
    // Percent-encoded, and unknown.
    assert_eq!(get(&format!("{V1}/services/a%2Fb/operations?{RANGE}"), &[]).await.json(), json!({"operations": []}));
    // Outside of the range, which by default is the last hour.
    assert_eq!(get(&format!("{V1}/services?start=0&end=1"), &[]).await.json(), json!({"services": []}));
}

#[tokio::test]
async fn attributes_and_their_values_are_counted_in_the_range() {
    let answer = get(&format!("{V1}/attributes?{RANGE}"), &[]).await;
    let methods = json!({"name": "http.method", "scope": "span", "types": [{"type": "string", "spans": 4}]});
    let services = json!({"name": "service.name", "scope": "resource", "types": [{"type": "string", "spans": 4}]});
    assert_eq!(answer.json(), json!({"attributes": [methods, services], "exact": true}));
    let values = async |query: &str| get(&format!("{V1}/attributes/{query}"), &[]).await.json();
    let value = json!({"value": "GET", "scope": "span", "type": "string", "spans": 4, "exact": true});
    for scope in ["", "&scope=span", "&scope="] {
        assert_eq!(values(&format!("http.method/values?{RANGE}{scope}")).await, json!({"values": [value], "exact": true}));
    }
    // Of another scope, percent-encoded and unknown, and outside of the range, which by default is the last hour.
    for query in
        [format!("http.method/values?{RANGE}&scope=resource"), format!("a%2Fb/values?{RANGE}"), "http.method/values".to_owned()]
    {
        assert_eq!(values(&query).await, json!({"values": [], "exact": true}), "{query}");
    }
    assert_eq!(get(&format!("{V1}/attributes"), &[]).await.json(), json!({"attributes": [], "exact": true}));
    for (query, parameter) in [("scope=trace", "scope"), ("limit=0", "limit"), ("limit=1001", "limit"), ("service=a", "service")] {
        let answer = get(&format!("{V1}/attributes/http.method/values?{query}"), &[]).await;
        assert!(answer.problem(400).contains(&format!("`{parameter}`")));
        assert_eq!(answer.json()["parameter"], parameter);
    }
}

#[tokio::test]
async fn a_trace_is_otlp_in_the_type_that_is_asked_for() {
    // P8: the padded id of the default tenant; short ids are padded.
    for id in [TRACE, "a1", "A1", "0a1"] {
        let answer = get(&format!("{V1}/traces/{id}"), &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
        let spans: Vec<Value> = answer.json()["resourceSpans"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|resource| resource["scopeSpans"].as_array().unwrap().clone())
            .flat_map(|scope| scope["spans"].as_array().unwrap().clone())
            .collect();
        assert_eq!(spans.len(), 3);
        let root = spans.iter().find(|span| span["spanId"] == "0000000000000001").unwrap();
        assert_eq!(
            (&root["traceId"], &root["kind"], &root["startTimeUnixNano"]),
            (&json!(TRACE), &json!(2), &json!("1785585600000000007"))
        );
    }
    for media_type in ["application/x-protobuf", "application/protobuf"] {
        let answer = get(&format!("{V1}/traces/a1"), &[("accept", &format!("application/json;q=0.5, {media_type}"))]).await;
        assert_eq!((answer.header("content-type"), answer.header("vary")), (media_type, "accept"));
        let traces = TracesData::decode(answer.body.clone()).unwrap();
        assert_eq!(
            traces.resource_spans.iter().flat_map(|resource| &resource.scope_spans).map(|scope| scope.spans.len()).sum::<usize>(),
            3
        );
    }
}

#[tokio::test]
async fn unknown_and_wrong_traces_are_told_apart() {
    assert!(get(&format!("{V1}/traces/ffff"), &[]).await.problem(404).contains("ffff"));
    let wrong = get(&format!("{V1}/traces/xyz"), &[]).await;
    assert!(wrong.problem(400).contains("`xyz`"));
    assert_eq!(wrong.json()["parameter"], "trace_id");
    get(&format!("{V1}/traces/a1"), &[("accept", "text/html")]).await.problem(406);
    get(&format!("{V1}/traces/a1?start=now"), &[]).await.problem(400);
}

#[tokio::test]
async fn search_answers_summaries_by_pages() {
    let first = get(&format!("{V1}/traces?{RANGE}&limit=1"), &[]).await.json();
    assert_eq!(first["traces"][0]["trace_id"], "000000000000000000000000000000a2");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = get(&format!("{V1}/traces?{RANGE}&limit=1&cursor={cursor}"), &[]).await.json();
    let trace = &second["traces"][0];
    assert_eq!(trace["trace_id"], TRACE);
    assert_eq!((&trace["root_service"], &trace["root_operation"]), (&json!("gateway"), &json!("GET /productpage")));
    assert_eq!(
        (&trace["start_time"], &trace["duration_ns"]),
        (&json!("2026-08-01T12:00:00.000000007Z"), &json!(2_010_000_000_i64))
    );
    assert_eq!((&trace["spans"], &trace["errors"]), (&json!(3), &json!(1)));
    assert_eq!(trace["services"].as_array().unwrap().len(), 3);

    let found = get(&format!("{V1}/traces?{RANGE}&service=reviews&operation=GET+/reviews/0&min_duration=10ms&max_duration=0.01s&status=unset&order_by=duration"), &[]).await.json();
    assert_eq!((&found["traces"][0]["trace_id"], &found["next_cursor"]), (&json!(TRACE), &Value::Null));
    let none = get(&format!("{V1}/traces?{RANGE}&attribute=no.such=thing"), &[]).await.json();
    assert_eq!(none, json!({"traces": [], "next_cursor": null}));
}

#[tokio::test]
async fn traceql_is_answered_by_pages() {
    let search = format!("{V1}/traceql?{RANGE}&limit=1&q=%7B%20kind%20%3D%20server%20%7D%20%7C%20select(status)");
    let first = get(&search, &[]).await.json();
    assert_eq!(first["traces"][0]["trace"]["trace_id"], "000000000000000000000000000000a2");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = get(&format!("{search}&spans=2&cursor={cursor}"), &[]).await.json();
    let found = &second["traces"][0];
    assert_eq!((&found["trace"]["trace_id"], &found["trace"]["spans"]), (&json!(TRACE), &json!(3)));
    let spanset = &found["spansets"][0];
    assert_eq!((&spanset["matched"], spanset["spans"].as_array().unwrap().len()), (&json!(3), 2));
    let span = &spanset["spans"][0];
    assert_eq!((&span["span_id"], &span["duration_ns"]), (&json!("0000000000000001"), &json!(10_000_000)));
    assert_eq!(span["attributes"][1], json!({"key": "status", "value": {"stringValue": "unset"}}), "{span}");
    assert_eq!(second["next_cursor"], Value::Null);

    let wrong = get(&format!("{V1}/traceql?{RANGE}&q=%7B%20status%20%3E%205%20%7D"), &[]).await;
    assert!(wrong.problem(400).contains("line 1, col 3"));
    assert_eq!(wrong.json()["parameter"], "q");
    assert!(get(&format!("{V1}/traceql?q=%7B%7D%20%7C%20rate()"), &[]).await.problem(400).contains("metrics"));
}

#[tokio::test]
async fn each_wrong_parameter_is_named() {
    let page = get(&format!("{V1}/traces?{RANGE}&limit=1"), &[]).await.json();
    let of_start = format!("{RANGE}&order_by=duration&cursor={}", page["next_cursor"].as_str().unwrap());
    for (query, parameter) in [
        ("start=yesterday", "start"),
        ("end=12:00", "end"),
        ("start=now&end=now-1m", "start"),
        ("min_duration=5", "min_duration"),
        ("max_duration=fast", "max_duration"),
        ("min_duration=2s&max_duration=1s", "min_duration"),
        ("status=broken", "status"),
        ("attribute=novalue", "attribute"),
        ("attribute==x", "attribute"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("order_by=name", "order_by"),
        ("cursor=%00", "cursor"),
        (of_start.as_str(), "cursor"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
    ] {
        let answer = get(&format!("{V1}/traces?{query}"), &[]).await;
        let detail = answer.problem(400);
        assert_eq!(answer.json()["parameter"], parameter, "{query}");
        assert!(detail.contains(&format!("`{parameter}`")), "{query}: {detail}");
    }
    // The range that is the wrong way round names both ends; an unknown name comes with the known ones.
    let both = get(&format!("{V1}/services?start=20&end=10"), &[]).await.problem(400);
    assert!(both.contains("1970-01-01T00:00:20.000000Z") && both.contains("1970-01-01T00:00:10.000000Z"), "{both}");
    assert!(get(&format!("{V1}/services?limit=1"), &[]).await.problem(400).contains("start, end"));
    let many = "attribute=a=b&".repeat(21);
    assert!(get(&format!("{V1}/traces?{many}"), &[]).await.problem(400).contains("20"));
}

/// Scenario: two tenants, a wrong one, and one given twice. Guarantee: none sees the other's spans (P8).
#[tokio::test]
async fn tenants_see_their_own_spans_only() {
    let services = |answer: Answer| {
        answer.json()["services"]
            .as_array()
            .unwrap()
            .iter()
            .map(|service| service["service"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let path = format!("{V1}/services?{RANGE}");
    assert_eq!(services(get(&path, &[("x-scope-orgid", "other")]).await), ["secret"]);
    assert!(!services(get(&path, &[]).await).contains(&"secret".to_owned()));
    get(&format!("{V1}/traces/a1"), &[("x-scope-orgid", "other")]).await.problem(404);
    let rows = sql(&Config::default(), "select count(*) from spans", &[("x-scope-orgid", "other")]).await.json();
    assert_eq!(rows["rows"], json!([[1]]));
    for wrong in ["", "a|b", "..", "a/b", "a%2e"] {
        get(&path, &[("x-scope-orgid", wrong)]).await.problem(400);
    }
    get(&path, &[("x-scope-orgid", "a"), ("x-scope-orgid", "b")]).await.problem(400);
}

#[tokio::test]
async fn sql_answers_in_the_type_that_is_asked_for() {
    let query = "select trace_id, start_time, duration, error, parent_span_id from spans where span_id = x'0000000000000001'";
    let config = Config::default();
    let answer = sql(&config, query, &[]).await;
    assert_eq!(
        answer.json(),
        json!({
            "columns": [{"name": "trace_id", "type": "binary"}, {"name": "start_time", "type": "timestamp"}, {"name": "duration", "type": "int64"}, {"name": "error", "type": "boolean"}, {"name": "parent_span_id", "type": "binary"}],
            "rows": [[TRACE, "2026-08-01T12:00:00.000000Z", 10_000_000, false, null]]
        })
    );
    let csv = sql(&config, query, &[("accept", "text/csv")]).await;
    assert!(csv.header("content-type").starts_with("text/csv"));
    let lines: Vec<_> = csv.text().lines().collect();
    assert_eq!(
        lines,
        ["trace_id,start_time,duration,error,parent_span_id", &format!("{TRACE},2026-08-01T12:00:00.000000Z,10000000,false,")]
    );
    let arrow = sql(&config, "select * from spans", &[("accept", "application/vnd.apache.arrow.stream, */*;q=0.1")]).await;
    let reader = arrow::ipc::reader::StreamReader::try_new(arrow.body.as_ref(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 4);
    sql(&config, query, &[("accept", "application/xml")]).await.problem(406);
    // All columns, maps and lists among them, have a form in each type.
    for accept in ["application/json", "text/csv"] {
        assert_eq!(sql(&config, "select * from spans", &[("accept", accept)]).await.status, 200);
    }
    let empty = sql(&config, "select name from spans where false", &[("accept", "text/csv")]).await;
    assert_eq!(empty.text().trim_end(), "name");
}

/// Scenario: SQL that is wrong, writes, or passes a limit. Guarantee: the status says which, and no rows are sent (P6).
#[tokio::test]
async fn sql_that_fails_has_the_status_of_its_failure() {
    let mut config = Config::default();
    for wrong in [
        "select",
        "select nothing from spans",
        "drop table spans",
        "insert into spans select * from spans",
        "select 1; select 2",
        "copy spans to 'x'",
        "set a = 1",
        "select * from other",
    ] {
        sql(&config, wrong, &[]).await.problem(400);
    }
    config.query.max_rows = 2;
    assert!(sql(&config, "select * from spans", &[]).await.problem(422).contains("query.max_rows"));
    assert_eq!(sql(&config, "select * from spans limit 2", &[]).await.status, 200);
    config.query.timeout = std::time::Duration::from_millis(100);
    assert!(sql(&config, SLOW_QUERY, &[]).await.problem(504).contains("query.timeout"));
    let mut config = Config::default();
    config.query.memory_limit = ByteSize::bytes(40_000);
    config.query.max_rows = 1_000_000;
    let large = sql(&config, "select a.name from spans a, spans b, spans c, spans d, spans e, spans f, spans g", &[]).await;
    assert!(large.problem(503).contains("query.memory_limit"));
    assert_eq!(large.header("retry-after"), "1");
}

#[tokio::test]
async fn sql_bodies_are_checked() {
    let mut config = Config::default();
    config.api.max_body_size = ByteSize::kib(1);
    let router = router(api(&config));
    let post = async |content_type: &'static str, body: String| {
        send(&router, Method::POST, &format!("{V1}/sql"), &[("content-type", content_type)], body).await
    };
    let good = json!({"query": "select 1"}).to_string();
    assert_eq!(post("application/json; charset=utf-8", good.clone()).await.status, 200);
    post("text/plain", good.clone()).await.problem(415);
    post("application/x-www-form-urlencoded", good.clone()).await.problem(415);
    for wrong in ["", "{}", "[]", "{\"query\": 1}", "{\"query\": \"select 1\", \"limit\": 5}"] {
        post("application/json", wrong.to_owned()).await.problem(400);
    }
    let large = json!({"query": format!("select '{}'", "x".repeat(1_024))}).to_string();
    assert!(post("application/json", large).await.problem(413).contains("api.max_body_size"));
    send(&router, Method::POST, &format!("{V1}/sql?query=x"), &[("content-type", "application/json")], good).await.problem(400);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    assert!(get("/api/mesh/v2/services", &[]).await.problem(404).contains("/api/mesh/v2/services"));
    let answer = send(&router(api(&Config::default())), Method::DELETE, &format!("{V1}/services"), &[], Body::empty()).await;
    answer.problem(405);
    assert!(answer.header("allow").contains("GET"));
}

#[tokio::test]
async fn answers_keep_browsers_careful_and_carry_an_id() {
    for path in ["/", "/nothing", "/metrics", &format!("{V1}/services")] {
        let answer = get(path, &[("origin", "http://example.org"), ("x-request-id", "abc-1")]).await;
        assert_eq!(
            (answer.header("x-content-type-options"), answer.header("cache-control"), answer.header("x-request-id")),
            ("nosniff", "no-store", "abc-1")
        );
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    assert_eq!(get("/healthz", &[]).await.header("x-request-id").len(), 16);
}

/// Scenario: before there is an engine, and with one while the journal is replayed. Guarantee: health and metrics answer, and
/// no query is answered without the spans that are still in the journal (P1).
#[tokio::test]
async fn before_the_start_only_queries_are_refused() {
    let config = Config::default();
    let replaying = Health { ready: false, problems: vec!["replaying the journal".to_owned()], ..healthy() };
    for api in [starting(&config, healthy()), api_of_health(&config, replaying)] {
        let router = router(api);
        let get = async |path: &str| send(&router, Method::GET, path, &[], Body::empty()).await;
        assert_eq!((get("/healthz").await.status.as_u16(), get("/metrics").await.status.as_u16()), (200, 200));
        let ready = get("/readyz").await;
        let expected = json!({"ready": false, "problems": ["replaying the journal"]});
        assert_eq!((ready.status.as_u16(), ready.json()), (503, expected));
        for path in ["services", "traces", "traces/a1", "attributes", "deletions", "compaction"] {
            let refused = get(&format!("{V1}/{path}")).await;
            assert!(refused.problem(503).starts_with("starting: replaying the journal"), "{path}");
            assert_eq!(refused.header("retry-after"), "1");
        }
        let body = json!({"query": "select count(*) from spans"}).to_string();
        send(&router, Method::POST, &format!("{V1}/sql"), &[("content-type", "application/json")], body).await.problem(503);
    }
    assert_eq!(get("/readyz", &[]).await.json(), json!({"ready": true, "problems": []}));
}

/// Scenario: a thread of the store has died. Guarantee: `/healthz` says so, so that the platform restarts the process, and
/// what is there can still be queried.
#[tokio::test]
async fn a_process_that_needs_a_restart_is_not_healthy() {
    let health = Health { alive: false, problems: vec!["a thread of the store has died".to_owned()], ..healthy() };
    let router = router(api_of_health(&Config::default(), health));
    let get = async |path: &str| send(&router, Method::GET, path, &[], Body::empty()).await;
    let answer = get("/healthz").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (503, "a thread of the store has died\n"));
    assert_eq!((get("/readyz").await.status.as_u16(), get(&format!("{V1}/traces/a1")).await.status.as_u16()), (503, 200));
}

#[tokio::test]
async fn metrics_are_the_process_s_and_our_own() {
    let router = router(api(&Config::default()));
    send(&router, Method::GET, &format!("{V1}/traces/ffff"), &[], Body::empty()).await;
    send(&router, Method::GET, "/nothing", &[], Body::empty()).await;
    let text = send(&router, Method::GET, "/metrics", &[("accept", "application/openmetrics-text")], Body::empty()).await;
    for line in [
        "meshlake_example 0\n",
        "meshlake_http_requests_total{method=\"GET\",route=\"/api/mesh/v1/traces/{trace_id}\",status=\"404\"} 1\n",
        "meshlake_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"} 1\n",
        "meshlake_http_request_seconds_count{method=\"GET\",route=\"unmatched\"} 1\n",
        "# EOF\n",
    ] {
        assert!(text.text().contains(line), "{line}\n{}", text.text());
    }
}

/// Scenario: the accept headers of scrapers, new and old, and of others. Guarantee: OpenMetrics for those that prefer it,
/// else Prometheus text, and each body is of the type that the header names.
#[tokio::test]
async fn metrics_are_in_the_format_that_is_asked_for() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for (accept, open) in [
        (prometheus, true),
        ("application/openmetrics-text", true),
        ("text/plain;version=0.0.4", false),
        ("*/*", false),
        ("application/json", false),
        ("", false),
    ] {
        let headers = [("accept", accept)];
        let answer = get("/metrics", if accept.is_empty() { &[] } else { &headers }).await;
        let expected = if open { "application/openmetrics-text; version=1.0.0" } else { "text/plain; version=0.0.4" };
        assert!(answer.header("content-type").starts_with(expected), "{accept}: {answer:?}");
        assert_eq!(answer.text().ends_with("# EOF\n"), open, "{accept}");
    }
}

/// Scenario: the page. Guarantee: only its own script runs, and no text from spans is ever read as HTML.
#[tokio::test]
async fn the_page_has_a_strict_policy() {
    let (page, again) = (get("/", &[]).await, get("/", &[]).await);
    let policy = page.header("content-security-policy");
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(page.text().contains(&format!("<script nonce=\"{nonce}\">")) && !page.text().contains("{nonce}"));
    assert_ne!(policy, again.header("content-security-policy"));
    for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://", " onclick"]
    {
        assert!(!page.text().contains(forbidden), "{forbidden}");
    }
}
