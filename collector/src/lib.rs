//! OTLP in: from the bytes of a connection to durable rows, and the answer.
//!
//! # Why
//! Proxies send many small requests, uncompressed, and never retry: what is refused is lost, so the way to the
//! acknowledgement must be short. It is: no struct and no string a span, no message built to be taken apart again, one fsync
//! for all requests that wait.
//!
//! ```text
//! server      connections, their number, age and streams; authority: what Envoy writes there, mended
//! grpc, otlp_http   one frame or body, its size, encoding and tenant        } on the I/O threads
//! admission   bytes of requests in memory                                   }
//!    -> meshlake-storage: journal, fsync
//! decode      decompress, JSON to protobuf                                  } on the decode threads
//! spans       protobuf -> columns; context: resource and scope, once each   }
//! room, nested   what a request may become, and values that stay protobuf   }
//! identity, failure   who the span is of, and whether it failed             }
//! ```
//!
//! # Promises
//! - P1: success is answered when the request is fsynced and queryable, never before.
//! - P5: what the columns hold reads back as the OTLP that came. Text that is no UTF-8 is the exception: it is repaired.
//! - P6: sizes before and after decompression, streams, connections, bytes in memory: each limit answers with its setting's
//!   name, and with the code that OTLP 1.11 gives it: retryable only where trying again can help.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod admission;
mod authority;
mod body;
mod compression;
mod context;
mod decode;
mod failure;
mod grpc;
mod identity;
mod json;
mod keys;
mod metrics;
mod nested;
mod otlp_http;
mod receiver;
mod room;
mod server;
mod spans;
mod value;
mod wire;

pub use decode::Decoder;
pub use metrics::Metrics;
pub use receiver::Receiver;
pub use server::serve;
