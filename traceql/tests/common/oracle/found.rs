use meshlake_traceql::*;

use super::{Failed, Oracle, Spans, search};

/// Whether a search finds a trace by its spans in a range. One of the answer has to be there; and if `{}` alone lets some of the answer
/// through, one of the first other filter, too: of either side's, where one side of `||` is enough.
pub fn is_found(pipeline: &Pipeline, trace: &Spans, in_range: impl Fn(usize) -> bool) -> Result<bool, Failed> {
    let oracle = Oracle::new(trace);
    let answer = search(pipeline, trace)?;
    if !answer.iter().flat_map(|(spans, _)| spans).any(|span| in_range(*span)) {
        return Ok(false);
    }
    let lets_any_through = filters(pipeline).iter().all(|stage| stage.iter().any(|filter| is_anything(filter)));
    match first(pipeline) {
        Some(first) if lets_any_through => {
            let passes = |span: usize| first.iter().any(|filter| oracle.holds(filter, span) == Ok(true));
            Ok((0..trace.spans.len()).any(|span| in_range(span) && passes(span)))
        }
        _ => Ok(true),
    }
}

fn is_anything(filter: &FieldExpr) -> bool {
    *filter == FieldExpr::Literal(Literal::Bool(true))
        || matches!(filter, FieldExpr::And(all) if all.iter().all(is_anything))
        || matches!(filter, FieldExpr::Or(all) if all.iter().any(is_anything))
}

/// Of each stage the filters of which a span has passed one that it leaves.
fn filters(pipeline: &Pipeline) -> Vec<Vec<&FieldExpr>> {
    let mut stages = Vec::new();
    for stage in &pipeline.stages {
        if let Stage::Spansets(expr) = stage {
            stages.extend(expr_filters(expr));
        }
    }
    stages
}

fn expr_filters(expr: &SpansetExpr) -> Vec<Vec<&FieldExpr>> {
    match expr {
        SpansetExpr::Filter(filter) => vec![vec![filter]],
        SpansetExpr::Pipeline(pipeline) => filters(pipeline),
        SpansetExpr::Binary { op: SpansetOp::Structure(_, Form::Right | Form::Not), right, .. } => expr_filters(right),
        SpansetExpr::Binary { left, right, .. } => {
            // A span of a side has passed one filter of each of that side's stages.
            let (left, right) = (expr_filters(left), expr_filters(right));
            let pairs = left.iter().flat_map(|left| right.iter().map(move |right| [left.as_slice(), right].concat()));
            if left.is_empty() || right.is_empty() { Vec::new() } else { pairs.collect() }
        }
    }
}

/// The first filters that ask for anything, if some have to be passed.
fn first(pipeline: &Pipeline) -> Option<Vec<&FieldExpr>> {
    pipeline.stages.iter().find_map(|stage| if let Stage::Spansets(expr) = stage { expr_first(expr) } else { None })
}

fn expr_first(expr: &SpansetExpr) -> Option<Vec<&FieldExpr>> {
    match expr {
        SpansetExpr::Filter(filter) => (!is_anything(filter)).then(|| vec![filter]),
        SpansetExpr::Pipeline(pipeline) => first(pipeline),
        SpansetExpr::Binary { op: SpansetOp::Or, left, right } => Some([expr_first(left)?, expr_first(right)?].concat()),
        SpansetExpr::Binary { op: SpansetOp::Structure(_, Form::Not), right, .. } => expr_first(right),
        SpansetExpr::Binary { left, right, .. } => expr_first(left).or_else(|| expr_first(right)),
    }
}
