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
    assert_eq!(answer.json(), json!({"attributes": [methods], "exact": true}));
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

/// What is answered from the bucket of 10 ms.
const MIDDLE: u64 = 10_083_830;

/// An edge of one request in two hours whose caller tells nothing.
fn edge(source: &str, target: &str) -> Value {
    let none = json!({"p50": null, "p90": null, "p95": null, "p99": null});
    let ten_ms = 10_000_000;
    json!({
        "source": source,
        "target": target,
        "self": false,
        "requests": 1,
        "calls": 1,
        "attempts": 1,
        "messages": 0,
        "rate": 1.0 / 7200.0,
        "errors": 0,
        "caller": {"reports": 0, "errors": {}, "latency_ns": none},
        "callee": {"reports": 1, "errors": {}, "latency_ns": {"p50": MIDDLE, "p90": MIDDLE, "p95": MIDDLE, "p99": MIDDLE}},
        "network_ns": none,
        "request_bytes": 0,
        "response_bytes": 0,
        "protocols": {"http": 1},
        "sampling": "unknown",
        "estimate": null,
        "slowest": {"trace_id": TRACE, "latency_ns": ten_ms},
        "latest_error": null,
        "cross_zone": 0,
        "cross_cluster": 0,
        "mtls": {"yes": 0, "no": 0, "unknown": 1},
        "unresolved": 0,
        "assumed": 0,
    })
}

/// Scenario: the graph of a few spans, in each format. Guarantee: the whole answer, as it is written here.
#[tokio::test]
async fn the_graph_is_nodes_and_edges() {
    let answer = get(&format!("{V1}/graph?{RANGE}&service=reviews&depth=2&direction=in"), &[]).await.json();
    let node = |service: &str, errors: u64| {
        json!({"id": format!("workload///{service}"), "kind": "workload", "cluster": null, "namespace": null, "workload": null,
            "service": service, "version": null, "port": null, "requests": 1, "errors": errors})
    };
    let mut failed = edge("workload///productpage", "workload///reviews");
    failed["errors"] = json!(1);
    failed["callee"]["errors"] = json!({"status": 1});
    failed["latest_error"] = json!({"trace_id": TRACE, "time": "2026-08-01T12:00:02.000000007Z"});
    let expected = json!({
        "start": "2026-08-01T11:00:00.000000Z",
        "end": "2026-08-01T13:00:00.000000Z",
        "nodes": [node("gateway", 0), node("productpage", 0), node("reviews", 1)],
        "edges": [edge("workload///gateway", "workload///productpage"), failed],
        "truncated": false,
        "requests": 4,
        "unresolved": 0,
        "assumed": 0,
        "unnamed": 0,
        "left_out": 0,
    });
    assert_eq!(answer, expected);

    let path = format!("{V1}/graph?{RANGE}&service=reviews&format");
    let frames = get(&format!("{path}=nodegraph"), &[]).await.json();
    let node = json!({"id": "workload///reviews", "title": "reviews", "subtitle": "workload", "mainstat": "0.00 req/s",
        "secondarystat": "100.00 % errors", "arc__success": 0.0, "arc__errors": 1.0});
    let edge = json!({"id": "workload///productpage workload///reviews", "source": "workload///productpage",
        "target": "workload///reviews", "mainstat": "0.00 req/s", "secondarystat": "p95 10.08 ms"});
    assert_eq!((&frames["nodes"][1], &frames["edges"]), (&node, &json!([edge])));

    let dot = get(&format!("{path}=dot"), &[]).await;
    assert_eq!(dot.header("content-type"), "text/vnd.graphviz");
    let edge = r#""workload///productpage" -> "workload///reviews" [label="1 requests, 1 failed"];"#;
    assert!(dot.text().starts_with("digraph mesh {\n") && dot.text().contains(edge), "{}", dot.text());
}

/// Scenario: values that the graph does not take, and another tenant's spans. Guarantee: each parameter is named; tenants are apart (P8).
#[tokio::test]
async fn the_graph_names_what_it_does_not_take() {
    for (query, parameter) in [
        ("level=pod", "level"),
        ("direction=up", "direction"),
        ("depth=0", "depth"),
        ("depth=21", "depth"),
        ("proxies=yes", "proxies"),
        ("min_requests=-1", "min_requests"),
        ("limit=0", "limit"),
        ("format=svg", "format"),
        ("start=now&end=now-1m", "start"),
        ("operation=x", "operation"),
    ] {
        let answer = get(&format!("{V1}/graph?{query}"), &[]).await;
        assert!(answer.problem(400).contains(&format!("`{parameter}`")), "{query}");
        assert_eq!(answer.json()["parameter"], parameter, "{query}");
    }
    let other = get(&format!("{V1}/graph?{RANGE}"), &[("x-scope-orgid", "other")]).await.json();
    assert_eq!((&other["requests"], &other["nodes"][1]["service"]), (&json!(1), &json!("secret")));
}

