//! The values of an attribute.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::col;
use futures::TryStreamExt;
use meshlake_hops::NodeKind;
use meshlake_storage::{Scope, ValueType};
use meshlake_traceql::{
    Attribute, Body, Conditions, FieldExpr, Intrinsic, Literal, Named, Pipeline, Query, Reach, Scope as Asked, SpansetExpr, Stage,
    Trace, Value, View as TraceView,
};

use super::candidates::Candidates;
use super::columns::of_query;
use super::failed;
use super::trace::{BatchTrace, TraceRows};
use crate::attributes;
use crate::error::QueryError;
use crate::graph::{Graph, GraphQuery, graph};
use crate::partitions::together;
use crate::types::TimeRange;
use crate::view::View;

/// Different values that are counted; those that come later are not.
const VALUES_MAX: usize = 100_000;
/// Edges of which the ends are values.
const EDGES_MAX: usize = 100_000;
/// Microseconds.
const MINUTE: i64 = 60_000_000;

/// The most frequent values of an attribute.
pub(crate) async fn values(
    view: &View,
    attribute: &Attribute,
    filter: Option<&Query>,
    range: TimeRange,
    limit: usize,
) -> Result<Vec<(Value<'static>, u64)>> {
    range.check()?;
    if let (None, Attribute::Named(named)) = (filter, attribute)
        && let Some(scopes) = scopes(named.scope)
    {
        return summed(view, scopes, &named.name, range, limit).await;
    }
    if let (None, Attribute::Intrinsic(of @ (Intrinsic::Node | Intrinsic::Caller | Intrinsic::Callee))) = (filter, attribute) {
        return of_graph(view, *of, range, limit).await;
    }
    let question = Question::new(attribute, filter, range)?;
    let memory = MemoryConsumer::new("traceql: values").register(&view.lookups.runtime.memory_pool);
    let mut counts = Counts { counts: BTreeMap::new(), bytes: 0, memory };
    question.ask(view, &mut counts).await?;
    Ok(counts.finish(limit))
}

/// The scopes of which files tell the values themselves.
fn scopes(asked: Asked) -> Option<Option<Scope>> {
    match asked {
        Asked::Any => Some(None),
        Asked::Span => Some(Some(Scope::Span)),
        Asked::Resource => Some(Some(Scope::Resource)),
        Asked::Instrumentation => Some(Some(Scope::Instrumentation)),
        Asked::Event | Asked::Link => None,
    }
}

/// Values of all spans, as [`attributes::values`] has them.
async fn summed(
    view: &View,
    scope: Option<Scope>,
    key: &str,
    range: TimeRange,
    limit: usize,
) -> Result<Vec<(Value<'static>, u64)>> {
    let mut counts = BTreeMap::<Value<'static>, u64>::new();
    for value in attributes::values(view, scope, key, range, limit).await?.values {
        let typed = match value.value_type {
            ValueType::Int => value.value.parse().ok().map(Value::Int),
            ValueType::Double => value.value.parse().ok().map(Value::Float),
            ValueType::Bool => value.value.parse().ok().map(Value::Bool),
            ValueType::String | ValueType::Other => None,
        };
        *counts.entry(typed.unwrap_or_else(|| Value::Text(value.value.into()))).or_default() += value.spans;
    }
    Ok(most_frequent(counts, limit))
}

/// The nodes of the graph in the minutes of a range, each with the requests that it received, or made as a caller.
async fn of_graph(view: &View, of: Intrinsic, range: TimeRange, limit: usize) -> Result<Vec<(Value<'static>, u64)>> {
    let (start, end) = (range.start.div_euclid(MINUTE), range.end.saturating_add(MINUTE - 1).div_euclid(MINUTE));
    let minutes = TimeRange { start: start * MINUTE, end: end * MINUTE };
    let Graph { nodes, edges, .. } = graph(view, &GraphQuery::whole(minutes, EDGES_MAX)).await?;
    let mut counts = BTreeMap::<Value<'static>, u64>::new();
    let mut add = |id: &str, requests: u64| *counts.entry(Value::text(id).into_owned()).or_default() += requests;
    match of {
        Intrinsic::Caller => {
            let known = edges.iter().filter(|edge| edge.source != NodeKind::Unknown.as_str());
            known.for_each(|edge| add(&edge.source, edge.requests));
        }
        Intrinsic::Callee => edges.iter().for_each(|edge| add(&edge.target, edge.requests)),
        // Others have no spans.
        _ => {
            let of_mesh = [NodeKind::Workload, NodeKind::Gateway].map(NodeKind::as_str);
            nodes.iter().filter(|node| of_mesh.contains(&node.kind)).for_each(|node| add(&node.id, node.requests));
        }
    }
    Ok(most_frequent(counts, limit))
}

/// The most frequent first, then by value.
fn most_frequent(counts: BTreeMap<Value<'static>, u64>, limit: usize) -> Vec<(Value<'static>, u64)> {
    let mut values: Vec<_> = counts.into_iter().collect();
    values.sort_by_key(|(_, count)| Reverse(*count));
    values.truncate(limit);
    values
}

