use crate::ast::{Aggregate, Function, Literal, MetricsQuery, Pipeline, ScalarFilter, SeriesExpr, SeriesStage, SpansetExpr, Stage};
use crate::attribute::Attribute;

/// What stands outside of `{…}`: a part of a query of which it is not yet known what it is a part of.
pub(super) enum Node {
    /// `{…}`, and these joined by operators.
    Spansets(SpansetExpr),
    /// In brackets: `({…} | by(…))`.
    Pipeline(Pipeline),
    /// `count() > 2`
    Filter(ScalarFilter),
    /// `by(…)`, `coalesce()`, `select(…)`
    Stage(Stage),
    /// A number or a duration.
    Number(Literal),
    /// `count()`
    Aggregate(Aggregate),
    /// Numbers that follow the grammar, but that nobody answers: `count() + 1`, `({…} | count())`.
    Computed,
    /// `rate() by(…)`
    Function(Function, Vec<Attribute>),
    /// `topk(5)`
    SeriesStage(SeriesStage),
    /// `{…} | rate()`, and these joined by operators.
    Series(SeriesExpr),
}

/// A node and where it is.
pub(super) struct Located {
    pub node: Node,
    pub at: usize,
    /// Of its tree.
    pub height: usize,
}

impl Node {
    /// As an error says it.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Node::Spansets(_) => "a spanset",
            Node::Pipeline(_) => "a pipeline",
            Node::Filter(_) => "a comparison of numbers",
            Node::Stage(Stage::By(_)) => "`by(…)`",
            Node::Stage(Stage::Coalesce) => "`coalesce()`",
            Node::Stage(_) => "`select(…)`",
            Node::Number(_) => "a number",
            Node::Aggregate(_) => "an aggregate without a comparison",
            Node::Computed => "a number without a comparison",
            Node::Function(..) => "a metrics function",
            Node::SeriesStage(_) => "`topk(…)` or `bottomk(…)`",
            Node::Series(_) => "a metrics query",
        }
    }

    /// As a stage of a pipeline; what it is if it is none.
    pub(super) fn into_pipeline(self) -> Result<Pipeline, &'static str> {
        let what = self.what();
        match self {
            Node::Spansets(expr) => Ok(Pipeline { stages: vec![Stage::Spansets(expr)] }),
            Node::Pipeline(pipeline) => Ok(pipeline),
            Node::Filter(filter) => Ok(Pipeline { stages: vec![Stage::Filter(filter)] }),
            Node::Stage(stage) => Ok(Pipeline { stages: vec![stage] }),
            _ => Err(what),
        }
    }

    /// As an operand of `&&`, `>>` and the like; what it is if it is none.
    pub(super) fn into_spansets(self) -> Result<SpansetExpr, &'static str> {
        match self {
            Node::Spansets(expr) => Ok(expr),
            Node::Pipeline(pipeline) => Ok(SpansetExpr::Pipeline(pipeline)),
            node => Err(node.what()),
        }
    }

    /// As an operand of arithmetic between series; what it is if it is none.
    pub(super) fn into_series(self) -> Result<SeriesExpr, &'static str> {
        match self {
            Node::Series(series) => Ok(series),
            Node::Number(number) => Ok(SeriesExpr::Number(number)),
            node => Err(node.what()),
        }
    }

    /// Whether it is of spans rather than of numbers.
    pub(super) fn is_spansets(&self) -> bool {
        matches!(self, Node::Spansets(_) | Node::Pipeline(_))
    }

    /// As series of a pipeline.
    pub(super) fn series(pipeline: Pipeline, function: Function, by: Vec<Attribute>) -> Node {
        Node::Series(SeriesExpr::Query(MetricsQuery { pipeline, function, by }))
    }
}
