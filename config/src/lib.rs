//! Typed configuration: what may be set, what it defaults to, and which values are allowed.
//!
//! Every other crate takes its settings as plain typed values from here, so none of them reads a file, a variable or a
//! flag, and a wrong setting is found before anything else starts.
//!
//! ```text
//! defaults  <  YAML file (--config)  <  environment (MESHLAKE_OTLP__GRPC_LISTEN)  <  flags (--data-dir)
//!                                  \            |            /
//!                                   one tree, each key with its source
//!                                               |
//!                                 Config (unknown keys refused, limits checked)
//! ```
//!
//! Two promises: a wrong key, type or value stops the start with an error that carries the key's path, what was found,
//! what is allowed and where it was set; and a [`Secret`] never appears in that error, in a log or in a printed
//! configuration.
//!
//! `config/meshlake.yaml` documents each key; a test holds it equal to [`Config::default`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod api;
mod bytes;
mod cli;
mod cluster_range;
mod config;
mod duration;
mod error;
mod ingest;
mod lake;
mod limits;
mod live;
mod load;
mod log;
mod otlp;
mod query;
mod secret;
mod sources;
mod storage;
mod tenant;

pub use api::Api;
pub use bytes::ByteSize;
pub use cli::{Cli, Command};
pub use cluster_range::ClusterRange;
pub use config::Config;
pub use error::{ConfigError, KeyError, Source};
pub use ingest::{ClusterSource, Ingest};
pub use lake::{Compaction, Retention, TenantRetention};
pub use live::{Journal, Live};
pub use log::{Log, LogFormat};
pub use otlp::Otlp;
pub use query::Query;
pub use secret::Secret;
pub use storage::{S3, Storage};
pub use tenant::{Tenant, TenantError};
