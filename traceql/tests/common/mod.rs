//! Traces in memory, random traces and queries, and the semantics once more as an oracle.

#![allow(dead_code)]

pub mod oracle;
pub mod random;
pub mod series;

use std::borrow::Cow;

use meshlake_traceql::{
    Body, Error, EvalError, Event, InGraph, Kind, Link, Named, Owner, Pipeline, Query, Scope, SpanFacts, Spanset, Status, Trace,
    Value, View,
};

pub type Attributes = Vec<(String, Value<'static>)>;

/// A trace that keeps what it is given.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    pub id: [u8; 16],
    pub spans: Vec<Span>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub id: u8,
    /// 0: a root.
    pub parent: u8,
    pub start: u64,
    pub duration: i64,
    pub name: String,
    pub kind: Kind,
    pub status: Status,
    pub message: String,
    pub library: (String, String),
    pub span: Attributes,
    pub resource: Attributes,
    pub instrumentation: Attributes,
    pub events: Vec<(String, i64, Attributes)>,
    pub links: Vec<(u8, Attributes)>,
    pub graph: Graph,
}

/// What the service graph makes of a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    pub entry: bool,
    pub node: Option<String>,
    pub caller: Option<String>,
    pub callee: Option<String>,
}

/// A span with an id, a parent (0: none) and a name; it starts at its id and takes 10 ns.
pub fn span(id: u8, parent: u8, name: &str) -> Span {
    Span {
        id,
        parent,
        start: u64::from(id),
        duration: 10,
        name: name.to_owned(),
        kind: Kind::Internal,
        status: Status::Unset,
        message: String::new(),
        library: (String::new(), String::new()),
        span: Attributes::new(),
        resource: Attributes::new(),
        instrumentation: Attributes::new(),
        events: Vec::new(),
        links: Vec::new(),
        graph: Graph::default(),
    }
}

impl Span {
    pub fn with(mut self, name: &str, value: impl Into<Plain>) -> Span {
        self.span.push((name.to_owned(), value.into().0));
        self
    }

    pub fn of_resource(mut self, name: &str, value: impl Into<Plain>) -> Span {
        self.resource.push((name.to_owned(), value.into().0));
        self
    }

    pub fn event(mut self, name: &str, attributes: &[(&str, i64)]) -> Span {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), Value::Int(*value))).collect();
        self.events.push((name.to_owned(), 5, attributes));
        self
    }

    pub fn starts(mut self, start: u64) -> Span {
        self.start = start;
        self
    }

    pub fn takes(mut self, duration: i64) -> Span {
        self.duration = duration;
        self
    }

    pub fn kind(mut self, kind: Kind) -> Span {
        self.kind = kind;
        self
    }

    pub fn status(mut self, status: Status) -> Span {
        self.status = status;
        self
    }
}

/// A value of a Rust type.
pub struct Plain(pub Value<'static>);

impl From<i64> for Plain {
    fn from(value: i64) -> Plain {
        Plain(Value::Int(value))
    }
}

impl From<f64> for Plain {
    fn from(value: f64) -> Plain {
        Plain(Value::Float(value))
    }
}

impl From<bool> for Plain {
    fn from(value: bool) -> Plain {
        Plain(Value::Bool(value))
    }
}

impl From<&str> for Plain {
    fn from(value: &str) -> Plain {
        Plain(Value::Text(Cow::Owned(value.to_owned())))
    }
}

impl From<Value<'static>> for Plain {
    fn from(value: Value<'static>) -> Plain {
        Plain(value)
    }
}

pub fn trace(spans: Vec<Span>) -> Spans {
    Spans { id: [7; 16], spans }
}

pub fn query(text: &str) -> Query {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What is wrong with a text.
pub fn error(text: &str) -> Error {
    match text.parse::<Query>() {
        Ok(query) => panic!("{query} is valid"),
        Err(error) => error,
    }
}

/// The pipeline of a search.
pub fn pipeline(query: &Query) -> &Pipeline {
    match &query.body {
        Body::Search(pipeline) => pipeline,
        Body::Metrics(_) => panic!("{query} is no search"),
    }
}

/// What a search leaves of a trace.
pub fn evaluate<'t, T: Trace>(query: &Query, trace: &'t T) -> Result<Vec<Spanset<'t>>, EvalError> {
    View::new(trace).pipeline(pipeline(query))
}

