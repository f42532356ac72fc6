use opentelemetry_proto::tonic::common::v1::AnyValue;
use prost::Message;

use crate::search::{Cursor, TraceSummary};

/// What a search in TraceQL has found.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceQlFound {
    /// The newest first: by the start of the whole trace, among equals by trace id. The newest `limit` of all that match, behind the cursor.
    pub traces: Vec<FoundTrace>,
    /// For those that come after; none if it is known that no other matches.
    pub next: Option<Cursor>,
    /// Traces that the query was evaluated on.
    pub inspected_traces: u64,
    /// Bytes of the columns that were read for that, decoded.
    pub inspected_bytes: u64,
}

/// A trace that matches.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundTrace {
    /// The whole trace.
    pub summary: TraceSummary,
    /// What matches in it, at least one; those without a span in the range, too.
    pub spansets: Vec<FoundSpanset>,
}

/// Spans of a trace that match together.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundSpanset {
    /// How many; [`FoundSpanset::spans`] may be fewer.
    pub matched: usize,
    /// What they were grouped by and what was computed of them: `by(name)`, `count()`.
    pub attributes: Vec<(String, AnyValue)>,
    /// In the order of TraceQL.
    pub spans: Vec<FoundSpan>,
}

/// A span that matches.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundSpan {
    /// Its id.
    pub id: [u8; 8],
    /// The operation.
    pub name: String,
    /// When it began, nanoseconds since 1970.
    pub start: i64,
    /// How long it took, nanoseconds.
    pub duration: i64,
    /// The attributes that the query names, each key once, without its scope. One that is compared with a constant is there if that
    /// comparison holds; all others if the span has them. Durations, statuses and kinds are texts. Name, duration, span id and what
    /// is of the whole trace are not among them: they are fields.
    pub attributes: Vec<(String, AnyValue)>,
}

impl FoundTrace {
    /// How much memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let services: usize = self.summary.services.iter().map(|service| size_of_val(service) + service.service.len()).sum();
        size_of::<FoundTrace>() + services + self.spansets.iter().map(FoundSpanset::bytes).sum::<usize>()
    }
}

impl FoundSpanset {
    fn bytes(&self) -> usize {
        let span = |span: &FoundSpan| size_of::<FoundSpan>() + span.name.len() + attributes_bytes(&span.attributes);
        size_of::<FoundSpanset>() + attributes_bytes(&self.attributes) + self.spans.iter().map(span).sum::<usize>()
    }
}

fn attributes_bytes(attributes: &[(String, AnyValue)]) -> usize {
    attributes.iter().map(|(key, value)| size_of::<(String, AnyValue)>() + key.len() + value.encoded_len()).sum()
}
