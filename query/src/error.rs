//! Why a query has no answer.

use std::error::Error;
use std::time::Duration;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

/// Why a query has no answer. The text is for the person who asked; [`QueryError::Internal`] alone is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The question is wrong: a parse error, an unknown column, a statement that is not a read.
    #[error("{message}")]
    Invalid {
        /// What is wrong, in words for the person who asked.
        message: String,
    },
    /// The answer has more rows than one answer may have. Rows before the limit were given.
    #[error("the answer has more than {limit} rows, the limit of {setting}; add LIMIT, aggregate, or narrow the time range")]
    TooManyRows {
        /// Rows allowed.
        limit: u64,
        /// The setting that says so.
        setting: &'static str,
    },
    /// The running queries together need more memory than they may use.
    #[error(
        "the query needs more memory than is left of {limit} bytes, the limit of {setting}; narrow the time range, group by fewer values, or try again when fewer queries run"
    )]
    OutOfMemory {
        /// Bytes for all queries together.
        limit: u64,
        /// The setting that says so.
        setting: &'static str,
    },
    /// The deadline passed: waiting for a turn, planning, running and streaming the rows all count.
    #[error("the query took longer than {limit:?}, the limit of {setting}; narrow the time range")]
    Timeout {
        /// Time allowed.
        limit: Duration,
        /// The setting that says so.
        setting: &'static str,
    },
    /// Something is broken on the server's side.
    #[error("the query failed: {0}")]
    Internal(String),
}

pub(crate) const MAX_ROWS_SETTING: &str = "query.max_rows";
pub(crate) const MEMORY_SETTING: &str = "query.memory_limit";
pub(crate) const TIMEOUT_SETTING: &str = "query.timeout";

impl QueryError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        QueryError::Invalid { message: message.into() }
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        QueryError::Internal(error.to_string())
    }

    /// Tells the user's mistakes, exhausted limits and server faults apart. `memory_limit` in bytes.
    pub(crate) fn classify(error: &DataFusionError, memory_limit: u64) -> Self {
        if let Some(own) = find_own(error) {
            return own.clone();
        }
        let root = error.find_root();
        match root {
            DataFusionError::ResourcesExhausted(_) => QueryError::OutOfMemory { limit: memory_limit, setting: MEMORY_SETTING },
            DataFusionError::Plan(_)
            | DataFusionError::SQL(..)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::Execution(_) => QueryError::invalid(user_text(root)),
            DataFusionError::ArrowError(arrow, _) if is_of_the_values(arrow) => QueryError::invalid(user_text(root)),
            _ => QueryError::internal(error.strip_backtrace()),
        }
    }
}

/// An error of our own that travelled through DataFusion.
fn find_own(error: &DataFusionError) -> Option<&QueryError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(own) = current.downcast_ref::<QueryError>() {
            return Some(own);
        }
        next = current.source();
    }
    None
}

/// Arrow errors that come from what the query does with its values: a cast, a division, an overflow.
fn is_of_the_values(error: &ArrowError) -> bool {
    matches!(
        error,
        ArrowError::CastError(_)
            | ArrowError::ParseError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::InvalidArgumentError(_)
    )
}

/// DataFusion's message without its prefixes ("Error during planning: ") and backtraces.
fn user_text(error: &DataFusionError) -> String {
    let text = error.message().into_owned();
    let text = text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().trim().trim_end_matches('.');
    let text = text.strip_prefix("ParserError(\"").and_then(|rest| rest.strip_suffix("\")")).unwrap_or(text);
    // Before its list of candidates stands why each did not fit, as errors "of a bug".
    let text = text.find("No function matches").map_or(text, |at| &text[at..]);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !letters.as_str().starts_with(char::is_uppercase) => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

impl From<ParquetError> for QueryError {
    fn from(error: ParquetError) -> Self {
        QueryError::internal(format!("read a Parquet file: {error}"))
    }
}

impl From<ArrowError> for QueryError {
    fn from(error: ArrowError) -> Self {
        QueryError::internal(format!("compute over spans: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: errors of the planner, the parser and the memory pool, wrapped as DataFusion wraps them.
    /// Guarantee: each becomes the kind its cause has, with the message a user can act on and no prefix.
    #[test]
    fn errors_are_classified_by_their_root() {
        let plan = DataFusionError::Plan("No field named foo.".to_owned()).context("type_coercion");
        assert_eq!(QueryError::classify(&plan, 1), QueryError::invalid("no field named foo"));
        let memory = DataFusionError::ResourcesExhausted("no".to_owned()).context("sort");
        assert_eq!(QueryError::classify(&memory, 7), QueryError::OutOfMemory { limit: 7, setting: MEMORY_SETTING });
        let rows = QueryError::TooManyRows { limit: 3, setting: MAX_ROWS_SETTING };
        let own = DataFusionError::External(Box::new(rows.clone())).context("stream");
        assert_eq!(QueryError::classify(&own, 1), rows);
        let broken = DataFusionError::Internal("bug".to_owned());
        assert!(matches!(QueryError::classify(&broken, 1), QueryError::Internal(_)));
    }
}
