use std::fmt;

use crate::lexer::tokens;
use crate::text::Name;
use crate::token::{Token, TokenKind};

/// Whose attribute is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `.x`: of the first of these that has it, in this order: span, resource, event, link, instrumentation.
    Any,
    /// `span.x`
    Span,
    /// `resource.x`
    Resource,
    /// `event.x`
    Event,
    /// `link.x`
    Link,
    /// `instrumentation.x`
    Instrumentation,
}

impl Scope {
    /// All that have a name, as queries write them.
    pub const NAMES: [(&'static str, Scope); 5] = [
        ("span", Scope::Span),
        ("resource", Scope::Resource),
        ("event", Scope::Event),
        ("link", Scope::Link),
        ("instrumentation", Scope::Instrumentation),
    ];
}

/// Without the point: empty for [`Scope::Any`].
impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(Scope::NAMES.iter().find(|(_, scope)| scope == self).map_or("", |(name, _)| name))
    }
}

/// An attribute by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Whose.
    pub scope: Scope,
    /// Its key.
    pub name: String,
    /// Its place in [`crate::Query::attributes`]. Who answers queries looks up there where each attribute is kept, once a query.
    pub slot: usize,
}

macro_rules! intrinsics {
    ($($variant:ident $name:literal $(also $other:literal)*, $doc:literal;)*) => {
        /// What every span, trace, event or link has without an attribute.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Intrinsic { $(#[doc = $doc] $variant,)* }

        impl Intrinsic {
            /// All.
            pub const ALL: &'static [Intrinsic] = &[$(Intrinsic::$variant),*];

            /// As answers name it.
            pub fn name(self) -> &'static str {
                match self { $(Intrinsic::$variant => $name,)* }
            }

            /// By any of its names.
            pub(crate) fn named(name: &str) -> Option<Intrinsic> {
                match name { $($name $(| $other)* => Some(Intrinsic::$variant),)* _ => None }
            }

            /// What is written as an attribute, but computed.
            pub(crate) fn of_attribute(scope: Scope, name: &str) -> Option<Intrinsic> {
                Intrinsic::named(&format!("{scope}.{name}"))
            }
        }
    };
}

intrinsics! {
    Duration "duration" also "span:duration", "How long the span took.";
    Name "name" also "span:name", "The operation.";
    Status "status" also "span:status", "How it ended.";
    StatusMessage "statusMessage" also "span:statusMessage", "What was said of how it ended.";
    Kind "kind" also "span:kind", "What it is of.";
    ChildCount "childCount" also "span:childCount", "How many spans have it as their parent.";
    RootName "rootName" also "trace:rootName", "The name of the first root of the trace.";
    RootServiceName "rootServiceName" also "trace:rootService", "The service of the first root of the trace.";
    TraceDuration "traceDuration" also "trace:duration", "From the first start to the last end in the trace.";
    NestedSetLeft "nestedSetLeft", "The span's number in preorder; 0 if its position is not known.";
    NestedSetRight "nestedSetRight", "The number after all spans below it.";
    NestedSetParent "nestedSetParent", "The left number of its parent; -1 for a root.";
    TraceId "trace:id", "The trace, 32 hexadecimal digits.";
    SpanId "span:id", "The span, 16 hexadecimal digits.";
    ParentId "span:parentID", "Its parent; nil for a root.";
    EventName "event:name", "An event.";
    EventTimeSinceStart "event:timeSinceStart", "When it was, after the span's start.";
    LinkTraceId "link:traceID", "The trace that a link leads to.";
    LinkSpanId "link:spanID", "The span that a link leads to.";
    InstrumentationName "instrumentation:name", "The library that wrote the span.";
    InstrumentationVersion "instrumentation:version", "Its version.";
    Entry "span.meshlake.entry", "Whether it is a request of its node in the service graph.";
    Node "span.meshlake.node", "The node of the service graph whose it is.";
    Caller "span.meshlake.caller", "The node that asked, of the hop that it stands for.";
    Callee "span.meshlake.callee", "The node that was asked.";
}

/// What a query reads of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// What every span has.
    Intrinsic(Intrinsic),
    /// What a span may have.
    Named(Named),
}

