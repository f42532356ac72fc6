//! The walk.

use std::cmp::Reverse;

use crate::node::{Node, NodeKind};
use crate::rules::NONE;
use crate::rules::answer::{Answers, Settled, Verdict};

use super::class::Classes;
use super::waits::Waits;
use super::{Class, CriticalPath, Segment};

/// Walks the critical paths of one trace.
#[derive(Debug)]
pub(crate) struct Walk<'s, 'a> {
    settled: Settled<'s, 'a>,
    answers: &'s Answers,
    pub waits: Waits,
    classes: Classes,
}

/// A span in time, by the clock of the path. Wider than nanoseconds since the epoch, for any span may be moved anywhere.
#[derive(Clone, Copy, Debug)]
struct Placed {
    /// [`NONE`] for the whole of several spans.
    rank: u32,
    /// What of it is within the span above.
    from: i128,
    to: i128,
    start: i128,
    end: i128,
    /// By how much its clock differs.
    shift: i128,
}

/// A span whose part of the path is being walked.
struct Frame {
    of: Placed,
    /// All after it is walked.
    at: i128,
    /// Its children, from the last to finish, and the next of them.
    first: usize,
    next: usize,
    last: usize,
}

/// What a walk writes, from the end to the start.
#[derive(Default)]
struct Written<'a> {
    segments: Vec<Segment<'a>>,
    moved: usize,
}

impl<'s, 'a> Walk<'s, 'a> {
    pub(crate) fn new(settled: &Settled<'s, 'a>, answers: &'s Answers) -> Walk<'s, 'a> {
        Walk { settled: *settled, answers, waits: Waits::new(settled, answers), classes: Classes::new(settled) }
    }

    /// The path of the whole trace: its tops are children of a span that nobody wrote.
    pub(crate) fn trace(&self) -> CriticalPath<'a> {
        let tops = || self.waits.tops.iter().map(|rank| self.as_written(*rank, 0));
        let start = tops().map(|top| top.start).min().unwrap_or(0);
        let end = tops().map(|top| top.end).max().unwrap_or(0);
        let whole = Placed { rank: NONE, from: start, to: end, start, end, shift: 0 };
        CriticalPath { tops: self.waits.tops.len(), detached: self.waits.detached, ..self.path(whole) }
    }

    /// The path of the request that a span is of.
    pub(crate) fn request(&self, rank: u32) -> CriticalPath<'a> {
        CriticalPath { tops: 1, ..self.path(self.as_written(rank, 0)) }
    }

    fn path(&self, whole: Placed) -> CriticalPath<'a> {
        let (mut placed, mut frames, mut written) = (Vec::new(), Vec::new(), Written::default());
        frames.push(self.enter(whole, &mut placed));
        while let Some(frame) = frames.last_mut() {
            // A child that ended after what is walked is concurrent with it: nobody waited for it.
            let later = placed[frame.next..frame.last].iter().position(|child: &Placed| child.to <= frame.at);
            if let Some(later) = later {
                let child = placed[frame.next + later];
                frame.next += later + 1;
                self.write(frame.of.rank, child.to, frame.at, &mut written);
                frame.at = child.from;
                written.moved += usize::from(child.shift != frame.of.shift);
                let entered = self.enter(child, &mut placed);
                frames.push(entered);
            } else {
                self.write(frame.of.rank, frame.of.from, frame.at, &mut written);
                placed.truncate(frame.first);
                frames.pop();
            }
        }
        written.segments.reverse();
        let Written { segments, moved } = written;
        CriticalPath { start: whole.from as u64, end: whole.to as u64, segments, moved, ..CriticalPath::default() }
    }

    /// Puts the children of a span on the stack, from the last to finish; of those that finish at once the longest is the first.
    fn enter(&self, of: Placed, placed: &mut Vec<Placed>) -> Frame {
        let first = placed.len();
        let children = if of.rank == NONE { &self.waits.tops } else { self.waits.below(of.rank) };
        placed.extend(children.iter().map(|child| self.place(*child, &of)).filter(|child| child.from < child.to));
        placed[first..].sort_unstable_by_key(|child| (Reverse(child.to), child.from, child.rank));
        Frame { of, at: of.to, first, next: first, last: placed.len() }
    }

    /// A child in its place. The request that answers a call was during the call: if its clock says otherwise, and it fits, it is
    /// moved there by the least that it takes, with all that is below it. But a caller that failed need not have waited for the end.
    fn place(&self, rank: u32, above: &Placed) -> Placed {
        let mut child = self.as_written(rank, above.shift);
        let answers = matches!(self.answers.verdicts[rank as usize], Verdict::Proved | Verdict::Assumed);
        let fits = child.end - child.start <= above.end - above.start;
        if answers && fits && above.rank != NONE && !self.settled.trace.at(above.rank).error {
            let by = (above.start - child.start).max(0) + (above.end - child.end).min(0);
            child = self.as_written(rank, above.shift + by);
        }
        child.from = child.start.clamp(above.from, above.to);
        child.to = child.end.clamp(above.from, above.to);
        child
    }

    /// A span as it is written, but for its clock. One that ends before it starts takes no time.
    fn as_written(&self, rank: u32, shift: i128) -> Placed {
        let span = self.settled.trace.at(rank);
        let start = i128::from(span.start) + shift;
        let end = start + i128::from(span.duration().unwrap_or(0));
        Placed { rank, from: start, to: end, start, end, shift }
    }

    fn write(&self, rank: u32, from: i128, to: i128, written: &mut Written<'a>) {
        if from == to {
            return;
        }
        let (span, (class, node)) = match rank {
            NONE => (None, (Class::Unknown, self.nobody())),
            rank => (Some(self.settled.trace.order[rank as usize]), self.classes.of(&self.settled, self.answers, rank)),
        };
        // All is within the whole, whose times are nanoseconds since the epoch.
        written.segments.push(Segment { from: from as u64, to: to as u64, span, class, node });
    }

    /// Who made the spans at the top.
    fn nobody(&self) -> Node<'a> {
        Node::of_kind(if self.waits.rootless { NodeKind::Missing } else { NodeKind::Unknown })
    }
}
