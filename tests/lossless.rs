//! P5: what comes in as OTLP reads back as the same OTLP.
//!
//! The oracle is opentelemetry-proto with prost: it decodes the same bytes, and what the decoder stored is read back through
//! the query engine. Free are the order of attributes, the grouping of equal resources and scopes, and empty messages.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/requests.rs"]
mod requests;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use meshlake_collector::Decoder;
use meshlake_config::{Config, Tenant};
use meshlake_query::{Engine, MemorySource, TraceId};
use meshlake_storage::{Content, Decode, Encoding, Frame, SpanBuilder};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, TracesData};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use requests::request;

/// A span with all that it stands in, in a form in which equal means equal: sorted attributes, nothing empty.
fn canonical(data: &TracesData) -> Vec<String> {
    let mut spans = Vec::new();
    for group in &data.resource_spans {
        let resource = group.resource.clone().unwrap_or_default();
        for scoped in &group.scope_spans {
            let scope = scoped.scope.clone().unwrap_or_default();
            for span in &scoped.spans {
                spans.push(format!(
                    "{:?} {} {:?} {} | {:?} {} {:?} {} {} | {}",
                    sorted(&resource.attributes),
                    resource.dropped_attributes_count,
                    resource.entity_refs,
                    group.schema_url,
                    scope.name,
                    scope.version,
                    sorted(&scope.attributes),
                    scope.dropped_attributes_count,
                    scoped.schema_url,
                    canonical_span(span),
                ));
            }
        }
    }
    spans.sort();
    spans
}

fn sorted(attributes: &[KeyValue]) -> Vec<String> {
    let debug = |attribute: &KeyValue| format!("{:?}={:?}", attribute.key, attribute.value.clone().unwrap_or_default());
    let mut attributes: Vec<String> = attributes.iter().map(debug).collect();
    attributes.sort();
    attributes
}

fn canonical_span(span: &Span) -> String {
    let mut span = span.clone();
    if span.parent_span_id == [0; 8] {
        span.parent_span_id.clear();
    }
    let attributes = sorted(&std::mem::take(&mut span.attributes));
    let events: Vec<_> = std::mem::take(&mut span.events)
        .iter()
        .map(|event| {
            format!("{} {:?} {:?} {}", event.time_unix_nano, event.name, sorted(&event.attributes), event.dropped_attributes_count)
        })
        .collect();
    let links: Vec<_> = std::mem::take(&mut span.links)
        .iter()
        .map(|link| {
            let rest = Link { attributes: Vec::new(), ..link.clone() };
            format!("{rest:?} {:?}", sorted(&link.attributes))
        })
        .collect();
    span.status = Some(span.status.unwrap_or_default());
    format!("{span:?} {attributes:?} {events:?} {links:?}")
}

/// Whether a span can be kept: OTLP's rule for ids.
fn can_be_kept(span: &Span) -> bool {
    let id = |id: &[u8], length| id.len() == length && id.iter().any(|byte| *byte != 0);
    id(&span.trace_id, 16) && id(&span.span_id, 8) && matches!(span.parent_span_id.len(), 0 | 8)
}

/// What the oracle reads from the bytes, less the spans that can't be kept; and how many those are.
fn expected(message: &[u8]) -> (TracesData, u64) {
    let mut request = ExportTraceServiceRequest::decode(message).unwrap();
    let mut rejected = 0;
    for scoped in request.resource_spans.iter_mut().flat_map(|group| &mut group.scope_spans) {
        let all = scoped.spans.len();
        scoped.spans.retain(can_be_kept);
        rejected += (all - scoped.spans.len()) as u64;
    }
    (TracesData { resource_spans: request.resource_spans }, rejected)
}

/// What is stored of the bytes, read back trace by trace.
fn stored(message: &[u8], ids: &BTreeSet<Vec<u8>>) -> (TracesData, u64) {
    let config = Config::default();
    let mut rows = SpanBuilder::default();
    let frame = Frame {
        tenant: Tenant::default(),
        content: Content::Protobuf,
        encoding: Encoding::Identity,
        received: 1_750_000_000_000_000,
        body: Bytes::copy_from_slice(message),
    };
    let accepted = Decoder::new(&config).decode(&frame, &mut rows).unwrap();
    let batches = rows.finish().unwrap().into_iter().map(|live| live.batch).collect();
    let engine = Engine::new(Arc::new(MemorySource::new(batches)), &config.query).unwrap();
    let mut data = TracesData::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for id in ids {
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let id: TraceId = hex.parse().unwrap();
        let found = runtime.block_on(engine.trace(&Tenant::default(), id)).unwrap();
        data.resource_spans.extend(found.unwrap_or_default().resource_spans);
    }
    (data, accepted.rejected)
}

fn check(message: &[u8]) {
    let (expected, rejected) = expected(message);
    let spans = expected.resource_spans.iter().flat_map(|group| &group.scope_spans).flat_map(|scoped| &scoped.spans);
    let ids = spans.map(|span| span.trace_id.clone()).collect();
    let (stored, stored_rejected) = stored(message, &ids);
    assert_eq!(canonical(&stored), canonical(&expected));
    assert_eq!(stored_rejected, rejected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    /// Scenario: an arbitrary valid request. Guarantee: it reads back as the oracle reads it.
    #[test]
    fn requests_read_back(request in request()) {
        check(&request.encode_to_vec());
    }

    /// Scenario: a request in two concatenated parts, which protobuf reads as one, with unknown fields between, and the
    /// schema url before the spans. Guarantee: it reads back as the oracle reads it.
    #[test]
    fn unusual_encodings_read_back(first in request(), second in request(), unknown in 100..200u32) {
        let mut message = first.encode_to_vec();
        prost::encoding::string::encode(unknown, &"unknown".to_owned(), &mut message);
        prost::encoding::fixed64::encode(unknown, &7, &mut message);
        for group in &second.resource_spans {
            let mut inner = Vec::new();
            prost::encoding::string::encode(3, &group.schema_url, &mut inner);
            prost::encoding::uint64::encode(unknown, &u64::MAX, &mut inner);
            inner.extend(ResourceSpans { schema_url: String::new(), ..group.clone() }.encode_to_vec());
            prost::encoding::bytes::encode(1, &inner, &mut message);
        }
        check(&message);
    }

    /// Scenario: a request with bytes changed. Guarantee: no panic; and what the oracle can read is not refused.
    #[test]
    fn damaged_requests_do_no_harm(request in request(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut message = request.encode_to_vec();
        for (at, byte) in changes {
            if !message.is_empty() {
                let at = at.index(message.len());
                message[at] = byte;
            }
        }
        let mut rows = SpanBuilder::default();
        let frame = Frame {
            tenant: Tenant::default(),
            content: Content::Protobuf,
            encoding: Encoding::Identity,
            received: 0,
            body: message.clone().into(),
        };
        let decoded = Decoder::new(&Config::default()).decode(&frame, &mut rows);
        if ExportTraceServiceRequest::decode(&*message).is_ok() {
            prop_assert!(decoded.is_ok(), "{decoded:?}");
        }
    }
}
