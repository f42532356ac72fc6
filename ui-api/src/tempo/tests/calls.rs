//! Grafana's and Kiali's calls over gRPC, on a connection of HTTP/2 without TLS.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use http::HeaderMap;
use meshlake_config::{ByteSize, Config, Tenant};
use prost::Message;
use serde::Serialize;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::{escaped, grafana};
use crate::api::Health;
use crate::fixture::{TRACE, api, healthy, starting};
use crate::router;
use crate::tempo::metrics::range_messages;
use crate::tempo::proto::*;

/// What came of a call: its messages, and its status with a message.
struct Called<M> {
    messages: Vec<M>,
    status: String,
    message: String,
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// The messages in the body of an answer.
fn messages<M: Message + Default>(mut body: &[u8]) -> Vec<M> {
    let mut messages = Vec::new();
    while let [0, a, b, c, d, rest @ ..] = body {
        let (message, after) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        messages.push(M::decode(message).unwrap());
        body = after;
    }
    assert!(body.is_empty());
    messages
}

/// Sends a body to a method of the service of `router`, with the headers that grpc-go sends.
async fn send<M: Message + Default>(router: axum::Router, method: &str, headers: &[(&str, &str)], body: Bytes) -> Called<M> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(crate::serve(listener, router, std::future::pending()));
    let (client, connection) = h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/tempopb.StreamingQuerier/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "Grafana/12.3.0 grpc-go/1.75.0")
        .header("grpc-timeout", "4S");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let (response, mut stream) = client.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(body, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["content-type"]), (200, &"application/grpc".parse().unwrap()));
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        bytes.put_slice(&data.unwrap());
    }
    let trailers: HeaderMap = body.trailers().await.unwrap().unwrap_or_default();
    let text = |name: &str| trailers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let called = Called { messages: messages(&bytes), status: text("grpc-status"), message: text("grpc-message") };
    connection.abort();
    server.abort();
    called
}

/// Calls a method over the spans of the fixture; it must succeed.
async fn call<M: Message + Default>(method: &str, request: &impl Message) -> Vec<M> {
    let called = send(router(api(&Config::default())), method, &[], frame(&request.encode_to_vec())).await;
    assert_eq!((called.status.as_str(), called.message.as_str()), ("0", ""));
    called.messages
}

fn search(query: &str) -> SearchRequest {
    SearchRequest { query: query.into(), start: 1_785_582_000, end: 1_785_589_200, ..Default::default() }
}

/// Scenario: Kiali's health check, an empty request, and Grafana's. Guarantee: they end well.
#[tokio::test]
async fn empty_searches_succeed() {
    let of_kiali: Vec<SearchResponse> = call("Search", &SearchRequest::default()).await;
    assert_eq!((of_kiali.len(), of_kiali[0].metrics.total_jobs), (1, 1));
    let request = SearchRequest { query: "{}".into(), start: 1_785_585_000, end: 1_785_585_900, limit: 1, ..Default::default() };
    let of_grafana: Vec<SearchResponse> = call("Search", &request).await;
    assert_eq!(of_grafana.iter().map(|message| message.traces.len()).sum::<usize>(), 1);
}

/// Scenario: a search over many hours, which is answered in parts. Guarantee: each trace comes once and whole, and the last message says
/// that all is done.
#[tokio::test]
async fn parts_of_a_search_make_the_whole() {
    let request = SearchRequest { start: 1_785_500_000, end: 1_785_600_000, spans_per_span_set: 10, ..search("{}") };
    let messages: Vec<SearchResponse> = call("Search", &request).await;
    assert!(messages.len() > 1);
    let traces: Vec<_> = messages.iter().flat_map(|message| &message.traces).collect();
    assert_eq!(traces.len(), 2);
    let of_three = traces.iter().find(|trace| trace.trace_id == TRACE).unwrap();
    assert_eq!((of_three.span_sets[0].spans.len(), of_three.span_set.as_ref()), (3, of_three.span_sets.first()));
    assert!(messages.windows(2).all(|pair| pair[0].metrics.completed_jobs < pair[1].metrics.completed_jobs));
    let last = messages.last().unwrap().metrics;
    assert_eq!(last.completed_jobs, last.total_jobs);
    // Once as many as were asked for are found, nothing older is searched.
    let first: Vec<SearchResponse> = call("Search", &SearchRequest { limit: 1, end: 1_785_589_200, ..request }).await;
    assert_eq!((first.len(), first[0].traces.len()), (1, 1));
    assert!(first[0].metrics.total_jobs > 1 && first[0].metrics.completed_jobs == first[0].metrics.total_jobs);
}

