//! `POST /v1/traces`: OTLP/HTTP, protobuf and JSON.
//!
//! Every answer is in the request's content type; every error is a `google.rpc.Status` (OTLP 1.11, "OTLP/HTTP Response").

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use meshlake_storage::{Accepted, Content, Encoding};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::pb::Status;

use crate::body::ResponseBody;
use crate::grpc::{RETRY_AFTER, response};
use crate::receiver::{Receiver, Rejection, is_post, tenant};

const PATH: &str = "/v1/traces";
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) async fn answer(receiver: &Receiver, request: Request<Incoming>) -> Response<ResponseBody> {
    let content = content(request.headers());
    let shown = content.unwrap_or(Content::Protobuf);
    if request.uri().path() != PATH {
        let message = format!("{} is not served; spans go to POST {PATH}", request.uri().path());
        return error(StatusCode::NOT_FOUND, Code::Unimplemented, message, shown);
    }
    if !is_post(&request) {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, format!("use POST {PATH}"), shown);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    match receiver.count(export(receiver, request, content)).await {
        Ok(accepted) => success(&accepted, shown),
        Err(rejection) => refusal(&rejection, shown),
    }
}

/// What the body is, as far as it is something that is served.
fn content(headers: &HeaderMap) -> Option<Content> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    match value.split(';').next()?.trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Some(Content::Protobuf),
        "application/json" => Some(Content::Json),
        _ => None,
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Rejection> {
    let unsupported = |found: &str| Rejection::Unsupported(format!("content-encoding {found:?}: use gzip, zstd or none"));
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    let value = String::from_utf8_lossy(value.as_bytes());
    match value.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        other => Err(unsupported(other)),
    }
}

async fn export(receiver: &Receiver, request: Request<Incoming>, content: Option<Content>) -> Result<Accepted, Rejection> {
    let content = content.ok_or_else(|| {
        let found = request.headers().get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let found = found.unwrap_or_else(|| "none".to_owned());
        Rejection::Unsupported(format!("content-type {found}: use application/x-protobuf or application/json"))
    })?;
    let tenant = tenant(request.headers())?;
    let encoding = encoding(request.headers())?;
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let announced = announced.unwrap_or(0);
    let mut reader = receiver.read(request.into_body());
    let read = async {
        receiver.check_size(announced)?;
        reader.announce(announced as usize)?;
        reader.all().await
    };
    if let Err(rejection) = read.await {
        reader.discard().await;
        return Err(rejection);
    }
    receiver.store(tenant, content, encoding, reader.finish()).await
}

fn success(accepted: &Accepted, content: Content) -> Response<ResponseBody> {
    let response = response(accepted);
    match content {
        Content::Protobuf => reply(StatusCode::OK, response.encode_to_vec(), content),
        Content::Json => {
            // 64-bit numbers are strings in OTLP's JSON.
            let partial = response.partial_success.map(|partial| {
                json!({"partialSuccess": {"rejectedSpans": partial.rejected_spans.to_string(), "errorMessage": partial.error_message}})
            });
            reply(StatusCode::OK, partial.unwrap_or_else(|| json!({})).to_string().into_bytes(), content)
        }
    }
}

fn refusal(rejection: &Rejection, content: Content) -> Response<ResponseBody> {
    let (status, code) = match rejection {
        Rejection::Invalid(_) => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
        Rejection::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        Rejection::Unsupported(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument),
        Rejection::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        Rejection::Gone(_) => (StatusCode::BAD_REQUEST, Code::Cancelled),
    };
    let mut response = error(status, code, rejection.to_string(), content);
    if matches!(rejection, Rejection::Unavailable(_)) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
    }
    response
}

fn error(status: StatusCode, code: Code, message: String, content: Content) -> Response<ResponseBody> {
    let body = match content {
        Content::Protobuf => Status { code: code as i32, message, details: Vec::new() }.encode_to_vec(),
        Content::Json => {
            json!({"code": code as i32, "message": message, "details": Value::Array(Vec::new())}).to_string().into_bytes()
        }
    };
    reply(status, body, content)
}

fn reply(status: StatusCode, body: Vec<u8>, content: Content) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = if content == Content::Json { JSON } else { PROTOBUF };
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