/// What is asked, of which spans.
struct Question {
    attribute: Attribute,
    query: Query,
    conditions: Conditions,
    range: TimeRange,
    /// Whether only roots are asked, each for itself.
    roots: bool,
}

impl Question {
    fn new(attribute: &Attribute, filter: Option<&Query>, range: TimeRange) -> Result<Question> {
        use Intrinsic::{RootName, RootServiceName};
        let all = || {
            let everything = SpansetExpr::Filter(FieldExpr::Literal(Literal::Bool(true)));
            let pipeline = Pipeline { stages: vec![Stage::Spansets(everything)] };
            Query { body: Body::Search(pipeline), hints: Vec::new(), attributes: Vec::new() }
        };
        let roots = filter.is_none() && matches!(attribute, Attribute::Intrinsic(RootName | RootServiceName));
        let mut query = filter.cloned().unwrap_or_else(all);
        if matches!(query.body, Body::Metrics(_)) {
            return Err(QueryError::invalid("values are of spans that a search leaves, not of metrics").into());
        }
        let mut conditions = query.conditions();
        let attribute = match attribute {
            Attribute::Named(named) => {
                let named = Named { slot: query.attributes.len(), ..named.clone() };
                query.attributes.push(named.clone());
                Attribute::Named(named)
            }
            Attribute::Intrinsic(intrinsic) => {
                conditions.intrinsics.push(*intrinsic);
                Attribute::Intrinsic(*intrinsic)
            }
        };
        Ok(Question { attribute, query, conditions, range, roots })
    }

    /// Whether each span tells its value, whatever other spans its trace has.
    fn is_of_each_span(&self) -> bool {
        let of_trace = matches!(self.attribute, Attribute::Intrinsic(intrinsic) if intrinsic.is_of_trace());
        self.roots || (self.conditions.reach == Reach::Span && !of_trace)
    }

    async fn ask(&self, view: &View, counts: &mut Counts) -> Result<()> {
        let (query, conditions) = (&self.query, &self.conditions);
        let columns = of_query(query, conditions);
        let candidates = Candidates { view, query, conditions, range: self.range, columns };
        let mut count = |traces: &mut dyn Iterator<Item = BatchTrace<'_>>| {
            for trace in traces {
                self.count(&trace, counts)?;
            }
            counts.memory.try_resize(counts.bytes)
        };
        if !self.is_of_each_span() {
            return candidates.traces(count).await;
        }
        let rows = candidates.spans(self.roots.then(|| col("parent_span_id").is_null())).await?;
        let mut batches = together(rows).await?;
        while let Some(batch) = batches.try_next().await? {
            count(&mut TraceRows::new([&batch], &query.attributes)?.spans())?;
        }
        Ok(())
    }

    /// Counts the values of those spans of a trace that the query leaves and that start in the range.
    fn count(&self, trace: &BatchTrace<'_>, counts: &mut Counts) -> Result<()> {
        let Body::Search(pipeline) = &self.query.body else { return Ok(()) };
        let view = TraceView::new(trace);
        for span in view.pipeline(pipeline).map_err(failed)?.into_iter().flat_map(|spanset| spanset.spans) {
            let start = (trace.facts(span as usize).start / 1000) as i64;
            if self.range.start <= start && start < self.range.end {
                self.values(&view, span as usize, counts);
            }
        }
        Ok(())
    }

    /// Counts the value of a span; those of each of its events, or of its links.
    fn values<'t>(&self, view: &TraceView<'t, BatchTrace<'t>>, span: usize, counts: &mut Counts) {
        use Intrinsic::*;
        let several = match &self.attribute {
            Attribute::Named(named) => matches!(named.scope, Asked::Event | Asked::Link),
            Attribute::Intrinsic(of) => matches!(of, EventName | EventTimeSinceStart | LinkTraceId | LinkSpanId),
        };
        if several {
            view.any_value(span, &self.attribute, |value| {
                counts.add(value);
                false
            });
        } else {
            counts.add(&view.attribute(span, &self.attribute));
        }
    }
}

/// Values, and how often they were seen.
struct Counts {
    counts: BTreeMap<Value<'static>, u64>,
    bytes: usize,
    memory: MemoryReservation,
}

impl Counts {
    fn add(&mut self, value: &Value<'_>) {
        match value {
            Value::Nil => {}
            Value::Array(array) => array.iter().for_each(|element| self.add(&element)),
            value => {
                let value = value.clone().into_owned();
                if let Some(count) = self.counts.get_mut(&value) {
                    *count += 1;
                } else if self.counts.len() < VALUES_MAX {
                    self.bytes += value.bytes() + size_of::<u64>();
                    self.counts.insert(value, 1);
                }
            }
        }
    }

    fn finish(self, limit: usize) -> Vec<(Value<'static>, u64)> {
        most_frequent(self.counts, limit)
    }
}
