//! Errors as RFC 9457 problem documents.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use meshlake_query::QueryError;
use serde::Serialize;

/// What went wrong, as a client tells cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    InvalidParameter,
    InvalidTenant,
    InvalidBody,
    InvalidQuery,
    NotFound,
    MethodNotAllowed,
    CompactionOff,
    NotAcceptable,
    BodyTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    TooManyRows,
    Internal,
    Starting,
    OutOfMemory,
    QueryTimeout,
}

impl Kind {
    /// Status, the last part of the `type` URN, title.
    fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::InvalidParameter => (StatusCode::BAD_REQUEST, "invalid-parameter", "a parameter is not valid"),
            Kind::InvalidTenant => (StatusCode::BAD_REQUEST, "invalid-tenant", "the tenant is not valid"),
            Kind::InvalidBody => (StatusCode::BAD_REQUEST, "invalid-body", "the request body is not valid"),
            Kind::InvalidQuery => (StatusCode::BAD_REQUEST, "invalid-query", "the query is not valid"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "not found"),
            Kind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "the method is not allowed here"),
            Kind::CompactionOff => (StatusCode::CONFLICT, "compaction-off", "compaction is off"),
            Kind::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, "not-acceptable", "no acceptable content type"),
            Kind::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body-timeout", "the request body did not arrive in time"),
            Kind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the request body is too large"),
            Kind::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "the content type is not supported")
            }
            Kind::TooManyRows => (StatusCode::UNPROCESSABLE_ENTITY, "too-many-rows", "the answer has too many rows"),
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error"),
            Kind::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting", "not ready yet"),
            Kind::OutOfMemory => (StatusCode::SERVICE_UNAVAILABLE, "out-of-memory", "the query needs too much memory"),
            Kind::QueryTimeout => (StatusCode::GATEWAY_TIMEOUT, "query-timeout", "the query took too long"),
        }
    }
}

/// A problem document: what a handler answers when it cannot answer.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    parameter: Option<String>,
}

impl Problem {
    /// `detail` is for the person who sent the request: what was found and what is allowed.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), parameter: None }
    }

    /// A problem with the value of one parameter.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Problem {
        Problem { kind: Kind::InvalidParameter, detail: detail.into(), parameter: Some(name.to_owned()) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.kind.facts().0
    }

    /// What is wrong, for the person who sent the request.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// A fault of ours: the cause goes to the log, not to the client.
    pub(crate) fn internal(attempted: &str, cause: &dyn std::fmt::Display) -> Problem {
        tracing::error!(%cause, "{attempted} failed");
        Problem::new(Kind::Internal, format!("{attempted} failed; the server's log has the cause under this answer's x-request-id"))
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Problem {
        let kind = match &error {
            QueryError::Invalid { .. } => Kind::InvalidQuery,
            QueryError::TooManyRows { .. } => Kind::TooManyRows,
            QueryError::OutOfMemory { .. } => Kind::OutOfMemory,
            QueryError::Timeout { .. } => Kind::QueryTimeout,
            QueryError::Internal(_) => return Problem::internal("the query", &error),
        };
        Problem::new(kind, error.to_string())
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, slug, title) = self.kind.facts();
        let document = Document {
            r#type: format!("urn:meshlake:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            parameter: self.parameter.as_deref(),
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
