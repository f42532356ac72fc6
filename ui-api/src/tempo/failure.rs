//! Why there is no answer, as clients of Tempo are told: as text over HTTP, as a status over gRPC.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use meshlake_query::QueryError;
use meshlake_query::meshlake_traceql;
use tonic::{Code, Status};

use crate::problem::{Kind, Problem};

/// A problem with the statuses of Tempo.
#[derive(Debug)]
pub(super) struct Failure(Problem);

impl Failure {
    /// A request that is wrong.
    pub(super) fn invalid(detail: impl Into<String>) -> Failure {
        Failure(Problem::new(Kind::InvalidParameter, detail))
    }

    /// As a call over gRPC ends.
    pub(super) fn status(&self) -> Status {
        let code = match self.0.kind() {
            Kind::NotFound => Code::NotFound,
            Kind::TooManyRows | Kind::OutOfMemory | Kind::BodyTooLarge => Code::ResourceExhausted,
            Kind::QueryTimeout | Kind::BodyTimeout => Code::DeadlineExceeded,
            Kind::Starting => Code::Unavailable,
            Kind::Internal => Code::Internal,
            Kind::MethodNotAllowed | Kind::UnsupportedMediaType => Code::Unimplemented,
            Kind::InvalidParameter
            | Kind::InvalidTenant
            | Kind::InvalidBody
            | Kind::InvalidQuery
            | Kind::CompactionOff
            | Kind::NotAcceptable => Code::InvalidArgument,
        };
        Status::new(code, self.0.detail())
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure(problem)
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Failure {
        Failure(error.into())
    }
}

impl From<meshlake_traceql::Error> for Failure {
    fn from(error: meshlake_traceql::Error) -> Failure {
        Failure(Problem::new(Kind::InvalidQuery, format!("invalid TraceQL query: {error}")))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.kind() {
            // Fewer requests at once get through: clients wait, and ask again.
            Kind::OutOfMemory => StatusCode::TOO_MANY_REQUESTS,
            _ => self.0.status(),
        };
        let mut response =
            (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], self.0.detail().to_owned()).into_response();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
