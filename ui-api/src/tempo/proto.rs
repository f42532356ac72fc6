//! The messages of the package `tempopb` (Tempo, `pkg/tempopb/tempo.proto`), as far as they are read and written here.
//!
//! They are written as JSON, too. Tempo writes them as protobuf's mapping says: names in camel case, 64-bit integers as strings, fields
//! with their default left out, except for lists. Grafana refuses fields that it did not know in May 2025, so no other ones come here.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::{Enumeration, Message};
use serde::{Serialize, Serializer};

use crate::otlp_json::{attributes, double};

/// A search, see [`super::search`]. Times are unix seconds; 0 or empty: not given.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchRequest {
    #[prost(btree_map = "string, string", tag = "1")]
    pub tags: BTreeMap<String, String>,
    #[prost(uint32, tag = "2")]
    pub min_duration_ms: u32,
    #[prost(uint32, tag = "3")]
    pub max_duration_ms: u32,
    #[prost(uint32, tag = "4")]
    pub limit: u32,
    #[prost(uint32, tag = "5")]
    pub start: u32,
    #[prost(uint32, tag = "6")]
    pub end: u32,
    #[prost(string, tag = "8")]
    pub query: String,
    #[prost(uint32, tag = "9")]
    pub spans_per_span_set: u32,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct SearchResponse {
    #[prost(message, repeated, tag = "1")]
    pub traces: Vec<TraceSearchMetadata>,
    #[prost(message, required, tag = "2")]
    pub metrics: SearchMetrics,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TraceSearchMetadata {
    #[prost(string, tag = "1")]
    #[serde(rename = "traceID")]
    pub trace_id: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub root_service_name: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "is_default")]
    pub root_trace_name: String,
    #[prost(uint64, tag = "4")]
    #[serde(serialize_with = "quoted", skip_serializing_if = "is_default")]
    pub start_time_unix_nano: u64,
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub duration_ms: u32,
    /// Deprecated, and what Kiali reads: the first of the next.
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "is_default")]
    pub span_set: Option<SpanSet>,
    #[prost(message, repeated, tag = "7")]
    pub span_sets: Vec<SpanSet>,
    #[prost(btree_map = "string, message", tag = "8")]
    #[serde(skip_serializing_if = "is_default")]
    pub service_stats: BTreeMap<String, ServiceStats>,
}

#[derive(Clone, Copy, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceStats {
    #[prost(uint32, tag = "1")]
    pub span_count: u32,
    #[prost(uint32, tag = "2")]
    pub error_count: u32,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct SpanSet {
    #[prost(message, repeated, tag = "1")]
    pub spans: Vec<Span>,
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub matched: u32,
    #[prost(message, repeated, tag = "3")]
    #[serde(serialize_with = "attributes", skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    #[prost(string, tag = "1")]
    #[serde(rename = "spanID")]
    pub span_id: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    #[prost(uint64, tag = "3")]
    #[serde(serialize_with = "quoted", skip_serializing_if = "is_default")]
    pub start_time_unix_nano: u64,
    #[prost(uint64, tag = "4")]
    #[serde(serialize_with = "quoted", skip_serializing_if = "is_default")]
    pub duration_nanos: u64,
    #[prost(message, repeated, tag = "5")]
    #[serde(serialize_with = "attributes", skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<KeyValue>,
}

/// Grafana shows how far a search is from the jobs.
#[derive(Clone, Copy, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SearchMetrics {
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_default")]
    pub inspected_traces: u32,
    #[prost(uint64, tag = "2")]
    #[serde(serialize_with = "quoted", skip_serializing_if = "is_default")]
    pub inspected_bytes: u64,
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub completed_jobs: u32,
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_default")]
    pub total_jobs: u32,
}

