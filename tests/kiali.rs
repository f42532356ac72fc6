//! An answer that a real Tempo gave to Kiali, and that Kiali's own tests parse (`tests/data/README.md`), beside ours of the same trace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use common::{Client, Server};
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

/// Bytes in base64 as OTLP's JSON has them, in hex.
fn hex(base64: &str) -> String {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = base64.trim_end_matches('=').chars().map(|char| DIGITS.find(char).unwrap());
    let bits: String = digits.map(|digit| format!("{digit:06b}")).collect();
    let bytes = bits.as_bytes().chunks_exact(8).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap());
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// The recorded spans as they are exported.
fn exported(mut recorded: Value) -> Value {
    for span in recorded["batches"].as_array_mut().unwrap().iter_mut().flat_map(spans_mut) {
        for id in ["traceId", "spanId", "parentSpanId"] {
            if let Some(base64) = span.get(id).and_then(Value::as_str).map(hex) {
                span[id] = base64.into();
            }
        }
        span["kind"] = match span["kind"].as_str().unwrap() {
            "SPAN_KIND_SERVER" => 2,
            "SPAN_KIND_CLIENT" => 3,
            other => panic!("{other}"),
        }
        .into();
    }
    json!({"resourceSpans": recorded["batches"]})
}

/// The spans that Kiali reads of a batch: those of its first scope.
fn spans_mut(batch: &mut Value) -> impl Iterator<Item = &mut Value> {
    batch["scopeSpans"][0]["spans"].as_array_mut().unwrap().iter_mut()
}

/// What Kiali reads of each span, by its id, with the service of its batch. Attributes and events are in no order.
fn read(mut document: Value) -> BTreeMap<String, (String, Value)> {
    let mut read = BTreeMap::new();
    for batch in document["batches"].as_array_mut().unwrap() {
        let attributes = batch["resource"]["attributes"].as_array().unwrap();
        let service = attributes.iter().find(|attribute| attribute["key"] == "service.name").unwrap();
        let service = service["value"]["stringValue"].as_str().unwrap().to_owned();
        for span in spans_mut(batch) {
            for list in ["attributes", "events"] {
                if let Some(items) = span.get_mut(list).and_then(Value::as_array_mut) {
                    items.sort_by_key(Value::to_string);
                }
            }
            read.insert(span["spanId"].as_str().unwrap().to_owned(), (service.clone(), span.take()));
        }
    }
    read
}

/// Scenario: the recorded trace is sent, and asked for as Kiali asks. Guarantee: the same spans of the same services, each field of each span as
/// the real Tempo wrote it.
#[tokio::test]
async fn a_trace_is_as_tempo_writes_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kiali/responseTrace.json");
    let recorded: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]).await;
    let body = exported(recorded.clone()).to_string();
    let mut collector = Client::connect(server.otlp_http).await.unwrap();
    let (status, _) = collector.post("/v1/traces", "application/json", body.into()).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.sql("select count(*) from spans").await, [json!([8])]);
    let id = hex(recorded["batches"][0]["scopeSpans"][0]["spans"][0]["traceId"].as_str().unwrap());
    let mut api = Client::connect(server.api).await.unwrap();
    let asked = Request::get(format!("/tempo/api/traces/{id}")).header("accept", "application/json");
    let (status, answer) = api.send(asked.header("content-type", "application/json"), Bytes::new()).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let (expected, got) = (read(recorded), read(serde_json::from_slice(&answer).unwrap()));
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (id, (service, span)) in &expected {
        let (of_service, of_span) = &got[id];
        assert_eq!(of_service, service, "{id}");
        for (field, value) in span.as_object().unwrap() {
            assert_eq!(&of_span[field], value, "{id} {field}");
        }
    }
    assert!(server.terminate().success());
}
