//! What a span has.

use std::borrow::Cow;
use std::cell::Cell;

use super::view::View;
use crate::attribute::{Attribute, Intrinsic, Named, Scope};
use crate::trace::{Owner, Trace};
use crate::value::Value;

/// A span that is looked at, and the one event and the one link of it that are meant.
pub(super) struct Looked<'v, 't, T: ?Sized> {
    view: &'v View<'t, T>,
    span: usize,
    event: Choice,
    link: Choice,
}

/// Which of a span's events, or of its links.
pub(super) struct Choice {
    /// None: the first that has what is asked for.
    index: Option<usize>,
    /// Whether any was asked for anything.
    pub asked: Cell<bool>,
}

impl Choice {
    fn new(index: Option<usize>) -> Choice {
        Choice { index, asked: Cell::new(false) }
    }

    /// The first value of those that are meant.
    fn find<'t>(&self, count: usize, value: impl Fn(usize) -> Value<'t>) -> Value<'t> {
        self.asked.set(true);
        let meant = self.index.map_or(0..count, |index| index..count.min(index + 1));
        meant.map(value).find(|value| !value.is_nil()).unwrap_or(Value::Nil)
    }
}

impl<'v, 't, T: Trace + ?Sized> Looked<'v, 't, T> {
    /// A span, of whose events and links the first that has a value is meant.
    pub(super) fn any(view: &'v View<'t, T>, span: usize) -> Looked<'v, 't, T> {
        Looked { view, span, event: Choice::new(None), link: Choice::new(None) }
    }

    /// A span with one event and one link.
    pub(super) fn one(view: &'v View<'t, T>, span: usize, event: usize, link: usize) -> Looked<'v, 't, T> {
        Looked { view, span, event: Choice::new(Some(event)), link: Choice::new(Some(link)) }
    }

    /// Whether the event mattered, and whether the link did.
    pub(super) fn asked(&self) -> (bool, bool) {
        (self.event.asked.get(), self.link.asked.get())
    }

    pub(super) fn attribute(&self, attribute: &Attribute) -> Value<'t> {
        match attribute {
            Attribute::Intrinsic(intrinsic) => self.intrinsic(*intrinsic),
            Attribute::Named(named) => self.named(named),
        }
    }

    fn of(&self, owner: Owner, named: &Named) -> Value<'t> {
        self.view.trace.attribute(self.span, owner, named)
    }

    fn named(&self, named: &Named) -> Value<'t> {
        let in_events = || self.event.find(self.view.trace.events(self.span), |event| self.of(Owner::Event(event), named));
        let in_links = || self.link.find(self.view.trace.links(self.span), |link| self.of(Owner::Link(link), named));
        match named.scope {
            Scope::Span => self.of(Owner::Span, named),
            Scope::Resource => self.of(Owner::Resource, named),
            Scope::Instrumentation => self.of(Owner::Instrumentation, named),
            Scope::Event => in_events(),
            Scope::Link => in_links(),
            Scope::Any => {
                let of_span = or(self.of(Owner::Span, named), || self.of(Owner::Resource, named));
                or(of_span, || or(in_events(), || or(in_links(), || self.of(Owner::Instrumentation, named))))
            }
        }
    }

    fn intrinsic(&self, intrinsic: Intrinsic) -> Value<'t> {
        let (trace, span) = (self.view.trace, self.span);
        let place = || self.view.shape().places[span];
        let text = |text: Option<&'t str>| text.map_or(Value::Nil, Value::text);
        let root = |name: &dyn Fn(usize) -> Option<&'t str>| text(self.view.whole().root.and_then(name));
        match intrinsic {
            Intrinsic::Duration => Value::Duration(trace.facts(span).duration),
            Intrinsic::Name => Value::text(trace.name(span)),
            Intrinsic::Status => Value::Status(trace.facts(span).status),
            Intrinsic::StatusMessage => Value::text(trace.status_message(span)),
            Intrinsic::Kind => Value::Kind(trace.facts(span).kind),
            Intrinsic::ChildCount => Value::Int(self.view.shape().children[span].into()),
            Intrinsic::RootName => root(&|root| Some(trace.name(root))),
            Intrinsic::RootServiceName => root(&|root| trace.service_name(root)),
            Intrinsic::TraceDuration => Value::Duration(self.view.whole().duration),
            Intrinsic::NestedSetLeft => Value::Int(place().left.into()),
            Intrinsic::NestedSetRight => Value::Int(place().right.into()),
            Intrinsic::NestedSetParent => Value::Int(place().parent),
            Intrinsic::TraceId => hex(&trace.id()),
            Intrinsic::SpanId => hex(&trace.facts(span).id),
            Intrinsic::ParentId => match trace.facts(span).parent_id {
                [0, 0, 0, 0, 0, 0, 0, 0] => Value::Nil,
                id => hex(&id),
            },
            Intrinsic::EventName => self.event.find(trace.events(span), |event| Value::text(trace.event(span, event).name)),
            Intrinsic::EventTimeSinceStart => {
                self.event.find(trace.events(span), |event| Value::Duration(trace.event(span, event).since_start))
            }
            Intrinsic::LinkTraceId => self.link.find(trace.links(span), |link| hex(&trace.link(span, link).trace_id)),
            Intrinsic::LinkSpanId => self.link.find(trace.links(span), |link| hex(&trace.link(span, link).span_id)),
            Intrinsic::InstrumentationName => Value::text(trace.instrumentation(span).0),
            Intrinsic::InstrumentationVersion => Value::text(trace.instrumentation(span).1),
            Intrinsic::Entry => Value::Bool(trace.in_graph(span).entry),
            Intrinsic::Node => text(trace.in_graph(span).node),
            Intrinsic::Caller => text(trace.in_graph(span).caller),
            Intrinsic::Callee => text(trace.in_graph(span).callee),
        }
    }
}

impl<'t, T: Trace + ?Sized> View<'t, T> {
    /// What a span has; of events and links, what the first has that has it.
    pub fn attribute(&self, span: usize, attribute: &Attribute) -> Value<'t> {
        Looked::any(self, span).attribute(attribute)
    }

    /// Whether any value of an attribute is such, of any event or link; what is missing is asked about, too.
    pub fn any_value(&self, span: usize, attribute: &Attribute, mut such: impl FnMut(&Value<'t>) -> bool) -> bool {
        let (mut event, mut link) = (0, 0);
        loop {
            let looked = Looked::one(self, span, event, link);
            if such(&looked.attribute(attribute)) {
                return true;
            }
            // Without what a pair has, the next of either kind is asked: all events with the first link, then all links without an event.
            let (event_asked, link_asked) = looked.asked();
            if event_asked && event < self.trace.events(span) {
                event += 1;
            } else if link_asked && link < self.trace.links(span) {
                link += 1;
            } else {
                return false;
            }
        }
    }

    /// What metrics group a span by: `.x` is of the span or its resource only.
    pub(crate) fn group(&self, span: usize, attribute: &Attribute) -> Value<'t> {
        match attribute {
            Attribute::Named(named) if named.scope == Scope::Any => {
                let of = |owner| self.trace.attribute(span, owner, named);
                or(of(Owner::Span), || of(Owner::Resource))
            }
            attribute => self.attribute(span, attribute),
        }
    }
}

fn or<'t>(value: Value<'t>, other: impl FnOnce() -> Value<'t>) -> Value<'t> {
    if value.is_nil() { other() } else { value }
}

/// As hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> Value<'static> {
    use std::fmt::Write;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Value::Text(Cow::Owned(text))
}
