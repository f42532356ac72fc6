use crate::attribute::{Named, Scope};
use crate::value::{Kind, Status, Value};

/// What is asked of a span whatever the query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanFacts {
    /// Its id.
    pub id: [u8; 8],
    /// Its parent's; zeros if it is a root.
    pub parent_id: [u8; 8],
    /// When it began, nanoseconds since 1970.
    pub start: u64,
    /// How long it took, nanoseconds.
    pub duration: i64,
    /// What it is of.
    pub kind: Kind,
    /// How it ended.
    pub status: Status,
}

/// What the service graph makes of a span; none where it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InGraph<'t> {
    /// Whether it is the entry of a hop: one request of its node.
    pub entry: bool,
    /// The id of the node whose it is.
    pub node: Option<&'t str>,
    /// The id of the node that asked, if the span is the key of a hop.
    pub caller: Option<&'t str>,
    /// The id of the node that was asked.
    pub callee: Option<&'t str>,
}

/// Whose attribute is looked up: a scope in which nothing is left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The span.
    Span,
    /// What wrote it.
    Resource,
    /// The library that wrote it.
    Instrumentation,
    /// The event at this place.
    Event(usize),
    /// The link at this place.
    Link(usize),
}

/// An event without its attributes.
#[derive(Clone, Copy, Debug)]
pub struct Event<'t> {
    /// Its name.
    pub name: &'t str,
    /// When it was after the span's start, nanoseconds.
    pub since_start: i64,
}

/// A link without its attributes.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Where it leads to.
    pub trace_id: [u8; 16],
    /// And to which span.
    pub span_id: [u8; 8],
}

/// A trace: its spans, known by their places from 0 to [`Trace::len`]. Answers do not depend on the order of the places, except
/// among spans of one start and one id.
pub trait Trace {
    /// The trace.
    fn id(&self) -> [u8; 16];

    /// How many spans; fewer than 2^32.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What every span has.
    fn facts(&self, span: usize) -> SpanFacts;

    /// The operation.
    fn name(&self, span: usize) -> &str;

    /// What was said of how it ended.
    fn status_message(&self, span: usize) -> &str;

    /// The attribute `service.name` of its resource.
    fn service_name(&self, span: usize) -> Option<&str>;

    /// Name and version of the library that wrote it.
    fn instrumentation(&self, span: usize) -> (&str, &str);

    /// An attribute; [`Value::Nil`] if there is none. [`Named::slot`] tells it without its name. [`Named::scope`] may be open.
    fn attribute(&self, span: usize, owner: Owner, attribute: &Named) -> Value<'_>;

    /// How many events.
    fn events(&self, span: usize) -> usize;

    /// One of them.
    fn event(&self, span: usize, event: usize) -> Event<'_>;

    /// How many links.
    fn links(&self, span: usize) -> usize;

    /// One of them.
    fn link(&self, span: usize, link: usize) -> Link;

    /// What the service graph makes of it. Asked for by queries that read it only ([`crate::Conditions::reads_graph`]).
    fn in_graph(&self, _span: usize) -> InGraph<'_> {
        InGraph::default()
    }

    /// Shows every attribute of a span, of its resource, library, events and links. Asked for by `compare()` only.
    fn each_attribute(&self, span: usize, show: &mut dyn FnMut(Scope, &str, Value<'_>));
}
