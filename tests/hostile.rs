//! P6: no bytes make the decoder panic, loop, or take more than a multiple of their number in memory.
//!
//! The short form of `fuzz/`, with an allocator that counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/requests.rs"]
mod requests;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use meshlake_collector::Decoder;
use meshlake_config::{Config, Tenant};
use meshlake_storage::{Accepted, Content, Decode, Encoding, Frame, Refused, SpanBuilder};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;
use requests::request;

/// Bytes of memory a byte of input may take: the repetition of resource attributes is limited to 64, a row of columns takes
/// some hundred bytes where the shortest span has 28, and vectors double.
const MEMORY_FACTOR: usize = 200;
/// What a decoder and its empty columns take.
const MEMORY_BASE: usize = 1 << 20;
/// Bytes of memory that the decoding of 64 MiB may take that were received as 65 KB: the content, which doubles while it is
/// decompressed, and columns of a few hundred times what was received.
const BOMB_MEMORY: usize = 256 << 20;

struct Counting;

thread_local! {
    /// Bytes that this thread has, and the most it had: other tests allocate at the same time.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    NOW.set(NOW.get() + bytes);
    PEAK.set(PEAK.get().max(NOW.get()));
}

// SAFETY: everything is passed on to the system's allocator; only sizes are counted.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes, makes a batch, and says how many bytes that took at most.
fn decode(content: Content, encoding: Encoding, body: &Bytes) -> (Result<Accepted, Refused>, usize) {
    let frame = Frame { tenant: Tenant::default(), content, encoding, received: 0, body: body.clone() };
    let decoder = Decoder::new(&Config::default());
    let before = NOW.get();
    PEAK.set(before);
    let mut rows = SpanBuilder::default();
    let decoded = decoder.decode(&frame, &mut rows);
    if decoded.is_err() {
        rows.truncate(0);
    }
    let batch = rows.finish();
    let peak = (PEAK.get() - before) as usize;
    let stored = batch.unwrap().map_or(0, |live| live.batch.num_rows());
    assert_eq!(stored as u64, decoded.as_ref().map_or(0, |accepted| accepted.spans));
    (decoded, peak)
}

fn check(content: Content, body: &Bytes) -> Result<Accepted, Refused> {
    let (decoded, peak) = decode(content, Encoding::Identity, body);
    let allowed = body.len() * MEMORY_FACTOR + MEMORY_BASE;
    assert!(peak <= allowed, "{} bytes took {peak} bytes of memory", body.len());
    decoded
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Scenario: any bytes at all. Guarantee: an answer, within the memory.
    #[test]
    fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = check(Content::Protobuf, &body.clone().into());
        let _ = check(Content::Json, &body.into());
    }

    /// Scenario: a valid request with bytes changed, inserted and cut. Guarantee: an answer, within the memory.
    #[test]
    fn damaged_requests(
        request in request(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut body = request.encode_to_vec();
        for (at, byte, change) in changes {
            let at = at.index(body.len() + 1);
            match change {
                0 if at < body.len() => body[at] = byte,
                1 => body.insert(at, byte),
                _ => drop(body.drain(at..(at + usize::from(byte)).min(body.len()))),
            }
        }
        let _ = check(Content::Protobuf, &body.clone().into());
        body.truncate(end.index(body.len() + 1));
        let _ = check(Content::Protobuf, &body.into());
    }
}

fn text(key: &str, value: String) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value)) }),
        ..KeyValue::default()
    }
}