/// Scenario: Kiali's search over gRPC. Guarantee: the first span of the deprecated spanset is the service's.
#[tokio::test]
async fn kiali_reads_the_first_span() {
    let query = r#"{ .service.name = "reviews" && .http.method =~ ".*" } && {  }| select(status, .service_name, name)"#;
    let messages: Vec<SearchResponse> = call("Search", &SearchRequest { limit: 100, min_duration_ms: 1, ..search(query) }).await;
    let traces: Vec<_> = messages.iter().flat_map(|message| &message.traces).collect();
    let span = &traces[0].span_set.as_ref().unwrap().spans[0];
    assert_eq!((traces.len(), span.name.as_str()), (1, "GET /reviews/0"));
    assert!(span.attributes.iter().any(|attribute| attribute.key == "service.name"));
}

/// A day that ends three hours after the spans of the fixture, in steps of ten minutes.
fn long_range(query: &str) -> QueryRangeRequest {
    let (start, end) = (1_785_510_000_000_000_000, 1_785_596_400_000_000_000);
    QueryRangeRequest { query: query.into(), start, end, step: 600_000_000_000, ..Default::default() }
}

/// Messages as a document, read as it is written.
fn document(messages: &impl Serialize) -> Value {
    serde_json::from_str(&serde_json::to_string(messages).unwrap()).unwrap()
}

/// The same over HTTP, as a document.
async fn at_once(path: &str, asked: &QueryRangeRequest) -> Value {
    let QueryRangeRequest { query, start, end, .. } = asked;
    let answer = grafana(&format!("/api/metrics/{path}?q={}&start={start}&end={end}&step=10m", escaped(query))).await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    answer.json()
}

/// The samples of messages as Grafana puts them together: of series by their labels, of two samples of one time the later message's.
fn merged(messages: &[QueryRangeResponse]) -> BTreeMap<(String, i64), f64> {
    let samples = |series: &TimeSeries| {
        let labels = format!("{:?}", series.labels);
        series.samples.iter().map(|sample| ((labels.clone(), sample.timestamp_ms), sample.value)).collect::<Vec<_>>()
    };
    messages.iter().flat_map(|message| &message.series).flat_map(samples).collect()
}

/// Scenario: numbers over a day that spans tell, of which the newest hours have none. Guarantee: the samples of a message are not changed by those after
/// it; put together they are what is answered at once, and so is the last message, with the exemplars; it says that all is done.
#[tokio::test]
async fn parts_of_metrics_make_the_whole() {
    for query in [
        "{ span.http.method = \"GET\" } | rate() by(name)",
        "{ span.http.method = \"GET\" } | quantile_over_time(duration, .5, .9)",
        "({ name = \"GET /productpage\" && .http.method != nil } | rate()) / ({ .http.method != nil } | rate() by(resource.service.name)) > 0",
        "{ resource.service.name = \"gateway\" } >> { span.http.method = \"GET\" } | max_over_time(duration)",
    ] {
        let request = long_range(query);
        let messages: Vec<QueryRangeResponse> = call("MetricsQueryRange", &request).await;
        let (last, parts) = messages.split_last().unwrap();
        assert_eq!(parts.len(), 2, "{query}");
        let (whole, early) = (merged(std::slice::from_ref(last)), merged(parts));
        assert!(!early.is_empty() && early.iter().all(|(sample, value)| whole.get(sample) == Some(value)), "{query}: {early:?}");
        assert_eq!(merged(&messages), whole, "{query}");
        assert!(parts.iter().flat_map(|part| &part.series).all(|series| series.exemplars.is_empty()));
        assert!(last.series.iter().any(|series| !series.exemplars.is_empty()), "{query}");
        assert_eq!(document(&last.series), at_once("query_range", &request).await["series"], "{query}");
        let jobs: Vec<_> = messages.iter().map(|message| (message.metrics.completed_jobs, message.metrics.total_jobs)).collect();
        assert_eq!(jobs, [(1, 3), (2, 3), (3, 3)]);
    }
}

