//! Structured logs on standard error.

use std::io::{self, IsTerminal};

use meshlake_config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts logging. The level was checked with the configuration. What cannot be written is lost: telling so on the same
/// stream would fail too, and panic.
pub(crate) fn start(log: &Log) {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&log.level))
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}
