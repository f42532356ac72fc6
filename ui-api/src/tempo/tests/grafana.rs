//! Grafana's Tempo data source and Traces Drilldown, over HTTP.

use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::{Value, json};

use super::strict::check;
use super::{RANGE, escaped, grafana};
use crate::fixture::{TRACE, get};
use crate::tempo::proto::TraceByIdResponse;

async fn search(query: &str, rest: &str) -> Value {
    let answer = grafana(&format!("/api/search?q={}&{rest}&{RANGE}", escaped(query))).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"), "{answer:?}");
    let document = answer.json();
    check("SearchResponse", &document);
    document
}

/// The attributes of the first span of the first spanset of a trace.
fn attributes(trace: &Value) -> Vec<(String, Value)> {
    let attributes = trace["spanSets"][0]["spans"][0]["attributes"].as_array().unwrap();
    attributes.iter().map(|attribute| (attribute["key"].as_str().unwrap().to_owned(), attribute["value"].clone())).collect()
}

/// Scenario: the search of the Explore page. Guarantee: every field that the table shows, in the types of protobuf's JSON.
#[tokio::test]
async fn a_search_has_all_that_the_table_shows() {
    let found = search(r#"{resource.service.name="gateway"}"#, "limit=20&spss=3").await;
    let span = json!({
        "spanID": "0000000000000001", "name": "GET /productpage", "startTimeUnixNano": "1785585600000000007", "durationNanos": "10000000",
        "attributes": [{"key": "service.name", "value": {"stringValue": "gateway"}}]
    });
    let set = json!({"spans": [span], "matched": 1});
    let expected = json!([{
        "traceID": TRACE, "rootServiceName": "gateway", "rootTraceName": "GET /productpage",
        "startTimeUnixNano": "1785585600000000007", "durationMs": 2010, "spanSet": set, "spanSets": [set],
        "serviceStats": {
            "gateway": {"spanCount": 1, "errorCount": 0}, "productpage": {"spanCount": 1, "errorCount": 0},
            "reviews": {"spanCount": 1, "errorCount": 1}
        }
    }]);
    assert_eq!(found["traces"], expected);
    assert_eq!((&found["metrics"]["completedJobs"], &found["metrics"]["totalJobs"]), (&json!(1), &json!(1)));
    // Nothing found is an empty list, which the browsers of older Grafana read without asking whether it is there.
    assert_eq!(search("{ .no = 1 }", "limit=20").await["traces"], json!([]));
}

/// Scenario: all spans, at most two of each trace. Guarantee: the newest trace first, spans cut, their number told; `limit` holds.
#[tokio::test]
async fn spans_and_traces_are_cut() {
    let found = search("{}", "limit=20&spss=2").await;
    let ids: Vec<_> = found["traces"].as_array().unwrap().iter().map(|trace| trace["traceID"].as_str().unwrap()).collect();
    assert_eq!(ids, ["000000000000000000000000000000a2", TRACE]);
    let set = &found["traces"][1]["spanSets"][0];
    assert_eq!((set["spans"].as_array().unwrap().len(), &set["matched"]), (2, &json!(3)));
    assert_eq!(search("{}", "limit=1&spss=2").await["traces"].as_array().unwrap().len(), 1);
}

/// Scenario: the structure tab of Traces Drilldown. Guarantee: the positions are there as integers, from which it builds its tree.
#[tokio::test]
async fn drilldown_gets_positions() {
    let query = "({nestedSetParent<0 && true} &>> { status = error }) || ({nestedSetParent<0 && true}) | select(status, \
                 resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)";
    let found = search(query, "limit=200&spss=20").await;
    let trace = found["traces"].as_array().unwrap().iter().find(|trace| trace["traceID"] == TRACE).unwrap();
    let attributes = attributes(trace);
    let value = |key: &str| attributes.iter().find(|(own, _)| own == key).map(|(_, value)| value.clone());
    assert_eq!(value("nestedSetLeft"), Some(json!({"intValue": "1"})));
    assert_eq!(value("nestedSetRight"), Some(json!({"intValue": "6"})));
    assert_eq!(value("nestedSetParent"), Some(json!({"intValue": "-1"})));
    assert_eq!(value("service.name"), Some(json!({"stringValue": "gateway"})));
    assert_eq!(value("status"), Some(json!({"stringValue": "unset"})));
    // Its list of exceptions, and its comparison of two ranges, are valid queries.
    search("{nestedSetParent<0 && status = error} | select(resource.service.name, event.exception.message,event.exception.stacktrace,event.exception.type) with(most_recent=true)", "limit=400").await;
}

/// Scenario: the search of Grafana before TraceQL. Guarantee: it finds what has the tags.
#[tokio::test]
async fn legacy_searches_are_answered() {
    for (tags, found) in
        [("service.name=review", 1), ("service.name=REVIEWS http.method=get", 1), ("service.name=none", 0), ("", 2)]
    {
        let answer = grafana(&format!("/api/search?tags={}&minDuration=1ms&limit=20&{RANGE}", escaped(tags))).await.json();
        check("SearchResponse", &answer);
        assert_eq!(answer["traces"].as_array().unwrap().len(), found, "{tags}");
    }
    let long = grafana(&format!("/api/search?minDuration=1s&maxDuration=3s&{RANGE}")).await.json();
    assert_eq!((&long["traces"][0]["traceID"], long["traces"].as_array().unwrap().len()), (&json!(TRACE), 1));
}

/// Fails where Grafana would dereference nothing, or drop spans without a word.
fn check_trace(trace: &TracesData) {
    assert_eq!(trace.resource_spans.iter().map(|part| part.scope_spans[0].spans.len()).sum::<usize>(), 3);
    for part in &trace.resource_spans {
        assert!(part.resource.as_ref().is_some_and(|resource| !resource.attributes.is_empty()));
        assert!(part.scope_spans.iter().all(|of_scope| of_scope.scope.is_some()));
        assert!(part.scope_spans.iter().flat_map(|of_scope| &of_scope.spans).all(|span| span.status.is_some()));
    }
}

#[tokio::test]
async fn a_trace_is_whole_in_both_versions() {
    let accept = [("accept", "application/protobuf")];
    for id in [TRACE, "a1", "0A1"] {
        let of_v2 = get(&format!("/tempo/api/v2/traces/{id}?{RANGE}"), &accept).await;
        assert_eq!((of_v2.status.as_u16(), of_v2.header("content-type")), (200, "application/protobuf"));
        let trace = TraceByIdResponse::decode(of_v2.body).unwrap().trace;
        check_trace(&trace);
        let of_v1 = get(&format!("/tempo/api/traces/{id}"), &accept).await;
        assert_eq!(TracesData::decode(of_v1.body).unwrap(), trace);
    }
    let document = get("/tempo/api/v2/traces/a1", &[]).await.json();
    assert_eq!(document["trace"]["resourceSpans"].as_array().unwrap().len(), 3);
    for (path, status) in [("/api/v2/traces/ffff", 404), ("/api/traces/ffff", 404), ("/api/v2/traces/xyz", 400)] {
        let answer = get(&format!("/tempo{path}"), &accept).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, "text/plain; charset=utf-8"), "{path}");
    }
}

