//! `TraceService/Export` over gRPC.
//!
//! Why not tonic's server: it answers a message over the limit with OUT_OF_RANGE, which OTLP clients retry for ever, reserves
//! the announced length before a byte has come, and decompresses on the threads that serve the connections. Here the frame is
//! read by hand, the limit answers RESOURCE_EXHAUSTED without RetryInfo (OTLP 1.11, "OTLP/gRPC Throttling"), and the
//! message goes to the journal as it came.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use meshlake_storage::{Accepted, Content, Encoding};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::body::ResponseBody;
use crate::receiver::{Body, Receiver, Rejection, tenant};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("identity,gzip,zstd");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The field that a refusal of bad data names: which one it is, is in the description.
pub(crate) const VIOLATED: &str = "request";

/// When a refused sender should try again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

pub(crate) async fn answer(receiver: &Receiver, request: Request<Incoming>) -> Response<ResponseBody> {
    match receiver.count(export(receiver, request)).await {
        Ok(accepted) => success(&accepted),
        Err(rejection) => {
            let mut response = status(&rejection).into_http();
            response.headers_mut().insert("grpc-accept-encoding", ACCEPT_ENCODING);
            response
        }
    }
}

async fn export(receiver: &Receiver, request: Request<Incoming>) -> Result<Accepted, Rejection> {
    if request.uri().path() != EXPORT || request.method() != Method::POST {
        return Err(Rejection::NotServed(format!("{} is not served; spans go to {EXPORT}", request.uri().path())));
    }
    let tenant = tenant(request.headers())?;
    let encoding = encoding(request.headers())?;
    match message(receiver, request.into_body(), encoding).await? {
        Some((encoding, body)) => receiver.store(tenant, Content::Protobuf, encoding, body).await,
        None => Err(Rejection::Invalid("the request's body holds no message".to_owned())),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Rejection> {
    match headers.get("grpc-encoding").map_or(&b"identity"[..], |value| value.as_bytes()) {
        b"identity" => Ok(Encoding::Identity),
        b"gzip" => Ok(Encoding::Gzip),
        b"zstd" => Ok(Encoding::Zstd),
        other => Err(Rejection::Unsupported(format!("grpc-encoding {:?}: use gzip, zstd or none", String::from_utf8_lossy(other)))),
    }
}

/// Reads the one message of a unary call: a byte that tells whether it is compressed, its length in 4 bytes, its bytes.
///
/// A message that is refused is not read to its end: its stream is reset behind the answer, and the rest is never sent.
async fn message(receiver: &Receiver, body: Incoming, encoding: Encoding) -> Result<Option<(Encoding, Body)>, Rejection> {
    let mut reader = receiver.read(body);
    let Some([compressed, a, b, c, d]) = reader.head().await? else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    receiver.check_size(length.into())?;
    reader.announce(length as usize)?;
    let encoding = match compressed {
        0 => Encoding::Identity,
        1 if encoding != Encoding::Identity => encoding,
        1 => return Err(Rejection::Invalid("a compressed message without grpc-encoding".to_owned())),
        other => return Err(Rejection::Invalid(format!("a message's compressed flag is 0 or 1, not {other}"))),
    };
    reader.exactly(length as usize).await?;
    Ok(Some((encoding, reader.finish())))
}

/// What is told of the spans that could not be kept; nothing if all were.
pub(crate) fn response(accepted: &Accepted) -> ExportTraceServiceResponse {
    let partial = || ExportTracePartialSuccess {
        rejected_spans: accepted.rejected as i64,
        error_message: accepted.reason.clone().unwrap_or_default(),
    };
    ExportTraceServiceResponse { partial_success: (accepted.rejected > 0).then(partial) }
}

fn success(accepted: &Accepted) -> Response<ResponseBody> {
    let message = response(accepted).encode_to_vec();
    let mut data = BytesMut::with_capacity(5 + message.len());
    data.extend_from_slice(&[0]);
    data.extend_from_slice(&(message.len() as u32).to_be_bytes());
    data.extend_from_slice(&message);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response = Response::new(ResponseBody::with_trailers(Bytes::from(data), trailers));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// What is wrong with a request, as clients look for it (OTLP 1.11, "Failures").
pub(crate) fn bad_request(why: &str) -> ErrorDetails {
    ErrorDetails::with_bad_request_violation(VIOLATED, why)
}

fn status(rejection: &Rejection) -> Status {
    let message = rejection.to_string();
    match rejection {
        Rejection::Invalid(_) => {
            let details = bad_request(&message);
            Status::with_error_details(Code::InvalidArgument, message, details)
        }
        Rejection::TooLarge(_) => Status::resource_exhausted(message),
        Rejection::Unsupported(_) | Rejection::NotServed(_) | Rejection::Method(_) => Status::unimplemented(message),
        Rejection::Defect(_) => Status::internal(message),
        Rejection::Gone(_) => Status::cancelled(message),
        Rejection::Unavailable(_) => {
            Status::with_error_details(Code::Unavailable, message, ErrorDetails::with_retry_info(Some(RETRY_AFTER)))
        }
    }
}
