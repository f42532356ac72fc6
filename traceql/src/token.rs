use std::fmt;

use crate::attribute::{Intrinsic, Scope};
use crate::text::{Quoted, duration};

/// What a text is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind<'q> {
    /// An operator or a bracket.
    Symbol(&'static str),
    /// A keyword, or the name of a hint.
    Word(&'q str),
    /// `"…"`, or `…` in backquotes.
    Text(String),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    /// `span.x`
    Attribute(Scope, String),
    /// `parent.x`
    ParentAttribute,
    /// `span:duration`
    Intrinsic(Intrinsic),
    End,
}

#[derive(Clone, Debug)]
pub(crate) struct Token<'q> {
    pub kind: TokenKind<'q>,
    /// Where it begins, in bytes.
    pub at: usize,
}

impl TokenKind<'_> {
    pub(crate) fn is(&self, symbol: &str) -> bool {
        matches!(self, TokenKind::Symbol(own) if *own == symbol)
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self, TokenKind::Word(own) if *own == word)
    }
}

/// As an error shows it.
impl fmt::Display for TokenKind<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenKind::Symbol(symbol) => write!(out, "`{symbol}`"),
            TokenKind::Word(word) => write!(out, "`{word}`"),
            TokenKind::Text(text) => write!(out, "{}", Quoted(text)),
            TokenKind::Int(value) => write!(out, "`{value}`"),
            TokenKind::Float(value) => write!(out, "`{value:?}`"),
            TokenKind::Duration(value) => write!(out, "`{}`", duration(*value)),
            TokenKind::Attribute(scope, name) => write!(out, "`{scope}.{name}`"),
            TokenKind::ParentAttribute => out.write_str("`parent.`"),
            TokenKind::Intrinsic(intrinsic) => write!(out, "`{}`", intrinsic.name()),
            TokenKind::End => out.write_str("the end"),
        }
    }
}
