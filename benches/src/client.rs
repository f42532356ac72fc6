//! OTLP over gRPC with nothing above HTTP/2: what a client must cost at least.

use std::{cell::RefCell, net::SocketAddr, time::Duration};

use anyhow::Context;
use base64::Engine;
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Version};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::net::TcpStream;

use crate::{requests::FRAME_HEADER, tally::Refusal};

/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered OK; `rejected` spans in a partial success.
    Acknowledged {
        /// Spans rejected.
        rejected: u64,
    },
    /// The server answered with another status.
    Refused {
        /// Status and RetryInfo.
        refusal: Refusal,
        /// The status' message.
        message: String,
    },
    /// No answer: the server may have the request or not.
    Lost {
        /// What happened to connection or stream.
        reason: String,
    },
}

/// One connection to an OTLP gRPC server, made again when the server closes it. Lives on one thread, in a `LocalSet`.
#[derive(Debug)]
pub struct Connection {
    endpoint: SocketAddr,
    request: Request<()>,
    sender: RefCell<Option<SendRequest<Bytes>>>,
    connecting: tokio::sync::Mutex<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nothing listens there, or it speaks no HTTP/2.
    pub async fn open(endpoint: SocketAddr, tenant: Option<&str>) -> anyhow::Result<Self> {
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let mut request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://{endpoint}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "meshlake-loadgen");
        if let Some(tenant) = tenant {
            request = request.header("x-scope-orgid", tenant);
        }
        let request = request.body(()).context("cannot build the request; check --endpoint and --tenant")?;
        let sender = RefCell::new(Some(connect(endpoint).await?));
        Ok(Self { endpoint, request, sender, connecting: tokio::sync::Mutex::new(()) })
    }

    /// Sends one framed request and waits for its outcome.
    pub async fn export(&self, framed: Bytes) -> Outcome {
        let exported = async {
            let sender = self.sender().await?;
            let answer = export(sender, self.request.clone(), framed).await;
            if answer.is_err() {
                self.sender.take();
            }
            answer
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, exported).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Lost { reason: format!("{error:#}") },
            Err(_) => Outcome::Lost { reason: format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()) },
        }
    }

    /// Whether the server takes connections: it makes one if there is none.
    pub async fn is_open(&self) -> bool {
        self.sender().await.is_ok()
    }

    async fn sender(&self) -> anyhow::Result<SendRequest<Bytes>> {
        let _alone = self.connecting.lock().await;
        let current = self.sender.borrow().clone();
        if let Some(sender) = current
            && let Ok(sender) = sender.ready().await
        {
            return Ok(sender);
        }
        let sender = connect(self.endpoint).await?;
        self.sender.replace(Some(sender.clone()));
        Ok(sender.ready().await?)
    }
}

async fn connect(endpoint: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let connected = async {
        let stream = TcpStream::connect(endpoint).await?;
        stream.set_nodelay(true)?;
        // Answers are small and wait for the one thread: by default, a hundred of them unread would end the connection.
        anyhow::Ok(h2::client::Builder::new().data_frame_budget(64 << 20).handshake(stream).await?)
    };
    let (sender, connection) = connected.await.with_context(|| {
        format!("cannot connect to {endpoint}; check that the server runs and --endpoint is its OTLP gRPC port")
    })?;
    // Its error reaches every stream as well.
    tokio::task::spawn_local(async move { _ = connection.await });
    Ok(sender)
}

async fn export(mut sender: SendRequest<Bytes>, request: Request<()>, framed: Bytes) -> anyhow::Result<Outcome> {
    let (answer, mut stream) = sender.send_request(request, false)?;
    stream.send_data(framed, true)?;
    let (head, mut body) = answer.await?.into_parts();
    if let Some(outcome) = refused(&head.headers) {
        return Ok(outcome);
    }
    if !head.status.is_success() {
        return Ok(Outcome::Refused {
            refusal: Refusal { code: 2, retry_info: false },
            message: format!("HTTP status {}", head.status),
        });
    }
    let mut message = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    if let Some(outcome) = refused(&trailers) {
        return Ok(outcome);
    }
    let known = trailers.contains_key("grpc-status") || head.headers.contains_key("grpc-status");
    anyhow::ensure!(known, "the answer has no grpc-status");
    Ok(Outcome::Acknowledged { rejected: rejected(&message)? })
}

/// The refusal that headers or trailers state, if they state one.
fn refused(headers: &HeaderMap) -> Option<Outcome> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(2);
    if code == 0 {
        return None;
    }
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    let details = engine.decode(text("grpc-status-details-bin")).unwrap_or_default();
    let name = b"google.rpc.RetryInfo";
    let retry_info = details.windows(name.len()).any(|window| window == name);
    Some(Outcome::Refused { refusal: Refusal { code, retry_info }, message: percent_decoded(text("grpc-message")) })
}

/// A `grpc-message` is percent-encoded UTF-8.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let decoded = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn rejected(framed: &[u8]) -> anyhow::Result<u64> {
    let message = framed.get(FRAME_HEADER..).unwrap_or_default();
    if message.is_empty() {
        return Ok(0);
    }
    let response = ExportTraceServiceResponse::decode(message).context("cannot decode the answer")?;
    Ok(response.partial_success.map_or(0, |partial| partial.rejected_spans.max(0) as u64))
}
