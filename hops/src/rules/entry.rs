//! R4 Entry: a span by which a node is asked, one request.

use crate::span::{Link, Role, Span};

use super::crossing::{Groups, Joint};
use super::set::Id;
use super::{NONE, Trace, fill};

/// Marks the entries.
pub(crate) fn find(
    trace: &Trace<'_, '_>,
    trace_id: &[u8; 16],
    ids: &[Id],
    groups: &Groups,
    worked_on: &mut Vec<bool>,
    entries: &mut Vec<bool>,
) {
    fill(worked_on, trace, false);
    mark_worked_on(trace, trace_id, ids, groups, worked_on);
    fill(entries, trace, false);
    for rank in trace.ranks() {
        let span = trace.at(rank);
        let asked = match groups.joints[rank as usize] {
            Joint::Crossing(_) => true,
            Joint::Inside(_) => false,
            Joint::Root | Joint::Absent => is_asked(span),
        };
        entries[rank as usize] = asked && !worked_on[rank as usize];
    }
}

/// Whether a span without a parent is a request: it is of the side that is asked, or of a gateway or waypoint, which are asked
/// whatever they write.
pub(crate) fn is_asked(span: &Span<'_>) -> bool {
    span.is_server() || span.is_waypoint() || span.role == Role::Gateway
}

/// Marks the receives of messages that other spans tell the processing of: those are the entries.
fn mark_worked_on(trace: &Trace<'_, '_>, trace_id: &[u8; 16], ids: &[Id], groups: &Groups, worked_on: &mut [bool]) {
    for rank in trace.ranks() {
        let span = trace.at(rank);
        if !span.is_process() {
            continue;
        }
        if let Joint::Crossing(parent) = groups.joints[rank as usize]
            && let Some(receive) = Some(groups.receives[parent as usize]).filter(|receive| *receive != NONE)
        {
            worked_on[receive as usize] = true;
        }
        for Link { trace_id: of, span_id } in span.links {
            let id = u64::from_be_bytes(*span_id);
            let first = ids.partition_point(|other| other.id < id);
            let linked = ids[first..].iter().take_while(|other| of == trace_id && other.id == id);
            for receive in linked.filter(|other| other.rank != NONE && trace.at(other.rank).is_receive()) {
                worked_on[receive.rank as usize] = true;
            }
        }
    }
}
