//! Which columns of `spans` a query reads.

use std::collections::BTreeSet;

use meshlake_storage::{ATTRIBUTE_COLUMNS, Scope, places};
use meshlake_traceql::{Attribute, Conditions, Intrinsic, Named, Predicate, Query, Scope as Asked};

use crate::hops::SPAN_COLUMNS;

/// What says when a span began.
pub(super) const START: [&str; 2] = ["start_time", "start_nanos"];
/// What says which span it is.
pub(super) const IDS: [&str; 2] = ["trace_id", "span_id"];
/// What says how a trace is built.
pub(super) const SHAPE: [&str; 7] = ["trace_id", "span_id", "parent_span_id", "start_time", "start_nanos", "duration", "kind"];
const EVENTS: &str = "events";
const LINKS: &str = "links";
/// Which attribute a column holds.
pub(super) const ORIGINS: &str = "origins";

/// What is asked of roots besides.
pub(super) const ROOT: [&str; 2] = ["name", "service_name"];

/// Text columns of which lake files have too many texts for a dictionary.
pub(super) const PLAIN: [&str; 2] = ["http_url", "request_id"];

/// Columns by name.
pub(super) type Columns = BTreeSet<&'static str>;

/// The columns that a query reads of each span that it looks at, beside those that all queries read.
pub(super) fn of_query(query: &Query, conditions: &Conditions) -> Columns {
    let mut columns = Columns::new();
    query.attributes.iter().for_each(|named| of_named(named, &mut columns));
    conditions.intrinsics.iter().for_each(|intrinsic| of_intrinsic(*intrinsic, &mut columns));
    if conditions.all_attributes {
        all(&mut columns);
    }
    columns
}

/// The columns that a predicate reads.
pub(super) fn of_predicate(predicate: &Predicate, columns: &mut Columns) {
    match predicate {
        Predicate::All(parts) | Predicate::Any(parts) => parts.iter().for_each(|part| of_predicate(part, columns)),
        Predicate::Test(attribute, _) => of_attribute(attribute, columns),
    }
}

/// The scopes of the table in which an attribute is looked for, in this order.
pub(super) fn scopes(asked: Asked) -> &'static [Scope] {
    match asked {
        Asked::Any => &Scope::ALL,
        Asked::Span => &[Scope::Span],
        Asked::Resource => &[Scope::Resource],
        Asked::Instrumentation => &[Scope::Instrumentation],
        Asked::Event | Asked::Link => &[],
    }
}

/// The columns in which an attribute of a scope may stand: `origins`, those of its places, and the residual map.
pub(super) fn of_scope(scope: Scope, key: &str) -> impl Iterator<Item = &'static str> {
    let of_places = places(scope, key).map(|place| ATTRIBUTE_COLUMNS[place.column].name);
    [ORIGINS].into_iter().chain(of_places).chain([scope.residual_column()])
}

/// The columns that an attribute is read from.
fn of_attribute(attribute: &Attribute, columns: &mut Columns) {
    match attribute {
        Attribute::Intrinsic(intrinsic) => of_intrinsic(*intrinsic, columns),
        Attribute::Named(named) => of_named(named, columns),
    }
}

/// The columns that a named attribute is read from.
pub(super) fn of_named(named: &Named, columns: &mut Columns) {
    scopes(named.scope).iter().for_each(|scope| columns.extend(of_scope(*scope, &named.name)));
    match named.scope {
        Asked::Any => columns.extend([EVENTS, LINKS]),
        Asked::Event => columns.extend([EVENTS]),
        Asked::Link => columns.extend([LINKS]),
        Asked::Span | Asked::Resource | Asked::Instrumentation => {}
    }
}

fn of_intrinsic(intrinsic: Intrinsic, columns: &mut Columns) {
    use Intrinsic::*;
    let read: &[&'static str] = match intrinsic {
        Duration => &["duration"],
        Name | RootName => &["name"],
        Status => &["status"],
        StatusMessage => &["status_message"],
        Kind => &["kind"],
        RootServiceName => &["service_name"],
        TraceId => &["trace_id"],
        SpanId => &["span_id"],
        ParentId => &["parent_span_id"],
        EventName => &[EVENTS],
        EventTimeSinceStart => &[EVENTS, "start_time", "start_nanos"],
        LinkTraceId | LinkSpanId => &[LINKS],
        InstrumentationName => &["scope_name"],
        InstrumentationVersion => &["scope_version"],
        Entry | Node | Caller | Callee => SPAN_COLUMNS,
        // Of these the whole trace is asked, by its facts.
        ChildCount | TraceDuration | NestedSetLeft | NestedSetRight | NestedSetParent => &[],
    };
    columns.extend(read);
}

/// Everything that `compare()` shows.
fn all(columns: &mut Columns) {
    columns.extend(ATTRIBUTE_COLUMNS.iter().map(|column| column.name));
    columns.extend(Scope::ALL.map(Scope::residual_column));
    columns.extend([ORIGINS, EVENTS, LINKS, "name", "kind", "status", "status_message", "scope_name", "scope_version"]);
}
