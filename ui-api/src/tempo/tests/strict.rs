//! How Go's `jsonpb` reads an answer into the messages that Grafana knew on 2025-05-29: an unknown field, a wrong type or a null is an error.

use serde_json::Value;

/// Message, and its fields with their types: `*` is a list, `%` a map from text.
const FIELDS: &[(&str, &[(&str, &str)])] = &[
    ("SearchResponse", &[("traces", "*TraceSearchMetadata"), ("metrics", "SearchMetrics")]),
    (
        "TraceSearchMetadata",
        &[
            ("traceID", "string"),
            ("rootServiceName", "string"),
            ("rootTraceName", "string"),
            ("startTimeUnixNano", "uint64"),
            ("durationMs", "uint32"),
            ("spanSet", "SpanSet"),
            ("spanSets", "*SpanSet"),
            ("serviceStats", "%ServiceStats"),
        ],
    ),
    ("SpanSet", &[("spans", "*Span"), ("matched", "uint32"), ("attributes", "*KeyValue")]),
    (
        "Span",
        &[
            ("spanID", "string"),
            ("name", "string"),
            ("startTimeUnixNano", "uint64"),
            ("durationNanos", "uint64"),
            ("attributes", "*KeyValue"),
        ],
    ),
    ("ServiceStats", &[("spanCount", "uint32"), ("errorCount", "uint32")]),
    ("KeyValue", &[("key", "string"), ("value", "AnyValue")]),
    ("AnyValue", &[("stringValue", "string"), ("boolValue", "bool"), ("intValue", "int64"), ("doubleValue", "double")]),
    (
        "SearchMetrics",
        &[
            ("inspectedTraces", "uint32"),
            ("inspectedBytes", "uint64"),
            ("totalBlocks", "uint32"),
            ("completedJobs", "uint32"),
            ("totalJobs", "uint32"),
            ("totalBlockBytes", "uint64"),
            ("inspectedSpans", "uint64"),
        ],
    ),
    ("SearchTagsResponse", &[("tagNames", "*string"), ("metrics", "MetadataMetrics")]),
    ("SearchTagsV2Response", &[("scopes", "*SearchTagsV2Scope"), ("metrics", "MetadataMetrics")]),
    ("SearchTagsV2Scope", &[("name", "string"), ("tags", "*string")]),
    ("SearchTagValuesResponse", &[("tagValues", "*string"), ("metrics", "MetadataMetrics")]),
    ("SearchTagValuesV2Response", &[("tagValues", "*TagValue"), ("metrics", "MetadataMetrics")]),
    ("TagValue", &[("type", "string"), ("value", "string")]),
    ("MetadataMetrics", &[("inspectedBytes", "uint64"), ("totalJobs", "uint32"), ("completedJobs", "uint32")]),
    (
        "QueryRangeResponse",
        &[("series", "*TimeSeries"), ("metrics", "SearchMetrics"), ("status", "PartialStatus"), ("message", "string")],
    ),
    ("TimeSeries", &[("labels", "*KeyValue"), ("samples", "*Sample"), ("exemplars", "*Exemplar")]),
    ("Sample", &[("value", "double"), ("timestampMs", "int64")]),
    ("Exemplar", &[("labels", "*KeyValue"), ("value", "double"), ("timestampMs", "int64")]),
    (
        "QueryInstantResponse",
        &[("series", "*InstantSeries"), ("metrics", "SearchMetrics"), ("status", "PartialStatus"), ("message", "string")],
    ),
    ("InstantSeries", &[("labels", "*KeyValue"), ("value", "double")]),
];

/// Fails unless `value` is read as `kind`.
pub(super) fn check(kind: &str, value: &Value) {
    let ok = match kind {
        "string" => value.is_string(),
        "bool" => value.is_boolean(),
        "uint32" => value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
        "uint64" => value.as_str().is_some_and(|text| text.parse::<u64>().is_ok()),
        "int64" => value.as_str().is_some_and(|text| text.parse::<i64>().is_ok()),
        "double" => value.is_number() || matches!(value.as_str(), Some("NaN" | "Infinity" | "-Infinity")),
        "PartialStatus" => matches!(value.as_str(), Some("COMPLETE" | "PARTIAL")),
        _ => {
            check_nested(kind, value);
            true
        }
    };
    assert!(ok, "{value} is no {kind}");
}

fn check_nested(kind: &str, value: &Value) {
    if let Some(item) = kind.strip_prefix('*') {
        let items = value.as_array().unwrap_or_else(|| panic!("{value} is no list of {item}"));
        return items.iter().for_each(|value| check(item, value));
    }
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no {kind}"));
    if let Some(item) = kind.strip_prefix('%') {
        return object.values().for_each(|value| check(item, value));
    }
    let (_, fields) = FIELDS.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("there is no message {kind}"));
    for (name, value) in object {
        let (_, kind) = fields.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("unknown field {name} in {kind}"));
        check(kind, value);
    }
}
