//! A recorded stream, taken apart so that it can be sent again and again as new traces.

use std::{collections::HashMap, fs::File, io::Read, path::Path, rc::Rc};

use anyhow::{Context, ensure};
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;

use crate::spans::{Lane, NODE_ID, Traffic, TrafficSpan, attribute};

/// Reads a recording (gzip of: 4 bytes little-endian length, `ExportTraceServiceRequest`) as one round. Spans are sorted by
/// the proxy that sent them, and the recording is laid over itself several times, as different traces, so that each proxy
/// fills requests of `spans_per_request`.
///
/// # Errors
/// A file that cannot be read, is no such recording, or holds no span.
pub fn replay(path: &Path, spans_per_request: usize) -> anyhow::Result<Traffic> {
    let requests = recorded(path).with_context(|| format!("cannot read the recorded stream {}", path.display()))?;
    let recording = Recording::new(requests);
    let spans: usize = recording.lanes.iter().map(|(_, spans)| spans.len()).sum();
    ensure!(spans > 0, "cannot replay {}: it holds no span", path.display());
    ensure!(recording.numbers.len() == spans, "cannot replay {}: it holds a span twice", path.display());
    // Each lane leaves half a request empty on average; sixteen full ones beside it make that 3 %.
    let passes = (16 * spans_per_request * recording.lanes.len()).div_ceil(spans).clamp(1, 64);
    Ok(recording.traffic(passes as u64))
}

/// The requests of a recording, in order.
///
/// # Errors
/// A file that cannot be read, or is no such recording.
pub fn recorded(path: &Path) -> anyhow::Result<Vec<ExportTraceServiceRequest>> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(File::open(path)?).read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    let mut requests = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (request, after) = after.split_at_checked(length).context("the last request is cut off")?;
        requests.push(ExportTraceServiceRequest::decode(request)?);
        rest = after;
    }
    ensure!(rest.is_empty(), "the last length is cut off");
    Ok(requests)
}

struct Recording {
    /// Resource and scope of a proxy (without spans), and its spans.
    lanes: Vec<(ResourceSpans, Vec<Rc<Span>>)>,
    /// For each trace id, its number and its start.
    traces: HashMap<Vec<u8>, (u32, u64)>,
    /// For each span, by its ids, its number.
    numbers: HashMap<(Vec<u8>, Vec<u8>), u32>,
    start: u64,
    end: u64,
}

impl Recording {
    fn new(requests: Vec<ExportTraceServiceRequest>) -> Self {
        let mut recording = Self { lanes: Vec::new(), traces: HashMap::new(), numbers: HashMap::new(), start: u64::MAX, end: 0 };
        let mut by_proxy = HashMap::new();
        for resource_spans in requests.into_iter().flat_map(|request| request.resource_spans) {
            let resource_spans_alone = ResourceSpans { scope_spans: Vec::new(), ..resource_spans.clone() };
            for scope_spans in resource_spans.scope_spans {
                let scope_alone = ScopeSpans { spans: Vec::new(), ..scope_spans.clone() };
                let head = ResourceSpans { scope_spans: vec![scope_alone], ..resource_spans_alone.clone() };
                let node = scope_spans.spans.first().and_then(|span| attribute(span, NODE_ID)).unwrap_or_default();
                // Two versions of a service have equal resources; the node tells their proxies apart.
                let key = (head.encode_to_vec(), node.to_owned());
                let lane = *by_proxy.entry(key).or_insert_with(|| {
                    recording.lanes.push((head, Vec::new()));
                    recording.lanes.len() - 1
                });
                scope_spans.spans.into_iter().for_each(|span| recording.add(lane, span));
            }
        }
        recording
    }

    fn add(&mut self, lane: usize, span: Span) {
        self.start = self.start.min(span.start_time_unix_nano);
        self.end = self.end.max(span.end_time_unix_nano);
        let next = self.traces.len() as u32;
        let trace = self.traces.entry(span.trace_id.clone()).or_insert((next, u64::MAX));
        trace.1 = trace.1.min(span.start_time_unix_nano);
        let number = self.numbers.len() as u32;
        self.numbers.insert((span.trace_id.clone(), span.span_id.clone()), number);
        self.lanes[lane].1.push(Rc::new(span));
    }

    /// Lays the recording over itself `passes` times, each pass a part of the recorded time later than the one before.
    fn traffic(&self, passes: u64) -> Traffic {
        let length = self.end - self.start;
        let mut starts: Vec<(u32, u64)> = self.traces.values().copied().collect();
        starts.sort_unstable();
        let mut traffic = Traffic::default();
        for (head, _) in &self.lanes {
            let scope = head.scope_spans.first().and_then(|scope| scope.scope.clone()).unwrap_or_default();
            traffic.lanes.push(Lane { resource: head.resource.clone().unwrap_or_default(), scope, spans: Vec::new() });
        }
        for pass in 0..passes {
            // A quarter more, for times are stretched.
            let later = length / passes * pass;
            traffic.traces.extend(starts.iter().map(|(_, start)| (self.end - start) + length / 4 + length - later));
            for (lane, (_, spans)) in traffic.lanes.iter_mut().zip(&self.lanes) {
                lane.spans.extend(spans.iter().map(|span| self.span(span, pass as u32)));
            }
        }
        traffic
    }

    fn span(&self, span: &Rc<Span>, pass: u32) -> TrafficSpan {
        let (trace, trace_start) = self.traces[&span.trace_id];
        let number = |id: &[u8]| {
            let number = self.numbers.get(&(span.trace_id.clone(), id.to_vec()))?;
            Some(number + pass * self.numbers.len() as u32)
        };
        TrafficSpan {
            span: span.clone(),
            trace: trace + pass * self.traces.len() as u32,
            number: number(&span.span_id).unwrap_or_default(),
            parent: number(&span.parent_span_id),
            start: span.start_time_unix_nano - trace_start,
            end: span.end_time_unix_nano.saturating_sub(trace_start),
        }
    }
}
