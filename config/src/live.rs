//! Settings of the journal and of live spans.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, duration,
    limits::{Checked, hours, minutes, require, seconds, size, time},
};

/// Spans in memory, and when they become Parquet files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Live {
    /// Size of the live batches at which a flush begins.
    pub flush_size: ByteSize,
    /// Age of the oldest live span at which a flush begins.
    #[serde(with = "crate::duration")]
    pub flush_age: Duration,
    /// Bytes of spans live or being flushed; past it ingest is refused, to be retried.
    pub memory_limit: ByteSize,
    /// Time window of one fresh file.
    #[serde(with = "crate::duration")]
    pub window: Duration,
}

impl Default for Live {
    fn default() -> Self {
        Self { flush_size: ByteSize::mib(96), flush_age: minutes(5), memory_limit: ByteSize::mib(256), window: hours(1) }
    }
}

impl Live {
    pub(crate) fn validate(&self) -> Checked {
        size("live.flush_size", self.flush_size, ByteSize::mib(1)..=ByteSize::gib(64))?;
        time("live.flush_age", self.flush_age, seconds(1)..=hours(24))?;
        let twice = ByteSize::bytes(self.flush_size.as_u64() * 2);
        let allowed = format!("at least twice live.flush_size ({twice})");
        require(self.memory_limit >= twice, "live.memory_limit", self.memory_limit, allowed)?;
        let seconds_in_window = self.window.as_secs();
        let divides = self.window.subsec_nanos() == 0 && seconds_in_window >= 60 && 86_400 % seconds_in_window == 0;
        require(divides, "live.window", duration::display(self.window), "1m to 24h, and a divisor of 24h")
    }
}

/// The append-only file of received requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Size of a segment at which the next begins and a flush is started.
    pub segment_size: ByteSize,
}

impl Default for Journal {
    fn default() -> Self {
        Self { segment_size: ByteSize::mib(512) }
    }
}

impl Journal {
    pub(crate) fn validate(&self, max_request_size: ByteSize) -> Checked {
        size("journal.segment_size", self.segment_size, ByteSize::mib(1)..=ByteSize::gib(64))?;
        let allowed = format!("at least otlp.max_request_size ({max_request_size})");
        require(self.segment_size >= max_request_size, "journal.segment_size", self.segment_size, allowed)
    }
}
