//! TraceQL.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ast;
mod attribute;
mod dialect;
mod error;
mod eval;
mod lexer;
pub mod limits;
mod parser;
mod text;
mod token;
mod types;
mod value;

pub use ast::{
    Aggregate, Arithmetic, Body, Comparison, FieldExpr, Form, Function, Hint, Literal, MetricsQuery, Pattern, Pipeline, Query,
    Relation, ScalarFilter, SeriesExpr, SeriesStage, SpansetExpr, SpansetOp, Stage,
};
pub use attribute::{Attribute, Intrinsic, Named, Scope};
pub use error::{Error, ErrorKind};
pub use eval::EvalError;
pub use value::{Array, Kind, Status, Value};
