//! The binary as its users see it: started, asked over HTTP, stopped or killed by its id.

#![allow(dead_code)] // Each test uses what it needs.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A running server.
pub struct Server {
    child: Child,
    pub grpc: SocketAddr,
    pub otlp_http: SocketAddr,
    pub api: SocketAddr,
}

/// Three that were free a moment ago.
fn free_addresses() -> [SocketAddr; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// The binary on a data folder, without the settings of this process: those are of the tests.
pub fn meshlake(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshlake"));
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("MESHLAKE_")) {
        command.env_remove(key);
    }
    command.arg("--data-dir").arg(data);
    command
}

impl Server {
    /// Starts the binary on a data folder, with more settings as environment, and waits until it is ready.
    pub async fn start(data: &Path, settings: &[(&str, &str)]) -> Server {
        let mut server = Server::spawn(data, settings, Stdio::null());
        server.wait_until_ready().await;
        server
    }

    /// Starts the binary, with this standard error, and does not wait.
    pub fn spawn(data: &Path, settings: &[(&str, &str)], stderr: Stdio) -> Server {
        let [grpc, otlp_http, api] = free_addresses();
        let mut command = meshlake(data);
        command.stdout(Stdio::null()).stderr(stderr);
        command.env("MESHLAKE_OTLP__GRPC_LISTEN", grpc.to_string());
        command.env("MESHLAKE_OTLP__HTTP_LISTEN", otlp_http.to_string());
        command.env("MESHLAKE_API__LISTEN", api.to_string());
        let child = command.envs(settings.iter().copied()).spawn().unwrap();
        Server { child, grpc, otlp_http, api }
    }

    pub async fn wait_until_ready(&mut self) {
        self.wait_until_ok("/readyz").await;
    }

    /// Waits until the API answers 200 at `path`.
    pub async fn wait_until_ok(&mut self, path: &str) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            assert!(self.child.try_wait().unwrap().is_none(), "the server ended while starting");
            if let Ok(mut client) = Client::connect(self.api).await
                && let Ok((StatusCode::OK, _)) = client.get(path).await
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} is not 200 after a minute");
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit status.
    pub fn terminate(mut self) -> ExitStatus {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap()
    }

    /// The rows of a SQL answer.
    pub async fn sql(&self, query: &str) -> Vec<Value> {
        let mut client = Client::connect(self.api).await.unwrap();
        let body = serde_json::json!({ "query": query }).to_string();
        let (status, answer) = client.post("/api/mesh/v1/sql", "application/json", body.into()).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(status, StatusCode::OK, "{query}: {answer}");
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        answer["rows"].take().as_array().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP/1.1 connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Client, Box<dyn std::error::Error>> {
        let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
        tokio::spawn(connection);
        Ok(Client { sender, host: address.to_string() })
    }

    pub async fn get(&mut self, path: &str) -> hyper::Result<(StatusCode, Bytes)> {
        self.send(Request::get(path), Bytes::new()).await
    }

    pub async fn post(&mut self, path: &str, content_type: &str, body: Bytes) -> hyper::Result<(StatusCode, Bytes)> {
        self.send(Request::post(path).header(header::CONTENT_TYPE, content_type), body).await
    }

    pub async fn delete(&mut self, path: &str) -> hyper::Result<(StatusCode, Bytes)> {
        self.send(Request::delete(path), Bytes::new()).await
    }

    pub async fn send(&mut self, request: hyper::http::request::Builder, body: Bytes) -> hyper::Result<(StatusCode, Bytes)> {
        self.sender.ready().await?;
        let request = request.header(header::HOST, &self.host).body(Full::new(body)).unwrap();
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
