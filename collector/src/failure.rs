//! Whether the request that a span describes failed: the column `error`.
//!
//! By the code where there is one: HTTP 0 (no response) or 5xx, gRPC 2, 4, 12, 13, 14, 15, or a response flag that means
//! failure. Else by the span's status, or the tag `error=true` that Envoy writes. 4xx is the caller's fault: no error,
//! although Envoy sets the status of client spans to ERROR from 400 on.

/// Flags of requests that did not get the answer they should have (Envoy's access log documentation). Not among them:
/// delays and aborts that were injected on purpose, cached answers, and refusals that carry a 4xx code.
const FAILURES: [&[u8]; 22] = [
    b"UH", b"UF", b"UO", b"URX", b"NC", b"DT", b"DC", b"LH", b"UT", b"LR", b"UR", b"UC", b"RLSE", b"SI", b"UPE", b"UMSDR", b"NFCF",
    b"OM", b"DF", b"DO", b"DR", b"UDO",
];

/// gRPC codes that are the server's fault.
const GRPC_FAILURES: [i64; 6] = [2, 4, 12, 13, 14, 15];

/// What a span says of the outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome<'a> {
    pub http: Option<i64>,
    pub grpc: Option<i64>,
    /// Envoy's response flags, comma-joined.
    pub flags: Option<&'a [u8]>,
    /// `STATUS_CODE_ERROR`, or the tag `error=true`.
    pub error: bool,
}

impl Outcome<'_> {
    pub(crate) fn failed(&self) -> bool {
        let by_flags = self.flags.is_some_and(|flags| flags.split(|&byte| byte == b',').any(|flag| FAILURES.contains(&flag)));
        let by_http = self.http.map(|code| code == 0 || code >= 500);
        let by_grpc = self.grpc.map(|code| GRPC_FAILURES.contains(&code));
        by_flags
            || match (by_http, by_grpc) {
                (None, None) => self.error,
                (http, grpc) => http == Some(true) || grpc == Some(true),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: outcomes as proxies and SDKs report them. Guarantee: an error is what the definition above says.
    #[test]
    fn outcomes() {
        let none = Outcome::default();
        for (outcome, failed) in [
            (Outcome { http: Some(200), error: true, ..none }, false),
            (Outcome { http: Some(404), error: true, ..none }, false),
            (Outcome { http: Some(503), ..none }, true),
            (Outcome { http: Some(0), ..none }, true),
            (Outcome { http: Some(200), grpc: Some(14), ..none }, true),
            (Outcome { http: Some(200), grpc: Some(5), error: true, ..none }, false),
            (Outcome { http: Some(200), flags: Some(b"DI"), ..none }, false),
            (Outcome { http: Some(200), flags: Some(b"DI,UC"), ..none }, true),
            (Outcome { http: Some(200), flags: Some(b"-"), ..none }, false),
            (Outcome { error: true, ..none }, true),
            (none, false),
        ] {
            assert_eq!(outcome.failed(), failed, "{outcome:?}");
        }
    }
}
