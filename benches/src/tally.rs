//! What became of the requests of a run.

use std::{collections::BTreeMap, time::Duration};

use crate::client::Outcome;

/// Why requests were refused: the gRPC status code, and whether RetryInfo came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The gRPC status code.
    pub code: u16,
    /// Whether the answer carried `google.rpc.RetryInfo`.
    pub retry_info: bool,
}

impl Refusal {
    /// Whether a client may send the request again, by the OTLP specification ("OTLP/gRPC Response").
    pub fn is_retryable(self) -> bool {
        const RESOURCE_EXHAUSTED: u16 = 8;
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
        matches!(self.code, 1 | 4 | 10 | 11 | 14 | 15) || (self.code == RESOURCE_EXHAUSTED && self.retry_info)
    }
}

/// Counts of a run, in spans unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests sent.
    pub requests: u64,
    /// Requests acknowledged.
    pub requests_acknowledged: u64,
    /// Sent.
    pub sent: u64,
    /// Acknowledged, without those rejected in a partial success.
    pub acknowledged: u64,
    /// Rejected in a partial success.
    pub rejected: u64,
    /// Refused, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// A message of each refusal's reason.
    pub messages: BTreeMap<Refusal, String>,
    /// Sent with unknown outcome: the connection was lost.
    pub unknown: u64,
    /// Not sent, for too many requests were in flight already.
    pub skipped: u64,
    /// Why connections were lost, the first reason.
    pub lost: Option<String>,
    /// Acknowledged in each second of the run.
    pub per_second: Vec<u64>,
    /// Microseconds from arrival to acknowledgement, of each acknowledged request.
    pub latencies: Vec<u32>,
}

impl Tally {
    /// Counts a request that came back. `since_start` is the time of the answer in the run.
    pub(crate) fn count(&mut self, spans: u64, outcome: Outcome, latency: Duration, since_start: Duration) {
        match outcome {
            Outcome::Acknowledged { rejected } => {
                let acknowledged = spans.saturating_sub(rejected);
                self.requests_acknowledged += 1;
                self.acknowledged += acknowledged;
                self.rejected += rejected;
                let second = since_start.as_secs() as usize;
                if self.per_second.len() <= second {
                    self.per_second.resize(second + 1, 0);
                }
                self.per_second[second] += acknowledged;
                self.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
            }
            Outcome::Refused { refusal, message } => {
                *self.refused.entry(refusal).or_default() += spans;
                self.messages.entry(refusal).or_insert(message);
            }
            Outcome::Lost { reason } => {
                self.unknown += spans;
                self.lost.get_or_insert(reason);
            }
        }
    }
}
