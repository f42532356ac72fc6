//! Why the process could not start or go on, and its exit code.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use meshlake_config::ConfigError;
use meshlake_query::QueryError;
use meshlake_storage::{LakeError, OpenError};
use thiserror::Error;

/// Why the process ends.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{setting}: {address} is in use by another process; stop it or set another address")]
    PortInUse { setting: &'static str, address: SocketAddr },
    #[error("{setting}: can't listen on {address}: {source}")]
    Listen { setting: &'static str, address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("can't use {place}, where files are kept: {source}; look at storage.url and data_dir")]
    Objects { place: String, source: Box<dyn Error + Send + Sync> },
    #[error("can't start the query engine: {0}")]
    Query(#[from] QueryError),
    #[error("can't sum hops: {0}")]
    Rollups(Box<dyn Error + Send + Sync>),
    #[error("can't compact: {0}")]
    Compact(#[from] LakeError),
    #[error("{0} things are wrong with the data; see above")]
    Damaged(usize),
    #[error("can't start: {0}")]
    Io(#[from] io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Config(_) => 2,
            Failure::PortInUse { .. } => 3,
            Failure::Open(OpenError::InUse(_)) => 5,
            Failure::Damaged(_) => 6,
            Failure::Open(_) | Failure::Objects { .. } => 4,
            Failure::Listen { .. } | Failure::Query(_) | Failure::Rollups(_) | Failure::Compact(_) | Failure::Io(_) => 1,
        })
    }
}
