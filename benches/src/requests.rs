//! Requests encoded once, to be sent again and again with other ids and times.

use std::ops::Range;

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;

use crate::{
    ids::Ids,
    spans::{Lane, REQUEST_ID, Traffic, TrafficSpan},
    wire::contents,
};

/// Bytes of the gRPC frame header that stands before each encoded request.
pub(crate) const FRAME_HEADER: usize = 5;

/// The requests of a run, numbered 0, 1, 2, …: a round of traffic repeated for ever, each round with ids of its own.
///
/// Request `index`'s ids and durations depend on the seed and `index` alone, its times on `round_end` too.
#[derive(Debug)]
pub struct Requests {
    ids: Ids,
    slots: Vec<Slot>,
    /// For each trace of the round, nanoseconds from its start to the round's end.
    traces: Vec<u64>,
    /// For each span of the round, by number: its slot and its position there.
    homes: Vec<(u32, u32)>,
}

/// One request of the round.
#[derive(Debug)]
struct Slot {
    /// gRPC frame header and encoded request.
    bytes: Vec<u8>,
    spans: Vec<SpanSlot>,
}

/// A span of an encoded request, and where its fields stand in the bytes; 0: it has no such field.
#[derive(Debug)]
struct SpanSlot {
    trace: u32,
    number: u32,
    parent: Option<u32>,
    start: u64,
    end: u64,
    trace_id_at: u32,
    span_id_at: u32,
    parent_at: u32,
    request_id_at: u32,
    start_at: u32,
    end_at: u32,
}

/// What stands in the store if span number `number` of the run arrived whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    pub(crate) trace_id: [u8; 16],
    pub(crate) parent_id: Option<[u8; 8]>,
    pub(crate) request_id: [u8; 36],
    /// Nanoseconds.
    pub(crate) duration: u64,
}

impl Requests {
    /// Encodes a round of traffic as requests of up to `spans_per_request` spans, each of one proxy, in the order in which
    /// their last spans end.
    ///
    /// # Errors
    /// No spans, or none a request.
    pub fn new(traffic: Traffic, spans_per_request: usize, seed: u64) -> anyhow::Result<Self> {
        ensure!(spans_per_request > 0, "cannot encode requests of 0 spans: --spans-per-request must be at least 1");
        let count = traffic.span_count();
        ensure!(count > 0, "cannot encode requests: the traffic has no spans");
        let end = |span: &TrafficSpan| span.end as i64 - traffic.traces[span.trace as usize] as i64;
        let mut slots = Vec::new();
        for mut lane in traffic.lanes {
            lane.spans.sort_by_key(end);
            for spans in lane.spans.chunks(spans_per_request) {
                let last = spans.last().map(end);
                slots.push((last, Slot::new(&lane, spans)?));
            }
        }
        slots.sort_by_key(|(last, _)| *last);
        let slots: Vec<Slot> = slots.into_iter().map(|(_, slot)| slot).collect();
        let mut homes = vec![(0, 0); count];
        for (index, slot) in slots.iter().enumerate() {
            for (position, span) in slot.spans.iter().enumerate() {
                homes[span.number as usize] = (index as u32, position as u32);
            }
        }
        Ok(Self { ids: Ids::new(seed), slots, traces: traffic.traces, homes })
    }

    /// Requests of a round.
    pub fn per_round(&self) -> usize {
        self.slots.len()
    }

    /// Spans of a round.
    pub fn spans_per_round(&self) -> usize {
        self.homes.len()
    }

    /// Bytes of a round's requests.
    pub fn bytes_per_round(&self) -> usize {
        self.slots.iter().map(|slot| slot.bytes.len() - FRAME_HEADER).sum()
    }

    /// The round of a request.
    pub fn round(&self, index: u64) -> u64 {
        index / self.slots.len() as u64
    }

    /// Spans of a request.
    pub fn spans_in(&self, index: u64) -> usize {
        self.slot(index).spans.len()
    }

    /// Writes request `index` into `out`, which is cleared before: gRPC frame header, then the message. `round_end` (unix
    /// nanoseconds) must be the same for all requests of a round; no span ends after it.
    pub fn write(&self, index: u64, round_end: u64, out: &mut BytesMut) {
        let (round, slot) = (self.round(index), self.slot(index));
        out.clear();
        out.extend_from_slice(&slot.bytes);
        for span in &slot.spans {
            self.write_span(span, round, round_end, out);
        }
    }