#[tokio::test]
async fn tags_are_listed_by_scope() {
    let answer = grafana(&format!("/api/v2/search/tags?limit=5000&{RANGE}")).await.json();
    check("SearchTagsV2Response", &answer);
    let scopes = answer["scopes"].as_array().unwrap();
    let tags = |name: &str| scopes.iter().find(|scope| scope["name"] == name).unwrap()["tags"].clone();
    let of_spans = ["http.method", "meshlake.callee", "meshlake.caller", "meshlake.entry", "meshlake.node"];
    assert_eq!((tags("resource"), tags("span")), (json!(["service.name"]), json!(of_spans)));
    assert_eq!((tags("event"), tags("link"), tags("instrumentation")), (json!([]), json!([]), json!([])));
    assert_eq!(tags("intrinsic").as_array().unwrap().len(), 25);
    let answer = grafana(&format!("/api/v2/search/tags?scope=span&{RANGE}")).await.json();
    assert_eq!(answer["scopes"], json!([{"name": "span", "tags": of_spans}]));
    let answer = grafana(&format!("/api/v2/search/tags?scope=span&limit=2&{RANGE}")).await.json();
    assert_eq!(answer["scopes"], json!([{"name": "span", "tags": of_spans[..2]}]));
    let answer = grafana(&format!("/api/search/tags?scope=span&{RANGE}")).await.json();
    assert_eq!(answer["tagNames"], json!(["http.method"]));
    let answer = grafana(&format!("/api/search/tags?scope=resource&{RANGE}")).await.json();
    check("SearchTagsResponse", &answer);
    assert_eq!(answer["tagNames"], json!(["service.name"]));
    assert_eq!(grafana("/api/v2/search/tags?scope=nowhere").await.status.as_u16(), 400);
}

