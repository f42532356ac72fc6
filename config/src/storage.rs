//! Settings of the place where Parquet files are kept.

use serde::{Deserialize, Serialize};

use crate::{
    Secret,
    limits::{Checked, require, without_credentials},
};

/// Where all files but the journal are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Empty: `<data_dir>/store`; else a folder's path, `file://…`, or `s3://bucket/prefix`.
    pub url: String,
    /// Access to an S3-compatible store; used with an `s3://` url.
    pub s3: S3,
}

/// Access to an S3-compatible store. Empty texts are taken from the `AWS_*` environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// Address of the server, `https://…`.
    pub endpoint: String,
    /// Region of the bucket.
    pub region: String,
    /// Name of the access key.
    pub access_key_id: String,
    /// Secret of the access key.
    pub secret_access_key: Secret,
    /// Whether an `http://` endpoint may be used.
    pub allow_http: bool,
    /// Whether the bucket stands in the path (most servers) and not in the host name.
    pub path_style: bool,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: String::new(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            allow_http: false,
            path_style: true,
        }
    }
}

impl Storage {
    pub(crate) fn validate(&self) -> Checked {
        if self.url.contains("://") {
            without_credentials("storage.url", &self.url)?;
        }
        let usable = match self.url.split_once("://") {
            None => true,
            Some(("file", path)) => path.starts_with('/'),
            Some(("s3", rest)) => !rest.is_empty() && !rest.starts_with('/'),
            Some(_) => false,
        };
        let allowed = "empty, a folder's path, file:///path or s3://bucket/prefix";
        require(usable, "storage.url", &self.url, allowed)?;
        self.s3.validate()
    }
}

impl S3 {
    fn validate(&self) -> Checked {
        without_credentials("storage.s3.endpoint", &self.endpoint)?;
        let plain = self.endpoint.starts_with("http://");
        let url = self.endpoint.is_empty() || plain || self.endpoint.starts_with("https://");
        require(url, "storage.s3.endpoint", &self.endpoint, "empty, or an address that begins with https:// or http://")?;
        let allowed = "an https:// address, or http:// with storage.s3.allow_http: true";
        require(!plain || self.allow_http, "storage.s3.endpoint", &self.endpoint, allowed)?;
        let both = self.access_key_id.is_empty() == self.secret_access_key.is_empty();
        let allowed = "storage.s3.access_key_id and storage.s3.secret_access_key both set, or both empty";
        require(both, "storage.s3.secret_access_key", &self.secret_access_key, allowed)
    }
}
