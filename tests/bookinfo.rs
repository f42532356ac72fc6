//! The recorded stream of a real Envoy mesh gives exactly the counts that were computed independently of this project
//! (`tests/data/README.md`), in whatever order and batching its requests come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::{Client, Server};
use hyper::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message;
use serde_json::json;

fn recorded() -> Vec<ExportTraceServiceRequest> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/envoy-bookinfo.traces.bin.gz");
    let mut stream = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut stream).unwrap();
    let mut rest = &*stream;
    let mut requests = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (message, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        requests.push(ExportTraceServiceRequest::decode(message).unwrap());
        rest = tail;
    }
    requests
}

/// The same spans in requests of `size` resource groups, in an order that `step` decides.
fn rebatched(requests: &[ExportTraceServiceRequest], step: usize, size: usize) -> Vec<Bytes> {
    let mut spans = Vec::new();
    for group in requests.iter().flat_map(|request| &request.resource_spans) {
        for scoped in &group.scope_spans {
            for span in &scoped.spans {
                let mut group = group.clone();
                group.scope_spans = vec![scoped.clone()];
                group.scope_spans[0].spans = vec![span.clone()];
                spans.push(group);
            }
        }
    }
    let count = spans.len();
    let order: Vec<_> = (0..count).map(|index| spans[index * step % count].clone()).collect();
    order.chunks(size).map(|groups| ExportTraceServiceRequest { resource_spans: groups.to_vec() }.encode_to_vec().into()).collect()
}

/// The caller of a hop is the proxy that wrote the client span, the callee the one that wrote the server span below it.
const HOPS: &str = "select c.service caller, s.service callee, count(*) hops, count(*) filter (where s.error) failed \
    from spans s join spans c on s.parent_span_id = c.span_id and s.trace_id = c.trace_id \
    where s.kind = 'server' and c.kind = 'client' group by 1, 2 order by 1, 2";

/// The edges of the graph at a level, as (caller, callee, requests, failed), in order.
async fn edges(server: &Server, level: &str) -> Vec<serde_json::Value> {
    let graph = get(server, &format!("/api/mesh/v1/graph?start=0&level={level}")).await;
    let numbers = ["requests", "unresolved", "left_out"].map(|name| graph[name].clone());
    assert_eq!((numbers, &graph["truncated"]), ([json!(3734), json!(0), json!(0)], &json!(false)));
    let name = |id: &serde_json::Value| {
        let node = graph["nodes"].as_array().unwrap().iter().find(|node| node["id"] == *id).unwrap();
        let named = node["service"].as_str().or(node["kind"].as_str()).unwrap();
        node["version"].as_str().filter(|_| named == "reviews").map_or(named.to_owned(), |version| format!("{named} {version}"))
    };
    let edge = |edge: &serde_json::Value| json!([name(&edge["source"]), name(&edge["target"]), edge["requests"], edge["errors"]]);
    let mut edges: Vec<_> = graph["edges"].as_array().unwrap().iter().map(edge).collect();
    edges.sort_by_key(ToString::to_string);
    edges
}

/// The graph beside the true counts; and the table `hops` beside the graph.
async fn check_graph(server: &Server) {
    let of_services = [
        json!(["istio-ingressgateway", "productpage", 800, 0]),
        json!(["outside", "istio-ingressgateway", 800, 0]),
        json!(["productpage", "details", 800, 0]),
        json!(["productpage", "reviews", 800, 24]),
        json!(["reviews", "ratings", 534, 24]),
    ];
    assert_eq!(edges(server, "service").await, of_services);
    let to_reviews: Vec<_> = edges(server, "version").await.into_iter().filter(|edge| edge[0] == "productpage").collect();
    let of_versions = [
        json!(["productpage", "details", 800, 0]),
        json!(["productpage", "reviews v1", 266, 0]),
        json!(["productpage", "reviews v2", 267, 13]),
        json!(["productpage", "reviews v3", 267, 11]),
    ];
    assert_eq!(to_reviews, of_versions);
    let rows = "select coalesce(caller_service, caller_kind), callee_service, count(*), \
        count(*) filter (where callee_error not in ('none', 'http_4xx')) from hops group by 1, 2 order by 1, 2";
    assert_eq!(server.sql(rows).await, of_services);
}

