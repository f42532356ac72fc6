use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use meshlake_config::Config;
use meshlake_storage::{Condition, Conditions, FileRollup, LocalDisk, Promoted, Rollups, Store, open_object_store};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::{Decoder, Metrics};

const TIMES: Times = Times { greeting: Duration::from_secs(1), age: Duration::from_secs(3_600), grace: Duration::from_millis(200) };
/// For what should be a matter of milliseconds.
const SOON: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct NoConditions;

/// Of stores that never compact.
#[derive(Debug)]
struct NoRollups;

impl Rollups for NoRollups {
    fn begin(&self, _: &Arc<Vec<Promoted>>) -> Box<dyn FileRollup> {
        unreachable!("these stores never compact")
    }
}

impl Conditions for NoConditions {
    fn parse(&self, _: &str) -> Result<Arc<dyn Condition>, String> {
        Err("none".to_owned())
    }
}

/// A server, and what ends with it.
struct Server {
    address: SocketAddr,
    store: Arc<Store>,
    _stop: watch::Sender<bool>,
    _folder: TempDir,
}

async fn start(times: Times, body_timeout: Duration) -> Server {
    let folder = TempDir::new().unwrap();
    let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
    config.otlp.max_streams_per_connection = 3;
    let mut registry = Registry::default();
    let objects = open_object_store(&config, Arc::new(LocalDisk)).unwrap();
    let metrics = meshlake_storage::Metrics::new(&mut registry);
    let decoder = Arc::new(Decoder::new(&config));
    let store = Store::open(&config, Arc::new(LocalDisk), objects, decoder, Arc::new(NoConditions), Arc::new(NoRollups), metrics)
        .await
        .unwrap();
    while !store.health().ready {
        sleep(Duration::from_millis(5)).await;
    }
    let receiver = Receiver::new(store.clone(), &config, Metrics::new(&mut registry)).with_body_timeout(body_timeout);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move { serve_within(listener, Arc::new(receiver), &config.otlp, times, stopped).await });
    Server { address, store, _stop: stop, _folder: folder }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_h2(&self) -> (SendRequest<Bytes>, JoinHandle<()>) {
        let (client, connection) = h2::client::handshake(self.connect().await).await.unwrap();
        (client, tokio::spawn(async move { drop(connection.await) }))
    }

    /// The answer to an HTTP/1 request, all of which is written first.
    async fn answer(&self, head: &str, body: &[u8]) -> String {
        let mut stream = self.connect().await;
        let head = format!("{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn export() -> Request<()> {
    let path = "http://x/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    Request::post(path).header("content-type", "application/grpc").body(()).unwrap()
}

/// Scenario: connections that send nothing, or half a preface, and one that greets and is then idle. Guarantee: the first two
/// are closed, the third is not.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_closed() {
    let server = start(TIMES, SOON).await;
    let (_client, idle) = server.connect_h2().await;
    for greeting in ["", "PRI * HTTP/2.0\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(greeting.as_bytes()).await.unwrap();
        let read = timeout(SOON, stream.read(&mut [0; 100])).await.expect("it is closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert!(!idle.is_finished());
    server.store.close();
}

/// Scenario: a connection reaches its age while a request on it does not end. Guarantee: it gets its grace, no more.
#[tokio::test(flavor = "multi_thread")]
async fn old_connections_end() {
    let server = start(Times { age: Duration::from_secs(1), ..TIMES }, SOON).await;
    let (client, connection) = server.connect_h2().await;
    let _request = client.ready().await.unwrap().send_request(export(), false).unwrap();
    timeout(SOON / 2, connection).await.expect("it ends before the body's deadline").unwrap();
    server.store.close();
}

/// Scenario: a client that would open any number of streams. Guarantee: it is told the limit of the settings.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_limited() {
    let server = start(TIMES, SOON).await;
    let (client, _connection) = server.connect_h2().await;
    let told = async {
        while client.current_max_send_streams() != 3 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, told).await.expect("the limit is told");
    server.store.close();
}

/// Scenario: a body that comes a byte at a time, without end. Guarantee: it is refused once its time is over, to be retried.
#[tokio::test(flavor = "multi_thread")]
async fn trickling_bodies_end() {
    let server = start(TIMES, Duration::from_millis(300)).await;
    let mut stream = server.connect().await;
    let head = "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while write.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = [0; 1_000];
    let length = timeout(SOON, read.read(&mut answer)).await.expect("it is answered").unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("took more than"), "{answer}");
    trickle.abort();
    server.store.close();
}

/// Scenario: requests of 4 MB that are refused by their head. Guarantee: the sender can write them to their end, and reads why.
#[tokio::test(flavor = "multi_thread")]
async fn refused_bodies_can_be_sent() {
    let server = start(TIMES, SOON).await;
    let body = vec![b' '; 4 << 20];
    let json = "content-type: application/json";
    for (head, status) in [
        ("POST /v1/traces HTTP/1.1\r\ncontent-type: text/plain".to_owned(), 415),
        (format!("POST /v1/traces HTTP/1.1\r\n{json}\r\ncontent-encoding: br"), 415),
        (format!("POST /v1/traces HTTP/1.1\r\n{json}\r\nx-scope-orgid: a/b"), 400),
        (format!("POST /v1/logs HTTP/1.1\r\n{json}"), 404),
        (format!("PUT /v1/traces HTTP/1.1\r\n{json}"), 405),
    ] {
        let answer = server.answer(&head, &body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
    }
    server.store.close();
}

/// Scenario: a request that is no OTLP. Guarantee: the answer is 400, and says why in a `BadRequest` too.
#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_explained() {
    let server = start(TIMES, SOON).await;
    let answer = server.answer("POST /v1/traces HTTP/1.1\r\ncontent-type: application/json", b"[]").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("google.rpc.BadRequest"), "{answer}");
    let answer = server.answer("POST /v1/traces HTTP/1.1\r\ncontent-type: application/x-protobuf", b"\x0A\x05").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("google.rpc.BadRequest"), "{answer}");
    server.store.close();
}
