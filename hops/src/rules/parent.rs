//! R1 Parent: which span a span is under.

use super::set::Id;
use super::{NONE, Trace, fill};

/// What a span is under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Parent {
    /// Nothing: it names no parent.
    #[default]
    Root,
    /// A span that is not there, or that the span is itself above of.
    Absent,
    /// The span of this rank.
    Linked(u32),
}

impl Parent {
    pub(crate) fn rank(self) -> Option<u32> {
        if let Parent::Linked(rank) = self { Some(rank) } else { None }
    }
}

/// The tree of a trace.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// By rank.
    pub parents: Vec<Parent>,
    /// Ranks, each after its parent.
    pub downward: Vec<u32>,
    state: Vec<State>,
    path: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    OnPath,
    Done,
}

impl Tree {
    /// Links the spans, and cuts cycles.
    pub(crate) fn link(&mut self, trace: &Trace<'_, '_>, ids: &[Id]) {
        fill(&mut self.parents, trace, Parent::Root);
        let mut twin = None;
        for id in ids {
            // Twins, spans of one id: client above server above the rest.
            let above = twin.filter(|(twin, _)| *twin == id.id).map(|(_, rank)| Parent::Linked(rank));
            if id.rank != NONE {
                let parent = above.unwrap_or_else(|| named(trace.at(id.rank).parent_id(), id.id, ids));
                self.parents[id.rank as usize] = parent;
                twin = Some((id.id, id.rank));
            }
        }
        self.order(trace);
    }

    /// Puts parents before children. A cycle is cut at its least rank, which is then absent.
    pub(crate) fn order(&mut self, trace: &Trace<'_, '_>) {
        fill(&mut self.state, trace, State::New);
        self.downward.clear();
        for rank in trace.ranks() {
            if let Some(again) = self.climb(rank) {
                self.cut(again);
                self.climb(rank);
            }
            self.downward.extend(self.path.iter().rev());
            for rank in self.path.drain(..) {
                self.state[rank as usize] = State::Done;
            }
        }
    }

    /// Puts the spans from this one up to what is known on the path; tells the span where the path meets itself.
    fn climb(&mut self, from: u32) -> Option<u32> {
        let mut at = Some(from);
        while let Some(rank) = at {
            match self.state[rank as usize] {
                State::Done => return None,
                State::OnPath => return Some(rank),
                State::New => {}
            }
            self.state[rank as usize] = State::OnPath;
            self.path.push(rank);
            at = self.parents[rank as usize].rank();
        }
        None
    }

    fn cut(&mut self, again: u32) {
        let around = self.path.iter().rposition(|rank| *rank == again).unwrap_or(0);
        if let Some(least) = self.path[around..].iter().min() {
            self.parents[*least as usize] = Parent::Absent;
        }
        for rank in self.path.drain(..) {
            self.state[rank as usize] = State::New;
        }
    }
}

/// The last twin of the parent's id.
fn named(parent: u64, own: u64, ids: &[Id]) -> Parent {
    if parent == 0 {
        return Parent::Root;
    }
    if parent == own {
        return Parent::Absent;
    }
    let past = ids.partition_point(|id| id.id <= parent);
    let twins = ids[..past].iter().rev().take_while(|id| id.id == parent);
    twins.map(|id| id.rank).find(|rank| *rank != NONE).map_or(Parent::Absent, Parent::Linked)
}
