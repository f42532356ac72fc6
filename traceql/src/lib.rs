//! TraceQL.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ast;
mod attribute;
mod conditions;
mod dialect;
mod error;
mod eval;
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
pub use conditions::{Conditions, Predicate, Test, TracePredicate};
pub use error::{Error, ErrorKind};
pub use eval::{EvalError, Spanset, View, evaluate};
pub use metrics::{Accumulator, Exemplar, Grid, GridError, MetricsAnswer, MetricsLimits, Series};
pub use trace::{Event, Link, Owner, SpanFacts, Trace};
pub use value::{Array, Kind, Status, Value};
