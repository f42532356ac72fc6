//! What the service graph makes of the spans of a trace: the function H of all that is known of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_hops::{Direction, Node, NodeKind, Span, SpanKind, TraceHops};
use meshlake_traceql::{InGraph, Kind};

use crate::graph::Identity;
use crate::hops::TraceRows;
use crate::trace_id::TraceId;

/// Whole traces as H reads them, copies of spans among them: which of these counts, H says itself, as for the graph (P3).
pub(super) struct Graphs<'a> {
    rows: TraceRows<'a>,
    worker: RefCell<TraceHops>,
}

/// The spans of a trace that H took, by id and kind. Of copies of different kinds it takes one.
#[derive(Default)]
pub(super) struct PlacedSpans(HashMap<([u8; 8], SpanKind), PlacedSpan>);

struct PlacedSpan {
    node: NodeId,
    entry: bool,
    /// Caller and callee of the hop that it is the key of.
    ends: Option<[NodeId; 2]>,
}

/// As the graph calls a node at the level of services; none for nobody knows whom.
type NodeId = Option<Rc<str>>;

impl<'a> Graphs<'a> {
    /// Of batches with all that H reads.
    pub(super) fn new(batches: impl Iterator<Item = &'a RecordBatch>) -> Result<Graphs<'a>> {
        Ok(Graphs { rows: TraceRows::new(batches)?, worker: RefCell::default() })
    }

    /// The spans of a trace.
    pub(super) fn of(&self, id: TraceId) -> PlacedSpans {
        let spans = self.rows.spans(self.rows.trace(id));
        let (mut hops, mut nodes) = (Vec::new(), Vec::new());
        self.worker.borrow_mut().append_with_nodes(&id.0, &spans, &mut hops, &mut nodes);
        let key = |place: u32| {
            let Span { span_id, kind, .. } = spans[place as usize];
            (span_id, kind)
        };
        let mut ids = NodeIds::default();
        let mut placed = HashMap::with_capacity(nodes.len());
        for (place, node) in &nodes {
            placed.insert(key(*place), PlacedSpan { node: ids.of(node), entry: false, ends: None });
        }
        for hop in &hops {
            if let Some(span) = placed.get_mut(&key(hop.span)) {
                span.entry |= hop.key.direction == Direction::In;
                // The lone span of a gateway may be the key of two hops, of which its request comes first.
                span.ends.get_or_insert_with(|| [ids.of(&hop.caller), ids.of(&hop.callee)]);
            }
        }
        PlacedSpans(placed)
    }
}

impl PlacedSpans {
    /// What of a span is known.
    pub(super) fn get(&self, id: [u8; 8], kind: Kind) -> InGraph<'_> {
        let Some(PlacedSpan { node, entry, ends }) = self.0.get(&(id, of_hops(kind))) else { return InGraph::default() };
        let [caller, callee] = ends.as_ref().map_or([None, None], |ends| ends.each_ref().map(Option::as_deref));
        InGraph { entry: *entry, node: node.as_deref(), caller, callee }
    }
}

fn of_hops(kind: Kind) -> SpanKind {
    match kind {
        Kind::Unspecified => SpanKind::Unspecified,
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    }
}

/// The ids of nodes, each written once a trace.
#[derive(Default)]
struct NodeIds<'a>(HashMap<Node<'a>, NodeId>);

impl<'a> NodeIds<'a> {
    fn of(&mut self, node: &Node<'a>) -> NodeId {
        let id = || (node.kind != NodeKind::Unknown).then(|| Identity::service_id(node).into());
        self.0.entry(*node).or_insert_with(id).clone()
    }
}
