//! Metrics functions and what comes after them.

use super::node::Node;
use super::{Parsed, Parser};
use crate::ast::{Function, SeriesExpr, SeriesStage};
use crate::attribute::Attribute;
use crate::error::ErrorKind;
use crate::limits::{COMPARE_TOP_MAX, GROUP_BY_MAX, SERIES_QUERIES_MAX};
use crate::token::TokenKind;
use crate::types::Type;

/// Values of an attribute that `compare()` shows if it is not told.
const COMPARE_TOP: usize = 10;

impl Parser<'_> {
    /// A metrics function with its `by(…)`, `topk(…)` or `bottomk(…)`, if one is next.
    pub(super) fn try_metrics(&mut self) -> Parsed<Option<Node>> {
        let at = self.at();
        let TokenKind::Word(word) = *self.peek() else { return Ok(None) };
        if !self.tokens.get(self.next + 1).is_some_and(|token| token.kind.is("(")) {
            return Ok(None);
        }
        if word == "topk" || word == "bottomk" {
            self.next += 2;
            let limit = self.positive("a number of series")?;
            self.expect(")")?;
            let stage = if word == "topk" { SeriesStage::Top(limit) } else { SeriesStage::Bottom(limit) };
            return Ok(Some(Node::SeriesStage(stage)));
        }
        let Some(function) = self.try_function(word)? else { return Ok(None) };
        let by = self.group_by(&function, at)?;
        Ok(Some(Node::Function(function, by)))
    }

    fn try_function(&mut self, word: &str) -> Parsed<Option<Function>> {
        let of_attribute: fn(Attribute) -> Function = match word {
            "rate" | "count_over_time" => {
                self.next += 2;
                self.expect(")")?;
                return Ok(Some(if word == "rate" { Function::Rate } else { Function::CountOverTime }));
            }
            "compare" => return self.compare().map(Some),
            "quantile_over_time" => return self.quantile().map(Some),
            "min_over_time" => Function::MinOverTime,
            "max_over_time" => Function::MaxOverTime,
            "avg_over_time" => Function::AvgOverTime,
            "sum_over_time" => Function::SumOverTime,
            "histogram_over_time" => Function::HistogramOverTime,
            _ => return Ok(None),
        };
        self.next += 2;
        let function = of_attribute(self.number_attribute(word)?);
        self.expect(")")?;
        Ok(Some(function))
    }

    fn number_attribute(&mut self, word: &str) -> Parsed<Attribute> {
        let at = self.at();
        let attribute = self.attribute()?;
        let ty = Type::of_attribute(&attribute);
        if ty.is_number() {
            return Ok(attribute);
        }
        Err(self.error(at, ErrorKind::Type, format!("expected an attribute with numbers in `{word}(…)`, found {ty}")))
    }

    fn quantile(&mut self) -> Parsed<Function> {
        self.next += 2;
        let attribute = self.number_attribute("quantile_over_time")?;
        let mut quantiles = Vec::new();
        self.expect(",")?;
        loop {
            let quantile = match self.peek() {
                TokenKind::Float(value) => *value,
                TokenKind::Int(value) => *value as f64,
                _ => return Err(self.expected("a quantile from 0 to 1")),
            };
            if !(0.0..=1.0).contains(&quantile) {
                return Err(self.error(self.at(), ErrorKind::Type, format!("expected a quantile from 0 to 1, found `{quantile}`")));
            }
            quantiles.push(quantile);
            self.advance();
            if !self.take(",") {
                break;
            }
        }
        if self.take(")") { Ok(Function::QuantileOverTime(attribute, quantiles)) } else { Err(self.expected("`,` or `)`")) }
    }

    fn compare(&mut self) -> Parsed<Function> {
        self.next += 2;
        let selection = self.braces()?;
        let top_at = self.at();
        let top = if self.take(",") { self.positive("a number of values")? } else { COMPARE_TOP };
        if top > COMPARE_TOP_MAX {
            return Err(self.error(top_at, ErrorKind::Limit, format!("expected at most {COMPARE_TOP_MAX} values, found {top}")));
        }
        let mut window = None;
        let at = self.at();
        if self.take(",") {
            let start = self.positive("a time in nanoseconds since 1970")?;
            self.expect(",")?;
            let end = self.positive("a time in nanoseconds since 1970")?;
            if end <= start {
                return Err(self.error(at, ErrorKind::Type, "expected an end of the selection that is after its start".to_owned()));
            }
            window = Some((start as u64, end as u64));
        }
        if self.take(")") { Ok(Function::Compare { selection, top, window }) } else { Err(self.expected("`,` or `)`")) }
    }

    fn positive(&mut self, what: &str) -> Parsed<usize> {
        match *self.peek() {
            TokenKind::Int(value) if value > 0 => {
                self.advance();
                Ok(value as usize)
            }
            TokenKind::Int(value) => {
                Err(self.error(self.at(), ErrorKind::Type, format!("expected {what} above 0, found `{value}`")))
            }
            _ => Err(self.expected(what)),
        }
    }

    fn group_by(&mut self, function: &Function, at: usize) -> Parsed<Vec<Attribute>> {
        if !self.peek().is_word("by") || matches!(function, Function::Compare { .. }) {
            return Ok(Vec::new());
        }
        self.advance();
        self.expect("(")?;
        let by = self.attributes()?;
        let own = usize::from(matches!(function, Function::QuantileOverTime(..) | Function::HistogramOverTime(_)));
        let most = GROUP_BY_MAX - own;
        if by.len() <= most {
            return Ok(by);
        }
        let what = format!("expected at most {most} attributes in `by(…)` of `{}`, found {}", function.name(), by.len());
        Err(self.error(at, ErrorKind::Limit, what))
    }

    /// Fails if series are of `compare()`, which nothing can follow.
    pub(super) fn check_not_compare(&self, series: &SeriesExpr, at: usize) -> Parsed<()> {
        match series {
            SeriesExpr::Query(query) if matches!(query.function, Function::Compare { .. }) => {
                Err(self.error(at, ErrorKind::Type, "expected nothing to follow `compare(…)`".to_owned()))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_series(&self, series: &SeriesExpr, at: usize) -> Parsed<()> {
        if series.queries().len() <= SERIES_QUERIES_MAX {
            return Ok(());
        }
        Err(self.error(at, ErrorKind::Limit, format!("expected at most {SERIES_QUERIES_MAX} metrics queries in one")))
    }
}
