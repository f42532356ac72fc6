//! TraceQL, the query language of Grafana Tempo: what a text asks, and what a trace answers.
//!
//! # Why
//! Grafana, Kiali and people ask for traces in TraceQL. What it means is easily got wrong: which spans of a trace an operator answers with,
//! what is missing, which values compare. So the language is here on its own, without storage or engine: whoever keeps spans implements
//! [`Trace`], and skips what [`Query::conditions`] lets it skip. `docs/traceql.md` describes the language and where it differs from Tempo's.
//!
//! ```text
//! text -> lexer -> parser + types -> Query ─┬-> conditions: what may be skipped, what is read
//!                                           ├-> View(Trace).pipeline -> spansets       a search, trace by trace
//!                                           └-> Accumulator.add(Trace), merge, finish  series over time
//!                                               or add_alike(sums), if that is all it asks: Query::sums
//! ```
//!
//! ```
//! let query: meshlake_traceql::Query = "{ .http.status_code>=500 }|rate()by(name)".parse()?;
//! assert_eq!(query.to_string(), "{ .http.status_code >= 500 } | rate() by(name)");
//! let error = "{ status > 5 }".parse::<meshlake_traceql::Query>().unwrap_err();
//! assert_eq!((error.line, error.column), (1, 3));
//! # Ok::<(), meshlake_traceql::Error>(())
//! ```
//!
//! # Promises
//! - P3: one truth. Metrics count the spans that a search finds; quantiles come from the histogram of hops.
//! - P4: order does not matter. Spans are taken by (start, id); metrics of parts merge to those of the whole.
//! - P6: everything has a limit: see [`limits`]. A query is parsed and evaluated in a bounded depth, a trace in `O(n log n)`.
//! - P10: an answer from which series were left out says so.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ast;
mod attribute;
mod conditions;
mod dialect;
mod error;
mod eval;
mod lenient;
mod lexer;
pub mod limits;
mod metrics;
mod parser;
mod text;
mod token;
mod trace;
mod types;
mod value;

pub use ast::{
    Aggregate, Arithmetic, Body, Comparison, FieldExpr, Form, Function, Hint, Literal, MetricsQuery, Pattern, Pipeline, Query,
    Relation, ScalarFilter, SeriesExpr, SeriesStage, SpansetExpr, SpansetOp, Stage,
};
pub use attribute::{Attribute, Intrinsic, Named, Scope};
pub use conditions::{Conditions, Predicate, Reach, Shown, SumsNeeded, Test, TracePredicate};
pub use error::{Error, ErrorKind};
pub use eval::{EvalError, Spanset, View};
pub use metrics::{
    Accumulator, Alike, ComparedCount, ComparedSpans, ComparedTime, Exemplar, Grid, GridError, MetricsAnswer, MetricsLimits, Series,
};
pub use trace::{Event, InGraph, Link, Owner, SpanFacts, Trace};
pub use value::{Array, Kind, Status, Value};
