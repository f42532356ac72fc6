//! Grafana's data source makes a column of each attribute in an answer, of the type of one of its values, and breaks down at a value of
//! another type or at a list. In a mesh both are usual: `http.status_code` is the text "200" to Envoy and the number 200 to SDKs.

use std::collections::HashMap;

use meshlake_query::FoundTrace;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

/// What a column can hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Number,
    Bool,
}

impl Type {
    /// None for what no column can hold.
    fn of(value: &AnyValue) -> Option<Type> {
        match value.value.as_ref()? {
            Value::StringValue(_) => Some(Type::Text),
            Value::IntValue(_) | Value::DoubleValue(_) => Some(Type::Number),
            Value::BoolValue(_) => Some(Type::Bool),
            _ => None,
        }
    }
}

/// Makes the values of each key texts if they are of several types, or of one that no column can hold.
pub(super) fn align(found: &mut [FoundTrace]) {
    let mut types = HashMap::<String, Option<Type>>::new();
    for (key, value) in attributes(found) {
        let of_value = Type::of(value);
        match types.get_mut(key.as_str()) {
            Some(of_key) if *of_key != of_value => *of_key = None,
            Some(_) => {}
            None => _ = types.insert(key.clone(), of_value),
        }
    }
    types.retain(|_, of_key| of_key.is_none());
    if types.is_empty() {
        return;
    }
    for (key, value) in attributes(found) {
        if types.contains_key(key.as_str()) {
            value.value = Some(Value::StringValue(text(value)));
        }
    }
}

/// All attributes in an answer, of spansets and of spans: both become columns.
fn attributes(found: &mut [FoundTrace]) -> impl Iterator<Item = &mut (String, AnyValue)> {
    let spansets = found.iter_mut().flat_map(|trace| &mut trace.spansets);
    spansets.flat_map(|set| set.attributes.iter_mut().chain(set.spans.iter_mut().flat_map(|span| &mut span.attributes)))
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::ArrayValue(array)) => format!("[{}]", array.values.iter().map(text).collect::<Vec<_>>().join(", ")),
        // TraceQL has no other values.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use meshlake_query::{FoundSpan, FoundSpanset, TraceId, TraceSummary};
    use opentelemetry_proto::tonic::common::v1::ArrayValue;

    use super::*;

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn trace(of_set: &[(&str, Value)], of_span: &[(&str, Value)]) -> FoundTrace {
        let named = |all: &[(&str, Value)]| all.iter().map(|(key, value)| ((*key).to_owned(), any(value.clone()))).collect();
        let span = FoundSpan { id: [1; 8], name: "GET".into(), start: 0, duration: 1, attributes: named(of_span) };
        let summary = TraceSummary {
            trace_id: TraceId([1; 16]),
            root_service: None,
            root_operation: None,
            start: 0,
            duration: 1,
            spans: 1,
            errors: 0,
            services: Vec::new(),
        };
        FoundTrace { summary, spansets: vec![FoundSpanset { matched: 1, attributes: named(of_set), spans: vec![span] }] }
    }

    /// Scenario: keys with values of one type, of two, and lists, over several traces. Guarantee: each key is of one type that is a column's;
    /// values of keys that are so already are as they were.
    #[test]
    fn each_key_is_of_one_type() {
        let list = ArrayValue { values: vec![any(Value::StringValue("a".into())), any(Value::IntValue(1))] };
        let text = |text: &str| Value::StringValue(text.to_owned());
        let mut found = [
            trace(&[("by(code)", Value::IntValue(200))], &[("code", text("200")), ("size", Value::IntValue(5))]),
            trace(&[("by(code)", Value::BoolValue(true))], &[("code", Value::IntValue(200)), ("size", Value::DoubleValue(0.5))]),
            trace(&[], &[("list", Value::ArrayValue(list)), ("on", Value::BoolValue(true))]),
        ];
        align(&mut found);
        let values: Vec<_> = attributes(&mut found).map(|(key, value)| (key.clone(), value.value.clone().unwrap())).collect();
        let expected = [
            ("by(code)", text("200")),
            ("code", text("200")),
            ("size", Value::IntValue(5)),
            ("by(code)", text("true")),
            ("code", text("200")),
            ("size", Value::DoubleValue(0.5)),
            ("list", text("[a, 1]")),
            ("on", Value::BoolValue(true)),
        ];
        assert_eq!(values, expected.map(|(key, value)| (key.to_owned(), value)));
    }
}
