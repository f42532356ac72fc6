//! Numbers outside of `{…}`: constants, aggregates, and what is computed of them.

use super::node::{Located, Node};
use super::{Parsed, Parser};
use crate::ast::{Aggregate, Arithmetic, Comparison, Literal, ScalarFilter, SeriesExpr, SeriesStage};
use crate::error::ErrorKind;
use crate::parser::field::Typed;
use crate::token::TokenKind;

impl Parser<'_> {
    /// A number or an aggregate.
    pub(super) fn scalar_primary(&mut self) -> Parsed<Located> {
        let at = self.at();
        let node = match self.peek() {
            TokenKind::Int(value) => Node::Number(Literal::Int(*value)),
            TokenKind::Float(value) => Node::Number(Literal::Float(*value)),
            TokenKind::Duration(value) => Node::Number(Literal::Duration(*value)),
            TokenKind::Symbol("-") => {
                self.advance();
                return self.negative(at);
            }
            TokenKind::Word(word @ ("count" | "avg" | "min" | "max" | "sum")) => {
                let word = *word;
                self.advance();
                let aggregate = self.aggregate(word)?;
                return Ok(Located { node: Node::Aggregate(aggregate), at, height: 1 });
            }
            _ => return Err(self.expected("a spanset such as `{}`, a stage such as `by(…)`, a function or a number")),
        };
        self.advance();
        Ok(Located { node, at, height: 1 })
    }

    fn negative(&mut self, at: usize) -> Parsed<Located> {
        let of = self.nested(Self::scalar_primary_or_brackets)?;
        let Node::Number(number) = of.node else {
            return Err(self.error(of.at, ErrorKind::Syntax, format!("expected a number after `-`, found {}", of.node.what())));
        };
        let number = match number {
            Literal::Int(value) => Literal::Int(value.wrapping_neg()),
            Literal::Duration(value) => Literal::Duration(value.wrapping_neg()),
            Literal::Float(value) => Literal::Float(-value),
            other => other,
        };
        Ok(Located { node: Node::Number(number), at, height: of.height })
    }

    fn scalar_primary_or_brackets(&mut self) -> Parsed<Located> {
        if !self.take("(") {
            return self.scalar_primary();
        }
        let inner = self.expression(crate::ast::level::SUM)?;
        self.expect(")")?;
        Ok(inner)
    }

    fn aggregate(&mut self, word: &str) -> Parsed<Aggregate> {
        self.expect("(")?;
        if word == "count" {
            self.expect(")")?;
            return Ok(Aggregate::Count);
        }
        let of = self.reading_field(&format!("{word}(…)"))?;
        if !of.ty.is_number() {
            return Err(self.error(of.at, ErrorKind::Type, format!("expected a number in `{word}(…)`, found {}", of.ty)));
        }
        self.expect(")")?;
        Ok(match word {
            "avg" => Aggregate::Avg(of.expr),
            "min" => Aggregate::Min(of.expr),
            "max" => Aggregate::Max(of.expr),
            _ => Aggregate::Sum(of.expr),
        })
    }

    /// An expression that reads something of the span.
    pub(super) fn reading_field(&mut self, of: &str) -> Parsed<Typed> {
        let typed = self.field()?;
        if typed.reads {
            return Ok(typed);
        }
        Err(self.error(
            typed.at,
            ErrorKind::Type,
            format!("expected an expression of the span in `{of}`, found the constant `{}`", typed.expr),
        ))
    }

    /// A comparison that is not of spansets.
    pub(super) fn comparison(&mut self, op: Comparison, left: Located, right: Located, at: usize) -> Parsed<Located> {
        let (start, right_at, height) = (left.at, right.at, left.height.max(right.height) + 1);
        match (left.node, right.node) {
            (Node::Aggregate(aggregate), Node::Number(value)) => {
                Ok(Located { node: Node::Filter(ScalarFilter { aggregate, op, value }), at: start, height })
            }
            (Node::Series(series), node) => {
                let left = Located { node: Node::Series(series), at: start, height };
                self.series_filter(op, left, Located { node, at: right_at, height }, at)
            }
            (left, right) => {
                for (node, at) in [(&left, start), (&right, right_at)] {
                    if !matches!(node, Node::Number(_) | Node::Aggregate(_) | Node::Computed) {
                        let what = format!("expected a number or an aggregate beside `{op}`, found {}", node.what());
                        return Err(self.error(at, ErrorKind::Syntax, what));
                    }
                }
                Err(self.unsupported(at, "a comparison other than that of an aggregate with a number"))
            }
        }
    }

    /// `series > 5`
    pub(super) fn series_filter(&mut self, op: Comparison, series: Located, number: Located, at: usize) -> Parsed<Located> {
        let Node::Number(value) = number.node else {
            let what = format!("expected a number to compare series with, found {}", number.node.what());
            return Err(self.error(number.at, ErrorKind::Syntax, what));
        };
        let height = series.height.max(number.height);
        match series.node {
            Node::Series(input) => {
                let of = Located { node: Node::Computed, at: series.at, height };
                self.series_stage(input, SeriesStage::Filter(op, value), of, at)
            }
            node => Err(self.error(series.at, ErrorKind::Syntax, format!("expected a metrics query, found {}", node.what()))),
        }
    }

    pub(super) fn arithmetic(&mut self, op: Arithmetic, left: Located, right: Located, at: usize) -> Parsed<Located> {
        let (start, right_at, height) = (left.at, right.at, left.height.max(right.height) + 1);
        let located = |node| Ok(Located { node, at: start, height });
        match (left.node, right.node) {
            (Node::Number(left), Node::Number(right)) => match fold(op, &left, &right) {
                Some(number) => located(Node::Number(number)),
                None => Err(self.error(at, ErrorKind::Type, format!("expected no division by zero, found `{op}` and 0"))),
            },
            (Node::Number(_) | Node::Aggregate(_) | Node::Computed, Node::Aggregate(_) | Node::Computed)
            | (Node::Aggregate(_) | Node::Computed, Node::Number(_)) => located(Node::Computed),
            (left, right) => {
                let wrong = |found, at| {
                    let what = format!("expected numbers or metrics queries in brackets beside `{op}`, found {found}");
                    self.error(at, ErrorKind::Syntax, what)
                };
                let left = left.into_series().map_err(|found| wrong(found, start))?;
                let right = right.into_series().map_err(|found| wrong(found, right_at))?;
                if matches!(op, Arithmetic::Mod | Arithmetic::Pow) {
                    let what = format!("expected `+`, `-`, `*` or `/` between metrics queries, found `{op}`");
                    return Err(self.error(at, ErrorKind::Syntax, what));
                }
                for side in [&left, &right] {
                    self.check_not_compare(side, at)?;
                }
                let math = SeriesExpr::Math { op, left: Box::new(left), right: Box::new(right) };
                self.check_series(&math, at)?;
                located(Node::Series(math))
            }
        }
    }
}

/// A number of two constants; none if it is an integer divided by zero.
fn fold(op: Arithmetic, left: &Literal, right: &Literal) -> Option<Literal> {
    let (a, b) = (left.value(), right.value());
    match crate::eval::arithmetic(op, &a, &b).ok()? {
        crate::value::Value::Int(value) => Some(Literal::Int(value)),
        crate::value::Value::Float(value) if value.is_finite() => match (left, right) {
            // A duration stays one: it means seconds where series are compared with it.
            (Literal::Duration(_), _) | (_, Literal::Duration(_))
                if op != Arithmetic::Div || !matches!(right, Literal::Duration(_)) =>
            {
                Some(Literal::Duration(value as i64))
            }
            _ => Some(Literal::Float(value)),
        },
        _ => None,
    }
}
