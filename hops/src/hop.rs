//! The output: one request from a caller to a callee.

use crate::flags::Flags;
use crate::node::Node;
use crate::span::{Side, Span};

/// Whether a hop is of a span by which its callee was asked, or of one by which its caller asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// One request of the callee: an entry.
    In,
    /// One call of the caller that no entry answers: an exit.
    Out,
}

/// What a hop is of. No two hops of a trace have one key, so nothing doubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The key span.
    pub span_id: [u8; 8],
    /// Its side: a client and a server may share a span id (Zipkin).
    pub side: Side,
    /// Which of the two hops that one span can be the key of.
    pub direction: Direction,
}

/// Why a side calls a request failed. Their order and number are part of the file format of rollups: another one is another version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// It did not fail.
    #[default]
    None,
    /// HTTP 4xx: the caller's fault; no error in rates.
    Http4xx,
    /// HTTP 5xx.
    Http5xx,
    /// A gRPC status that means failure.
    Grpc,
    /// No response: HTTP status 0.
    NoResponse,
    /// By the proxy's response flags.
    ResponseFlags,
    /// By the span's status alone.
    Status,
}

impl ErrorClass {
    /// All of them, in their order.
    pub(crate) const ALL: [ErrorClass; 7] = [
        ErrorClass::None,
        ErrorClass::Http4xx,
        ErrorClass::Http5xx,
        ErrorClass::Grpc,
        ErrorClass::NoResponse,
        ErrorClass::ResponseFlags,
        ErrorClass::Status,
    ];

    fn of(span: &Span<'_>) -> ErrorClass {
        match (span.error, span.grpc_status, span.http_status) {
            (false, _, Some(400..=499)) => ErrorClass::Http4xx,
            (false, _, _) => ErrorClass::None,
            (true, Some(2 | 4 | 12 | 13 | 14 | 15), _) => ErrorClass::Grpc,
            (true, _, Some(500..=599)) => ErrorClass::Http5xx,
            (true, _, Some(0)) => ErrorClass::NoResponse,
            (true, _, _) if !flags_of(span).is_empty() => ErrorClass::ResponseFlags,
            (true, _, _) => ErrorClass::Status,
        }
    }

    /// Whether it counts as an error.
    pub fn is_error(self) -> bool {
        !matches!(self, ErrorClass::None | ErrorClass::Http4xx)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::None => "none",
            ErrorClass::Http4xx => "http_4xx",
            ErrorClass::Http5xx => "http_5xx",
            ErrorClass::Grpc => "grpc",
            ErrorClass::NoResponse => "no_response",
            ErrorClass::ResponseFlags => "response_flags",
            ErrorClass::Status => "status",
        }
    }
}

fn flags_of<'a>(span: &Span<'a>) -> &'a str {
    if span.response_flags == "-" { "" } else { span.response_flags }
}

/// What one side of a hop saw of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report<'a> {
    /// Nanoseconds; none where the span ends before it starts.
    pub latency: Option<u64>,
    /// Whether and why it failed.
    pub error: ErrorClass,
    /// The HTTP status; 0 where there was no response.
    pub http_status: Option<i64>,
    /// The gRPC status.
    pub grpc_status: Option<i64>,
    /// Envoy's response flags, `UF,URX`; empty for none.
    pub response_flags: &'a str,
}

impl<'a> Report<'a> {
    pub(crate) fn of(span: &Span<'a>) -> Report<'a> {
        Report {
            latency: span.duration(),
            error: ErrorClass::of(span),
            http_status: span.http_status,
            grpc_status: span.grpc_status,
            response_flags: flags_of(span),
        }
    }
}

/// The waypoint that a hop went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Via<'a> {
    /// Its cluster.
    pub cluster: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its workload.
    pub workload: &'a str,
}

/// One request from a caller to a callee, however many spans describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop<'a> {
    /// Its key.
    pub key: Key,
    /// Position of the key span among the spans that were given; of copies, that of the one that was kept.
    pub span: u32,
    /// Position of the span that the caller's report is from.
    pub caller_span: Option<u32>,
    /// Start of the key span, nanoseconds since the epoch.
    pub time: u64,
    /// Who asked.
    pub caller: Node<'a>,
    /// Who was asked.
    pub callee: Node<'a>,
    /// The waypoint between them.
    pub via: Option<Via<'a>>,
    /// `http`, `grpc`, `messaging`, or the `db.system` or `rpc.system`; empty if no span says.
    pub protocol: &'a str,
    /// The method of the request: HTTP's, else the rpc's.
    pub method: &'a str,
    /// The name of the key span.
    pub operation: &'a str,
    /// What the caller saw; none if the hop has no span of the caller, or it is not the last attempt of its call.
    pub caller_report: Option<Report<'a>>,
    /// What the callee saw; none for a call that nothing answers.
    pub callee_report: Option<Report<'a>>,
    /// Nanoseconds that the caller waited longer than the callee worked: network and proxies.
    pub network: Option<u64>,
    /// Bytes of the request's body.
    pub request_bytes: Option<u64>,
    /// Bytes of the response's body.
    pub response_bytes: Option<u64>,
    /// Which attempt of its call this is, from 1.
    pub attempt: u32,
    /// Calls that this hop ends: 1, but 0 for an attempt that another followed and for a mirrored request.
    pub calls: u32,
    /// Messages; 0 if it is no message.
    pub messages: u32,
    /// What else is to be known.
    pub flags: Flags,
    /// Whether it came over mutual TLS; none where no tag tells.
    pub mtls: Option<bool>,
    /// How many requests it stands for, in units of 2^-16 (see [`crate::WEIGHT_ONE`]); none if the sampling is unknown.
    pub weight: Option<u64>,
}
