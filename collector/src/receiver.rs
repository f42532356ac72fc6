//! What both protocols do with a request: read its body within the limits, store it, and say what became of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meshlake_config::{Config, Tenant};
use meshlake_storage::{Accepted, Content, Encoding, Frame, Refused, Store};
use thiserror::Error;
use tokio::time::Instant;

use crate::admission::{Admission, Admitted};
use crate::body::ResponseBody;
use crate::metrics::Metrics;
use crate::{grpc, otlp_http};

/// How long a sender may take for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What is read and thrown away of a body that is refused, so that a sender who is still sending reads the answer.
const DISCARD_BYTES_MAX: usize = 8 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes for which room is made before they come.
const RESERVED_MAX: usize = 1 << 20;

/// Why a request is not acknowledged.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Rejection {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    TooLarge(String),
    /// The only one after which the sender should try again.
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Unsupported(String),
    /// There is nothing under this path.
    #[error("{0}")]
    NotServed(String),
    #[error("{0}")]
    Method(String),
    #[error("{0}")]
    Defect(String),
    /// The sender went away.
    #[error("the request's body did not arrive: {0}")]
    Gone(String),
}

impl Rejection {
    /// The label under which it is counted.
    fn reason(&self) -> &'static str {
        match self {
            Rejection::Invalid(_) => "invalid",
            Rejection::TooLarge(_) => "too_large",
            Rejection::Unavailable(_) => "unavailable",
            Rejection::Unsupported(_) => "unsupported",
            Rejection::NotServed(_) => "not_served",
            Rejection::Method(_) => "method",
            Rejection::Defect(_) => "defect",
            Rejection::Gone(_) => "gone",
        }
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Rejection {
        match refused {
            Refused::Invalid(why) => Rejection::Invalid(why),
            Refused::TooLarge(why) => Rejection::TooLarge(why),
            Refused::Unavailable(why) => Rejection::Unavailable(why),
            Refused::Defect(why) => Rejection::Defect(why),
        }
    }
}

/// What the receivers share.
#[derive(Debug)]
pub struct Receiver {
    store: Arc<Store>,
    admission: Admission,
    limit: usize,
    body_timeout: Duration,
    pub(crate) metrics: Metrics,
}

impl Receiver {
    /// A receiver that stores in `store`, with the limits of `config`.
    pub fn new(store: Arc<Store>, config: &Config, metrics: Metrics) -> Receiver {
        let admission = Admission::new(config.ingest.memory_limit.as_usize());
        let limit = config.otlp.max_request_size.as_usize();
        Receiver { store, admission, limit, body_timeout: BODY_TIMEOUT, metrics }
    }

    /// The same receiver with another limit of time for bodies.
    #[cfg(test)]
    pub(crate) fn with_body_timeout(self, body_timeout: Duration) -> Receiver {
        Receiver { body_timeout, ..self }
    }

    /// Answers a request of either protocol: gRPC is told by its content type.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        if grpc::is_grpc(request.headers()) { grpc::answer(&self, request).await } else { otlp_http::answer(&self, request).await }
    }

    /// Counts a request and what became of it.
    pub(crate) async fn count(&self, export: impl Future<Output = Result<Accepted, Rejection>>) -> Result<Accepted, Rejection> {
        let began = std::time::Instant::now();
        self.metrics.requests.inc();
        let result = export.await;
        match &result {
            Ok(accepted) => {
                self.metrics.spans.inc_by(accepted.spans);
                self.metrics.rejected_spans.inc_by(accepted.rejected);
                self.metrics.seconds.observe(began.elapsed().as_secs_f64());
            }
            Err(rejection) => {
                self.metrics.refuse(rejection.reason());
                if matches!(rejection, Rejection::Unavailable(_)) {
                    self.store.note_refusal();
                }
            }
        }
        result
    }

    /// Makes a request durable.
    pub(crate) async fn store(
        &self,
        tenant: Tenant,
        content: Content,
        encoding: Encoding,
        body: Body,
    ) -> Result<Accepted, Rejection> {
        self.metrics.bytes.inc_by(body.bytes.len() as u64);
        let received = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        let answer = self.store.append(Frame { tenant, content, encoding, received, body: body.bytes })?;
        let answer = answer.await.map_err(|_| Rejection::Unavailable("the request was not stored".to_owned()))?;
        drop(body.admitted);
        Ok(answer?)
    }

    fn too_large(&self) -> Rejection {
        Rejection::TooLarge(format!("the request has more than {} bytes: see otlp.max_request_size", self.limit))
    }

    /// Fails if a body of so many bytes is too large.
    pub(crate) fn check_size(&self, bytes: u64) -> Result<(), Rejection> {
        if bytes > self.limit as u64 { Err(self.too_large()) } else { Ok(()) }
    }

    /// Starts to read a body.
    pub(crate) fn read(&self, body: Incoming) -> BodyReader<'_> {
        let deadline = Instant::now() + self.body_timeout;
        BodyReader { receiver: self, body, deadline, admitted: self.admission.enter(), read: Read::default() }
    }
}