/// Scenario: two edges in a range and two others before it; what is not taken, ranges that overlap among it. Guarantee: the whole answer of one edge and
/// one node, as it is written here; each wrong parameter is named.
#[tokio::test]
async fn the_diff_is_of_two_ranges() {
    let range = "start=2026-08-01T12:00:01.5Z&end=2026-08-01T12:30:00Z";
    let diff = get(&format!("{V1}/graph/diff?{range}&exact=true&baseline_start=2026-08-01T11:00:00Z"), &[]).await.json();
    assert_eq!(diff["edge_changes"], json!({"new": 2, "gone": 2, "changed": 0, "same": 0}));
    assert_eq!(
        (&diff["baseline_start"], &diff["baseline_end"], &diff["q"], &diff["truncated"]),
        (&json!("2026-08-01T11:00:00.000000Z"), &json!("2026-08-01T12:00:01.500000Z"), &json!(0.05), &json!(false))
    );
    let counts = json!({"requests": 2, "unresolved": 0, "assumed": 0, "unnamed": 0, "left_out": 0});
    assert_eq!((&diff["before"], &diff["after"]), (&counts, &counts));
    let find = |list: &str, field: &str, value: &str| {
        diff[list]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one[field] == value)
            .cloned()
            .unwrap_or_else(|| panic!("{list}: {value}: {diff}"))
    };
    let reviews = find("edges", "target", "workload///reviews");
    let p = &reviews["rate_change"]["p"];
    assert!((0.0..=1.0).contains(&p.as_f64().unwrap()), "{p}");
    let expected = json!({
        "source": "workload///productpage",
        "target": "workload///reviews",
        "change": "new",
        "before": {"requests": 0, "errors": 0, "rate": 0.0},
        "after": {"requests": 1, "errors": 1, "rate": 1.0 / 1798.5},
        "rate_change": {"ratio": null, "sampling": "unknown", "p": p, "adjusted_p": reviews["rate_change"]["adjusted_p"], "significant": false},
        "error_change": null,
        "latency_change": null,
    });
    assert_eq!(reviews, expected);
    assert_eq!(find("edges", "target", "workload///gateway")["change"], "gone");
    let productpage = find("nodes", "service", "productpage");
    assert_eq!(
        (&productpage["change"], &productpage["requests"], &productpage["before"]["requests"], &productpage["after"]["requests"]),
        (&json!("same"), &json!(0), &json!(1), &json!(0))
    );
    for (query, parameter) in [
        ("q=0", "q"),
        ("q=x", "q"),
        ("baseline_start=now-30m", "baseline_start"),
        ("baseline_start=now-3h&baseline_end=now-3h", "baseline_start"),
        ("baseline_end=soon", "baseline_end"),
        ("level=pod", "level"),
        ("start=now&end=now-1m", "start"),
        ("format=dot", "format"),
    ] {
        let answer = get(&format!("{V1}/graph/diff?{query}"), &[]).await;
        assert!(answer.problem(400).contains(&format!("`{parameter}`")), "{query}");
        assert_eq!(answer.json()["parameter"], parameter, "{query}");
    }
}

