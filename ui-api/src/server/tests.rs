use std::net::SocketAddr;

use axum::routing::get;
use bytes::Bytes;
use meshlake_config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::fixture::{SLOW_QUERY, api};

/// A server and what stops it.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn start(router: Router) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, router, async {
        let _ = stopped.await;
    }));
    Server { address, stop, served }
}

/// Sends the text of a request, and gives the connection.
async fn send(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Everything until the server closes the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

fn sql_request(query: &str) -> String {
    let body = serde_json::json!({"query": query}).to_string();
    format!(
        "POST /api/mesh/v1/sql HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn both_protocols_are_spoken_on_one_port() {
    let server = start(crate::router(api(&Config::default()))).await;
    assert!(rest(send(server.address, &get_request("/healthz")).await).await.starts_with("HTTP/1.1 200"));

    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://x/healthz").body(()).unwrap();
    let (response, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (http::Version::HTTP_2, 200));
    let body: Bytes = response.into_body().data().await.unwrap().unwrap();
    assert_eq!(body, "ok\n");
    connection.abort();
}

/// Scenario: a query that would run for hours, on an engine that runs one at a time, and its client goes away.
/// Guarantee: the query is cancelled: the request counts as given up, and the next query gets its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_cancels_its_query() {
    let mut config = Config::default();
    config.query.concurrency = 1;
    let api = api(&config);
    let server = start(crate::router(api.clone())).await;
    let slow = send(server.address, &sql_request(SLOW_QUERY)).await;
    sleep(Duration::from_millis(300)).await;
    drop(slow);
    let next = send(server.address, &sql_request("select 1 as one")).await;
    let answer = timeout(Duration::from_secs(20), rest(next)).await.expect("the slow query still runs");
    assert!(answer.ends_with(r#"{"columns":[{"name":"one","type":"int64"}],"rows":[[1]]}"#), "{answer}");
    let given_up = "meshlake_http_requests_total{method=\"POST\",route=\"/api/mesh/v1/sql\",status=\"499\"} 1";
    let counted = async {
        while !api.metrics_text().contains(given_up) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), counted).await.expect("the request does not count as given up");
}

/// Scenario: shutdown while a request runs. Guarantee: it is answered, no new one is taken, and the server ends.
#[tokio::test]
async fn a_shutdown_lets_running_requests_end() {
    let (began, has_begun) = oneshot::channel();
    let began = Arc::new(std::sync::Mutex::new(Some(began)));
    let slow = get(async move || {
        began.lock().unwrap().take().map(|began| began.send(()));
        sleep(Duration::from_millis(200)).await;
        "done"
    });
    let server = start(Router::new().route("/slow", slow)).await;
    let running = send(server.address, &get_request("/slow")).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    has_begun.await.unwrap();
    server.stop.send(()).unwrap();
    assert!(rest(running).await.ends_with("done"));
    timeout(Duration::from_secs(20), server.served).await.expect("the server still runs").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    drop(idle);
}

/// Scenario: connections that say nothing, half a preface, half a header. Guarantee: each is closed in time (P6).
#[tokio::test]
async fn silent_connections_are_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_within(listener, Router::new(), pending(), Duration::from_millis(100)));
    for said in ["", "PRI * HT", "GET / HTTP/1.1\r\nhost:"] {
        let mut stream = send(address, said).await;
        let mut end = Vec::new();
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut end)).await.expect("the connection is still open");
    }
}

/// Scenario: a connection that has been silent since its first request for longer than that had time. Guarantee: it takes another.
#[tokio::test]
async fn idle_connections_are_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || "ok"));
    tokio::spawn(serve_within(listener, router, pending(), Duration::from_secs(1)));
    let mut stream = send(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    sleep(Duration::from_millis(1_500)).await;
    stream.write_all(get_request("/").as_bytes()).await.unwrap();
    assert_eq!(rest(stream).await.matches("HTTP/1.1 200").count(), 2);
}
