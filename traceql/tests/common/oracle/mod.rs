//! TraceQL once more: small, slow and obvious, written from the semantics. It shares the tree of a query and the type of values with the
//! crate, and no code.

pub mod found;
pub mod metrics;
mod value;

use meshlake_traceql::*;
use value::{compare, compute, matches, number};

use super::{Attributes, Span, Spans};

/// The query fails.
#[derive(Debug, PartialEq)]
pub struct Failed;

/// Spans by their places, and what was computed of them.
pub type Found = (Vec<usize>, Vec<(String, Value<'static>)>);

/// What a search leaves of a trace.
pub fn search(pipeline: &Pipeline, trace: &Spans) -> Result<Vec<Found>, Failed> {
    let oracle = Oracle::new(trace);
    if trace.spans.is_empty() {
        return Ok(Vec::new());
    }
    oracle.pipeline(pipeline, vec![(oracle.order.clone(), Vec::new())])
}

/// Which event and which link are meant: none, if the first that has a value is.
type Bound = Option<(usize, usize)>;

pub struct Oracle<'a> {
    trace: &'a Spans,
    order: Vec<usize>,
    /// Left, right, parent.
    numbers: Vec<(i64, i64, i64)>,
}

impl<'a> Oracle<'a> {
    pub fn new(trace: &'a Spans) -> Oracle<'a> {
        let mut order: Vec<usize> = (0..trace.spans.len()).collect();
        order.sort_by_key(|span| (trace.spans[*span].start, trace.spans[*span].id));
        let numbers = trace.spans.iter().map(|span| (0, 0, if span.parent == 0 { -1 } else { 0 })).collect();
        let mut oracle = Oracle { trace, order, numbers };
        let mut next = 1;
        for root in oracle.order.clone() {
            if !oracle.broken() && oracle.at(root).parent == 0 {
                oracle.number(root, -1, &mut next);
            }
        }
        oracle
    }

    fn at(&self, span: usize) -> &'a Span {
        &self.trace.spans[span]
    }

    fn broken(&self) -> bool {
        self.order.iter().any(|a| self.order.iter().filter(|b| self.at(*a).id == self.at(**b).id).count() > 2)
    }

    fn number(&mut self, span: usize, parent: i64, next: &mut i64) {
        let left = *next;
        *next += 1;
        for child in self.order.clone() {
            if self.parent(child) == Some(span) {
                self.number(child, left, next);
            }
        }
        self.numbers[span] = (left, *next, parent);
        *next += 1;
    }

    fn parent(&self, span: usize) -> Option<usize> {
        let own = self.at(span);
        if own.parent == 0 || self.broken() {
            return None;
        }
        let found: Vec<usize> = (0..self.trace.spans.len()).filter(|other| self.at(*other).id == own.parent).collect();
        match found[..] {
            [only] => Some(only),
            [_, _] => {
                let wanted = if own.kind == Kind::Server { Kind::Client } else { Kind::Server };
                found.into_iter().find(|other| self.at(*other).kind == wanted)
            }
            _ => None,
        }
    }

    /// The spans above a span, nearest first; nothing if they do not end at a root.
    fn above(&self, span: usize) -> Option<Vec<usize>> {
        let mut above = Vec::new();
        let mut at = span;
        while let Some(parent) = self.parent(at) {
            if above.contains(&parent) {
                return None;
            }
            above.push(parent);
            at = parent;
        }
        (self.at(at).parent == 0 && !self.broken()).then_some(above)
    }

    /// Whether a span of the right side stands to one of the left side as said.
    fn stands(&self, relation: Relation, left: usize, right: usize) -> bool {
        let (Some(above_left), Some(above_right)) = (self.above(left), self.above(right)) else { return false };
        left != right
            && match relation {
                Relation::Child => above_right.first() == Some(&left),
                Relation::Descendant => above_right.contains(&left),
                Relation::Parent => above_left.first() == Some(&right),
                Relation::Ancestor => above_left.contains(&right),
                Relation::Sibling => above_left.first() == above_right.first(),
            }
    }

    fn pipeline(&self, pipeline: &Pipeline, mut sets: Vec<Found>) -> Result<Vec<Found>, Failed> {
        for stage in &pipeline.stages {
            let mut left = Vec::new();
            match stage {
                Stage::Spansets(expr) => {
                    for set in &sets {
                        left.extend(self.spansets(expr, set)?);
                    }
                }
                Stage::Filter(filter) => {
                    for (spans, mut computed) in sets {
                        let Some(value) = self.aggregate(&filter.aggregate, &spans)? else { continue };
                        if compare(filter.op, &value, &filter.value.value())? {
                            computed.push((filter.aggregate.to_string(), value));
                            left.push((spans, computed));
                        }
                    }
                }
                Stage::By(expr) => {
                    for (spans, computed) in sets {
                        let mut groups: Vec<(Value<'static>, Vec<usize>)> = Vec::new();
                        for span in spans {
                            let value = self.value(expr, span, None)?;
                            match groups.iter_mut().find(|(own, _)| *own == value) {
                                Some((_, group)) => group.push(span),
                                None => groups.push((value, vec![span])),
                            }
                        }
                        for (value, spans) in groups {
                            let mut computed = computed.clone();
                            computed.push((format!("by({expr})"), value));
                            left.push((spans, computed));
                        }
                    }
                }
                Stage::Coalesce => {
                    let spans: Vec<usize> = sets.into_iter().flat_map(|(spans, _)| spans).collect();
                    if !spans.is_empty() {
                        left.push((spans, Vec::new()));
                    }
                }
                Stage::Select(_) => left = sets,
            }
            sets = left;
        }
        Ok(sets)
    }

    fn spansets(&self, expr: &SpansetExpr, input: &Found) -> Result<Vec<Found>, Failed> {
        let spans = match expr {
            SpansetExpr::Pipeline(pipeline) => return self.pipeline(pipeline, vec![input.clone()]),
            SpansetExpr::Filter(expr) => {
                let mut spans = Vec::new();
                for &span in &input.0 {
                    if self.holds(expr, span)? {
                        spans.push(span);
                    }
                }
                spans
            }
            SpansetExpr::Binary { op, left, right } => {
                let (left, right) = (self.spansets(left, input)?, self.spansets(right, input)?);
                let all = |side: &[Found]| side.iter().flat_map(|(spans, _)| spans.clone()).collect::<Vec<_>>();
                self.operator(*op, left.len(), right.len(), all(&left), all(&right))?
            }
        };
        Ok(if spans.is_empty() { Vec::new() } else { vec![(spans, input.1.clone())] })
    }

    fn operator(
        &self,
        op: SpansetOp,
        lefts: usize,
        rights: usize,
        left: Vec<usize>,
        right: Vec<usize>,
    ) -> Result<Vec<usize>, Failed> {
        let SpansetOp::Structure(relation, form) = op else {
            if op == SpansetOp::And && (left.is_empty() || right.is_empty()) {
                return Ok(Vec::new());
            }
            let mut spans = Vec::new();
            let (first, second) = if left.len() < right.len() { (left, right) } else { (right, left) };
            for span in first.into_iter().chain(second) {
                if !spans.contains(&span) {
                    spans.push(span);
                }
            }
            return Ok(spans);
        };
        if rights == 0 {
            return Ok(Vec::new());
        }
        if lefts > 1 || rights > 1 {
            return Err(Failed);
        }
        let any_left = |of: usize| left.iter().any(|other| self.stands(relation, *other, of));
        let any_right = |of: usize| right.iter().any(|other| self.stands(relation, of, *other));
        Ok(match form {
            Form::Right => right.iter().copied().filter(|span| any_left(*span)).collect(),
            Form::Not => right.iter().copied().filter(|span| !any_left(*span)).collect(),
            Form::Both => {
                let both = |span: &usize| (right.contains(span) && any_left(*span)) || (left.contains(span) && any_right(*span));
                self.order.iter().copied().filter(both).collect()
            }
        })
    }

    fn aggregate(&self, aggregate: &Aggregate, spans: &[usize]) -> Result<Option<Value<'static>>, Failed> {
        let expr = match aggregate {
            Aggregate::Count => return Ok(Some(Value::Int(spans.len() as i64))),
            Aggregate::Avg(expr) | Aggregate::Min(expr) | Aggregate::Max(expr) | Aggregate::Sum(expr) => expr,
        };
        let mut values = Vec::new();
        for span in spans {
            values.push(self.value(expr, *span, None)?);
        }
        values.retain(|value| number(value).is_some());
        let sum = values.iter().filter_map(number).sum::<f64>();
        let durations = values.iter().all(|value| matches!(value, Value::Duration(_)));
        let ints = values.iter().all(|value| matches!(value, Value::Int(_)));
        let whole = || {
            values.iter().map(|value| if let Value::Int(value) | Value::Duration(value) = value { *value } else { 0 }).sum::<i64>()
        };
        if values.is_empty() {
            return Ok(None);
        }
        Ok(match aggregate {
            Aggregate::Sum(_) if ints => Some(Value::Int(whole())),
            Aggregate::Sum(_) if durations => Some(Value::Duration(whole())),
            Aggregate::Sum(_) => Some(Value::Float(sum)),
            Aggregate::Avg(_) if durations => Some(Value::Duration(whole() / values.len() as i64)),
            Aggregate::Avg(_) => Some(Value::Float(sum / values.len() as f64)),
            _ => {
                let least = matches!(aggregate, Aggregate::Min(_));
                let mut best: Option<Value<'static>> = None;
                for value in values.into_iter().filter(|value| number(value).is_some_and(|number| !number.is_nan())) {
                    let better = best.as_ref().and_then(number).is_none_or(|best| {
                        let own = number(&value).unwrap();
                        if least { own < best } else { own > best }
                    });
                    if better {
                        best = Some(value);
                    }
                }
                best
            }
        })
    }

    /// Whether there is an event and a link with which it is true.
    pub fn holds(&self, expr: &FieldExpr, span: usize) -> Result<bool, Failed> {
        let (events, links) = (self.at(span).events.len().max(1), self.at(span).links.len().max(1));
        for link in 0..links {
            for event in 0..events {
                if self.value(expr, span, Some((event, link)))? == Value::Bool(true) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    pub fn value(&self, expr: &FieldExpr, span: usize, bound: Bound) -> Result<Value<'static>, Failed> {
        let value = |expr: &FieldExpr| self.value(expr, span, bound);
        Ok(match expr {
            FieldExpr::Literal(literal) => literal.value().into_owned(),
            FieldExpr::Attribute(attribute) => self.attribute(attribute, span, bound),
            FieldExpr::Not(of) => match value(of)? {
                Value::Bool(value) => Value::Bool(!value),
                _ => return Err(Failed),
            },
            FieldExpr::Negate(of) => match value(of)? {
                Value::Int(value) => Value::Int(-value),
                Value::Float(value) => Value::Float(-value),
                Value::Duration(value) => Value::Duration(-value),
                _ => return Err(Failed),
            },
            FieldExpr::Exists(of) => Value::Bool(value(of)? != Value::Nil),
            FieldExpr::Absent(of) => Value::Bool(value(of)? == Value::Nil),
            FieldExpr::And(all) => {
                for of in all {
                    if value(of)? != Value::Bool(true) {
                        return Ok(Value::Bool(false));
                    }
                }
                Value::Bool(true)
            }
            FieldExpr::Or(all) => {
                for of in all {
                    if value(of)? == Value::Bool(true) {
                        return Ok(Value::Bool(true));
                    }
                }
                Value::Bool(false)
            }
            FieldExpr::Compare { op, left, right } => Value::Bool(compare(*op, &value(left)?, &value(right)?)?),
            FieldExpr::Match { value: of, negated, pattern } => Value::Bool(matches(&value(of)?, &pattern.source, *negated)),
            FieldExpr::Arithmetic { op, left, right } => compute(*op, &value(left)?, &value(right)?)?,
        })
    }

    pub fn attribute(&self, attribute: &Attribute, span: usize, bound: Bound) -> Value<'static> {
        let own = self.at(span);
        let of_events = |get: &dyn Fn(&(String, i64, Attributes)) -> Value<'static>| match bound {
            Some((event, _)) => own.events.get(event).map_or(Value::Nil, get),
            None => own.events.iter().map(get).find(|value| *value != Value::Nil).unwrap_or(Value::Nil),
        };
        let of_links = |get: &dyn Fn(&(u8, Attributes)) -> Value<'static>| match bound {
            Some((_, link)) => own.links.get(link).map_or(Value::Nil, get),
            None => own.links.iter().map(get).find(|value| *value != Value::Nil).unwrap_or(Value::Nil),
        };
        let text = |text: &str| Value::Text(text.to_owned().into());
        let maybe = |name: &Option<String>| name.as_deref().map_or(Value::Nil, text);
        let intrinsic = match attribute {
            Attribute::Intrinsic(intrinsic) => intrinsic,
            Attribute::Named(named) => {
                let get = |attributes: &Attributes| super::find(attributes, &named.name);
                let candidates = match named.scope {
                    Scope::Span => vec![get(&own.span)],
                    Scope::Resource => vec![get(&own.resource)],
                    Scope::Event => vec![of_events(&|event| get(&event.2))],
                    Scope::Link => vec![of_links(&|link| get(&link.1))],
                    Scope::Instrumentation => vec![get(&own.instrumentation)],
                    Scope::Any => vec![
                        get(&own.span),
                        get(&own.resource),
                        of_events(&|event| get(&event.2)),
                        of_links(&|link| get(&link.1)),
                        get(&own.instrumentation),
                    ],
                };
                return candidates.into_iter().find(|value| *value != Value::Nil).unwrap_or(Value::Nil);
            }
        };
        let root = self.order.iter().copied().find(|span| self.at(*span).parent == 0);
        let ends = || self.trace.spans.iter().map(|span| span.start as i64 + span.duration.max(0)).max().unwrap();
        match intrinsic {
            Intrinsic::Duration => Value::Duration(own.duration),
            Intrinsic::Name => text(&own.name),
            Intrinsic::Status => Value::Status(own.status),
            Intrinsic::StatusMessage => text(&own.message),
            Intrinsic::Kind => Value::Kind(own.kind),
            Intrinsic::ChildCount => {
                Value::Int((0..self.order.len()).filter(|other| self.parent(*other) == Some(span)).count() as i64)
            }
            Intrinsic::RootName => root.map_or(Value::Nil, |root| text(&self.at(root).name)),
            Intrinsic::RootServiceName => root.map_or(Value::Nil, |root| super::find(&self.at(root).resource, "service.name")),
            Intrinsic::TraceDuration => {
                Value::Duration(ends() - self.trace.spans.iter().map(|span| span.start as i64).min().unwrap())
            }
            Intrinsic::NestedSetLeft => Value::Int(self.numbers[span].0),
            Intrinsic::NestedSetRight => Value::Int(self.numbers[span].1),
            Intrinsic::NestedSetParent => Value::Int(self.numbers[span].2),
            Intrinsic::TraceId => text(&self.trace.id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            Intrinsic::SpanId => text(&format!("{:016x}", own.id)),
            Intrinsic::ParentId => {
                if own.parent == 0 {
                    Value::Nil
                } else {
                    text(&format!("{:016x}", own.parent))
                }
            }
            Intrinsic::EventName => of_events(&|event| text(&event.0)),
            Intrinsic::EventTimeSinceStart => of_events(&|event| Value::Duration(event.1)),
            Intrinsic::LinkTraceId => of_links(&|_| text(&"09".repeat(16))),
            Intrinsic::LinkSpanId => of_links(&|link| text(&format!("{:016x}", link.0))),
            Intrinsic::InstrumentationName => text(&own.library.0),
            Intrinsic::InstrumentationVersion => text(&own.library.1),
            Intrinsic::Entry => Value::Bool(own.graph.entry),
            Intrinsic::Node => maybe(&own.graph.node),
            Intrinsic::Caller => maybe(&own.graph.caller),
            Intrinsic::Callee => maybe(&own.graph.callee),
        }
    }
}