async fn check(bodies: Vec<Bytes>) {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[("MESHLAKE_LIVE__FLUSH_SIZE", "1MiB")]).await;
    let mut client = Client::connect(server.otlp_http).await.unwrap();
    for body in bodies {
        let (status, _) = client.post("/v1/traces", "application/x-protobuf", body).await.unwrap();
        assert_eq!(status, StatusCode::OK);
    }
    let counts = "select count(*), count(distinct trace_id), count(*) filter (where parent_span_id is null) from spans";
    assert_eq!(server.sql(counts).await, [json!([5868, 800, 800])]);
    let codes = "select http_status_code, count(*) from spans group by 1 order by 1";
    assert_eq!(server.sql(codes).await, [json!([200, 5772]), json!([500, 48]), json!([502, 48])]);
    let hops = [
        json!(["istio-ingressgateway", "productpage", 800, 0]),
        json!(["productpage", "details", 800, 0]),
        json!(["productpage", "reviews", 800, 24]),
        json!(["reviews", "ratings", 534, 24]),
    ];
    assert_eq!(server.sql(HOPS).await, hops);
    let versions = "select version, count(*), count(*) filter (where error) from spans \
        where service = 'reviews' and kind = 'server' group by 1 order by 1";
    assert_eq!(server.sql(versions).await, [json!(["v1", 266, 0]), json!(["v2", 267, 13]), json!(["v3", 267, 11])]);
    let orphans = "select count(*) from spans s left anti join spans p on s.parent_span_id = p.span_id and s.trace_id = p.trace_id \
        where s.parent_span_id is not null";
    assert_eq!(server.sql(orphans).await, [json!([0])]);
    check_graph(&server).await;
    assert!(server.terminate().success());
}

/// Scenario: the stream as it was recorded. Guarantee: the true counts.
#[tokio::test]
async fn as_recorded() {
    check(recorded().iter().map(|request| request.encode_to_vec().into()).collect()).await;
}

/// Scenario: the spans in another order and other requests. Guarantee: the true counts (P4).
#[tokio::test]
async fn shuffled_and_rebatched() {
    check(rebatched(&recorded(), 2_501, 3)).await;
    check(rebatched(&recorded(), 4_999, 700)).await;
}

