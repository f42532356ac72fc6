//! What a run showed, for people and as JSON.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{process::Cpu, tally::Tally};

/// The figures of a run. Spans are counted unless a name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Length of the run.
    pub seconds: f64,
    /// Requests sent.
    pub requests: u64,
    /// Sent, over the requests.
    pub spans_per_request_mean: f64,
    /// Bytes of a span on the wire, with its share of resource and scope.
    pub bytes_per_span: f64,
    /// Sent.
    pub sent: u64,
    /// Acknowledged.
    pub acknowledged: u64,
    /// Rejected in a partial success.
    pub rejected: u64,
    /// Refused, by reason.
    pub refused: Vec<RefusedReport>,
    /// Refused with an answer that must not be retried.
    pub refused_for_good: u64,
    /// Outcome unknown: the connection was lost.
    pub unknown: u64,
    /// Arrived and not sent, for too many requests were in flight.
    pub skipped: u64,
    /// Why connections were lost, the first reason.
    pub lost: Option<String>,
    /// Acknowledged a second, over the whole run.
    pub goodput: f64,
    /// Acknowledged in each second.
    pub goodput_per_second: Vec<u64>,
    /// Latency of the acknowledged requests, milliseconds: median.
    pub latency_ms_p50: f64,
    /// Latency, 99 of 100.
    pub latency_ms_p99: f64,
    /// Latency, the longest.
    pub latency_ms_max: f64,
    /// The load generator's own CPU seconds in the run.
    pub own_cpu_seconds: f64,
    /// The same for a million spans sent.
    pub own_cpu_seconds_per_million_sent: f64,
    /// The server's figures, with --server-pid.
    pub server: Option<ServerReport>,
    /// What SQL counted, with --verify.
    pub verified: Option<crate::verify::Counts>,
}

/// Requests refused for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedReport {
    /// gRPC status code.
    pub code: u16,
    /// Whether RetryInfo came with it.
    pub retry_info: bool,
    /// Whether OTLP lets the client retry.
    pub retryable: bool,
    /// Spans.
    pub spans: u64,
    /// The message of one of them.
    pub message: String,
}

/// CPU and memory of the server.
#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    /// CPU seconds in user mode, in the run.
    pub cpu_user_seconds: f64,
    /// CPU seconds in the kernel, in the run.
    pub cpu_system_seconds: f64,
    /// CPU seconds of both for a million acknowledged spans.
    pub cpu_seconds_per_million: f64,
    /// Most resident memory seen in the run (looked at ten times a second), bytes.
    pub resident_max_in_run: u64,
    /// Most resident memory since the server's start, bytes.
    pub resident_max_ever: u64,
}

impl ServerReport {
    /// From the CPU used in the run and the memory seen.
    pub fn new(cpu: Cpu, acknowledged: u64, resident_max_in_run: u64, resident_max_ever: u64) -> Self {
        Self {
            cpu_user_seconds: cpu.user,
            cpu_system_seconds: cpu.system,
            cpu_seconds_per_million: per_million(cpu.total(), acknowledged),
            resident_max_in_run,
            resident_max_ever,
        }
    }
}

fn per_million(seconds: f64, spans: u64) -> f64 {
    if spans == 0 { 0.0 } else { seconds * 1e6 / spans as f64 }
}

impl Report {
    /// The report of a run without what was asked of others: `server` and `verified` are left out.
    pub fn new(tally: Tally, took: Duration, own: Cpu, bytes_per_span: f64) -> Self {
        let mut latencies = tally.latencies;
        latencies.sort_unstable();
        let latency = |share: f64| {
            let rank = (latencies.len() as f64 * share).ceil() as usize;
            latencies.get(rank.max(1) - 1).map_or(0.0, |micros| f64::from(*micros) / 1e3)
        };
        let refused: Vec<RefusedReport> = tally
            .refused
            .into_iter()
            .map(|(refusal, spans)| RefusedReport {
                code: refusal.code,
                retry_info: refusal.retry_info,
                retryable: refusal.is_retryable(),
                spans,
                message: tally.messages.get(&refusal).cloned().unwrap_or_default(),
            })
            .collect();
        Self {
            seconds: took.as_secs_f64(),
            requests: tally.requests,
            spans_per_request_mean: tally.sent as f64 / tally.requests.max(1) as f64,
            bytes_per_span,
            sent: tally.sent,
            acknowledged: tally.acknowledged,
            rejected: tally.rejected,
            refused_for_good: refused.iter().filter(|refused| !refused.retryable).map(|refused| refused.spans).sum(),
            refused,
            unknown: tally.unknown,
            skipped: tally.skipped,
            lost: tally.lost,
            goodput: tally.acknowledged as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE),
            goodput_per_second: tally.per_second,
            latency_ms_p50: latency(0.5),
            latency_ms_p99: latency(0.99),
            latency_ms_max: latency(1.0),
            own_cpu_seconds: own.total(),
            own_cpu_seconds_per_million_sent: per_million(own.total(), tally.sent),
            server: None,
            verified: None,
        }
    }
}

const MIB: f64 = 1048576.0;

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "sent          {} spans in {} requests ({:.1} spans a request, {:.0} bytes a span) in {:.1} s",
            self.sent, self.requests, self.spans_per_request_mean, self.bytes_per_span, self.seconds
        )?;
        writeln!(out, "acknowledged  {} spans, {:.0} a second", self.acknowledged, self.goodput)?;
        for refused in &self.refused {
            let retry = if refused.retryable { "retryable" } else { "NOT retryable" };
            let info = if refused.retry_info { ", with RetryInfo" } else { "" };
            writeln!(
                out,
                "refused       {} spans, grpc-status {} ({retry}{info}): {}",
                refused.spans, refused.code, refused.message
            )?;
        }
        for (name, count) in [("rejected", self.rejected), ("unknown", self.unknown), ("skipped", self.skipped)] {
            if count > 0 {
                writeln!(out, "{name:<14}{count} spans")?;
            }
        }
        if let Some(lost) = &self.lost {
            writeln!(out, "lost          {lost}")?;
        }
        writeln!(
            out,
            "latency       p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            self.latency_ms_p50, self.latency_ms_p99, self.latency_ms_max
        )?;
        writeln!(
            out,
            "own CPU       {:.2} s, {:.2} s a million spans sent",
            self.own_cpu_seconds, self.own_cpu_seconds_per_million_sent
        )?;
        if let Some(server) = &self.server {
            writeln!(
                out,
                "server CPU    {:.2} s user + {:.2} s system, {:.2} s a million acknowledged spans",
                server.cpu_user_seconds, server.cpu_system_seconds, server.cpu_seconds_per_million
            )?;
            writeln!(
                out,
                "server memory {:.0} MiB resident at most in the run, {:.0} MiB since its start",
                server.resident_max_in_run as f64 / MIB,
                server.resident_max_ever as f64 / MIB
            )?;
        }
        if let Some(verified) = &self.verified {
            writeln!(out, "verified      {verified}")?;
        }
        write!(out, "goodput       by second: {:?}", self.goodput_per_second)
    }
}
