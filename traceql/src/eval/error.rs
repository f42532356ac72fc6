use thiserror::Error;

use crate::limits::PAIRS_MAX;

/// Why a query fails on a trace, although it is valid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvalError {
    /// What `!` stands before is not a boolean.
    #[error("`!{expr}` needs a boolean, but a span has {found}")]
    NotBool {
        /// What `!` stands before.
        expr: String,
        /// What a span has.
        found: String,
    },
    /// What `-` stands before is not a number.
    #[error("`-{expr}` needs a number, but a span has {found}")]
    NotNumber {
        /// What `-` stands before.
        expr: String,
        /// What a span has.
        found: String,
    },
    /// An integer is divided by zero.
    #[error("an integer is divided by zero")]
    DivisionByZero,
    /// Arrays are compared with each other, or computed with.
    #[error("an array can be compared with a single value only")]
    Arrays,
    /// A span has too many events and links to try them with each other.
    #[error("a span has more than {PAIRS_MAX} pairs of an event and a link")]
    Pairs,
    /// A structural operator is given several spansets.
    #[error("spanset operators are not supported for multiple spansets per trace. consider using coalesce()")]
    ManySpansets,
}