/// Names of attributes. Times are unix seconds; 0 or empty: not given.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagsRequest {
    #[prost(string, tag = "1")]
    pub scope: String,
    #[prost(string, tag = "2")]
    pub query: String,
    #[prost(uint32, tag = "3")]
    pub start: u32,
    #[prost(uint32, tag = "4")]
    pub end: u32,
    #[prost(uint32, tag = "5")]
    pub max_tags_per_scope: u32,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SearchTagsResponse {
    #[prost(string, repeated, tag = "1")]
    pub tag_names: Vec<String>,
    #[prost(message, required, tag = "2")]
    pub metrics: MetadataMetrics,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct SearchTagsV2Response {
    #[prost(message, repeated, tag = "1")]
    pub scopes: Vec<SearchTagsV2Scope>,
    #[prost(message, required, tag = "2")]
    pub metrics: MetadataMetrics,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct SearchTagsV2Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
}

/// Values of an attribute. Times are unix seconds; 0 or empty: not given.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SearchTagValuesRequest {
    #[prost(string, tag = "1")]
    pub tag_name: String,
    #[prost(string, tag = "2")]
    pub query: String,
    #[prost(uint32, tag = "4")]
    pub start: u32,
    #[prost(uint32, tag = "5")]
    pub end: u32,
    #[prost(uint32, tag = "6")]
    pub max_tag_values: u32,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SearchTagValuesResponse {
    #[prost(string, repeated, tag = "1")]
    pub tag_values: Vec<String>,
    #[prost(message, required, tag = "2")]
    pub metrics: MetadataMetrics,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SearchTagValuesV2Response {
    #[prost(message, repeated, tag = "1")]
    pub tag_values: Vec<TagValue>,
    #[prost(message, required, tag = "2")]
    pub metrics: MetadataMetrics,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct TagValue {
    #[prost(string, tag = "1")]
    pub r#type: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// We count nothing that Tempo counts here; clients want the message to be there.
#[derive(Clone, Copy, PartialEq, Message, Serialize)]
pub(super) struct MetadataMetrics {}

/// A trace; on the wire, Tempo's `Trace` is OTLP's `TracesData`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TraceByIdResponse {
    #[prost(message, required, tag = "1")]
    pub trace: TracesData,
}

/// Numbers over time. Times are unix nanoseconds; 0: not given.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryRangeRequest {
    #[prost(string, tag = "1")]
    pub query: String,
    #[prost(uint64, tag = "2")]
    pub start: u64,
    #[prost(uint64, tag = "3")]
    pub end: u64,
    #[prost(uint64, tag = "4")]
    pub step: u64,
    #[prost(uint32, tag = "16")]
    pub exemplars: u32,
    #[prost(uint32, tag = "17")]
    pub max_series: u32,
    #[prost(bool, optional, tag = "18")]
    pub instant: Option<bool>,
}

/// Numbers of a whole range. Times are unix nanoseconds; 0: not given.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryInstantRequest {
    #[prost(string, tag = "1")]
    pub query: String,
    #[prost(uint64, tag = "2")]
    pub start: u64,
    #[prost(uint64, tag = "3")]
    pub end: u64,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct QueryRangeResponse {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<TimeSeries>,
    #[prost(message, required, tag = "2")]
    pub metrics: SearchMetrics,
    #[prost(enumeration = "PartialStatus", tag = "3")]
    #[serde(serialize_with = "partial_status", skip_serializing_if = "is_default")]
    pub status: i32,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct QueryInstantResponse {
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<InstantSeries>,
    #[prost(message, required, tag = "2")]
    pub metrics: SearchMetrics,
    #[prost(enumeration = "PartialStatus", tag = "3")]
    #[serde(serialize_with = "partial_status", skip_serializing_if = "is_default")]
    pub status: i32,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "is_default")]
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum PartialStatus {
    Complete = 0,
    Partial = 1,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    #[serde(serialize_with = "attributes")]
    pub labels: Vec<KeyValue>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemplars: Vec<Exemplar>,
}

#[derive(Clone, Copy, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    #[serde(serialize_with = "double")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    #[serde(serialize_with = "quoted")]
    pub timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    #[serde(serialize_with = "attributes")]
    pub labels: Vec<KeyValue>,
    #[prost(double, tag = "2")]
    #[serde(serialize_with = "double")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    #[serde(serialize_with = "quoted")]
    pub timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct InstantSeries {
    #[prost(message, repeated, tag = "1")]
    #[serde(serialize_with = "attributes")]
    pub labels: Vec<KeyValue>,
    #[prost(double, tag = "2")]
    #[serde(serialize_with = "double")]
    pub value: f64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn quoted<T: std::fmt::Display, S: Serializer>(number: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn partial_status<S: Serializer>(status: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *status == PartialStatus::Partial as i32 { "PARTIAL" } else { "COMPLETE" })
}
