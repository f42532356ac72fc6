//! Random traces and random queries, small enough that they often meet. Queries are texts with every bracket written, so that what
//! they mean does not hang on the levels of operators.

use std::borrow::Cow;

use meshlake_traceql::{Array, Kind, Status, Value};
use proptest::prelude::*;
use proptest::sample::select;

use super::{Attributes, Graph, Span, Spans};

const NAMES: [&str; 4] = ["a", "b", "c", "service.name"];
const TEXTS: [&str; 4] = ["x", "y", "xy", ""];

fn value() -> impl Strategy<Value = Value<'static>> {
    let text = || select(&TEXTS[..]).prop_map(Cow::Borrowed);
    prop_oneof![
        12 => (-1i64..4).prop_map(Value::Int),
        8 => text().prop_map(Value::Text),
        4 => any::<bool>().prop_map(Value::Bool),
        4 => select(&[0.0, 1.5, 2.0, -1.0, f64::NAN][..]).prop_map(Value::Float),
        1 => prop::collection::vec(-1i64..4, 0..3).prop_map(|values| Value::Array(Array::Int(Cow::Owned(values)))),
        1 => prop::collection::vec(text(), 0..3).prop_map(|values| Value::Array(Array::Text(values))),
        1 => prop::collection::vec(select(&[1.0, 1.5][..]), 0..3).prop_map(|values| Value::Array(Array::Float(Cow::Owned(values)))),
        1 => prop::collection::vec(any::<bool>(), 0..3).prop_map(|values| Value::Array(Array::Bool(Cow::Owned(values)))),
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let attribute = (select(&NAMES[..]), value()).prop_map(|(name, value)| match name {
        // Services have names.
        "service.name" => (name.to_owned(), Value::text("shop")),
        name => (name.to_owned(), value),
    });
    prop::collection::vec(attribute, 0..4)
}

fn text() -> impl Strategy<Value = String> {
    select(&TEXTS[..]).prop_map(str::to_owned)
}

pub const KINDS: [Kind; 6] = [Kind::Unspecified, Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer];
pub const STATUSES: [Status; 3] = [Status::Unset, Status::Ok, Status::Error];

fn graph() -> impl Strategy<Value = Graph> {
    let node = || prop::option::of(text());
    (any::<bool>(), node(), node(), node()).prop_map(|(entry, node, caller, callee)| Graph { entry, node, caller, callee })
}

fn span() -> impl Strategy<Value = Span> {
    let who = (1u8..9, prop_oneof![2 => Just(0u8), 5 => 1u8..9], 1_000u64..1_012, -2i64..20);
    let what = (text(), select(&KINDS[..]), select(&STATUSES[..]), text(), (text(), text()));
    let events = prop::collection::vec((text(), 0i64..4, attributes()), 0..3);
    let links = prop::collection::vec((1u8..9, attributes()), 0..3);
    let has = (attributes(), attributes(), attributes(), events, links, graph());
    (who, what, has).prop_map(|((id, parent, start, duration), (name, kind, status, message, library), has)| {
        let (span, resource, instrumentation, events, links, graph) = has;
        let span = Span {
            id,
            parent,
            start,
            duration,
            name,
            kind,
            status,
            message,
            library,
            span,
            resource,
            ..super::span(id, parent, "")
        };
        Span { instrumentation, events, links, graph, ..span }
    })
}

/// Any trace: orphans, circles, ids of several spans. Mostly a tree. Spans of one start have different ids.
pub fn trace() -> impl Strategy<Value = Spans> {
    let chaos = prop::collection::vec(span(), 0..9);
    let tree = prop::collection::vec(span(), 3..9).prop_map(|mut spans| {
        for (index, span) in (1u8..).zip(&mut spans) {
            span.id = index;
            span.parent = if index == 1 { 0 } else { span.parent % index };
        }
        spans
    });
    (prop_oneof![1 => chaos, 3 => tree], any::<[u8; 2]>()).prop_map(|(mut spans, id)| {
        let mut seen = std::collections::BTreeSet::new();
        spans.retain(|span| seen.insert((span.start, span.id)));
        let mut trace_id = [0; 16];
        trace_id[..2].copy_from_slice(&id);
        Spans { id: trace_id, spans }
    })
}

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<String> {
    select(texts).prop_map(str::to_owned).boxed()
}

