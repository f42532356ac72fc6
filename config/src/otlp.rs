//! Settings of the OTLP receivers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize,
    limits::{Checked, apart, hours, minutes, number, seconds, size, time},
};

/// The OTLP receivers: listeners and the limits of requests and connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Address of OTLP over gRPC.
    pub grpc_listen: SocketAddr,
    /// Address of OTLP over HTTP.
    pub http_listen: SocketAddr,
    /// Largest request, before and after decompression.
    pub max_request_size: ByteSize,
    /// Concurrent requests of one HTTP/2 connection.
    pub max_streams_per_connection: u32,
    /// Open connections on each listener; more wait to be accepted.
    pub max_connections: u32,
    /// Age at which a connection is closed in good order, so that clients spread again over several collectors.
    #[serde(with = "crate::duration")]
    pub max_connection_age: Duration,
    /// Time between HTTP/2 keep-alive pings.
    #[serde(with = "crate::duration")]
    pub keepalive_interval: Duration,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            grpc_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4317)),
            http_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4318)),
            max_request_size: ByteSize::mib(64),
            max_streams_per_connection: 256,
            max_connections: 4096,
            max_connection_age: minutes(30),
            keepalive_interval: seconds(30),
        }
    }
}

impl Otlp {
    /// The largest value of [`Otlp::max_request_size`].
    pub const MAX_REQUEST_SIZE: ByteSize = ByteSize::gib(1);

    pub(crate) fn validate(&self) -> Checked {
        apart("otlp.http_listen", self.http_listen, "otlp.grpc_listen", self.grpc_listen)?;
        size("otlp.max_request_size", self.max_request_size, ByteSize::kib(1)..=Self::MAX_REQUEST_SIZE)?;
        number("otlp.max_streams_per_connection", self.max_streams_per_connection, 1..=10_000)?;
        number("otlp.max_connections", self.max_connections, 1..=1_000_000)?;
        time("otlp.max_connection_age", self.max_connection_age, seconds(10)..=hours(24 * 365))?;
        time("otlp.keepalive_interval", self.keepalive_interval, seconds(1)..=hours(1))
    }
}
