use std::fmt;
use std::str::FromStr;

use super::field::Literal;
use super::series::SeriesExpr;
use super::spanset::{Pipeline, separated};
use crate::attribute::Named;
use crate::error::Error;

/// A query: `"{ status = error } | rate()".parse()`. It is valid; it prints as a text that is parsed to the same query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What is asked.
    pub body: Body,
    /// `with(most_recent=true)`, in their order.
    pub hints: Vec<Hint>,
    /// The attributes that it names, each once; [`Named::slot`] is their place.
    pub attributes: Vec<Named>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Spans of traces.
    Search(Pipeline),
    /// Series of numbers.
    Metrics(SeriesExpr),
}

/// A wish of how to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Literal,
}

impl Query {
    /// The value of a hint; of the last, if there are several.
    pub fn hint(&self, name: &str) -> Option<&Literal> {
        self.hints.iter().rev().find(|hint| hint.name == name).map(|hint| &hint.value)
    }
}

impl FromStr for Query {
    type Err = Error;

    fn from_str(text: &str) -> Result<Query, Error> {
        crate::parser::parse(text)
    }
}

impl fmt::Display for Query {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Search(pipeline) => pipeline.fmt(out)?,
            Body::Metrics(series) => series.fmt(out)?,
        }
        if self.hints.is_empty() {
            return Ok(());
        }
        out.write_str(" with(")?;
        separated(&self.hints, ", ", out)?;
        out.write_str(")")
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}={}", self.name, self.value)
    }
}