/// Scenario: one number for the same day. Guarantee: it grows, and the last is what is answered at once.
#[tokio::test]
async fn an_instant_grows_to_the_whole() {
    let QueryRangeRequest { query, start, end, .. } = long_range("{ span.http.method = \"GET\" } | count_over_time() by(name)");
    let request = QueryInstantRequest { query: query.clone(), start, end };
    let messages: Vec<QueryInstantResponse> = call("MetricsQueryInstant", &request).await;
    let totals: Vec<f64> = messages.iter().map(|message| message.series.iter().map(|series| series.value).sum()).collect();
    assert_eq!(totals, [0.0, 4.0, 4.0]);
    assert_eq!(document(&messages[2].series), at_once("query", &long_range(&query)).await["series"]);
    assert_eq!((messages[1].metrics.completed_jobs, messages[2].metrics.completed_jobs), (2, 3));
}

/// Scenario: numbers of the day that sums of spans tell, such that other times decide, and a heat map. Guarantee: one message.
#[tokio::test]
async fn what_is_known_at_once_is_one_message() {
    for query in [
        "{} | rate() by(name)",
        "{ span.http.method = \"GET\" } | rate() by(name) | topk(1)",
        "{ span.http.method = \"GET\" } | compare({ status = error })",
        "{ span.http.method = \"GET\" } | histogram_over_time(duration)",
    ] {
        let messages: Vec<QueryRangeResponse> = call("MetricsQueryRange", &long_range(query)).await;
        assert_eq!((messages.len(), messages[0].metrics.completed_jobs, messages[0].metrics.total_jobs), (1, 1, 1), "{query}");
    }
}

/// Scenario: who asked goes away while the second part is read; one query runs at once. Guarantee: the next one is answered.
#[tokio::test]
async fn parts_that_nobody_waits_for_are_given_up() {
    let mut config = Config::default();
    config.query.concurrency = 1;
    let (api, request) = (api(&config), long_range("{ span.http.method = \"GET\" } | rate()"));
    let ask = || range_messages(api.clone(), Tenant::default(), &request).unwrap();
    let mut messages = ask();
    messages.next().await.unwrap().unwrap();
    assert!(messages.next().now_or_never().is_none());
    drop(messages);
    assert_eq!(ask().filter(|message| std::future::ready(message.is_ok())).count().await, 3);
}

