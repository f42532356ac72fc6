use std::fmt;

use super::field::{Arithmetic, Comparison, FieldExpr, Literal};
use super::spanset::{Pipeline, separated};
use crate::attribute::Attribute;

/// Series of numbers over time.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesExpr {
    /// Of spans.
    Query(MetricsQuery),
    /// A number, beside series that it is computed with.
    Number(Literal),
    /// `(series) + (series)`; `%` and `^` are not among it.
    Math {
        /// How.
        op: Arithmetic,
        /// What.
        left: Box<SeriesExpr>,
        /// With what.
        right: Box<SeriesExpr>,
    },
    /// Of series. The input is none of numbers alone.
    Stage {
        /// Which series.
        input: Box<SeriesExpr>,
        /// What is left of them.
        stage: SeriesStage,
    },
}

/// What is left of series.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesStage {
    /// `topk(n)`: at each time, the samples of the `n` greatest.
    Top(usize),
    /// `bottomk(n)`: at each time, the samples of the `n` least.
    Bottom(usize),
    /// `> 5`: the samples for which it holds. A duration is seconds.
    Filter(Comparison, Literal),
}

/// Series of the spans that a pipeline leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsQuery {
    /// Which spans.
    pub pipeline: Pipeline,
    /// What of them.
    pub function: Function,
    /// A series for each combination of values of these.
    pub by: Vec<Attribute>,
}

/// A number of the spans of an interval.
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// `rate()`: spans a second.
    Rate,
    /// `count_over_time()`: spans.
    CountOverTime,
    /// `min_over_time(x)`
    MinOverTime(Attribute),
    /// `max_over_time(x)`
    MaxOverTime(Attribute),
    /// `avg_over_time(x)`
    AvgOverTime(Attribute),
    /// `sum_over_time(x)`
    SumOverTime(Attribute),
    /// `quantile_over_time(x, .5, .9)`: a series for each quantile, from 0 to 1.
    QuantileOverTime(Attribute, Vec<f64>),
    /// `histogram_over_time(x)`: a series for each power of two.
    HistogramOverTime(Attribute),
    /// `compare({ x }, n, start, end)`: how often each value of each attribute occurs in a selection and in the rest.
    Compare {
        /// Which spans are selected.
        selection: FieldExpr,
        /// How many values of an attribute are shown.
        top: usize,
        /// Only spans that start after the first and not after the second are selected, nanoseconds since 1970.
        window: Option<(u64, u64)>,
    },
}

impl Function {
    /// As queries write it, and the label of series without others.
    pub fn name(&self) -> &'static str {
        match self {
            Function::Rate => "rate",
            Function::CountOverTime => "count_over_time",
            Function::MinOverTime(_) => "min_over_time",
            Function::MaxOverTime(_) => "max_over_time",
            Function::AvgOverTime(_) => "avg_over_time",
            Function::SumOverTime(_) => "sum_over_time",
            Function::QuantileOverTime(..) => "quantile_over_time",
            Function::HistogramOverTime(_) => "histogram_over_time",
            Function::Compare { .. } => "compare",
        }
    }

    /// The attribute that it is computed from.
    pub fn attribute(&self) -> Option<&Attribute> {
        match self {
            Function::Rate | Function::CountOverTime | Function::Compare { .. } => None,
            Function::MinOverTime(attribute)
            | Function::MaxOverTime(attribute)
            | Function::AvgOverTime(attribute)
            | Function::SumOverTime(attribute)
            | Function::QuantileOverTime(attribute, _)
            | Function::HistogramOverTime(attribute) => Some(attribute),
        }
    }
}

impl SeriesExpr {
    /// The queries of spans in it, from left to right.
    pub fn queries(&self) -> Vec<&MetricsQuery> {
        match self {
            SeriesExpr::Query(query) => vec![query],
            SeriesExpr::Number(_) => Vec::new(),
            SeriesExpr::Math { left, right, .. } => left.queries().into_iter().chain(right.queries()).collect(),
            SeriesExpr::Stage { input, .. } => input.queries(),
        }
    }

    /// Whether a part of a range has the samples that the range has at its times, or some of them. Not those of `topk` and `bottomk`, where
    /// series of other times take part with zeros, nor those of `compare()`, which shows what is frequent in the whole range.
    pub fn is_of_each_time(&self) -> bool {
        match self {
            SeriesExpr::Query(query) => !matches!(query.function, Function::Compare { .. }),
            SeriesExpr::Number(_) => true,
            SeriesExpr::Math { left, right, .. } => left.is_of_each_time() && right.is_of_each_time(),
            SeriesExpr::Stage { stage: SeriesStage::Top(_) | SeriesStage::Bottom(_), .. } => false,
            SeriesExpr::Stage { input, stage: SeriesStage::Filter(..) } => input.is_of_each_time(),
        }
    }
}

impl fmt::Display for SeriesExpr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = |expr: &SeriesExpr| match expr {
            SeriesExpr::Number(number) => number.to_string(),
            expr => format!("({expr})"),
        };
        match self {
            SeriesExpr::Query(query) => query.fmt(out),
            SeriesExpr::Number(number) => number.fmt(out),
            SeriesExpr::Math { op, left, right } => write!(out, "{} {op} {}", bracketed(left), bracketed(right)),
            SeriesExpr::Stage { input, stage } => write!(out, "{input} {stage}"),
        }
    }
}

impl fmt::Display for SeriesStage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeriesStage::Top(limit) => write!(out, "| topk({limit})"),
            SeriesStage::Bottom(limit) => write!(out, "| bottomk({limit})"),
            SeriesStage::Filter(op, value) => write!(out, "{op} {value}"),
        }
    }
}

impl fmt::Display for MetricsQuery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} | {}(", self.pipeline, self.function.name())?;
        match &self.function {
            Function::QuantileOverTime(attribute, quantiles) => {
                write!(out, "{attribute}")?;
                quantiles.iter().try_for_each(|quantile| write!(out, ", {quantile:?}"))?;
            }
            Function::Compare { selection, top, window } => {
                write!(out, "{{ {selection} }}, {top}")?;
                window.iter().try_for_each(|(start, end)| write!(out, ", {start}, {end}"))?;
            }
            function => function.attribute().map_or(Ok(()), |attribute| attribute.fmt(out))?,
        }
        out.write_str(")")?;
        if self.by.is_empty() {
            return Ok(());
        }
        out.write_str(" by(")?;
        separated(&self.by, ", ", out)?;
        out.write_str(")")
    }
}
