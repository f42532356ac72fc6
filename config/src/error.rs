//! Why a configuration is refused.

use std::{fmt, io, path::PathBuf};

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the built-in default.
    Default,
    /// The YAML file.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name, dashes included.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(out, "the default"),
            Self::File(path) => write!(out, "file {}", path.display()),
            Self::Environment(name) => write!(out, "environment variable {name}"),
            Self::Flag(name) => write!(out, "flag {name}"),
        }
    }
}

/// One wrong key, type or value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrong setting `{key}` ({source_of_value}): found {found}, allowed is {allowed}")]
pub struct KeyError {
    /// Path of the key, `otlp.grpc_listen`.
    pub key: String,
    /// What stands there; masked if the key is a secret.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
    /// Where it was set.
    pub source_of_value: Source,
}

/// A configuration that cannot be used; the start stops with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file {}: {error}; check the path given with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        error: io::Error,
    },
    /// The file is no YAML mapping; `reason` has line and column.
    #[error("cannot parse configuration file {} as YAML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A key, type or value is wrong.
    #[error(transparent)]
    Key(#[from] Box<KeyError>),
    /// The effective configuration cannot be printed.
    #[error("cannot print the configuration as YAML: {0}")]
    Print(String),
}
