//! Decides between decoders (`docs/decisions/0001`): what a million spans of the recorded stream cost to decode.
//!
//! - prost: owned structs, dropped again. The oracle of the tests.
//! - views: borrowed structs by quick-protobuf, dropped again; the columns would still have to be filled from them.
//! - columns: the collector's decoder, straight into the columns of `spans`.

use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use meshlake_collector::Decoder;
use meshlake_config::{Config, Tenant};
use meshlake_storage::{Content, Decode, Encoding, Frame, SpanBuilder};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use quick_protobuf::{BytesReader, MessageRead, Result};

/// Seconds a million spans for each way to decode
#[derive(Debug, Parser)]
struct Cli {
    /// Recorded stream
    #[arg(default_value = "tests/data/envoy-bookinfo.traces.bin.gz")]
    stream: PathBuf,
    /// Passes over the stream; the median is printed
    #[arg(long, default_value_t = 31)]
    passes: usize,
}

/// A message of which each field of interest is a list of borrowed parts.
macro_rules! views {
    ($($name:ident { $($field:ident: $tag:literal $read:ident $type:ty),* })*) => {
        $(
            #[derive(Debug, Default)]
            #[allow(dead_code)]
            struct $name<'a> { $($field: Vec<$type>),* }

            impl<'a> MessageRead<'a> for $name<'a> {
                fn from_reader(reader: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
                    let mut message = Self::default();
                    while !reader.is_eof() {
                        match reader.next_tag(bytes)? {
                            $($tag => message.$field.push(reader.$read(bytes)?),)*
                            tag => reader.read_unknown(bytes, tag)?,
                        }
                    }
                    Ok(message)
                }
            }
        )*
    };
}

views! {
    RequestView { resource_spans: 10 read_message ResourceSpansView<'a> }
    ResourceSpansView { resource: 10 read_message ResourceView<'a>, scope_spans: 18 read_message ScopeSpansView<'a> }
    ResourceView { attributes: 10 read_message AttributeView<'a> }
    ScopeSpansView { scope: 10 read_bytes &'a [u8], spans: 18 read_message SpanView<'a> }
}

/// The fields of a span that the recorded stream has.
#[derive(Debug, Default)]
#[allow(dead_code)]
struct SpanView<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    name: &'a [u8],
    kind: i32,
    start: u64,
    end: u64,
    attributes: Vec<AttributeView<'a>>,
    status: Option<&'a [u8]>,
    flags: u32,
}

impl<'a> MessageRead<'a> for SpanView<'a> {
    fn from_reader(reader: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut span = Self::default();
        while !reader.is_eof() {
            match reader.next_tag(bytes)? {
                10 => span.trace_id = reader.read_bytes(bytes)?,
                18 => span.span_id = reader.read_bytes(bytes)?,
                34 => span.parent_span_id = reader.read_bytes(bytes)?,
                42 => span.name = reader.read_bytes(bytes)?,
                48 => span.kind = reader.read_int32(bytes)?,
                57 => span.start = reader.read_fixed64(bytes)?,
                65 => span.end = reader.read_fixed64(bytes)?,
                74 => span.attributes.push(reader.read_message(bytes)?),
                122 => span.status = Some(reader.read_bytes(bytes)?),
                133 => span.flags = reader.read_fixed32(bytes)?,
                tag => reader.read_unknown(bytes, tag)?,
            }
        }
        Ok(span)
    }
}

#[derive(Debug, Default)]
#[allow(dead_code)]
struct AttributeView<'a> {
    key: &'a [u8],
    value: ValueView<'a>,
}

impl<'a> MessageRead<'a> for AttributeView<'a> {
    fn from_reader(reader: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut attribute = Self::default();
        while !reader.is_eof() {
            match reader.next_tag(bytes)? {
                10 => attribute.key = reader.read_bytes(bytes)?,
                18 => attribute.value = reader.read_message(bytes)?,
                tag => reader.read_unknown(bytes, tag)?,
            }
        }
        Ok(attribute)
    }
}

#[derive(Debug, Default)]
#[allow(dead_code)]
struct ValueView<'a> {
    text: &'a [u8],
}

impl<'a> MessageRead<'a> for ValueView<'a> {
    fn from_reader(reader: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut value = Self::default();
        while !reader.is_eof() {
            match reader.next_tag(bytes)? {
                10 => value.text = reader.read_bytes(bytes)?,
                tag => reader.read_unknown(bytes, tag)?,
            }
        }
        Ok(value)
    }
}

fn requests(stream: &PathBuf) -> anyhow::Result<Vec<Bytes>> {
    let file = std::fs::File::open(stream).with_context(|| format!("cannot read {}", stream.display()))?;
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes)?;
    let mut rest = Bytes::from(bytes);
    let mut requests = Vec::new();
    while let Some(length) = rest.first_chunk::<4>().copied() {
        let _ = rest.split_to(4);
        requests.push(rest.split_to(u32::from_le_bytes(length) as usize));
    }
    Ok(requests)
}

/// The median seconds of a pass, a million spans.
fn measure(passes: usize, spans: usize, mut pass: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut seconds = Vec::new();
    for _ in 0..passes {
        let began = Instant::now();
        pass()?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[passes / 2] * 1e6 / spans as f64)
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let requests = requests(&cli.stream)?;
    let spans_of = |request: &ExportTraceServiceRequest| -> usize {
        request.resource_spans.iter().flat_map(|group| &group.scope_spans).map(|scoped| scoped.spans.len()).sum()
    };
    let mut spans = 0;
    for request in &requests {
        spans += spans_of(&ExportTraceServiceRequest::decode(request.clone())?);
    }
    let prost = measure(cli.passes, spans, || {
        for request in &requests {
            black_box(ExportTraceServiceRequest::decode(request.clone())?);
        }
        Ok(())
    })?;
    let views = measure(cli.passes, spans, || {
        for request in &requests {
            black_box(RequestView::from_reader(&mut BytesReader::from_bytes(request), request)?);
        }
        Ok(())
    })?;
    let decoder = Decoder::new(&Config::default());
    let columns = measure(cli.passes, spans, || {
        let mut rows = SpanBuilder::default();
        for body in &requests {
            let (content, encoding) = (Content::Protobuf, Encoding::Identity);
            let frame = Frame { tenant: Tenant::default(), content, encoding, received: 0, body: body.clone() };
            decoder.decode(&frame, &mut rows)?;
        }
        black_box(rows.finish()?);
        Ok(())
    })?;
    println!("seconds a million spans: prost {prost:.2}, views {views:.2}, columns {columns:.2}");
    Ok(())
}
