use std::borrow::Cow;
use std::fmt;

use regex::Regex;

use super::level;
use crate::attribute::Attribute;
use crate::text::Quoted;
use crate::value::{Kind, Status, Value};

/// An expression over one span.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldExpr {
    /// A constant.
    Literal(Literal),
    /// What a span has.
    Attribute(Attribute),
    /// `!x`. Whatever is not a boolean fails the query.
    Not(Box<FieldExpr>),
    /// `-x`, if x is no number. Whatever is not a number fails the query.
    Negate(Box<FieldExpr>),
    /// `x != nil`
    Exists(Box<FieldExpr>),
    /// `x = nil`
    Absent(Box<FieldExpr>),
    /// `x && y && z`: whether all are true. At least two, none of them such a chain again unless it stands in the middle of one.
    And(Vec<FieldExpr>),
    /// `x || y || z`: whether any is true; as above.
    Or(Vec<FieldExpr>),
    /// `x < y`
    Compare {
        /// How.
        op: Comparison,
        /// What.
        left: Box<FieldExpr>,
        /// With what.
        right: Box<FieldExpr>,
    },
    /// `x =~ "…"`, `x !~ "…"`
    Match {
        /// What.
        value: Box<FieldExpr>,
        /// Whether it must not match.
        negated: bool,
        /// The regular expression.
        pattern: Pattern,
    },
    /// `x + y`
    Arithmetic {
        /// How.
        op: Arithmetic,
        /// What.
        left: Box<FieldExpr>,
        /// With what.
        right: Box<FieldExpr>,
    },
}

/// A constant in a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `true`, `false`
    Bool(bool),
    /// `42`
    Int(i64),
    /// `4.2`
    Float(f64),
    /// `100ms`, in nanoseconds.
    Duration(i64),
    /// `error`
    Status(Status),
    /// `server`
    Kind(Kind),
    /// `"shop"`
    Text(String),
}

impl Literal {
    /// As a value.
    pub fn value(&self) -> Value<'_> {
        match self {
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Int(value) => Value::Int(*value),
            Literal::Float(value) => Value::Float(*value),
            Literal::Duration(value) => Value::Duration(*value),
            Literal::Status(value) => Value::Status(*value),
            Literal::Kind(value) => Value::Kind(*value),
            Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
        }
    }

    fn is_negative(&self) -> bool {
        match self {
            Literal::Int(value) | Literal::Duration(value) => *value < 0,
            Literal::Float(value) => value.is_sign_negative(),
            _ => false,
        }
    }
}

/// A regular expression of Go's dialect (RE2) that matches whole texts, newlines included.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As it was written.
    pub source: String,
    /// Anchored at both ends, in Rust's dialect.
    pub regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

/// How values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Comparison {
    /// All, as queries write them.
    pub(crate) const SYMBOLS: [(&'static str, Comparison); 6] = [
        ("=", Comparison::Eq),
        ("!=", Comparison::Ne),
        ("<", Comparison::Lt),
        ("<=", Comparison::Le),
        (">", Comparison::Gt),
        (">=", Comparison::Ge),
    ];

    /// The same with its sides exchanged.
    pub fn flipped(self) -> Comparison {
        match self {
            Comparison::Lt => Comparison::Gt,
            Comparison::Le => Comparison::Ge,
            Comparison::Gt => Comparison::Lt,
            Comparison::Ge => Comparison::Le,
            same => same,
        }
    }
}

/// How numbers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`, from right to left
    Pow,
}

impl Arithmetic {
    /// All, as queries write them.
    pub(crate) const SYMBOLS: [(&'static str, Arithmetic); 6] = [
        ("+", Arithmetic::Add),
        ("-", Arithmetic::Sub),
        ("*", Arithmetic::Mul),
        ("/", Arithmetic::Div),
        ("%", Arithmetic::Mod),
        ("^", Arithmetic::Pow),
    ];

    pub(crate) fn level(self) -> u8 {
        match self {
            Arithmetic::Add | Arithmetic::Sub => level::SUM,
            Arithmetic::Mul | Arithmetic::Div | Arithmetic::Mod => level::PRODUCT,
            Arithmetic::Pow => level::POWER,
        }
    }
}

macro_rules! display_by_symbol {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str($name::SYMBOLS.iter().find(|(_, op)| op == self).map_or("", |(symbol, _)| symbol))
            }
        }
    )*};
}
display_by_symbol!(Comparison, Arithmetic);

impl fmt::Display for Literal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Int(i64::MIN) => out.write_str("minInt"),
            literal => literal.value().fmt(out),
        }
    }
}

impl FieldExpr {
    fn level(&self) -> u8 {
        match self {
            FieldExpr::Literal(literal) if literal.is_negative() => level::SUM,
            FieldExpr::Literal(_) | FieldExpr::Attribute(_) => level::PRIMARY,
            FieldExpr::Not(_) => level::NOT,
            FieldExpr::Negate(_) => level::SUM,
            FieldExpr::And(_) | FieldExpr::Or(_) => level::LOGIC,
            FieldExpr::Exists(_) | FieldExpr::Absent(_) | FieldExpr::Compare { .. } | FieldExpr::Match { .. } => level::COMPARISON,
            FieldExpr::Arithmetic { op, .. } => op.level(),
        }
    }

    /// In brackets if it binds less tightly than this.
    fn at(&self, level: u8) -> Bracketed<'_> {
        Bracketed { expr: self, brackets: self.level() < level }
    }
}

struct Bracketed<'a> {
    expr: &'a FieldExpr,
    brackets: bool,
}

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.brackets { write!(out, "({})", self.expr) } else { self.expr.fmt(out) }
    }
}

fn chain(exprs: &[FieldExpr], symbol: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, expr) in exprs.iter().enumerate() {
        if index > 0 {
            write!(out, " {symbol} ")?;
        }
        // The first may be a chain of the other operator: both are of one level, from left to right.
        let least = if index == 0 { level::LOGIC } else { level::COMPARISON };
        write!(out, "{}", expr.at(least))?;
    }
    Ok(())
}

/// Canonical: reads back as the same expression, with no more brackets than needed.
impl fmt::Display for FieldExpr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const AFTER: u8 = level::COMPARISON + 1;
        match self {
            FieldExpr::Literal(literal) => literal.fmt(out),
            FieldExpr::Attribute(attribute) => attribute.fmt(out),
            FieldExpr::Not(expr) => write!(out, "!{}", expr.at(level::NOT)),
            FieldExpr::Negate(expr) => write!(out, "-{}", expr.at(level::NOT)),
            FieldExpr::Exists(expr) => write!(out, "{} != nil", expr.at(level::COMPARISON)),
            FieldExpr::Absent(expr) => write!(out, "{} = nil", expr.at(level::COMPARISON)),
            FieldExpr::And(exprs) => chain(exprs, "&&", out),
            FieldExpr::Or(exprs) => chain(exprs, "||", out),
            FieldExpr::Compare { op, left, right } => write!(out, "{} {op} {}", left.at(level::COMPARISON), right.at(AFTER)),
            FieldExpr::Match { value, negated, pattern } => {
                let op = if *negated { "!~" } else { "=~" };
                write!(out, "{} {op} {}", value.at(level::COMPARISON), Quoted(&pattern.source))
            }
            FieldExpr::Arithmetic { op, left, right } => {
                let level = op.level();
                let (before, after) = if *op == Arithmetic::Pow { (level + 1, level) } else { (level, level + 1) };
                write!(out, "{} {op} {}", left.at(before), right.at(after))
            }
        }
    }
}
