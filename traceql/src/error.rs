use thiserror::Error;

/// Why a text is no query. Its message says where, what was expected, and what stands there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("parse error at line {line}, col {column}: {what}")]
pub struct Error {
    /// What is wrong in general.
    pub kind: ErrorKind,
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// What was expected and what was found.
    pub what: String,
}

/// What is wrong with a query in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It does not follow the grammar.
    Syntax,
    /// An operator or function is given what it cannot work on.
    Type,
    /// It follows the grammar, but neither Tempo nor we answer it.
    Unsupported,
    /// It is larger than a limit of [`crate::limits`].
    Limit,
}

impl Error {
    /// An error at a byte of a text.
    pub(crate) fn at(text: &str, offset: usize, kind: ErrorKind, what: String) -> Error {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).map_or(0, |line| line.chars().count()) + 1;
        Error { kind, line, column, what }
    }
}