impl Intrinsic {
    /// Whether it is what it is by other spans of the trace: positions, children, the root, times of the whole, and what the service graph
    /// makes of it.
    pub fn is_of_trace(self) -> bool {
        use Intrinsic::*;
        self.is_of_graph()
            || matches!(
                self,
                ChildCount | RootName | RootServiceName | TraceDuration | NestedSetLeft | NestedSetRight | NestedSetParent
            )
    }

    /// Whether the service graph tells it ([`crate::Trace::in_graph`]).
    pub fn is_of_graph(self) -> bool {
        matches!(self, Intrinsic::Entry | Intrinsic::Node | Intrinsic::Caller | Intrinsic::Callee)
    }
}

impl Attribute {
    /// The attribute that a list of tags calls so: `name`, `span:id`, `resource.service.name`, `.x`, or `x` for `.x`. What a query would
    /// put in quotes may stand without them.
    pub fn of_tag(tag: &str) -> Attribute {
        if let Some(intrinsic) = Intrinsic::named(tag) {
            return Attribute::Intrinsic(intrinsic);
        }
        if let Ok([Token { kind: TokenKind::Attribute(scope, name), .. }, _]) = tokens(tag).as_deref() {
            return Attribute::of(*scope, name);
        }
        let scoped = |(prefix, scope): (&str, Scope)| Some((scope, tag.strip_prefix(prefix)?.strip_prefix('.')?));
        let unscoped = (Scope::Any, tag.strip_prefix('.').unwrap_or(tag));
        let (scope, name) = Scope::NAMES.into_iter().find_map(scoped).unwrap_or(unscoped);
        Attribute::of(scope, name)
    }

    /// Whether an event or a link may have it.
    pub(crate) fn may_be_of_events_or_links(&self) -> bool {
        use Intrinsic::{EventName, EventTimeSinceStart, LinkSpanId, LinkTraceId};
        match self {
            Attribute::Intrinsic(intrinsic) => {
                matches!(intrinsic, EventName | EventTimeSinceStart | LinkSpanId | LinkTraceId)
            }
            Attribute::Named(named) => matches!(named.scope, Scope::Any | Scope::Event | Scope::Link),
        }
    }

    fn of(scope: Scope, name: &str) -> Attribute {
        let named = || Attribute::Named(Named { scope, name: name.to_owned(), slot: 0 });
        Intrinsic::of_attribute(scope, name).map_or_else(named, Attribute::Intrinsic)
    }

    /// The key under which an answer carries it: without its scope.
    pub fn key(&self) -> &str {
        match self {
            Attribute::Intrinsic(intrinsic) => intrinsic.name().strip_prefix("span.").unwrap_or(intrinsic.name()),
            Attribute::Named(named) => &named.name,
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.scope, Name(&self.name))
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attribute::Intrinsic(intrinsic) => out.write_str(intrinsic.name()),
            Attribute::Named(named) => named.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: names as lists of tags and those who pick from them write them. Guarantee: each is the attribute that is meant, whatever
    /// stands in its name.
    #[test]
    fn tags_are_attributes() {
        for (tag, scope, name) in [
            ("resource.service.name", Scope::Resource, "service.name"),
            ("span.http.status_code", Scope::Span, "http.status_code"),
            ("event.exception.type", Scope::Event, "exception.type"),
            ("instrumentation.x", Scope::Instrumentation, "x"),
            (".x", Scope::Any, "x"),
            ("service.name", Scope::Any, "service.name"),
            ("spanning.x", Scope::Any, "spanning.x"),
            ("span.a/b c{d}", Scope::Span, "a/b c{d}"),
            ("span.\"a b\"", Scope::Span, "a b"),
            (".a b", Scope::Any, "a b"),
            (".meshlake.entry", Scope::Any, "meshlake.entry"),
            ("resource.meshlake.node", Scope::Resource, "meshlake.node"),
            ("span.\"a", Scope::Span, "\"a"),
            ("", Scope::Any, ""),
        ] {
            assert_eq!(Attribute::of_tag(tag), Attribute::Named(Named { scope, name: name.to_owned(), slot: 0 }), "{tag}");
        }
        for (tag, intrinsic) in [
            ("name", Intrinsic::Name),
            ("span:status", Intrinsic::Status),
            ("trace:rootService", Intrinsic::RootServiceName),
            ("span.meshlake.entry", Intrinsic::Entry),
            ("span.\"meshlake.node\"", Intrinsic::Node),
        ] {
            assert_eq!(Attribute::of_tag(tag), Attribute::Intrinsic(intrinsic));
        }
    }
}
