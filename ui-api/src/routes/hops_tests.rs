//! What is made of hops: graph, latencies, critical paths, propagation.

use serde_json::{Value, json};

use crate::fixture::{RANGE, TRACE, get};

const V1: &str = "/api/mesh/v1";

/// Asserts that each query is refused, and that the answer names the parameter.
async fn refuses(path: &str, wrong: &[(&str, &str)]) {
    for (query, parameter) in wrong {
        let answer = get(&format!("{V1}/{path}?{query}"), &[]).await;
        assert!(answer.problem(400).contains(&format!("`{parameter}`")), "{query}");
        assert_eq!(answer.json()["parameter"], *parameter, "{query}");
    }
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
    assert_eq!((&frames["requests"], &frames["unresolved"], &frames["truncated"]), (&json!(4), &json!(0), &json!(false)));

    let dot = get(&format!("{path}=dot"), &[]).await;
    assert_eq!(dot.header("content-type"), "text/vnd.graphviz");
    let edge = r#""workload///productpage" -> "workload///reviews" [label="1 requests, 1 failed"];"#;
    let begin = "digraph mesh {\n  label=\"4 requests, 0 unresolved, 0 assumed, 0 unnamed calls, 0 spans left out\";\n";
    assert!(dot.text().starts_with(begin) && dot.text().contains(edge), "{}", dot.text());
}

/// Scenario: values that the graph does not take, and another tenant's spans. Guarantee: each parameter is named; tenants are apart (P8).
#[tokio::test]
async fn the_graph_names_what_it_does_not_take() {
    refuses(
        "graph",
        &[
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
        ],
    )
    .await;
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
    refuses(
        "graph/diff",
        &[
            ("q=0", "q"),
            ("q=x", "q"),
            ("baseline_start=now-30m", "baseline_start"),
            ("baseline_start=now-3h&baseline_end=now-3h", "baseline_start"),
            ("baseline_end=soon", "baseline_end"),
            ("level=pod", "level"),
            ("start=now&end=now-1m", "start"),
            ("format=dot", "format"),
        ],
    )
    .await;
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
    refuses(
        "latency",
        &[
            ("step=x", "step"),
            ("step=1ms", "step"),
            ("step=1ns", "step"),
            ("side=both", "side"),
            ("group_by=pod", "group_by"),
            ("quantiles=0.5,1.5", "quantiles"),
            ("quantiles=0.5,0.50", "quantiles"),
            ("quantiles=0.5,", "quantiles"),
            (many.as_str(), "quantiles"),
        ],
    )
    .await;
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
    refuses(
        "latency/heatmap",
        &[
            ("buckets=3", "buckets"),
            ("buckets=201", "buckets"),
            ("step=1ms", "step"),
            ("side=both", "side"),
            ("quantiles=0.5", "quantiles"),
        ],
    )
    .await;
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
    refuses(
        "critical-path",
        &[
            ("traces=0", "traces"),
            ("traces=100001", "traces"),
            ("limit=10001", "limit"),
            ("baseline_start=now&baseline_end=now-1m", "baseline_start"),
            ("baseline_end=soon", "baseline_end"),
            ("workload=x", "workload"),
        ],
    )
    .await;
}

/// Scenario: traces in which nobody calls; parameters that are not taken. Guarantee: no workload is named, and how many traces were read.
#[tokio::test]
async fn propagation_says_what_it_looked_at() {
    let answer = get(&format!("{V1}/propagation?{RANGE}"), &[]).await.json();
    let expected = json!({"start": "2026-08-01T11:00:00.000000Z", "end": "2026-08-01T13:00:00.000000Z", "workloads": [],
        "traces_found": 2, "traces_read": 2, "left_out": 0, "partial": false});
    assert_eq!(answer, expected);
    refuses("propagation", &[("traces=x", "traces"), ("service=a", "service"), ("start=now", "start")]).await;
}
