//! What the service graph makes of the spans of a trace, by the oracle of its rules.

use meshlake_hops::{Direction, Hop, Resource, Span as HopSpan, SpanKind};
use meshlake_traceql::{Kind, Value};

use crate::common::{Graph, Span, wide};
use crate::hop_cases::{oracle, service_id};
use crate::store::TraceId;

/// The spans with what it makes of each. They are of applications that tell nothing but the name of their service.
pub fn placed(id: &TraceId, spans: &[Span]) -> Vec<Span> {
    let read: Vec<HopSpan<'_>> = spans.iter().map(of_hops).collect();
    let (nodes, (hops, _)) = (oracle::nodes(id, &read), oracle::hops(id, &read));
    let graph = |span: &HopSpan<'_>| {
        // Of copies the graph knows one.
        let Some((_, node)) = nodes.iter().find(|(kept, _)| kept == span) else { return Graph::default() };
        let is_key = |hop: &&Hop<'_>| (hop.key.span_id, hop.key.side) == (span.span_id, span.kind.side());
        let hop = hops.iter().filter(is_key).min_by_key(|hop| hop.key.direction);
        Graph {
            entry: hop.is_some_and(|hop| hop.key.direction == Direction::In),
            node: service_id(node),
            caller: hop.and_then(|hop| service_id(&hop.caller)),
            callee: hop.and_then(|hop| service_id(&hop.callee)),
        }
    };
    spans.iter().zip(&read).map(|(span, read)| Span { graph: graph(read), ..span.clone() }).collect()
}

fn of_hops(span: &Span) -> HopSpan<'_> {
    let service = span.resource.iter().find_map(|(key, value)| match value {
        Value::Text(text) if key == "service.name" => Some(&**text),
        _ => None,
    });
    let service = service.unwrap_or_default();
    let kind = match span.kind {
        Kind::Unspecified => SpanKind::Unspecified,
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    };
    HopSpan {
        span_id: wide(span.id),
        parent_span_id: wide(span.parent),
        start: span.start,
        end: span.start.strict_add_signed(span.duration),
        kind,
        name: &span.name,
        service,
        resource: Resource { service_name: service, ..Resource::default() },
        ..HopSpan::default()
    }
}