fn encoded(resource: Vec<KeyValue>, spans: Vec<Span>) -> Bytes {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

fn tiny(count: usize) -> Vec<Span> {
    vec![Span { trace_id: vec![1; 16], span_id: vec![1; 8], ..Span::default() }; count]
}

/// Scenario: a resource of a megabyte over ten thousand tiny spans, which would be ten gigabytes of rows. Guarantee: it is
/// refused with a reason, within the memory.
#[test]
fn repeated_resources_are_limited() {
    let refused = check(Content::Protobuf, &encoded(vec![text("k", "v".repeat(1 << 20))], tiny(10_000)));
    assert!(matches!(refused, Err(Refused::Invalid(reason)) if reason.contains("repeated for each span")));
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

/// Scenario: 64 MiB of nothing but empty items of each kind, or of the smallest spans, compressed to 65 KB. Guarantee: refused
/// for good, with a reason, and within an absolute bound of memory; what is refused leaves nothing behind.
#[test]
fn empty_items_are_limited() {
    let span = |fields: &[u8]| field(2, &[&field(1, &[1; 16])[..], &field(2, &[1; 8]), fields].concat());
    let request = |spans: &[u8]| field(1, &field(2, spans));
    let items = |number, unit: &[u8]| field(number, unit).repeat((63 << 20) / (unit.len() + 2));
    let attribute = |value: &[u8]| field(9, &[&field(1, b"k")[..], &field(2, value)].concat());
    let bodies = [
        ("spans", request(&span(&[]).repeat((63 << 20) / 30))),
        ("attributes", request(&span(&items(9, &[])))),
        ("events", request(&span(&items(11, &[])))),
        ("links", request(&span(&items(13, &[])))),
        ("attributes of an event", request(&span(&field(11, &items(3, &[]))))),
        ("attributes of a link", request(&span(&field(13, &items(4, &[]))))),
        ("values in an array", request(&span(&attribute(&field(5, &items(1, &[])))))),
        ("entries of a map", request(&span(&attribute(&field(6, &items(1, &[])))))),
        ("attributes of a resource", field(1, &[field(1, &items(1, &[])), field(2, &span(&[]))].concat())),
        ("entities of a resource", field(1, &[field(1, &items(3, &[])), field(2, &span(&[]))].concat())),
        ("keys of an entity", field(1, &[field(1, &field(3, &items(3, &[]))), field(2, &span(&[]))].concat())),
        ("attributes of a scope", field(1, &field(2, &[field(1, &items(3, &[])), span(&[])].concat()))),
    ];
    for (what, body) in bodies {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut gzip, &body).unwrap();
        drop(body);
        let (decoded, peak) = decode(Content::Protobuf, Encoding::Gzip, &gzip.finish().unwrap().into());
        assert!(matches!(decoded, Err(Refused::Invalid(reason)) if reason.contains("too large")), "{what}");
        assert!(peak <= BOMB_MEMORY, "{what} took {peak} bytes of memory");
    }
}

/// Scenario: what an SDK on Kubernetes sends: kilobytes of resource over a batch of spans. Guarantee: the limit above does
/// not touch it.
#[test]
fn honest_resources_are_kept() {
    let resource = (0..40).map(|index| text(&format!("k8s.pod.label.{index}"), "value".repeat(20))).collect();
    let attributes = vec![text("http.request.method", "GET".into()), text("url.path", "/api/v1/cart".into())];
    let spans = tiny(512).into_iter().map(|span| Span { name: "GET /api/v1/cart".into(), attributes: attributes.clone(), ..span });
    let accepted = check(Content::Protobuf, &encoded(resource, spans.collect())).unwrap();
    assert_eq!(accepted.spans, 512);
}

/// Scenario: values nested a thousand deep, in protobuf and JSON. Guarantee: refused, no stack runs out.
#[test]
fn nesting_is_limited() {
    let mut value = AnyValue::default();
    for _ in 0..1_000 {
        value = AnyValue { value: Some(any_value::Value::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    let deep = KeyValue { key: "k".into(), value: Some(value), ..KeyValue::default() };
    let span = Span { attributes: vec![deep], ..tiny(1).remove(0) };
    assert!(check(Content::Protobuf, &encoded(vec![], vec![span])).is_err());
    let json = format!("{{\"resourceSpans\":{}", "[".repeat(100_000));
    assert!(check(Content::Json, &json.into()).is_err());
}

/// Scenario: the last of many spans sets every column there is. Guarantee: padding the rows before stays within the memory.
#[test]
fn padding_is_bounded() {
    let mut spans = tiny(20_000);
    let columns = meshlake_storage::ATTRIBUTE_COLUMNS.iter().flat_map(|column| column.sources);
    spans.last_mut().unwrap().attributes = columns.map(|source| text(source.key, "1".into())).collect();
    assert_eq!(check(Content::Protobuf, &encoded(vec![], spans)).unwrap().spans, 20_000);
}
