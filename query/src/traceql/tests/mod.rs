//! Spans of every kind, wherever they may be, and what is asked of them.

mod filter;
mod limits;
mod metrics;
mod names;
mod placed;
mod search;
mod summed;
mod values;

use meshlake_traceql::{Body, Pipeline, Query, Trace};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

pub(super) use self::search::SEARCHES;
use super::trace::BatchTrace;
use super::{TraceQlMetrics, TraceQlSearch};
use crate::Engine;
use crate::testing::{Chance, START, SpanRow, TestSource, int, key_value, random_rows, text};
use crate::types::TimeRange;

pub(super) const START_MICROS: i64 = (START / 1000) as i64;
pub(super) const ALL: TimeRange = TimeRange { start: START_MICROS, end: START_MICROS + 2_000_000_000 };
const SECOND: i64 = 1_000_000;

pub(super) fn query(text: &str) -> Query {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn pipeline(query: &Query) -> &Pipeline {
    let Body::Search(pipeline) = &query.body else { panic!("{query} is no search") };
    pipeline
}

fn list(values: Vec<Otlp>) -> Otlp {
    Otlp::ArrayValue(ArrayValue { values: values.into_iter().map(|value| AnyValue { value: Some(value) }).collect() })
}

/// The kinds of attributes whose values are of the one type that its columns hold.
const PLAIN: [u64; 8] = [1, 4, 9, 12, 16, 17, 19, 20];

/// Attributes of every type, in columns, in promoted columns, and in maps for want of room or fit; or plain ones.
fn attributes(chance: &mut Chance, plain: bool) -> Vec<KeyValue> {
    let kind = |chance: &mut Chance| if plain { chance.pick(&PLAIN) } else { chance.below(22) };
    let attribute = |chance: &mut Chance| match kind(chance) {
        0 => text("http.status_code", chance.pick(&["200", "503", "0200", "x"])),
        1 | 2 => int("http.status_code", chance.pick(&[200, 503])),
        3 => int("http.response.status_code", chance.pick(&[200, 503])),
        4 => text("http.method", chance.pick(&["GET", "POST"])),
        5 => text("http.request.method", chance.pick(&["GET", "PUT"])),
        6 => int("http.method", 7),
        7 => key_value("http.method", list(vec![Otlp::StringValue("GET".to_owned()), Otlp::StringValue("PUT".to_owned())])),
        8 => key_value("http.status_code", list(vec![Otlp::IntValue(200), Otlp::IntValue(404)])),
        9 | 10 => int("retries", chance.below(3) as i64),
        11 => text("retries", "1"),
        12 | 13 => text("x", chance.pick(&["red", "green", ""])),
        14 => int("x", chance.below(2) as i64),
        15 => KeyValue { key: "x".to_owned(), value: Some(AnyValue::default()), ..KeyValue::default() },
        16 => key_value("ok", Otlp::BoolValue(chance.below(2) == 0)),
        17 | 18 => key_value("d", Otlp::DoubleValue(chance.pick(&[0.0, -0.0, 0.5, f64::NAN]))),
        19 => text("service.name", chance.pick(&["shop", "cart"])),
        20 => text("host.name", chance.pick(&["h1", "h2"])),
        _ => key_value("mixed", list(vec![Otlp::IntValue(1), Otlp::StringValue("a".to_owned()), Otlp::BoolValue(true)])),
    };
    (0..chance.below(5)).map(|_| attribute(chance)).collect()
}

fn is_plain(row: &SpanRow) -> bool {
    let is_plain = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        match attribute.key.as_str() {
            "http.status_code" | "retries" => matches!(value, Some(Otlp::IntValue(_))),
            "http.method" | "x" | "service.name" | "host.name" => matches!(value, Some(Otlp::StringValue(_))),
            "ok" => matches!(value, Some(Otlp::BoolValue(_))),
            "d" => matches!(value, Some(Otlp::DoubleValue(_))),
            _ => false,
        }
    };
    row.attributes.iter().chain(&row.resource.attributes).all(is_plain)
}