/// The ids of the spans of each spanset that a search leaves, or why it fails.
pub fn search(text: &str, trace: &Spans) -> Result<Vec<Vec<u8>>, String> {
    let query = query(text);
    let spansets = evaluate(&query, trace).map_err(|error| error.to_string())?;
    Ok(spansets.into_iter().map(|spanset| spanset.spans.iter().map(|span| trace.spans[*span as usize].id).collect()).collect())
}

/// The ids of the only spanset; none if there is none.
pub fn ids(text: &str, trace: &Spans) -> Vec<u8> {
    let spansets = search(text, trace).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(spansets.len() <= 1, "{text}: {spansets:?}");
    spansets.into_iter().next().unwrap_or_default()
}

pub fn wide(id: u8) -> [u8; 8] {
    [0, 0, 0, 0, 0, 0, 0, id]
}

fn find(attributes: &Attributes, name: &str) -> Value<'static> {
    attributes.iter().find(|(own, _)| own == name).map_or(Value::Nil, |(_, value)| value.clone())
}

impl Trace for Spans {
    fn id(&self) -> [u8; 16] {
        self.id
    }

    fn len(&self) -> usize {
        self.spans.len()
    }

    fn facts(&self, span: usize) -> SpanFacts {
        let span = &self.spans[span];
        let (id, parent_id) = (wide(span.id), wide(span.parent));
        SpanFacts { id, parent_id, start: span.start, duration: span.duration, kind: span.kind, status: span.status }
    }

    fn name(&self, span: usize) -> &str {
        &self.spans[span].name
    }

    fn status_message(&self, span: usize) -> &str {
        &self.spans[span].message
    }

    fn service_name(&self, span: usize) -> Option<&str> {
        self.spans[span].resource.iter().find_map(|(name, value)| match value {
            Value::Text(text) if name == "service.name" => Some(&**text),
            _ => None,
        })
    }

    fn instrumentation(&self, span: usize) -> (&str, &str) {
        let (name, version) = &self.spans[span].library;
        (name, version)
    }

    fn attribute(&self, span: usize, owner: Owner, attribute: &Named) -> Value<'_> {
        let span = &self.spans[span];
        let attributes = match owner {
            Owner::Span => &span.span,
            Owner::Resource => &span.resource,
            Owner::Instrumentation => &span.instrumentation,
            Owner::Event(event) => &span.events[event].2,
            Owner::Link(link) => &span.links[link].1,
        };
        find(attributes, &attribute.name)
    }

    fn events(&self, span: usize) -> usize {
        self.spans[span].events.len()
    }

    fn event(&self, span: usize, event: usize) -> Event<'_> {
        let (name, since_start, _) = &self.spans[span].events[event];
        Event { name, since_start: *since_start }
    }

    fn links(&self, span: usize) -> usize {
        self.spans[span].links.len()
    }

    fn link(&self, span: usize, link: usize) -> Link {
        Link { trace_id: [9; 16], span_id: wide(self.spans[span].links[link].0) }
    }

    fn in_graph(&self, span: usize) -> InGraph<'_> {
        let Graph { entry, node, caller, callee } = &self.spans[span].graph;
        InGraph { entry: *entry, node: node.as_deref(), caller: caller.as_deref(), callee: callee.as_deref() }
    }

    fn each_attribute(&self, span: usize, show: &mut dyn FnMut(Scope, &str, Value<'_>)) {
        let span = &self.spans[span];
        let mut all = |scope, attributes: &Attributes| attributes.iter().for_each(|(name, value)| show(scope, name, value.clone()));
        all(Scope::Span, &span.span);
        all(Scope::Resource, &span.resource);
        all(Scope::Instrumentation, &span.instrumentation);
        span.events.iter().for_each(|(_, _, attributes)| all(Scope::Event, attributes));
        span.links.iter().for_each(|(_, attributes)| all(Scope::Link, attributes));
    }
}