    /// Request `index` as [`Requests::write`] writes it, without the header.
    pub(crate) fn body(&self, index: u64, round_end: u64) -> Bytes {
        let mut framed = BytesMut::new();
        self.write(index, round_end, &mut framed);
        framed.freeze().slice(FRAME_HEADER..)
    }

    fn write_span(&self, span: &SpanSlot, round: u64, round_end: u64, out: &mut [u8]) {
        let mut put = |at: u32, value: &[u8]| {
            let at = at as usize;
            out[at..at + value.len()].copy_from_slice(value);
        };
        let trace = self.trace_number(span, round);
        let stretch = self.ids.stretch(trace);
        let trace_start = (round_end - self.traces[span.trace as usize]) / 1_000 * 1_000;
        put(span.trace_id_at, &self.ids.trace(trace));
        put(span.span_id_at, &self.ids.span(self.span_number(span.number, round)));
        put(span.start_at, &(trace_start + stretched(span.start, stretch)).to_le_bytes());
        put(span.end_at, &(trace_start + stretched(span.end, stretch)).to_le_bytes());
        if let Some(parent) = span.parent {
            put(span.parent_at, &self.ids.span(self.span_number(parent, round)));
        }
        if span.request_id_at > 0 {
            put(span.request_id_at, &self.ids.request_id(trace));
        }
    }

    fn slot(&self, index: u64) -> &Slot {
        &self.slots[(index % self.slots.len() as u64) as usize]
    }

    fn span_number(&self, number: u32, round: u64) -> u64 {
        round * self.homes.len() as u64 + u64::from(number)
    }

    fn trace_number(&self, span: &SpanSlot, round: u64) -> u64 {
        round * self.traces.len() as u64 + u64::from(span.trace)
    }

    /// The request that span `id` was sent with and the span's number in the round, if the id is one of this run's first
    /// requests up to and including `last`.
    pub(crate) fn find(&self, id: [u8; 8], last: u64) -> Option<(u64, usize)> {
        let number = self.ids.span_number(id);
        let (round, in_round) = (number / self.homes.len() as u64, (number % self.homes.len() as u64) as usize);
        let index = round.checked_mul(self.slots.len() as u64)?.checked_add(u64::from(self.homes[in_round].0))?;
        (index <= last).then_some((index, in_round))
    }

    /// What must stand in the store for the span with number `in_round` of the round of request `index`.
    pub(crate) fn expected(&self, index: u64, in_round: usize) -> Expected {
        let (slot, position) = self.homes[in_round];
        let span = &self.slots[slot as usize].spans[position as usize];
        let round = self.round(index);
        let trace = self.trace_number(span, round);
        let stretch = self.ids.stretch(trace);
        Expected {
            trace_id: self.ids.trace(trace),
            parent_id: span.parent.map(|parent| self.ids.span(self.span_number(parent, round))),
            request_id: self.ids.request_id(trace),
            duration: stretched(span.end, stretch) - stretched(span.start, stretch),
        }
    }

    /// The spans of a round by number, as encoded, with ids and times that mean nothing.
    pub(crate) fn decoded(&self) -> anyhow::Result<Vec<Span>> {
        let mut decoded = vec![Span::default(); self.homes.len()];
        for slot in &self.slots {
            let request = ExportTraceServiceRequest::decode(&slot.bytes[FRAME_HEADER..])?;
            let spans = request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
            for (span, slot) in spans.zip(&slot.spans) {
                decoded[slot.number as usize] = span;
            }
        }
        Ok(decoded)
    }
}

/// A time within a trace after stretching, in whole microseconds as Envoy writes them.
fn stretched(time: u64, stretch: u64) -> u64 {
    time * stretch / 1024 / 1_000 * 1_000
}

