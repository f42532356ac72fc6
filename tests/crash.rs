//! P1 and P2 against the binary: `kill -9` at random moments under load loses nothing acknowledged and doubles nothing.
//!
//! `MESHLAKE_CRASH_ROUNDS=200 cargo test --release --test crash` is the long form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use common::{Client, Server};
use hyper::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use parking_lot::Mutex;
use prost::Message;

const SENDERS: u64 = 8;
const SPANS_A_REQUEST: u64 = 7;
/// Rounds whose requests each check reads, and rounds after which one reads everything.
const RECENT: usize = 4;
const WHOLE: u64 = 25;

/// Flushes and merges often, so that kills fall into every step of the hand-over; small, so that a round is quick. The check groups all
/// spans of all rounds by trace, which takes more memory than a query has by default.
const SETTINGS: [(&str, &str); 10] = [
    ("MESHLAKE_LIVE__FLUSH_SIZE", "1MiB"),
    ("MESHLAKE_LIVE__FLUSH_AGE", "1s"),
    ("MESHLAKE_COMPACTION__INTERVAL", "50ms"),
    ("MESHLAKE_COMPACTION__SETTLE", "200ms"),
    ("MESHLAKE_COMPACTION__FILE_SIZE", "4MiB"),
    ("MESHLAKE_RETENTION__AGE", "240h"),
    ("MESHLAKE_RETENTION__DELETE_DELAY", "15s"),
    ("MESHLAKE_QUERY__TIMEOUT", "14s"),
    ("MESHLAKE_LOG__LEVEL", "warn"),
    ("MESHLAKE_QUERY__MEMORY_LIMIT", "2GiB"),
];

/// One request in so many has spans that retention takes.
const OLD: u64 = 50;
const OLD_AGE: Duration = Duration::from_hours(20 * 24);

fn is_old(number: u64) -> bool {
    number % OLD == OLD - 1
}

/// The request with this number: its spans say which request they are of and which of it they are.
fn request(number: u64) -> Bytes {
    let attribute = |key: &str, value: i64| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::IntValue(value)) }),
        ..KeyValue::default()
    };
    let age = if is_old(number) { OLD_AGE } else { Duration::ZERO };
    let now = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let spans = (0..SPANS_A_REQUEST).map(|index| Span {
        trace_id: [(number + 1).to_be_bytes(), [7; 8]].concat(),
        span_id: (number * SPANS_A_REQUEST + index + 1).to_be_bytes().to_vec(),
        name: format!("request {number}"),
        kind: 2,
        start_time_unix_nano: now,
        end_time_unix_nano: now + 1_000_000,
        attributes: vec![attribute("request", number as i64), attribute("http.status_code", 200 + index as i64)],
        ..Span::default()
    });
    let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// What the senders know.
#[derive(Default)]
struct Sent {
    next: AtomicU64,
    /// Those that must be there.
    acknowledged: Mutex<Vec<u64>>,
    /// Acknowledged, and then deleted on demand.
    deleted: Mutex<Vec<u64>>,
    /// Without an answer: retried byte for byte after the restart, as a client would.
    unanswered: Mutex<Vec<Bytes>>,
    stop: AtomicBool,
}

fn acknowledge(sent: &Sent, number: u64) {
    if !is_old(number) {
        sent.acknowledged.lock().push(number);
    }
}

async fn post(client: &mut Client, body: Bytes) -> bool {
    matches!(client.post("/v1/traces", "application/x-protobuf", body).await, Ok((StatusCode::OK, _)))
}

async fn send(otlp: SocketAddr, sent: Arc<Sent>) {
    let Ok(mut client) = Client::connect(otlp).await else { return };
    while !sent.stop.load(Ordering::Relaxed) {
        let number = sent.next.fetch_add(1, Ordering::Relaxed);
        let body = request(number);
        if post(&mut client, body.clone()).await {
            acknowledge(&sent, number);
            // Enough to have requests at every step, few enough that the check of hundreds of rounds stays quick.
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            sent.unanswered.lock().push(body);
            return;
        }
    }
}

/// Of the requests from number `first` on, every acknowledged one is there with all its spans, every other one with all or
/// none, and no span twice.
async fn check(server: &Server, sent: &Sent, first: u64, round: u64) {
    let from = format!("from spans where trace_id >= X'{:016x}0000000000000000'", first + 1);
    let rows = server.sql(&format!("select count(*), count(distinct span_id), count(distinct trace_id) {from}")).await;
    let number = |index: usize| rows[0][index].as_u64().unwrap();
    let (spans, distinct, requests) = (number(0), number(1), number(2));
    assert_eq!(spans, distinct, "round {round}: spans stored twice");
    assert_eq!(spans, requests * SPANS_A_REQUEST, "round {round}: torn requests");
    let torn = format!("select trace_id {from} group by trace_id having count(*) <> 7 or sum(http_status_code) <> 1421");
    assert!(server.sql(&torn).await.is_empty(), "round {round}: torn requests");
    let mut acknowledged: Vec<u64> = sent.acknowledged.lock().iter().copied().filter(|number| *number >= first).collect();
    acknowledged.sort_unstable();
    for run in acknowledged.chunk_by(|number, next| (number + 1..*next).all(is_old)) {
        let id = |number: u64| format!("X'{:016x}0707070707070707'", number + 1);
        let new = "start_time > now() - interval '10 days'";
        let range = format!("{new} and trace_id >= {} and trace_id <= {}", id(run[0]), id(run[run.len() - 1]));
        let found = server.sql(&format!("select count(distinct trace_id) from spans where {range}")).await;
        assert_eq!(found[0][0].as_u64().unwrap(), run.len() as u64, "round {round}: acknowledged requests are gone");
    }
    assert!(requests >= acknowledged.len() as u64);
}