fn no_room() -> Rejection {
    Rejection::Unavailable("requests in memory take more than ingest.memory_limit".to_owned())
}

/// The tenant that a request is of.
pub(crate) fn tenant(headers: &HeaderMap) -> Result<Tenant, Rejection> {
    let mut values = headers.get_all("x-scope-orgid").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(Tenant::default()),
        (Some(value), None) => {
            let name = value.to_str().map_err(|_| Rejection::Invalid("x-scope-orgid: not ASCII".to_owned()))?;
            Tenant::parse(name).map_err(|error| Rejection::Invalid(format!("x-scope-orgid: {error}")))
        }
        (Some(_), Some(_)) => Err(Rejection::Invalid("x-scope-orgid: given more than once".to_owned())),
    }
}

/// The bytes of a request, and their place in memory.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: Bytes,
    admitted: Admitted,
}

/// What was read of a body. Most have one piece, which is not copied.
#[derive(Debug, Default)]
struct Read {
    first: Bytes,
    rest: BytesMut,
}

impl Read {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Adds a piece. `more` bytes are expected behind it.
    fn push(&mut self, piece: Bytes, more: usize) {
        if self.len() == 0 {
            self.first = piece;
        } else {
            // Announced is not sent: room is made for what is likely, not for what is claimed.
            self.rest.reserve(self.first.len() + piece.len() + more.min(RESERVED_MAX));
            let first = std::mem::take(&mut self.first);
            self.rest.extend_from_slice(&first);
            self.rest.extend_from_slice(&piece);
        }
    }

    fn bytes(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}

/// Reads a body piece by piece.
#[derive(Debug)]
pub(crate) struct BodyReader<'a> {
    receiver: &'a Receiver,
    body: Incoming,
    deadline: Instant,
    admitted: Admitted,
    read: Read,
}

impl BodyReader<'_> {
    /// Takes room for a body of so many bytes before it is read.
    pub(crate) fn announce(&mut self, bytes: usize) -> Result<(), Rejection> {
        if self.admitted.announce(bytes) { Ok(()) } else { Err(no_room()) }
    }

    /// Reads the body to its end and throws it away, within limits: an HTTP/1 sender who is cut off while it sends may not read
    /// the answer.
    pub(crate) async fn discard(&mut self) {
        let discard = async {
            let mut bytes = 0;
            while let Some(Ok(frame)) = self.body.frame().await
                && bytes < DISCARD_BYTES_MAX
            {
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        // Whether the sender was done or not, it gets its answer now.
        let _ = tokio::time::timeout(DISCARD_TIMEOUT, discard).await;
    }

    /// The next piece; none at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Rejection> {
        loop {
            let frame = tokio::time::timeout_at(self.deadline, self.body.frame());
            let late = |_| Rejection::Unavailable(format!("the request's body took more than {:?}", self.receiver.body_timeout));
            let frame = frame.await.map_err(late)?;
            match frame.transpose().map_err(|error| Rejection::Gone(error.to_string()))? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return if self.admitted.grow(data.len()) { Ok(Some(data)) } else { Err(no_room()) };
                    }
                }
            }
        }
    }

    /// The first `N` bytes; what was read beyond them stays. None if there is no body.
    pub(crate) async fn head<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Rejection> {
        while self.read.len() < N {
            match self.piece().await? {
                Some(piece) => self.read.push(piece, 0),
                None if self.read.len() == 0 => return Ok(None),
                None => return Err(Rejection::Invalid("the request's body ends too early".to_owned())),
            }
        }
        let mut all = std::mem::take(&mut self.read).bytes();
        let mut head = [0; N];
        head.copy_from_slice(&all.split_to(N));
        self.read.first = all;
        Ok(Some(head))
    }

    /// The rest, which must have `length` bytes.
    pub(crate) async fn exactly(&mut self, length: usize) -> Result<(), Rejection> {
        loop {
            let Some(missing) = length.checked_sub(self.read.len()) else {
                return Err(Rejection::Invalid("the request's body holds more than one message".to_owned()));
            };
            match self.piece().await? {
                Some(piece) => {
                    let more = missing.saturating_sub(piece.len());
                    self.read.push(piece, more);
                }
                None if missing == 0 => return Ok(()),
                None => return Err(Rejection::Invalid("the request's body ends too early".to_owned())),
            }
        }
    }

    /// All there is, up to the limit of a request.
    pub(crate) async fn all(&mut self) -> Result<(), Rejection> {
        while let Some(piece) = self.piece().await? {
            self.receiver.check_size((self.read.len() + piece.len()) as u64)?;
            self.read.push(piece, 0);
        }
        Ok(())
    }

    /// What was read.
    pub(crate) fn finish(self) -> Body {
        Body { bytes: self.read.bytes(), admitted: self.admitted }
    }
}
