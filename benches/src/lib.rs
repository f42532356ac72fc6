//! The load generator: proves what the server costs and that it keeps what it acknowledged.
//!
//! It sends OTLP over gRPC the way a mesh of Envoys does, and must cost far less CPU than the server it measures. So every
//! request is encoded once, at the start; sending one is a copy of its bytes with ids and times written over at known
//! offsets.
//!
//! ```text
//! mesh (services, depth, fan-out) \
//!                                   Traffic: one round of traces, spans by proxy
//! replay (a recorded stream)      /      |
//!                                        v
//!                         Requests: encoded, each span with its offsets  ---> verify: asks SQL for every span
//!                                        |   round 0, 1, 2, …: fresh ids, times moved to now
//!                                        v
//!                         Load: connections, in flight, rate  --->  Report: goodput, latency, CPU, memory
//! ```
//!
//! For figures of large stores, a history of a mesh goes straight into a store in this process: a graph of services
//! (topology), traces over it (walk), their spans (fleet), and the times that they would have (history).
//!
//! Ids are a pure function of the seed and a running number, and the number can be computed back from a span id. So all
//! that was sent can be checked without having been stored, also by another process after a crash.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod chance;
mod client;
mod fleet;
mod history;
mod ids;
mod load;
mod mesh;
mod process;
mod replay;
mod report;
mod requests;
mod rollups;
mod spans;
mod sql;
mod store;
mod tally;
mod topology;
mod verify;
mod walk;
mod wire;

pub use client::{Connection, Outcome};
pub use history::{History, Sent};
pub use ids::Ids;
pub use load::{Load, run};
pub use mesh::Shape;
pub use process::{Cpu, Process};
pub use replay::{recorded, replay};
pub use report::{Report, ServerReport};
pub use requests::Requests;
pub use rollups::TimedRollups;
pub use spans::{Lane, Traffic, TrafficSpan};
pub use sql::Sql;
pub use store::LocalStore;
pub use tally::{Refusal, Tally};
pub use topology::MeshSize;
pub use verify::{Counts, Verdict, counts, read_acked, verify};
