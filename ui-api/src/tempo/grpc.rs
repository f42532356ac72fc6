//! `tempopb.StreamingQuerier` over gRPC.
//!
//! Calls are told from other requests by their path. Frames are read and written by hand, as the collector does it: one message comes,
//! some go, and the status stands in the trailers.

use std::convert::Infallible;
use std::future::{Future, ready};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, BoxStream, StreamExt};
use http::{HeaderMap, header};
use http_body::Frame;
use http_body_util::StreamBody;
use meshlake_config::Tenant;
use prost::Message;
use tonic::Status;

use super::failure::Failure;
use super::reply::share;
use super::{metrics, search, tags, values};
use crate::api::{Api, tenant};
use crate::body;
use crate::budget::Share;
use crate::problem::{Kind, Problem};

const MEDIA_TYPE: &str = "application/grpc";
/// A byte that tells whether the message is compressed, and its length in 4 bytes.
const HEAD: usize = 5;

/// What a call answers, as it becomes known. An error is the last.
pub(super) type Messages<M> = BoxStream<'static, Result<M, Failure>>;

/// The calls of the service by their names.
pub(super) async fn streaming_querier(State(api): State<Api>, Path(method): Path<String>, request: Request) -> Response {
    match method.as_str() {
        "Search" => call(api, request, |api, tenant, request| search::messages(api, tenant, &request)).await,
        "SearchTags" => call(api, request, |api, tenant, request| one(tags::v1(api, tenant, request))).await,
        "SearchTagsV2" => call(api, request, |api, tenant, request| one(tags::v2(api, tenant, request))).await,
        "SearchTagValues" => call(api, request, |api, tenant, request| one(values::v1(api, tenant, request))).await,
        "SearchTagValuesV2" => call(api, request, |api, tenant, request| one(values::v2(api, tenant, request))).await,
        "MetricsQueryRange" => call(api, request, |api, tenant, request| metrics::range_messages(api, tenant, &request)).await,
        "MetricsQueryInstant" => call(api, request, metrics::instant_messages).await,
        _ => respond::<()>(api, failed(Problem::new(Kind::MethodNotAllowed, format!("there is no call {method} here")).into())),
    }
}

/// An answer of one message.
fn one<M>(answer: impl Future<Output = Result<M, Failure>> + Send + 'static) -> Result<Messages<M>, Failure>
where
    M: Send + 'static,
{
    Ok(stream::once(answer).boxed())
}

fn failed<M: Send + 'static>(failure: Failure) -> Messages<M> {
    stream::once(ready(Err(failure))).boxed()
}

async fn call<Q: Message + Default, M: Message + 'static>(
    api: Api,
    request: Request,
    answer: impl FnOnce(Api, Tenant, Q) -> Result<Messages<M>, Failure>,
) -> Response {
    let messages = read(&api, request).await.and_then(|(tenant, question)| answer(api.clone(), tenant, question));
    respond(api, messages.unwrap_or_else(failed))
}

/// The tenant and the one message of a call.
async fn read<Q: Message + Default>(api: &Api, request: Request) -> Result<(Tenant, Q), Failure> {
    let headers = request.headers();
    let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if !content_type.starts_with(MEDIA_TYPE.as_bytes()) {
        let found = String::from_utf8_lossy(content_type);
        return Err(Problem::new(Kind::UnsupportedMediaType, format!("content-type is `{found}`: allowed is {MEDIA_TYPE}")).into());
    }
    let tenant = tenant(headers)?.unwrap_or_default();
    let body = body::read(api, request).await?;
    Ok((tenant, message(&body)?))
}

fn message<Q: Message + Default>(body: &[u8]) -> Result<Q, Failure> {
    let invalid = |detail: &str| Problem::new(Kind::InvalidBody, detail);
    let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk::<HEAD>() else {
        return Err(invalid("the request's body holds no message").into());
    };
    if compressed != 0 {
        return Err(Problem::new(Kind::UnsupportedMediaType, "compressed messages are not taken here").into());
    }
    if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err(invalid("the request's body is not one message of the length that it tells").into());
    }
    Q::decode(message).map_err(|error| invalid(&format!("the request's message cannot be read: {error}")).into())
}

fn respond<M: Message + 'static>(api: Api, messages: Messages<M>) -> Response {
    let frames = stream::unfold(Some((messages, None::<Share>)), move |sending| {
        let api = api.clone();
        async move {
            let (mut messages, sent) = sending?;
            // That the next is asked for says that the one before it has gone.
            drop(sent);
            let framed = messages.next().await.map(|message| message.and_then(|message| framed(&api, &message)));
            Some(match framed {
                Some(Ok((frame, share))) => (Frame::data(frame), Some((messages, Some(share)))),
                Some(Err(failure)) => (trailers(&failure.status()), None),
                None => (trailers(&Status::ok("")), None),
            })
        }
    });
    let body = Body::new(StreamBody::new(frames.map(Ok::<_, Infallible>)));
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
}

/// A message as it is sent, and its memory.
fn framed(api: &Api, message: &impl Message) -> Result<(Bytes, Share), Failure> {
    let length = message.encoded_len();
    let share = share(api, length)?;
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.push(0);
    // Far below 4 GiB: answers have limits.
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    frame.append(&mut message.encode_to_vec());
    Ok((frame.into(), share))
}

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // Fails for metadata that is no header; there is none.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}