/// Scenario: names beside filters, finished and not, that some spans match, all and none. Guarantee: those of the spans that match what is finished;
/// what the graph makes of spans is there for all.
#[tokio::test]
async fn tags_follow_what_is_typed_already() {
    let of_graph = ["meshlake.callee", "meshlake.caller", "meshlake.entry", "meshlake.node"].map(str::to_owned).to_vec();
    let of_spans = [vec!["http.method".to_owned()], of_graph.clone()].concat();
    for (query, resource, span) in [
        ("{ resource.service.name = \"reviews\" }", json!(["service.name"]), &of_spans),
        ("{ resource.service.name = \"reviews\" && span.", json!(["service.name"]), &of_spans),
        ("{ rootName = \"GET /productpage\" && name =~ \".*reviews.*\" }", json!(["service.name"]), &of_spans),
        ("{ resource.service.name = \"nobody\" && span.", json!([]), &of_graph),
        ("{ rootName = \"nothing\" }", json!([]), &of_graph),
        ("{ span.", json!(["service.name"]), &of_spans),
    ] {
        let answer = grafana(&format!("/api/v2/search/tags?limit=5000&q={}&{RANGE}", escaped(query))).await.json();
        check("SearchTagsV2Response", &answer);
        let scopes = answer["scopes"].as_array().unwrap();
        let names: Vec<_> = scopes.iter().map(|scope| scope["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["resource", "span", "instrumentation", "event", "link", "intrinsic"]);
        assert_eq!((&scopes[0]["tags"], &scopes[1]["tags"]), (&resource, &json!(span)), "{query}");
    }
    let of_v1 = async |query: &str| {
        let path = format!("/api/search/tags?scope=span&q={}&{RANGE}", escaped(query));
        grafana(&path).await.json()["tagNames"].clone()
    };
    assert_eq!(of_v1("{ name = \"GET /ratings/1\" }").await, json!(["http.method"]));
    assert_eq!(of_v1("{ name = \"nothing\" }").await, json!([]));
}

async fn values(tag: &str, query: &str) -> Vec<(String, String)> {
    let q = if query.is_empty() { String::new() } else { format!("&q={}", escaped(query)) };
    let path = format!("/api/v2/search/tag/{}/values?limit=5000&tag={}{q}&{RANGE}", escaped(tag), escaped(tag));
    let answer = grafana(&path).await;
    assert_eq!(answer.status.as_u16(), 200, "{path} {answer:?}");
    check("SearchTagValuesV2Response", &answer.json());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut values: Vec<_> =
        answer.json()["tagValues"].as_array().unwrap().iter().map(|one| (text(&one["type"]), text(&one["value"]))).collect();
    values.sort();
    values
}

/// Scenario: values of tags of each kind, with filters finished and not. Guarantee: those of the spans that match what is finished.
#[tokio::test]
async fn values_follow_what_is_typed_already() {
    fn strings<T: ToString>(values: &[T]) -> Vec<(String, String)> {
        values.iter().map(|value| ("string".to_owned(), value.to_string())).collect()
    }
    assert_eq!(values("resource.service.name", "").await, strings(&["gateway", "productpage", "ratings", "reviews"]));
    let unfinished = "{ name = \"GET /productpage\" && span.x = }";
    assert_eq!(values("resource.service.name", unfinished).await, strings(&["gateway", "productpage"]));
    assert_eq!(values(".http.method", "{").await, strings(&["GET"]));
    assert_eq!(values("name", "{ resource.service.name = \"reviews\" }").await, strings(&["GET /reviews/0"]));
    assert_eq!(values("rootServiceName", "").await, strings(&["gateway", "ratings"]));
    let keywords: Vec<String> = values("status", "").await.into_iter().map(|(kind, value)| format!("{kind} {value}")).collect();
    assert_eq!(keywords, ["keyword error", "keyword ok", "keyword unset"]);
    assert_eq!(values("span:kind", "").await.len(), 6);
    for none in ["duration", "traceDuration", "span.a/b", "span.a/values/b", "trace:id", "span.no such"] {
        assert_eq!(values(none, "").await, [], "{none}");
    }
    let nodes = |services: &[&str]| strings(&services.iter().map(|service| format!("workload///{service}")).collect::<Vec<_>>());
    assert_eq!(values("span.meshlake.node", "").await, nodes(&["gateway", "productpage", "ratings", "reviews"]));
    assert_eq!(values("span.meshlake.caller", "").await, nodes(&["gateway", "productpage"]));
    assert_eq!(values("span.meshlake.callee", "{ resource.service.name = \"reviews\" }").await, nodes(&["reviews"]));
    let booleans = values("span.meshlake.entry", "").await;
    assert_eq!(booleans, ["false", "true"].map(|value| ("bool".to_owned(), value.to_owned())));
    // A slash that is not escaped belongs to the tag, too.
    assert_eq!(grafana("/api/v2/search/tag/span.a/b/values").await.status.as_u16(), 200);
    assert_eq!(grafana("/api/v2/search/tag/span.a").await.status.as_u16(), 404);
    let answer = grafana(&format!("/api/search/tag/service.name/values?{RANGE}")).await.json();
    check("SearchTagValuesResponse", &answer);
    assert_eq!(answer["tagValues"].as_array().unwrap().len(), 4);
}

/// Scenario: what Grafana asks before anything else. Guarantee: it is Tempo, of a version that streams.
#[tokio::test]
async fn grafana_finds_tempo() {
    assert_eq!(grafana("/api/echo").await.text(), "echo");
    let version = grafana("/api/status/buildinfo").await.json()["version"].as_str().unwrap().to_owned();
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts.len() == 3 && (parts[0], parts[1]) >= (2, 7), "{version}");
    assert_eq!(grafana("/ready").await.text(), "ready");
}
