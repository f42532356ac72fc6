//! `POST /v1/traces`: OTLP/HTTP, protobuf and JSON.
//!
//! Every answer is in the request's content type; every error is a `google.rpc.Status` (OTLP 1.11, "OTLP/HTTP Response").

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use meshlake_config::Tenant;
use meshlake_storage::{Accepted, Content, Encoding};
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::body::ResponseBody;
use crate::grpc::{RETRY_AFTER, VIOLATED, bad_request, response};
use crate::receiver::{BodyReader, Receiver, Rejection, tenant};

const PATH: &str = "/v1/traces";
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(crate) async fn answer(receiver: &Receiver, request: Request<Incoming>) -> Response<ResponseBody> {
    let content = content(request.headers());
    let shown = content.unwrap_or(Content::Protobuf);
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
    let (head, body) = request.into_parts();
    let mut reader = receiver.read(body);
    match read(receiver, &head, content, &mut reader).await {
        Ok((tenant, content, encoding)) => receiver.store(tenant, content, encoding, reader.finish()).await,
        Err(rejection) => {
            reader.discard().await;
            Err(rejection)
        }
    }
}

/// Reads a body, if its head says that it can be served.
async fn read(
    receiver: &Receiver,
    head: &Parts,
    content: Option<Content>,
    reader: &mut BodyReader<'_>,
) -> Result<(Tenant, Content, Encoding), Rejection> {
    if head.uri.path() != PATH {
        return Err(Rejection::NotServed(format!("{} is not served; spans go to POST {PATH}", head.uri.path())));
    }
    if head.method != Method::POST {
        return Err(Rejection::Method(format!("use POST {PATH}")));
    }
    let content = content.ok_or_else(|| {
        let found = head.headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let found = found.unwrap_or_else(|| "none".to_owned());
        Rejection::Unsupported(format!("content-type {found}: use application/x-protobuf or application/json"))
    })?;
    let tenant = tenant(&head.headers)?;
    let encoding = encoding(&head.headers)?;
    let announced = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let announced = announced.unwrap_or(0);
    receiver.check_size(announced)?;
    reader.announce(announced as usize)?;
    reader.all().await?;
    Ok((tenant, content, encoding))
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
        Rejection::NotServed(_) => (StatusCode::NOT_FOUND, Code::Unimplemented),
        Rejection::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented),
        Rejection::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        Rejection::Defect(_) => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        Rejection::Gone(_) => (StatusCode::BAD_REQUEST, Code::Cancelled),
    };
    let mut response = reply(status, error(rejection, code, content), content);
    let headers = response.headers_mut();
    match rejection {
        Rejection::Unavailable(_) => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()))),
        Rejection::Method(_) => drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST"))),
        _ => {}
    }
    response
}

/// A `google.rpc.Status`; one for bad data says what is wrong in a `BadRequest` too.
fn error(rejection: &Rejection, code: Code, content: Content) -> Vec<u8> {
    let message = rejection.to_string();
    let invalid = matches!(rejection, Rejection::Invalid(_));
    match content {
        Content::Protobuf => {
            let details = if invalid { bad_request(&message) } else { ErrorDetails::new() };
            Status::with_error_details(code, message, details).details().to_vec()
        }
        Content::Json => {
            let bad_request = json!({
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": VIOLATED, "description": message}],
            });
            let details = if invalid { vec![bad_request] } else { Vec::new() };
            json!({"code": code as i32, "message": message, "details": details}).to_string().into_bytes()
        }
    }
}

fn reply(status: StatusCode, body: Vec<u8>, content: Content) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = if content == Content::Json { JSON } else { PROTOBUF };
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
