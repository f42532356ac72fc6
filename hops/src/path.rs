//! The critical path: what each moment of an end-to-end time was spent on.
//!
//! The way is walked backwards: from the end of a span through the child that finished last before it, and on from where that one
//! began (Eaton et al., "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures", USENIX ATC 2022, section 3).
//! What no child on the way covers is the span's own time.
//!
//! ```text
//! a |-------------------------------|        the way:  a a b b b c c a d d d a
//!     b |-----|    d |----------|            c and e are concurrent with d; c ended before d began
//!              c |-|
//!                  e |-------|
//! ```
//!
//! Who waits for whom is in `waits`, the walk in `walk`, and in `class` what a span's own time is. Segments partition the
//! end-to-end time exactly, whatever the spans say.

mod class;
mod waits;
mod walk;

use crate::hop::Hop;
use crate::node::Node;
use crate::rules::hops::{self, Writer};
use crate::span::Span;
use crate::worker::{SPANS_MAX, TraceHops};
use walk::Walk;

/// What time was spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// An application's own work. Where only its proxy tells of a request, the proxy's time is in it.
    Application,
    /// Proxies: what a sidecar's or waypoint's span lasts longer than the application's inside of it; gateways.
    Proxy,
    /// Between a call and the request that answers it, there and back, and between attempts.
    Network,
    /// In or on the way to whom no span tells of: databases, external hosts, silent services, lost parents.
    Unknown,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 4] = [Class::Application, Class::Proxy, Class::Network, Class::Unknown];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Application => "application",
            Class::Proxy => "proxy",
            Class::Network => "network",
            Class::Unknown => "unknown",
        }
    }
}

/// A stretch of a critical path, within one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Nanoseconds since the epoch, by the clock of the span that the path is of.
    pub from: u64,
    /// The first nanosecond after it; greater than `from`.
    pub to: u64,
    /// Position of the span among those that were given; none between spans without a parent.
    pub span: Option<u32>,
    /// What the time was spent on.
    pub class: Class,
    /// Whose time it is: the span's node; of unknown time who was called, or who is missing.
    pub node: Node<'a>,
}

/// What an end-to-end time consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriticalPath<'a> {
    /// When it begins, nanoseconds since the epoch.
    pub start: u64,
    /// When it ends; not before `start`.
    pub end: u64,
    /// By time, without gaps: the first begins at `start`, each at the end of the one before, the last ends at `end`.
    pub segments: Vec<Segment<'a>>,
    /// Spans that the whole is made of: more than one where a trace has several roots, or none and several spans whose parents
    /// are missing.
    pub tops: usize,
    /// Spans on which nothing of it hangs, for a span above them is missing while the trace has a root.
    pub detached: usize,
    /// Requests on the path whose clocks contradict those of their callers, and that were moved to within the call.
    pub moved: usize,
    /// Spans of the trace past the most that are taken at once.
    pub left_out: usize,
}

impl TraceHops {
    /// The critical path of a trace: from where its roots begin to where they end; of spans without a parent where it has no
    /// root. `spans` are all that are known of the trace, in any order and with any copies (P4).
    pub fn critical_path<'a>(&mut self, trace_id: &[u8; 16], spans: &[Span<'a>]) -> CriticalPath<'a> {
        let (path, summary) = self.settle(trace_id, spans, SPANS_MAX, |settled, answers| Walk::new(settled, answers).trace());
        CriticalPath { left_out: summary.left_out, ..path }
    }

    /// The critical paths of those requests of a trace whose hops are wanted, each from start to end of the span by which its
    /// callee was asked. A request that is work on another wanted one is part of that path and has none of its own, so no time
    /// is in two.
    pub fn critical_paths<'a>(
        &mut self,
        trace_id: &[u8; 16],
        spans: &[Span<'a>],
        mut wanted: impl FnMut(&Hop<'a>) -> bool,
    ) -> Vec<CriticalPath<'a>> {
        let mut served = Vec::new();
        let (mut paths, summary) = self.settle(trace_id, spans, SPANS_MAX, |settled, answers| {
            hops::served(settled, &mut served);
            let writer = Writer { settled: *settled, answers, served: &served, trace_id };
            let walk = Walk::new(settled, answers);
            let asked = |rank: u32| settled.entries[rank as usize] && wanted(&writer.entry(rank));
            let outermost = walk.waits.outermost(settled, asked);
            outermost.into_iter().map(|rank| walk.request(rank)).collect::<Vec<_>>()
        });
        paths.iter_mut().for_each(|path| path.left_out = summary.left_out);
        paths
    }
}