impl Slot {
    fn new(lane: &Lane, spans: &[TrafficSpan]) -> anyhow::Result<Self> {
        let scope_spans = ScopeSpans {
            scope: Some(lane.scope.clone()),
            spans: spans.iter().map(placeholder).collect(),
            schema_url: String::new(),
        };
        let resource_spans =
            ResourceSpans { resource: Some(lane.resource.clone()), scope_spans: vec![scope_spans], schema_url: String::new() };
        let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(request.encoded_len())?.to_be_bytes());
        request.encode(&mut bytes)?;
        let spans = SpanSlot::find(&bytes, spans).context("cannot find the spans in an encoded request")?;
        Ok(Self { bytes, spans })
    }
}

/// The span with ids and times of full length, so that they have a place in the encoding.
fn placeholder(span: &TrafficSpan) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        parent_span_id: if span.parent.is_some() { vec![1; 8] } else { Vec::new() },
        start_time_unix_nano: 1,
        end_time_unix_nano: 1,
        ..Span::clone(&span.span)
    }
}

impl SpanSlot {
    fn find(bytes: &[u8], spans: &[TrafficSpan]) -> anyhow::Result<Vec<Self>> {
        let mut found = Vec::new();
        for resource_spans in contents(bytes, FRAME_HEADER..bytes.len(), 1)? {
            for scope_spans in contents(bytes, resource_spans, 2)? {
                for (span, message) in spans.iter().zip(contents(bytes, scope_spans, 2)?) {
                    let at = |number| anyhow::Ok(contents(bytes, message.clone(), number)?.first().map_or(0, |c| c.start as u32));
                    found.push(Self {
                        trace: span.trace,
                        number: span.number,
                        parent: span.parent,
                        start: span.start,
                        end: span.end,
                        trace_id_at: at(1)?,
                        span_id_at: at(2)?,
                        parent_at: at(4)?,
                        request_id_at: request_id(bytes, contents(bytes, message.clone(), 9)?)?,
                        start_at: at(7)?,
                        end_at: at(8)?,
                    });
                }
            }
        }
        ensure!(found.len() == spans.len(), "{} of {} are there", found.len(), spans.len());
        Ok(found)
    }
}

