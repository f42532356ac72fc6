//! Stages joined by `|`, and expressions outside of `{…}`.

use super::node::{Located, Node};
use super::{Parsed, Parser};
use crate::ast::{Arithmetic, Comparison, Pipeline, SeriesExpr, SeriesStage, SpansetExpr, SpansetOp, Stage, level};
use crate::error::ErrorKind;
use crate::token::TokenKind;

/// An operator outside of `{…}`. `<` and `>` are of spansets and of numbers.
#[derive(Clone, Copy)]
struct Operator {
    spansets: Option<SpansetOp>,
    comparison: Option<Comparison>,
    arithmetic: Option<Arithmetic>,
    symbol: &'static str,
    level: u8,
}

impl Operator {
    fn of(token: &TokenKind<'_>) -> Option<Operator> {
        let TokenKind::Symbol(symbol) = *token else { return None };
        let spansets = SpansetOp::SYMBOLS.into_iter().find(|(own, _)| *own == symbol).map(|(_, op)| op);
        let comparison = Comparison::SYMBOLS.into_iter().find(|(own, _)| *own == symbol).map(|(_, op)| op);
        let arithmetic = Arithmetic::SYMBOLS.into_iter().find(|(own, _)| *own == symbol).map(|(_, op)| op);
        let level = match (spansets, comparison, arithmetic) {
            (Some(op), _, _) => op.level(),
            (_, Some(_), _) => level::COMPARISON,
            (_, _, Some(op)) => op.level(),
            _ => return None,
        };
        Some(Operator { spansets, comparison, arithmetic, symbol, level })
    }
}