async fn get(server: &Server, path: &str) -> serde_json::Value {
    let (status, answer) = Client::connect(server.api).await.unwrap().get(path).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// What the API says of services and operations that start in a range (RFC 3339), beside what a scan says.
async fn compare(server: &Server, start: &str, end: &str) {
    let range = format!("start_time >= '{start}' and start_time < '{end}'");
    let rows = |list: &serde_json::Value, names: [&str; 3]| {
        let row = |one: &serde_json::Value| json!(names.map(|name| one[name].clone()));
        list.as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let counts = "count(*), count(*) filter (where error)";
    let found = get(server, &format!("/api/mesh/v1/services?start={start}&end={end}")).await;
    let scanned = format!("select service, {counts} from spans where service is not null and {range} group by 1 order by 1");
    let services = rows(&found["services"], ["service", "spans", "errors"]);
    assert_eq!(services, server.sql(&scanned).await, "{start} {end}");
    assert!(!services.is_empty());
    for service in services.iter().filter_map(|service| service[0].as_str()) {
        let found = get(server, &format!("/api/mesh/v1/services/{service}/operations?start={start}&end={end}")).await;
        let scanned = format!(
            "select name, {counts} from spans where service = '{service}' and {range} group by name, kind order by name, kind"
        );
        assert_eq!(rows(&found["operations"], ["operation", "spans", "errors"]), server.sql(&scanned).await, "{service}");
    }
}

/// Spans of the stream that carry each attribute, by name and scope.
fn attributes(requests: &[ExportTraceServiceRequest]) -> BTreeMap<(String, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for group in requests.iter().flat_map(|request| &request.resource_spans) {
        for scoped in &group.scope_spans {
            for span in &scoped.spans {
                let mut count = |scope, attributes: &[KeyValue]| {
                    attributes.iter().for_each(|one| *counts.entry((one.key.clone(), scope)).or_default() += 1);
                };
                count("span", &span.attributes);
                count("resource", group.resource.as_ref().map_or(&[], |resource| &resource.attributes));
                count("scope", scoped.scope.as_ref().map_or(&[], |scope| &scope.attributes));
            }
        }
    }
    counts
}

/// What the API says of attributes of spans that start in a range, beside what a scan says. The spans of each attribute.
async fn compare_attributes(server: &Server, start: &str, end: &str) -> BTreeMap<(String, &'static str), u64> {
    let range = format!("start_time >= '{start}' and start_time < '{end}'");
    let mut counts = BTreeMap::new();
    let found = get(server, &format!("/api/mesh/v1/attributes?start={start}&end={end}")).await;
    assert_eq!(found["exact"], true);
    for one in found["attributes"].as_array().unwrap() {
        let name = one["name"].as_str().unwrap();
        let scope = ["span", "resource", "scope"].into_iter().find(|scope| one["scope"] == *scope).unwrap();
        let call = format!("attribute('{name}', 'string', '{scope}')");
        let scanned =
            format!("select {call}, count(*) from spans where {call} is not null and {range} group by 1 order by 2 desc, 1");
        let scanned = server.sql(&scanned).await;
        let spans: u64 = scanned.iter().map(|row| row[1].as_u64().unwrap()).sum();
        // Envoy writes texts only.
        assert_eq!(one["types"], json!([{"type": "string", "spans": spans}]), "{name}");
        counts.insert((name.to_owned(), scope), spans);
        let path = format!("/api/mesh/v1/attributes/{name}/values?scope={scope}&start={start}&end={end}&limit=1000");
        let found = get(server, &path).await;
        let row = |value: &serde_json::Value| json!([value["value"], value["spans"]]);
        let values = found["values"].as_array().unwrap();
        if scanned.len() <= 100 {
            assert_eq!((values.iter().map(row).collect(), &found["exact"]), (scanned, &json!(true)), "{name}");
        } else {
            // More than is kept of a file: what is called exact is.
            let is_true = |value: &&serde_json::Value| value["exact"] == true;
            assert!(values.iter().filter(is_true).all(|value| scanned.contains(&row(value))), "{name}");
            assert!(values.len() >= 100 && (found["exact"] == false || values.len() == scanned.len()), "{name}");
        }
    }
    counts
}

/// Scenario: the stream in lake files and a part of it live, asked for ranges that hold whole files, parts of them, and one. Guarantee:
/// services, operations and attributes are what a scan finds, whoever counted them, and all attributes of the stream are there; also after the
/// files' summaries are gone.
#[tokio::test]
async fn summaries_count_what_a_scan_counts() {
    let settings = [
        ("MESHLAKE_LIVE__FLUSH_SIZE", "1MiB"),
        ("MESHLAKE_LIVE__FLUSH_AGE", "1s"),
        ("MESHLAKE_COMPACTION__INTERVAL", "50ms"),
        ("MESHLAKE_COMPACTION__SETTLE", "0s"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &settings).await;
    let mut client = Client::connect(server.otlp_http).await.unwrap();
    let bodies = rebatched(&recorded(), 2_501, 100);
    let (first, rest) = bodies.split_at(bodies.len() - 5);
    for body in first {
        assert_eq!(client.post("/v1/traces", "application/x-protobuf", body.clone()).await.unwrap().0, StatusCode::OK);
    }
    let index = folder.path().join("store/lake/_index");
    let summaries = || {
        let entries = index.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path());
        let is_summary =
            |path: &PathBuf| path.extension().is_some_and(|extension| extension == "summary" || extension == "attributes");
        entries.filter(is_summary).collect::<Vec<_>>()
    };
    for _ in 0..600 {
        if !summaries().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!summaries().is_empty());
    for body in rest {
        assert_eq!(client.post("/v1/traces", "application/x-protobuf", body.clone()).await.unwrap().0, StatusCode::OK);
    }
    let bounds = "select min(start_time), max(start_time) + interval '1 second', \
        (select start_time from spans order by start_time limit 1 offset 2000) from spans";
    let bounds = server.sql(bounds).await;
    let at = |index: usize| bounds[0][index].as_str().unwrap().to_owned();
    for (start, end) in [(at(0), at(1)), (at(0), at(2)), (at(2), at(1))] {
        compare(&server, &start, &end).await;
        compare_attributes(&server, &start, &end).await;
    }
    let of_stream = attributes(&recorded());
    assert_eq!(compare_attributes(&server, &at(0), &at(1)).await, of_stream);
    for path in summaries() {
        std::fs::remove_file(path).unwrap();
    }
    assert!(server.terminate().success());
    let server = Server::start(folder.path(), &settings).await;
    compare(&server, &at(0), &at(1)).await;
    assert_eq!(compare_attributes(&server, &at(0), &at(1)).await, of_stream);
}
