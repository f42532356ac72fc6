//! What a query says. Only what can be answered has a form here; the parser turns everything else into an error.

mod field;
mod query;
mod series;
mod spanset;

pub use field::{Arithmetic, Comparison, FieldExpr, Literal, Pattern};
pub use query::{Body, Hint, Query};
pub use series::{Function, MetricsQuery, SeriesExpr, SeriesStage};
pub use spanset::{Aggregate, Form, Pipeline, Relation, ScalarFilter, SpansetExpr, SpansetOp, Stage};

/// How tightly an operator binds; the greater, the tighter. One order for spansets, fields and scalars (expr.y).
pub(crate) mod level {
    pub(crate) const LOGIC: u8 = 1;
    pub(crate) const COMPARISON: u8 = 2;
    pub(crate) const SUM: u8 = 3;
    pub(crate) const NOT: u8 = 4;
    pub(crate) const PRODUCT: u8 = 5;
    pub(crate) const POWER: u8 = 6;
    pub(crate) const PRIMARY: u8 = 7;
}
