//! From the spans of a trace to its hops: who asked whom, how long it took, and how it ended.
//!
//! # Why
//! A request between two services of a mesh is described by one to four spans: of two proxies and two SDKs, under names that
//! differ, and any of them may be late, lost, copied or not written at all. Matching pairs of them as they pass by counts
//! requests twice, loses gateways and waypoints, and answers differently with each order. So the hops are a pure function H of
//! the set of a trace's spans, with no clock; its rules are numbered, and each has a file of its own and a drawing in
//! `docs/service-graph.md`.
//!
//! ```text
//! spans -> R0 set -> R1 parent -> R2 node -> R3 crossing -> R4 entry ─┐
//!          copies    the tree     whose      which links    asked     ├-> R6 answer -> R7, R8 hops
//!                                 it is      are requests   R5 exit  ─┘
//!                                                           asks
//! ```
//!
//! Beside H stand the numbers that are made of hops: [`Histogram`] of latencies, [`Tally`] of sampled requests, their sums over
//! many traces ([`rollup`]), and whether two such numbers differ by more than chance ([`rates_differ`], [`shares_differ`],
//! [`QuantileTest`], [`adjust`]); and those that are made of spans alone: their sums ([`span_rollup`]), and traces in a few numbers
//! ([`trace_summary`]). And what else the rules R0 to R6 settle is good for: [`CriticalPath`], what an end-to-end time consists of,
//! and [`Work`], of which [`Propagation`] tells who drops the context of its requests.
//!
//! # Promises
//! - P3: one truth. Whoever needs hops, for a rollup or on the fly, gets them from [`TraceHops`]; histograms and tallies are
//!   integers, merged exactly.
//! - P4: order does not matter. H, histograms and tallies are functions of sets.
//! - P6: [`SPANS_MAX`] spans are taken at once, in `O(n log n)`; what is left out is counted.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod estimate;
mod flags;
mod histogram;
mod hop;
mod host;
mod node;
mod path;
mod poisson;
mod propagation;
pub mod rollup;
mod rules;
mod significance;
mod span;
pub mod span_rollup;
pub mod trace_summary;
mod upstream;
mod varint;
mod weight;
mod work;
mod worker;

pub use estimate::{Estimate, Tally};
pub use flags::Flags;
pub use histogram::{Bucket, DecodeError, Grid, Histogram};
pub use hop::{Direction, ErrorClass, Hop, Key, Report, Via};
pub use node::{Node, NodeKind};
pub use path::{Class, CriticalPath, Segment};
pub use propagation::{Confidence, Propagation};
pub use significance::{QuantileTest, Rate, Share, Shift, adjust, rates_differ, shares_differ};
pub use span::{End, Link, Resource, Role, Side, Span, SpanKind};
pub use weight::WEIGHT_ONE;
pub use work::{Asked, Work};
pub use worker::{SPANS_MAX, Summary, TraceHops};