/// Scenario: the other calls. Guarantee: one message each, as over HTTP.
#[tokio::test]
async fn every_call_is_answered() {
    let (start, end) = (1_785_582_000, 1_785_589_200);
    let request = SearchTagsRequest { start, end, ..Default::default() };
    let tags: Vec<SearchTagsResponse> = call("SearchTags", &request).await;
    assert!(tags[0].tag_names.contains(&"http.method".to_owned()));
    let tags: Vec<SearchTagsV2Response> = call("SearchTagsV2", &request).await;
    assert_eq!(tags[0].scopes[0].tags, ["service.name"]);
    let request = SearchTagsRequest { query: "{ name = \"nothing\" && ".into(), ..request };
    let tags: Vec<SearchTagsV2Response> = call("SearchTagsV2", &request).await;
    assert_eq!((tags[0].scopes[0].name.as_str(), tags[0].scopes[0].tags.len()), ("resource", 0));
    let request = SearchTagValuesRequest { tag_name: "span.http.method".into(), start, end, ..Default::default() };
    let values: Vec<SearchTagValuesResponse> = call("SearchTagValues", &request).await;
    assert_eq!(values[0].tag_values, ["GET"]);
    let values: Vec<SearchTagValuesV2Response> = call("SearchTagValuesV2", &request).await;
    assert_eq!(values[0].tag_values, [TagValue { r#type: "string".into(), value: "GET".into() }]);
    let (query, start, end) = ("{} | count_over_time()".to_owned(), 1_785_585_000_000_000_000, 1_785_586_200_000_000_000);
    let request = QueryRangeRequest { query: query.clone(), start, end, step: 60_000_000_000, ..Default::default() };
    let range: Vec<QueryRangeResponse> = call("MetricsQueryRange", &request).await;
    let total: f64 = range[0].series[0].samples.iter().map(|sample| sample.value).sum();
    assert!((total - 4.0).abs() < 1e-9);
    let instant: Vec<QueryInstantResponse> = call("MetricsQueryInstant", &QueryInstantRequest { query, start, end }).await;
    assert!((instant[0].series[0].value - 4.0).abs() < 1e-9);
}

/// Scenario: calls that are wrong or come too early. Guarantee: the status that Tempo has for it, and what is wrong.
#[tokio::test]
async fn failures_are_statuses() {
    let router = || router(api(&Config::default()));
    let well = || frame(&search("{}").encode_to_vec());
    let tenants = [("x-scope-orgid", "a|b")];
    let wrong = frame(&search("{ status > 5 }").encode_to_vec());
    let mut compressed = well().to_vec();
    compressed[0] = 1;
    for (method, headers, body, status, told) in [
        ("Search", &[][..], wrong, "3", "col%203"),
        ("Search", &tenants, well(), "3", "X-Scope-OrgID"),
        ("Search", &[], Bytes::new(), "3", "no%20message"),
        ("Search", &[], frame(b"\xff"), "3", "cannot%20be%20read"),
        ("Search", &[], well().slice(..5), "3", "length"),
        ("Search", &[], compressed.into(), "12", "compressed"),
        ("Watch", &[], well(), "12", "Watch"),
    ] {
        let called: Called<SearchResponse> = send(router(), method, headers, body).await;
        assert_eq!((called.status.as_str(), called.messages.len()), (status, 0), "{told}: {}", called.message);
        assert!(called.message.contains(told), "{}", called.message);
    }
    let mut config = Config::default();
    config.query.memory_limit = ByteSize::kib(1);
    let called: Called<SearchResponse> = send(crate::router(api(&config)), "Search", &[], well()).await;
    assert_eq!(called.status, "8", "{}", called.message);
    let starting = crate::router(starting(&Config::default(), Health { ready: false, ..healthy() }));
    let called: Called<SearchResponse> = send(starting, "Search", &[], well()).await;
    assert_eq!(called.status, "14");
}

/// Scenario: the header names a tenant, once, twice as some releases of Grafana send it, and two tenants. Guarantee: its traces, and no
/// others (P8).
#[tokio::test]
async fn the_header_names_the_tenant() {
    let (one, another) = (("x-scope-orgid", "other"), ("x-scope-orgid", "default"));
    for (headers, found) in [(&[one][..], 1), (&[one, one], 1), (&[one, another], 0)] {
        let router = router(api(&Config::default()));
        let called: Called<SearchResponse> = send(router, "Search", headers, frame(&search("{}").encode_to_vec())).await;
        let traces = called.messages.iter().flat_map(|message| &message.traces);
        let ids: Vec<_> = traces.map(|trace| trace.trace_id.as_str()).collect();
        assert_eq!(ids, vec!["000000000000000000000000000000a3"; found]);
        assert_eq!(called.status, if found == 0 { "3" } else { "0" });
    }
}
