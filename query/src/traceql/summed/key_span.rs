use meshlake_hops::span_rollup::SpanKey;
use meshlake_traceql::{Event, Kind, Link, Named, Owner, Scope, SpanFacts, Status, Trace, Value};

use super::super::rows::named;

/// The key of the service in resources.
pub(super) const SERVICE: &str = "service.name";

/// A trace of one span, of which nothing is known but what it is summed by.
pub(super) struct KeySpan<'k>(pub(super) SpanKey<'k>);

impl Trace for KeySpan<'_> {
    fn id(&self) -> [u8; 16] {
        [0; 16]
    }

    fn len(&self) -> usize {
        1
    }

    fn facts(&self, _span: usize) -> SpanFacts {
        SpanFacts {
            id: [0; 8],
            parent_id: [0; 8],
            start: 0,
            duration: 0,
            kind: named(self.0.kind, &Kind::NAMES).unwrap_or(Kind::Unspecified),
            status: named(self.0.status, &Status::NAMES).unwrap_or(Status::Unset),
        }
    }

    fn name(&self, _span: usize) -> &str {
        self.0.name
    }

    fn status_message(&self, _span: usize) -> &str {
        ""
    }

    fn service_name(&self, _span: usize) -> Option<&str> {
        self.0.service
    }

    fn instrumentation(&self, _span: usize) -> (&str, &str) {
        ("", "")
    }

    fn attribute(&self, _span: usize, owner: Owner, attribute: &Named) -> Value<'_> {
        match (owner, attribute.name.as_str()) {
            (Owner::Resource, SERVICE) => self.0.service.map_or(Value::Nil, Value::text),
            _ => Value::Nil,
        }
    }

    fn events(&self, _span: usize) -> usize {
        0
    }

    fn event(&self, _span: usize, _event: usize) -> Event<'_> {
        Event { name: "", since_start: 0 }
    }

    fn links(&self, _span: usize) -> usize {
        0
    }

    fn link(&self, _span: usize, _link: usize) -> Link {
        Link { trace_id: [0; 16], span_id: [0; 8] }
    }

    fn each_attribute(&self, _span: usize, _show: &mut dyn FnMut(Scope, &str, Value<'_>)) {}
}
