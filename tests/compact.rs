//! `meshlake compact` beside a running server, and compaction that is paused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Client, Server, meshlake};
use hyper::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use serde_json::Value;

const PATH: &str = "/api/mesh/v1/compaction";
const SPANS_A_REQUEST: u64 = 20;

const EAGER: [(&str, &str); 6] = [
    ("MESHLAKE_LIVE__FLUSH_AGE", "1s"),
    ("MESHLAKE_COMPACTION__INTERVAL", "100ms"),
    ("MESHLAKE_COMPACTION__SETTLE", "0s"),
    ("MESHLAKE_QUERY__TIMEOUT", "8s"),
    ("MESHLAKE_RETENTION__DELETE_DELAY", "10s"),
    ("MESHLAKE_LOG__LEVEL", "warn"),
];

async fn send(server: &Server, requests: std::ops::Range<u64>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut client = Client::connect(server.otlp_http).await.unwrap();
    for request in requests {
        let spans = (0..SPANS_A_REQUEST).map(|index| Span {
            trace_id: u128::from(request + 1).to_be_bytes().to_vec(),
            span_id: (request * SPANS_A_REQUEST + index + 1).to_be_bytes().to_vec(),
            name: "GET /".to_owned(),
            start_time_unix_nano: now,
            end_time_unix_nano: now + 1_000,
            ..Span::default()
        });
        let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let (status, _) = client.post("/v1/traces", "application/x-protobuf", body.into()).await.unwrap();
        assert_eq!(status, StatusCode::OK);
    }
}

async fn assert_whole(server: &Server, requests: u64) {
    let counts = server.sql("select count(*), count(distinct span_id) from spans").await;
    let spans = requests * SPANS_A_REQUEST;
    assert_eq!((counts[0][0].as_u64(), counts[0][1].as_u64()), (Some(spans), Some(spans)));
}

async fn compaction(server: &Server, ask: &str) -> (StatusCode, Value) {
    let mut client = Client::connect(server.api).await.unwrap();
    let (status, body) = match ask {
        "" => client.get(PATH).await.unwrap(),
        ask => client.post(&format!("{PATH}/{ask}"), "application/json", "".into()).await.unwrap(),
    };
    (status, serde_json::from_slice(&body).unwrap())
}

async fn wait_for_backlog(server: &Server, what: &str, done: impl Fn(u64) -> bool) {
    let began = Instant::now();
    while !done(compaction(server, "").await.1["backlog_files"].as_u64().unwrap()) {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until what was sent is in files: a segment of the journal goes last.
async fn flushed(data: &Path) {
    let began = Instant::now();
    let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "journal");
    while data.join("journal").read_dir().unwrap().any(|entry| is_segment(&entry.unwrap().path())) {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: it is flushed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn compact(data: &Path, arguments: &[&str]) -> Child {
    let mut command = meshlake(data);
    command.arg("compact").args(arguments).envs(EAGER).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Scenario: a server that does not compact runs; two compactors run once on its folder at the same time, then one until it is told to
/// stop. Guarantee: all spans come into the lake and are read once at any time, the server's fresh files go, each process ends
/// with 0, and the folder is sound.
#[tokio::test]
async fn a_server_is_compacted_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[&EAGER[..], &[("MESHLAKE_COMPACTION__ENABLED", "false")]].concat()).await;
    assert_eq!(compaction(&server, "").await.1["state"], "off");
    assert_eq!(compaction(&server, "pause").await.0, StatusCode::CONFLICT);
    for from in [0, 50] {
        send(&server, from..from + 50).await;
        flushed(folder.path()).await;
    }
    let mut once = [compact(folder.path(), &["--once"]), compact(folder.path(), &["--once"])];
    assert_whole(&server, 100).await;
    assert!(once.iter_mut().all(|process| process.wait().unwrap().success()));
    wait_for_backlog(&server, "the server follows", |files| files == 0).await;
    assert_whole(&server, 100).await;
    let mut process = compact(folder.path(), &[]);
    send(&server, 100..150).await;
    flushed(folder.path()).await;
    wait_for_backlog(&server, "the server follows", |files| files == 0).await;
    assert_whole(&server, 150).await;
    Command::new("kill").arg(process.id().to_string()).status().unwrap();
    assert!(process.wait().unwrap().success());
    let began = Instant::now();
    let fresh = || {
        std::fs::read_dir(folder.path().join("store/fresh")).unwrap().flat_map(|writer| writer.unwrap().path().read_dir().unwrap())
    };
    while fresh().count() > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "the server leaves its files");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_whole(&server, 150).await;
    assert!(server.terminate().success());
    assert!(meshlake(folder.path()).arg("check").stdout(Stdio::null()).status().unwrap().success());
}

/// Scenario: compaction is paused while fresh files come, and resumed. Guarantee: none is merged meanwhile, and all afterwards.
#[tokio::test]
async fn compaction_is_paused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &EAGER).await;
    assert_eq!(compaction(&server, "pause").await, (StatusCode::OK, compaction(&server, "").await.1));
    assert_eq!(compaction(&server, "").await.1["state"], "paused");
    send(&server, 0..30).await;
    flushed(folder.path()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let paused = compaction(&server, "").await.1;
    assert!(paused["backlog_files"].as_u64() > Some(0) && paused["backlog_bytes"].as_u64() > Some(0) && paused["merging"] == false);
    assert!(!folder.path().join("store/lake/data").exists());
    assert_eq!(compaction(&server, "resume").await.1["state"], "running");
    wait_for_backlog(&server, "all is merged", |files| files == 0).await;
    assert_whole(&server, 30).await;
    assert!(server.terminate().success());
}

/// Scenario: a data folder that does not exist. Guarantee: exit code 4, it is named, and it is not created.
#[test]
fn a_mistyped_folder_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("mistyped");
    let output = meshlake(&data).args(["compact", "--once"]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mistyped") && !data.exists());
}