/// Where the value of the request id stands, if one of these attributes is one of a UUID's length.
fn request_id(bytes: &[u8], attributes: Vec<Range<usize>>) -> anyhow::Result<u32> {
    for attribute in attributes {
        let key = contents(bytes, attribute.clone(), 1)?;
        if key.iter().all(|key| &bytes[key.clone()] != REQUEST_ID.as_bytes()) {
            continue;
        }
        for value in contents(bytes, attribute, 2)? {
            let text = contents(bytes, value, 1)?.into_iter().find(|text| text.len() == 36);
            if let Some(text) = text {
                return Ok(text.start as u32);
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        path::Path,
    };

    use super::*;
    use crate::{
        mesh::Shape,
        replay::{recorded, replay},
        spans::{NODE_ID, attribute},
    };

    const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/envoy-bookinfo.traces.bin.gz");
    const ROUND_END: u64 = 1_800_000_000_000_000_000;

    fn decode(requests: &Requests, index: u64) -> ExportTraceServiceRequest {
        let mut out = BytesMut::new();
        requests.write(index, ROUND_END, &mut out);
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - FRAME_HEADER);
        ExportTraceServiceRequest::decode(&out[FRAME_HEADER..]).unwrap()
    }

    fn spans(request: ExportTraceServiceRequest) -> Vec<Span> {
        assert_eq!(request.resource_spans.len(), 1);
        request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect()
    }

    /// The traces of some rounds, checked for what holds of every run.
    fn check(requests: &Requests, rounds: u64, traces: usize) -> Vec<Span> {
        let mut all: Vec<Span> = Vec::new();
        for index in 0..rounds * requests.per_round() as u64 {
            let sent = spans(decode(requests, index));
            assert_eq!(sent.len(), requests.spans_in(index));
            let nodes: HashSet<&str> = sent.iter().map(|span| attribute(span, NODE_ID).unwrap()).collect();
            assert_eq!(nodes.len(), 1, "a request is one proxy's");
            all.extend(sent);
        }
        assert_eq!(all.len() as u64, rounds * requests.spans_per_round() as u64);
        let by_id: HashMap<&[u8], &Span> = all.iter().map(|span| (span.span_id.as_slice(), span)).collect();
        assert_eq!(by_id.len(), all.len(), "span ids differ");
        assert_eq!(all.iter().filter(|span| span.parent_span_id.is_empty()).count(), traces, "one root a trace");
        assert_eq!(all.iter().map(|span| &span.trace_id).collect::<HashSet<_>>().len(), traces);
        assert_eq!(all.iter().map(|span| attribute(span, REQUEST_ID)).collect::<HashSet<_>>().len(), traces);
        for span in &all {
            assert!(span.start_time_unix_nano < span.end_time_unix_nano && span.end_time_unix_nano <= ROUND_END);
            assert_eq!(span.start_time_unix_nano % 1_000, 0);
            if !span.parent_span_id.is_empty() {
                let parent = by_id[span.parent_span_id.as_slice()];
                assert_eq!(parent.trace_id, span.trace_id);
                assert_eq!(attribute(parent, REQUEST_ID), attribute(span, REQUEST_ID));
                assert!(parent.start_time_unix_nano <= span.start_time_unix_nano);
            }
        }
        all
    }

    /// Scenario: two rounds of a mesh in small requests. Guarantee: whole traces with ids of their own, full requests.
    #[test]
    fn mesh_requests_decode_to_whole_traces() {
        let traffic = Shape { services: 7, depth: 3, fan_out: 2 }.traffic(5, 1).unwrap();
        let traces = traffic.traces.len();
        let requests = Requests::new(traffic, 5, 1).unwrap();
        check(&requests, 2, 2 * traces);
        let full = (0..requests.per_round() as u64).filter(|index| requests.spans_in(*index) == 5).count();
        assert!(full * 100 >= requests.per_round() * 97, "{full} of {}", requests.per_round());
    }

    /// Scenario: the recorded stream, in small and in large requests. Guarantee: its true counts, in each pass and round.
    #[test]
    fn replayed_requests_have_the_counts_of_the_recording() {
        for (size, rounds) in [(5, 2), (512, 1)] {
            let requests = Requests::new(replay(Path::new(RECORDING), size).unwrap(), size, 9).unwrap();
            let passes = requests.spans_per_round() / 5868;
            assert_eq!(requests.spans_per_round() % 5868, 0);
            let times = passes * rounds as usize;
            let all = check(&requests, rounds, 800 * times);
            let code = |code| all.iter().filter(|span| attribute(span, "http.status_code") == Some(code)).count();
            assert_eq!((code("200"), code("502"), code("500")), (5772 * times, 48 * times, 48 * times));
            let mean = requests.spans_per_round() as f64 / requests.per_round() as f64;
            assert!(mean > size as f64 * 0.95, "{mean} spans a request");
        }
    }

    /// Scenario: recorded requests, decoded and encoded again. Guarantee: byte for byte what Envoy sent, so the replayed
    /// encoding is Envoy's too.
    #[test]
    fn encoding_is_envoys() {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(std::fs::File::open(RECORDING).unwrap()), &mut bytes)
            .unwrap();
        let mut again = Vec::new();
        for request in recorded(Path::new(RECORDING)).unwrap() {
            again.extend((request.encoded_len() as u32).to_le_bytes());
            request.encode(&mut again).unwrap();
        }
        assert!(bytes == again);
    }

    /// Scenario: a span id is all that is known. Guarantee: request, ids and duration are computed back as they were sent.
    #[test]
    fn spans_are_found_by_id() {
        let traffic = Shape { services: 7, depth: 3, fan_out: 2 }.traffic(5, 1).unwrap();
        let requests = Requests::new(traffic, 5, 3).unwrap();
        for index in [0, 1, requests.per_round() as u64 + 3] {
            for span in spans(decode(&requests, index)) {
                let id = span.span_id.clone().try_into().unwrap();
                let (found, in_round) = requests.find(id, index).unwrap();
                assert_eq!(found, index);
                let expected = requests.expected(index, in_round);
                assert_eq!(expected.trace_id.as_slice(), span.trace_id);
                assert_eq!(expected.parent_id.map(|id| id.to_vec()).unwrap_or_default(), span.parent_span_id);
                assert_eq!(expected.duration, span.end_time_unix_nano - span.start_time_unix_nano);
                assert_eq!(expected.request_id.as_slice(), attribute(&span, REQUEST_ID).unwrap().as_bytes());
            }
        }
        assert_eq!(requests.find([7; 8], 1_000), None);
    }
}