impl Parser<'_> {
    /// Stages joined by `|`.
    pub(super) fn pipeline(&mut self) -> Parsed<Located> {
        let mut all = self.stage()?;
        if let Node::Function(..) | Node::SeriesStage(_) | Node::Stage(Stage::Coalesce) = all.node {
            let what = format!("expected a spanset such as `{{}}` and `|` before it, found {}", all.node.what());
            return Err(self.error(all.at, ErrorKind::Syntax, what));
        }
        loop {
            let at = self.at();
            let comparison = Operator::of(self.peek()).and_then(|op| op.comparison);
            if self.take("|") {
                let stage = self.stage()?;
                all = self.join(all, stage)?;
            } else if let (Node::Series(_), Some(op)) = (&all.node, comparison) {
                self.advance();
                let number = self.expression(level::SUM)?;
                all = self.series_filter(op, all, number, at)?;
            } else {
                return Ok(all);
            }
        }
    }

    /// Puts a stage behind what stands before it.
    fn join(&mut self, all: Located, stage: Located) -> Parsed<Located> {
        let height = all.height.max(stage.height);
        let (at, wrong) = (all.at, stage.at);
        let node = match (all.node, stage.node) {
            (Node::Series(input), Node::SeriesStage(series_stage)) => {
                return self.series_stage(input, series_stage, Located { node: Node::Computed, at, height: all.height }, wrong);
            }
            (Node::Series(_), other) => {
                let what =
                    format!("expected `topk(…)`, `bottomk(…)` or a comparison after a metrics query, found {}", other.what());
                return Err(self.error(wrong, ErrorKind::Syntax, what));
            }
            (_, Node::SeriesStage(_)) => {
                let what = "expected a metrics function before `topk(…)` or `bottomk(…)`".to_owned();
                return Err(self.error(wrong, ErrorKind::Syntax, what));
            }
            (all, Node::Function(function, by)) => Node::series(self.as_pipeline(all, at)?, function, by),
            (all, Node::Aggregate(_)) => {
                self.as_pipeline(all, at)?;
                return Ok(Located { node: Node::Computed, at: wrong, height });
            }
            (all, stage) => {
                let mut pipeline = self.as_pipeline(all, at)?;
                pipeline.stages.extend(self.as_pipeline(stage, wrong)?.stages);
                Node::Pipeline(pipeline)
            }
        };
        Ok(Located { node, at, height })
    }

    /// One stage.
    fn stage(&mut self) -> Parsed<Located> {
        let at = self.at();
        let TokenKind::Word(word) = *self.peek() else { return self.expression(level::LOGIC) };
        let stage = match word {
            "by" => {
                self.advance();
                self.expect("(")?;
                let expr = self.reading_field("by(…)")?;
                self.expect(")")?;
                Stage::By(expr.expr)
            }
            "coalesce" => {
                self.advance();
                self.expect("(")?;
                self.expect(")")?;
                Stage::Coalesce
            }
            "select" => {
                self.advance();
                self.expect("(")?;
                Stage::Select(self.attributes()?)
            }
            _ => {
                let node = self.try_metrics()?;
                return node.map_or_else(|| self.expression(level::LOGIC), |node| Ok(Located { node, at, height: 1 }));
            }
        };
        Ok(Located { node: Node::Stage(stage), at, height: 1 })
    }

    /// An expression of operators that bind at least as tightly as this.
    pub(super) fn expression(&mut self, least: u8) -> Parsed<Located> {
        self.nested(|parser| {
            let mut left = parser.primary()?;
            while let Some(operator) = Operator::of(parser.peek()).filter(|operator| operator.level >= least) {
                let at = parser.at();
                parser.advance();
                let above = if operator.level == level::POWER { operator.level } else { operator.level + 1 };
                let right = parser.expression(above)?;
                left = parser.join_operands(operator, left, right, at)?;
                parser.check_height(left.height, at)?;
            }
            Ok(left)
        })
    }

    fn join_operands(&mut self, operator: Operator, left: Located, right: Located, at: usize) -> Parsed<Located> {
        if let Some(op) = operator.spansets
            && (operator.comparison.is_none() || left.node.is_spansets() || right.node.is_spansets())
        {
            let (start, height) = (left.at, left.height.max(right.height) + 1);
            let (left, right) = (self.operand_of(operator, "left", left)?, self.operand_of(operator, "right", right)?);
            let node = Node::Spansets(SpansetExpr::Binary { op, left: Box::new(left), right: Box::new(right) });
            return Ok(Located { node, at: start, height });
        }
        if let Some(op) = operator.comparison {
            return self.comparison(op, left, right, at);
        }
        match operator.arithmetic {
            Some(op) => self.arithmetic(op, left, right, at),
            None => Err(self.error(at, ErrorKind::Syntax, format!("expected another operator, found `{}`", operator.symbol))),
        }
    }

    fn operand_of(&self, operator: Operator, side: &str, operand: Located) -> Parsed<SpansetExpr> {
        operand.node.into_spansets().map_err(|found| {
            let what = format!("expected a spanset `{{…}}` at the {side} of `{}`, found {found}", operator.symbol);
            self.error(operand.at, ErrorKind::Syntax, what)
        })
    }

    /// `{…}`, `(…)`, a number or an aggregate.
    fn primary(&mut self) -> Parsed<Located> {
        let at = self.at();
        if self.peek().is("{") {
            let expr = self.braces()?;
            return Ok(Located { node: Node::Spansets(SpansetExpr::Filter(expr)), at, height: 1 });
        }
        if !self.take("(") {
            return self.scalar_primary();
        }
        let inner = self.pipeline()?;
        if !self.take(")") {
            return Err(self.expected("`|`, an operator or `)`"));
        }
        let node = match inner.node {
            node @ (Node::Filter(_) | Node::Stage(_)) => Node::Pipeline(self.as_pipeline(node, at)?),
            node => node,
        };
        Ok(Located { node: unwrapped(node), at, height: inner.height + 1 })
    }

    /// Puts a stage of series behind series.
    pub(super) fn series_stage(&mut self, input: SeriesExpr, stage: SeriesStage, of: Located, at: usize) -> Parsed<Located> {
        self.check_not_compare(&input, at)?;
        let height = of.height + 1;
        self.check_height(height, at)?;
        let node = Node::Series(SeriesExpr::Stage { input: Box::new(input), stage });
        Ok(Located { node, at: of.at, height })
    }
}

/// A pipeline that is but a spanset expression is that.
fn unwrapped(node: Node) -> Node {
    match node {
        Node::Pipeline(Pipeline { mut stages }) if matches!(stages.as_slice(), [Stage::Spansets(_)]) => match stages.pop() {
            Some(Stage::Spansets(expr)) => Node::Spansets(expr),
            _ => Node::Computed,
        },
        node => node,
    }
}
