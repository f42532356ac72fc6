//! Settings of the HTTP API.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize,
    limits::{Checked, size},
};

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Address of the API, of health and of metrics.
    pub listen: SocketAddr,
    /// A second address of the same, for clients that want a port of its own for gRPC.
    pub grpc_listen: Option<SocketAddr>,
    /// Largest request body.
    pub max_body_size: ByteSize,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 3200)), grpc_listen: None, max_body_size: ByteSize::mib(1) }
    }
}

impl Api {
    pub(crate) fn validate(&self) -> Checked {
        size("api.max_body_size", self.max_body_size, ByteSize::kib(1)..=ByteSize::gib(1))
    }
}
