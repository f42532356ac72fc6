//! Settings of the log.

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::limits::{Checked, require};

/// What is logged and how, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, or several `target=level` with commas between (syntax of tracing's `EnvFilter`).
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl Log {
    pub(crate) fn validate(&self) -> Checked {
        // EnvFilter takes a bare unknown word for a target, so `verbose` would silently log nothing.
        let words = self.level.split(',').map(str::trim).filter(|part| !part.contains(['=', '[']));
        let levels_known = words.into_iter().all(|word| word.parse::<LevelFilter>().is_ok());
        let ok = levels_known && EnvFilter::builder().parse(&self.level).is_ok();
        require(ok, "log.level", &self.level, "off, error, warn, info, debug, trace, or target=level with commas between")
    }
}