/// Asks for two acknowledged requests to be deleted, one by its trace and one by a condition.
async fn delete_some(server: &Server, sent: &Sent, random: u64) {
    let mut client = Client::connect(server.api).await.unwrap();
    for way in 0..2 {
        let number = {
            let mut acknowledged = sent.acknowledged.lock();
            if acknowledged.is_empty() {
                return;
            }
            let index = (random >> (8 + way * 8)) as usize % acknowledged.len();
            acknowledged.swap_remove(index)
        };
        sent.deleted.lock().push(number);
        let asked = if way == 0 {
            client.delete(&format!("/api/mesh/v1/traces/{:016x}0707070707070707", number + 1)).await
        } else {
            let body = serde_json::json!({ "where": format!("name = 'request {number}'") }).to_string();
            client.post("/api/mesh/v1/deletions", "application/json", body.into()).await
        };
        assert_eq!(asked.unwrap().0, StatusCode::ACCEPTED);
    }
}

/// Waits until every deletion is finished and retention has taken what is old. Guarantee: then nothing of either is there.
async fn settle(server: &Server, sent: &Sent) {
    let began = Instant::now();
    let mut client = Client::connect(server.api).await.unwrap();
    loop {
        let (_, receipts) = client.get("/api/mesh/v1/deletions").await.unwrap();
        let receipts: serde_json::Value = serde_json::from_slice(&receipts).unwrap();
        let receipts = receipts["deletions"].as_array().unwrap();
        let open = receipts.iter().filter(|receipt| receipt["state"] != "finished").count();
        let old =
            server.sql("select count(*) from spans where start_time < now() - interval '10 days'").await[0][0].as_u64().unwrap();
        if open == 0 && old == 0 {
            assert_eq!(receipts.len(), sent.deleted.lock().len());
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(90), "{open} deletions are not finished, {old} old spans are there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let ids: Vec<String> = sent.deleted.lock().iter().map(|number| format!("X'{:016x}0707070707070707'", number + 1)).collect();
    let left = server.sql(&format!("select name from spans where trace_id in ({})", ids.join(", "))).await;
    assert!(left.is_empty(), "deleted, and still there: {left:?}");
}

/// Scenario: eight senders, the server killed at a random moment, restarted, and the unanswered requests retried byte for
/// byte; two requests are deleted in each round, and some are too old to stay. Guarantee: every acknowledged span is there exactly
/// once, none is torn, and what was deleted goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing() {
    let rounds: u64 = std::env::var("MESHLAKE_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4);
    let folder = tempfile::tempdir().unwrap();
    let sent = Arc::new(Sent::default());
    let mut random = std::process::id() as u64;
    // What the last rounds wrote is checked after each kill, all of it now and then: else the check grows with the rounds.
    let mut firsts = [0; RECENT];
    for round in 0..rounds {
        let server = Server::start(folder.path(), &SETTINGS).await;
        let oldest = &mut firsts[round as usize % RECENT];
        let first = if round % WHOLE == 0 { 0 } else { *oldest };
        *oldest = sent.next.load(Ordering::Relaxed);
        check(&server, &sent, first, round).await;
        let retries = std::mem::take(&mut *sent.unanswered.lock());
        let mut client = Client::connect(server.otlp_http).await.unwrap();
        for body in retries {
            assert!(post(&mut client, body.clone()).await, "round {round}: a retry was refused");
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            let id = &request.resource_spans[0].scope_spans[0].spans[0].trace_id;
            acknowledge(&sent, u64::from_be_bytes(id[..8].try_into().unwrap()) - 1);
        }
        delete_some(&server, &sent, random).await;
        sent.stop.store(false, Ordering::Relaxed);
        let senders: Vec<_> = (0..SENDERS).map(|_| tokio::spawn(send(server.otlp_http, sent.clone()))).collect();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(50 + (random >> 33) % 1_500)).await;
        server.kill();
        sent.stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.await.unwrap();
        }
    }
    let server = Server::start(folder.path(), &SETTINGS).await;
    check(&server, &sent, 0, rounds).await;
    println!("{rounds} kills, {} requests acknowledged", sent.acknowledged.lock().len());
    // Scenario: SIGTERM. Guarantee: it drains and exits with 0, and what was live is in files.
    assert!(server.terminate().success());
    let server = Server::start(folder.path(), &SETTINGS).await;
    check(&server, &sent, 0, rounds + 1).await;
    settle(&server, &sent).await;
    check(&server, &sent, 0, rounds + 2).await;
    // Guarantee: nothing in the folder is wrong.
    assert!(server.terminate().success());
    let check = common::meshlake(folder.path()).arg("check").output().unwrap();
    let said = [check.stdout, check.stderr].concat();
    assert!(check.status.success(), "{}: {}", check.status, String::from_utf8_lossy(&said));
}