/// Scenario: the latencies of one service, and those of all by caller; steps and sides that are not taken. Guarantee: the whole answer, as it is
/// written here; each wrong parameter is named.
#[tokio::test]
async fn latencies_are_series_of_steps() {
    let answer = get(&format!("{V1}/latency?{RANGE}&service=reviews&step=1h"), &[]).await.json();
    let point = json!({"end": "2026-08-01T13:00:00.000000Z", "requests": 1, "rate": 1.0 / 3600.0, "reports": 1, "errors": 1,
        "latency_ns": {"p50": MIDDLE, "p90": MIDDLE, "p95": MIDDLE, "p99": MIDDLE}});
    let expected = json!({
        "start": "2026-08-01T11:00:00.000000Z",
        "end": "2026-08-01T13:00:00.000000Z",
        "series": [{"group": null, "points": [point]}],
        "requests": 1,
        "unresolved": 0,
        "assumed": 0,
        "unnamed": 0,
        "left_out": 0,
    });
    assert_eq!(answer, expected);
    let by_caller = get(&format!("{V1}/latency?{RANGE}&group_by=caller&side=caller"), &[]).await.json();
    let groups: Vec<_> = by_caller["series"].as_array().unwrap().iter().map(|series| series["group"].clone()).collect();
    assert_eq!(groups, [json!("gateway"), json!("productpage"), json!("unknown")]);
    assert_eq!(by_caller["series"][0]["points"][0]["reports"], 0);
    let ratings = get(&format!("{V1}/latency?{RANGE}&workload=ratings&operation=GET+/ratings/1"), &[]).await.json();
    assert_eq!(ratings["requests"], 1);
    let quantiles = get(&format!("{V1}/latency?{RANGE}&service=reviews&quantiles=0.999,0.5"), &[]).await;
    assert!(quantiles.text().contains(r#""latency_ns":{"p99.9":10083830,"p50":10083830}"#), "{}", quantiles.text());
    assert_eq!(get(&format!("{V1}/latency?{RANGE}&namespace=shop"), &[]).await.json()["requests"], 0);
    let many = format!("quantiles={}1", "0.5,".repeat(20));
    for (query, parameter) in [
        ("step=x", "step"),
        ("step=1ms", "step"),
        ("step=1ns", "step"),
        ("side=both", "side"),
        ("group_by=pod", "group_by"),
        ("quantiles=0.5,1.5", "quantiles"),
        ("quantiles=0.5,0.50", "quantiles"),
        ("quantiles=0.5,", "quantiles"),
        (many.as_str(), "quantiles"),
    ] {
        let answer = get(&format!("{V1}/latency?{query}"), &[]).await;
        assert!(answer.problem(400).contains(&format!("`{parameter}`")), "{query}");
        assert_eq!(answer.json()["parameter"], parameter, "{query}");
    }
}

/// Scenario: a heatmap of one service, and one by caller; what it does not take. Guarantee: the whole answer, as it is written here; each wrong
/// parameter is named.
#[tokio::test]
async fn heatmaps_are_counts_of_buckets() {
    let answer = get(&format!("{V1}/latency/heatmap?{RANGE}&service=reviews&step=1h"), &[]).await.json();
    let bounds = &answer["buckets"][0];
    assert!((9_700_000..=10_000_000).contains(&bounds["low_ns"].as_u64().unwrap()), "{bounds}");
    assert!((10_000_000..10_300_000).contains(&bounds["high_ns"].as_u64().unwrap()), "{bounds}");
    let expected = json!({
        "start": "2026-08-01T11:00:00.000000Z",
        "end": "2026-08-01T13:00:00.000000Z",
        "scale": 5,
        "buckets": [bounds],
        "series": [{"group": null, "columns": [{"end": "2026-08-01T13:00:00.000000Z", "counts": [1]}]}],
        "requests": 1,
        "unresolved": 0,
        "assumed": 0,
        "unnamed": 0,
        "left_out": 0,
    });
    assert_eq!(answer, expected);
    let by_caller = get(&format!("{V1}/latency/heatmap?{RANGE}&group_by=caller&buckets=4"), &[]).await.json();
    let groups: Vec<_> = by_caller["series"].as_array().unwrap().iter().map(|series| series["group"].clone()).collect();
    assert_eq!(groups, [json!("gateway"), json!("productpage"), json!("unknown")]);
    for (query, parameter) in [
        ("buckets=3", "buckets"),
        ("buckets=201", "buckets"),
        ("step=1ms", "step"),
        ("side=both", "side"),
        ("quantiles=0.5", "quantiles"),
    ] {
        let answer = get(&format!("{V1}/latency/heatmap?{query}"), &[]).await;
        assert!(answer.problem(400).contains(&format!("`{parameter}`")), "{query}");
        assert_eq!(answer.json()["parameter"], parameter, "{query}");
    }
}

/// Scenario: the path of a trace whose spans are not during their parents, and of all traces, compared with a range of one of them.
/// Guarantee: the whole answer, as it is written here; unknown and wrong ids are told apart.
#[tokio::test]
async fn critical_paths_are_segments_and_sums() {
    let ten_ms = 10_000_000;
    let none = json!({"time_ns": 0, "share": 0.0});
    let classes =
        |time: u64| json!({"application": {"time_ns": time, "share": 1.0}, "proxy": none, "network": none, "unknown": none});
    let node = |service: &str| json!({"kind": "workload", "cluster": null, "namespace": null, "workload": service, "service": service, "class": "application"});
    let with = |mut value: Value, members: Value| {
        value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        value
    };
    let mut segment =
        json!({"offset_ns": 0, "duration_ns": ten_ms, "span_id": "0000000000000001", "operation": "GET /productpage"});
    segment = with(segment, node("gateway"));
    let expected = json!({
        "trace_id": TRACE,
        "start_time": "2026-08-01T12:00:00.000000007Z",
        "duration_ns": ten_ms,
        "classes": classes(ten_ms),
        "segments": [segment],
        "tops": 1,
        "detached": 0,
        "moved": 0,
        "left_out": 0,
    });
    assert_eq!(get(&format!("{V1}/traces/a1/critical-path"), &[]).await.json(), expected);
    assert!(get(&format!("{V1}/traces/ffff/critical-path"), &[]).await.problem(404).contains("ffff"));
    assert_eq!(get(&format!("{V1}/traces/xyz/critical-path"), &[]).await.json()["parameter"], "trace_id");
    get(&format!("{V1}/traces/a1/critical-path"), &[("x-scope-orgid", "other")]).await.problem(404);

    let baseline = "baseline_start=2026-08-01T12:00:02Z&baseline_end=2026-08-01T13:00:00Z";
    let answer = get(&format!("{V1}/critical-path?{RANGE}&{baseline}"), &[]).await.json();
    let part = |paths: u64, share: f64| json!({"time_ns": paths * ten_ms, "paths": paths, "share": share, "mean_ns": share * ten_ms as f64});
    let change = |share: f64| json!({"share": share, "mean_ns": share * ten_ms as f64});
    let row = |service: &str, operation: &str, before: u64, after: f64| {
        let compared = json!({"operation": operation, "baseline": part(before, before as f64), "change": change(after)});
        with(with(node(service), part(1, 0.5)), compared)
    };
    // Of two rows of equal time the one with more in the baseline is the first.
    let rows = [row("ratings", "GET /ratings/1", 1, -0.5), row("gateway", "GET /productpage", 0, 0.5)];
    let totals = |start: &str, paths: u64, found: u64| {
        json!({"start": start, "end": "2026-08-01T13:00:00.000000Z", "paths": paths, "time_ns": paths * ten_ms, "mean_ns": ten_ms as f64,
            "classes": classes(paths * ten_ms), "moved": 0, "detached": 0, "traces_found": found, "traces_read": found, "left_out": 0,
            "partial": false})
    };
    let expected = json!({
        "rows": rows,
        "truncated": false,
        "range": totals("2026-08-01T11:00:00.000000Z", 2, 2),
        // A span of the other trace starts in it, too.
        "baseline": totals("2026-08-01T12:00:02.000000Z", 1, 2),
    });
    assert_eq!(answer, expected);

    let path = format!("{V1}/critical-path?{RANGE}");
    let reviews = get(&format!("{path}&service=reviews&operation=GET+/reviews/0"), &[]).await.json();
    assert_eq!((&reviews["range"]["paths"], &reviews["rows"][0]["service"]), (&json!(1), &json!("reviews")));
    let few = get(&format!("{path}&traces=1&limit=1"), &[]).await.json();
    assert_eq!((&few["range"]["traces_read"], &few["range"]["traces_found"]), (&json!(1), &json!(2)));
    assert_eq!((&few["range"]["partial"], &few["baseline"]), (&json!(true), &Value::Null));
    for (query, parameter) in [
        ("traces=0", "traces"),
        ("traces=100001", "traces"),
        ("limit=10001", "limit"),
        ("baseline_start=now&baseline_end=now-1m", "baseline_start"),
        ("baseline_end=soon", "baseline_end"),
        ("workload=x", "workload"),
    ] {
        let answer = get(&format!("{V1}/critical-path?{query}"), &[]).await;
        assert!(answer.problem(400).contains(&format!("`{parameter}`")), "{query}");
        assert_eq!(answer.json()["parameter"], parameter, "{query}");
    }
}

/// Scenario: traces in which nobody calls; parameters that are not taken. Guarantee: no workload is named, and how many traces were read.
#[tokio::test]
async fn propagation_says_what_it_looked_at() {
    let answer = get(&format!("{V1}/propagation?{RANGE}"), &[]).await.json();
    let expected = json!({"start": "2026-08-01T11:00:00.000000Z", "end": "2026-08-01T13:00:00.000000Z", "workloads": [],
        "traces_found": 2, "traces_read": 2, "left_out": 0, "partial": false});
    assert_eq!(answer, expected);
    for (query, parameter) in [("traces=x", "traces"), ("service=a", "service"), ("start=now", "start")] {
        let answer = get(&format!("{V1}/propagation?{query}"), &[]).await;
        assert!(answer.problem(400).contains(&format!("`{parameter}`")), "{query}");
    }
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