/// Traces of which most spans are below the span before them; half of their spans say what was said of the one before.
fn rows(chance: &mut Chance, tenant: &str, traces: u64) -> Vec<SpanRow> {
    let mut rows = random_rows(chance, tenant, traces);
    let mut before: Option<(u128, u64)> = None;
    for row in &mut rows {
        if let Some((_, span)) = before.filter(|(trace, _)| *trace == row.trace && chance.below(4) > 0) {
            row.parent = Some(span);
        }
        before = Some((row.trace, row.span));
        let plain = chance.below(2) == 0;
        row.attributes = attributes(chance, plain);
        row.resource.attributes = attributes(chance, plain);
        row.scope_attributes = if chance.below(3) == 0 { attributes(chance, false) } else { Vec::new() };
        row.scope_name = chance.pick(&[None, Some("lib".to_owned())]);
        row.status_message = chance.pick(&[None, Some("boom".to_owned())]);
        row.kind = Some(chance.pick(&["server", "client", "unspecified", "9"]));
        row.status = Some(chance.pick(&["unset", "ok", "error", "7"]));
        let event = |chance: &mut Chance, start: u64| Event {
            time_unix_nano: start + chance.below(5),
            name: chance.pick(&["retry", "exception"]).to_owned(),
            attributes: attributes(chance, false),
            ..Event::default()
        };
        row.events = (0..chance.below(3)).map(|_| event(chance, row.start)).collect();
        let link = |chance: &mut Chance| Link {
            trace_id: vec![9; chance.pick(&[16, 3])],
            span_id: vec![8; 8],
            attributes: attributes(chance, false),
            ..Link::default()
        };
        row.links = (0..chance.below(2)).map(|_| link(chance)).collect();
    }
    rows
}

/// The spans of a tenant, and an engine over them and those of another, which has some of the same traces: the spans of a trace are
/// scattered over files with columns for none, some and all of the promoted attributes, of which some tell what is in them, and
/// live batches.
pub(super) async fn store(seed: u64) -> (Vec<SpanRow>, Engine) {
    let mut chance = Chance(seed);
    let own = rows(&mut chance, "a", 150);
    let mut foreign = rows(&mut chance, "b", 20);
    foreign.extend(own.iter().take(50).map(|row| SpanRow { tenant: "b".to_owned(), name: "foreign".to_owned(), ..row.clone() }));
    let mut all: Vec<(u64, SpanRow)> = own.iter().chain(&foreign).map(|row| (chance.next(), row.clone())).collect();
    all.sort_by_key(|(place, _)| *place);
    let all: Vec<SpanRow> = all.into_iter().map(|(_, row)| row).collect();
    let mut source = TestSource::new();
    for (index, part) in all.chunks(all.len().div_ceil(9)).enumerate() {
        match index {
            3 | 8 => source.add_live(part),
            4.. => {
                let (plain, others): (Vec<_>, Vec<_>) = part.iter().cloned().partition(|row| row.tenant == "a" && is_plain(row));
                source.add_lake_file(&plain, index != 6).await;
                source.add_file(&others).await;
            }
            _ => source.add_file(part).await,
        }
    }
    (own, source.engine())
}

fn asked(text: &str, range: TimeRange, limit: usize) -> TraceQlSearch {
    TraceQlSearch { query: query(text), range, limit, spans_per_spanset: 2, min_duration: None, max_duration: None, cursor: None }
}

fn holds(range: TimeRange, trace: &BatchTrace<'_>, span: usize) -> bool {
    let start = (trace.facts(span).start / 1000) as i64;
    range.start <= start && start < range.end
}

fn metrics(text: &str, step: u64, exemplars: usize) -> TraceQlMetrics {
    let (start, end) = (START + 100_000_000_000, START + 800_000_000_000);
    TraceQlMetrics { query: query(text), start, end, step, instant: step == 0, exemplars, max_series: 1_000 }
}
