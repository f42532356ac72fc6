//! The whole configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    Api, Compaction, ConfigError, Ingest, Journal, Live, Log, Otlp, Query, Retention, Storage,
    limits::{Checked, apart, require},
};

/// All settings, checked. `config/meshlake.yaml` documents each key with default, unit and limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the journal and, unless `storage.url` says otherwise, of the Parquet files.
    pub data_dir: PathBuf,
    /// OTLP receivers.
    pub otlp: Otlp,
    /// Admission, decoding, identity.
    pub ingest: Ingest,
    /// Spans in memory.
    pub live: Live,
    /// The journal.
    pub journal: Journal,
    /// The object store.
    pub storage: Storage,
    /// Merging fresh files into the lake.
    pub compaction: Compaction,
    /// How long spans are kept.
    pub retention: Retention,
    /// The HTTP API.
    pub api: Api,
    /// Queries.
    pub query: Query,
    /// The log.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "./meshlake-data".into(),
            otlp: Otlp::default(),
            ingest: Ingest::default(),
            live: Live::default(),
            journal: Journal::default(),
            storage: Storage::default(),
            compaction: Compaction::default(),
            retention: Retention::default(),
            api: Api::default(),
            query: Query::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    /// Checks every limit, also those across keys. [`Config::load`] has done so already; the source that the error
    /// names is only known there.
    ///
    /// # Errors
    /// The first setting outside its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        Ok(self.checked()?)
    }

    pub(crate) fn checked(&self) -> Checked {
        require(!self.data_dir.as_os_str().is_empty(), "data_dir", "", "the path of a folder")?;
        self.otlp.validate()?;
        self.ingest.validate(self.otlp.max_request_size)?;
        self.live.validate()?;
        self.journal.validate(self.otlp.max_request_size)?;
        self.storage.validate()?;
        self.compaction.validate()?;
        self.retention.validate(self.query.timeout, self.compaction.interval)?;
        self.api.validate()?;
        apart("api.listen", self.api.listen, "otlp.grpc_listen", self.otlp.grpc_listen)?;
        apart("api.listen", self.api.listen, "otlp.http_listen", self.otlp.http_listen)?;
        if let Some(listen) = self.api.grpc_listen {
            apart("api.grpc_listen", listen, "api.listen", self.api.listen)?;
            apart("api.grpc_listen", listen, "otlp.grpc_listen", self.otlp.grpc_listen)?;
            apart("api.grpc_listen", listen, "otlp.http_listen", self.otlp.http_listen)?;
        }
        self.query.validate()?;
        self.log.validate()
    }

    /// The settings as YAML, secrets masked: what `--print-config` prints.
    ///
    /// # Errors
    /// A value that YAML cannot express, such as a path that is not UTF-8.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        serde_saphyr::to_string(self).map_err(|error| ConfigError::Print(error.to_string()))
    }
}