fn attribute() -> BoxedStrategy<String> {
    one_of(&[
        ".a",
        ".b",
        ".c",
        ".service.name",
        "span.a",
        "span.b",
        "resource.a",
        "resource.b",
        "resource.service.name",
        "event.a",
        "event.b",
        "link.a",
        "link.b",
        "instrumentation.a",
        ".\"a\"",
    ])
}

fn number(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        3 => one_of(&["0", "1", "2", "3", "-1", "1.5", "-0.5", "5ns", "10ns"]),
        4 => attribute(),
        2 => one_of(&["duration", "traceDuration", "childCount", "nestedSetLeft", "nestedSetRight", "nestedSetParent"]),
        1 => one_of(&["event:timeSinceStart"]),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = || number(depth - 1);
    prop_oneof![
        9 => leaf,
        2 => (inner(), select(&["+", "-", "*", "/", "%", "^"][..]), inner()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        1 => inner().prop_map(|a| format!("-({a})")),
    ]
    .boxed()
}

/// What the service graph tells.
fn node() -> BoxedStrategy<String> {
    one_of(&["span.meshlake.node", "span.meshlake.caller", "span.meshlake.callee"])
}

fn words() -> BoxedStrategy<String> {
    prop_oneof![
        3 => one_of(&["\"x\"", "\"y\"", "`xy`", "\"\""]),
        3 => attribute(),
        2 => one_of(&["name", "statusMessage", "rootName", "rootServiceName", "event:name", "instrumentation:name", "instrumentation:version"]),
        1 => one_of(&["link:spanID", "span:id", "span:parentID"]),
        1 => node(),
    ]
    .boxed()
}

/// A condition.
pub fn condition(depth: u32) -> BoxedStrategy<String> {
    let compare = || select(&["=", "!=", "<", "<=", ">", ">="][..]);
    let equal = || select(&["=", "!="][..]);
    let leaf = prop_oneof![
        4 => (number(1), compare(), number(1)).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        3 => (words(), compare(), words()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        2 => (words(), select(&["=~", "!~"][..]), select(&["\"x.*\"", "\"\"", "`y|x`", "\"[^x]\""][..]))
            .prop_map(|(a, op, pattern)| format!("{a} {op} {pattern}")),
        1 => (equal(), one_of(&["ok", "error", "unset"])).prop_map(|(op, of)| format!("status {op} {of}")),
        1 => (one_of(&["kind", ".a"]), equal(), one_of(&["server", "client", "unspecified"])).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (attribute(), equal())
            .prop_filter("always there", |(a, _)| a != "resource.service.name")
            .prop_map(|(a, op)| format!("{a} {op} nil")),
        1 => (number(1), equal()).prop_map(|(a, op)| format!("(({a}) + 1) {op} nil")),
        1 => (attribute(), equal(), one_of(&["true", "false"])).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => attribute(),
        1 => prop_oneof![
            (node(), equal()).prop_map(|(a, op)| format!("{a} {op} nil")),
            one_of(&["span.meshlake.entry", "span.meshlake.entry = false"]),
        ],
        1 => one_of(&["true", "false", "nil = nil", "span:parentID != nil", "nestedSetParent < 0"]),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = || condition(depth - 1);
    prop_oneof![
        3 => leaf,
        4 => (inner(), select(&["&&", "||"][..]), inner()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        1 => (inner(), select(&["&&", "||"][..]), inner(), inner()).prop_map(|(a, op, b, c)| format!("({a}) {op} ({b}) {op} ({c})")),
        1 => (inner(), equal(), inner()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        2 => inner().prop_map(|a| format!("!({a})")),
    ]
    .boxed()
}

fn spanset(depth: u32) -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        1 => condition(2).prop_map(|condition| format!("{{ {condition} }}")),
        3 => condition(0).prop_map(|condition| format!("{{ {condition} }}")),
        4 => Just("{}".to_owned()),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let inner = || spanset(depth - 1);
    let operators = &["&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~"];
    prop_oneof![
        3 => leaf,
        6 => (inner(), select(&operators[..]), inner()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        1 => (inner(), stage(0)).prop_map(|(a, stage)| format!("({a} | {stage}) || ({{ false }})")),
        1 => (inner(), stage(0)).prop_map(|(a, stage)| format!("({a} | {stage}) >> ({{}})")),
    ]
    .boxed()
}

fn stage(depth: u32) -> BoxedStrategy<String> {
    let compare = select(&["=", "!=", "<", "<=", ">", ">=", ">=", "!="][..]);
    let aggregate = prop_oneof![
        2 => Just("count()".to_owned()),
        2 => (select(&["min", "max", "sum", "avg"][..]), prop_oneof![attribute(), one_of(&["duration", "duration + .a", "childCount"])])
            .prop_map(|(function, of)| format!("{function}({of})")),
    ];
    prop_oneof![
        2 => spanset(depth),
        3 => (aggregate, compare, select(&["0", "1", "2", "1.5", "5ns"][..])).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        2 => prop_oneof![attribute(), words().prop_filter("of the span", |text| !text.starts_with(['"', '`'])), condition(0)
            .prop_filter("of the span", |text| text.contains(['.', 'n']) && !matches!(text.as_str(), "nil = nil") && reads(text))]
            .prop_map(|of| format!("by({of})")),
        1 => Just("coalesce()".to_owned()),
        1 => attribute().prop_map(|of| format!("select({of}, name)")),
    ]
    .boxed()
}

/// Whether a condition is of the span at all.
fn reads(text: &str) -> bool {
    format!("{{}} | by({text})").parse::<meshlake_traceql::Query>().is_ok()
}

pub fn pipeline() -> BoxedStrategy<String> {
    (prop_oneof![3 => spanset(0), 3 => spanset(1), 1 => spanset(2)], prop::collection::vec(stage(1), 0..4))
        .prop_map(|(first, stages)| stages.into_iter().fold(first, |all, stage| format!("{all} | {stage}")))
        .boxed()
}

/// A metrics function; if `exact`, neither of quantiles, of which stages of series would show the last digit, nor `compare()`, which
/// nothing follows.
fn function(exact: bool) -> BoxedStrategy<String> {
    let of = || prop_oneof![attribute(), one_of(&["duration", "traceDuration", "event:timeSinceStart", "childCount"])];
    let by = prop_oneof![
        2 => Just(String::new()),
        3 => prop::collection::vec(prop_oneof![4 => attribute(), 4 => one_of(&["name", "status", "kind", "rootName"]), 1 => node()], 1..4)
            .prop_map(|by| format!(" by({})", by.join(", "))),
    ];
    let exactly = prop_oneof![
        2 => one_of(&["rate()", "count_over_time()"]),
        3 => (select(&["min", "max", "sum", "avg"][..]), of()).prop_map(|(function, of)| format!("{function}_over_time({of})")),
        1 => of().prop_map(|of| format!("histogram_over_time({of})")),
    ];
    if exact {
        return (exactly, by).prop_map(|(function, by)| function + &by).boxed();
    }
    let function = prop_oneof![3 => exactly, 1 => of().prop_map(|of| format!("quantile_over_time({of}, 0, .5, 0.9, 1)"))];
    let compare = condition(1).prop_map(|condition| format!("compare({{ {condition} }}, 2)"));
    prop_oneof![6 => (function, by).prop_map(|(function, by)| function + &by), 1 => compare].boxed()
}

fn metrics(exact: bool) -> BoxedStrategy<String> {
    (spanset(1), function(exact)).prop_map(|(spans, function)| format!("{spans} | {function}")).boxed()
}

/// A metrics query.
pub fn series() -> BoxedStrategy<String> {
    let staged = (metrics(true), select(&["", " | topk(1)", " | bottomk(2)", " > 1", " <= 1", " > 1 | topk(1)", " != 5ns"][..]))
        .prop_map(|(query, stage)| query + stage);
    let math = (staged.clone(), select(&["+", "-", "*", "/"][..]), staged.clone(), select(&["", " * 2", " > 0", " | topk(1)"][..]))
        .prop_map(|(a, op, b, stage)| format!("(({a}) {op} ({b})){stage}"));
    prop_oneof![1 => metrics(false), 2 => staged, 2 => math].boxed()
}

/// Any query.
pub fn query() -> BoxedStrategy<String> {
    let hints = select(&["", " with(most_recent=true)", " with(a=1, b=\"x\") with(c=5ms)"][..]);
    (prop_oneof![pipeline(), series()], hints).prop_map(|(query, hints)| query + hints).boxed()
}
