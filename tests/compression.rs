//! Compressed requests from end to end: what a client compressed is stored, and what it says wrongly of that is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use common::{Client, Server};
use http_body_util::{BodyExt, Full};
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::net::TcpStream;

const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 3;
const UNIMPLEMENTED: i32 = 12;

/// A request of one span that is told from others by its name.
fn request_of(name: &str) -> Vec<u8> {
    let span = Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: name.to_owned(), ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn compressed(encoding: &str, body: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        _ => body.to_vec(),
    }
}

/// The gRPC status of a call of Export with this message, behind this flag.
async fn export(address: SocketAddr, encoding: &str, flag: u8, message: &[u8]) -> i32 {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let mut body = BytesMut::new();
    body.put_u8(flag);
    body.put_u32(message.len() as u32);
    body.put_slice(message);
    let request = Request::post(format!("http://{address}/opentelemetry.proto.collector.trace.v1.TraceService/Export"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header("grpc-encoding", encoding)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let (head, answer) = sender.send_request(request).await.unwrap().into_parts();
    let trailers = answer.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let status = head.headers.get("grpc-status").or(trailers.get("grpc-status")).expect("no status");
    status.to_str().unwrap().parse().unwrap()
}

/// Scenario: the same request plain, gzipped and in zstd, over gRPC and over HTTP. Guarantee: each is taken, and its span is there.
#[tokio::test]
async fn every_encoding_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]).await;
    let mut client = Client::connect(server.otlp_http).await.unwrap();
    for encoding in ["identity", "gzip", "zstd"] {
        let message = compressed(encoding, &request_of(&format!("grpc {encoding}")));
        let flag = u8::from(encoding != "identity");
        assert_eq!(export(server.grpc, encoding, flag, &message).await, OK, "{encoding}");
        let request = Request::post("/v1/traces").header(header::CONTENT_TYPE, "application/x-protobuf");
        let body = compressed(encoding, &request_of(&format!("http {encoding}")));
        let (status, _) = client.send(request.header(header::CONTENT_ENCODING, encoding), body.into()).await.unwrap();
        assert_eq!(status, 200, "{encoding}");
    }
    let names = server.sql("select name from spans order by name").await;
    let expected = ["grpc gzip", "grpc identity", "grpc zstd", "http gzip", "http identity", "http zstd"];
    assert_eq!(names.iter().map(|row| row[0].as_str().unwrap()).collect::<Vec<_>>(), expected);
}

/// Scenario: messages whose flag or encoding is not true. Guarantee: each is refused for good, and nothing is stored.
#[tokio::test]
async fn wrong_compression_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]).await;
    let plain = request_of("refused");
    for (encoding, flag, message, status) in [
        // A flag that gRPC does not have.
        ("zstd", 2, compressed("zstd", &plain), INVALID_ARGUMENT),
        ("identity", 2, plain.clone(), INVALID_ARGUMENT),
        // Compressed, but nobody says how; said to be compressed, but not; in another way than is said.
        ("identity", 1, compressed("gzip", &plain), INVALID_ARGUMENT),
        ("zstd", 1, plain.clone(), INVALID_ARGUMENT),
        ("zstd", 1, compressed("gzip", &plain), INVALID_ARGUMENT),
        ("snappy", 1, plain.clone(), UNIMPLEMENTED),
    ] {
        assert_eq!(export(server.grpc, encoding, flag, &message).await, status, "{encoding} {flag}");
    }
    assert_eq!(server.sql("select count(*) from spans").await[0][0], 0);
}
