//! Who waits for whom: the tree of a trace without those whom nobody waits for.

use crate::rules::answer::{Answers, Settled};
use crate::rules::crossing::Joint;
use crate::rules::{NONE, fill};

/// The tree that the path is walked in.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// By rank, the span that waits for it; else [`NONE`].
    above: Vec<u32>,
    /// By rank, where those that it waits for begin in `below`; and one more, where all end.
    first: Vec<u32>,
    below: Vec<u32>,
    /// The spans that a trace is made of: its roots, or where it has none those whose parent is missing.
    pub tops: Vec<u32>,
    /// Whether it has no root.
    pub rootless: bool,
    /// Spans below a missing parent in a trace with a root.
    pub detached: usize,
}

impl Waits {
    pub(crate) fn new(settled: &Settled<'_, '_>, answers: &Answers) -> Waits {
        let mut waits = Waits::default();
        fill(&mut waits.above, &settled.trace, NONE);
        for rank in settled.trace.ranks() {
            waits.above[rank as usize] = waiting(settled, answers, rank).unwrap_or(NONE);
        }
        waits.list();
        waits.find_tops(settled);
        waits
    }

    /// The spans that this one waits for.
    pub(crate) fn below(&self, rank: u32) -> &[u32] {
        let at = rank as usize;
        &self.below[self.first[at] as usize..self.first[at + 1] as usize]
    }

    /// Of the spans that are `asked` about, those that are not below another one, by rank.
    pub(crate) fn outermost(&self, settled: &Settled<'_, '_>, mut asked: impl FnMut(u32) -> bool) -> Vec<u32> {
        let (mut covered, mut found) = (vec![false; self.above.len()], Vec::new());
        for &rank in settled.downward {
            // Not by who waits, which may be a call inside the parent that comes later here: no call is asked about.
            covered[rank as usize] = match settled.groups.joints[rank as usize] {
                Joint::Crossing(parent) | Joint::Inside(parent) => self.above[rank as usize] != NONE && covered[parent as usize],
                Joint::Root | Joint::Absent => false,
            };
            if !covered[rank as usize] && asked(rank) {
                covered[rank as usize] = true;
                found.push(rank);
            }
        }
        found.sort_unstable();
        found
    }

    /// Lists children by parent.
    fn list(&mut self) {
        self.first = vec![0; self.above.len() + 1];
        let linked = || self.above.iter().filter(|above| **above != NONE);
        linked().for_each(|above| self.first[*above as usize + 1] += 1);
        (1..self.first.len()).for_each(|at| self.first[at] += self.first[at - 1]);
        self.below = vec![NONE; linked().count()];
        let mut next = self.first.clone();
        for (rank, above) in self.above.iter().enumerate().filter(|(_, above)| **above != NONE) {
            self.below[next[*above as usize] as usize] = rank as u32;
            next[*above as usize] += 1;
        }
    }

    fn find_tops(&mut self, settled: &Settled<'_, '_>) {
        let of = |wanted: Joint| settled.trace.ranks().filter(move |rank| settled.groups.joints[*rank as usize] == wanted);
        self.tops = of(Joint::Root).collect();
        self.rootless = self.tops.is_empty();
        if self.rootless {
            self.tops = of(Joint::Absent).collect();
            return;
        }
        let mut lost = vec![false; self.above.len()];
        for &rank in settled.downward {
            lost[rank as usize] = match settled.groups.joints[rank as usize] {
                Joint::Root => false,
                Joint::Absent => true,
                Joint::Crossing(parent) | Joint::Inside(parent) => lost[parent as usize],
            };
        }
        self.detached = lost.iter().filter(|lost| **lost).count();
    }
}

/// Who waits for a span: its parent, unless the span is a copy of a request or takes a message that was sent. A request that
/// answers a call inside its parent is waited for by that call, if it was during it: so it is where proxies propagate no context.
fn waiting(settled: &Settled<'_, '_>, answers: &Answers, rank: u32) -> Option<u32> {
    let span = settled.trace.at(rank);
    match settled.groups.joints[rank as usize] {
        Joint::Root | Joint::Absent => None,
        Joint::Inside(_) | Joint::Crossing(_) if span.is_mirror() => None,
        Joint::Inside(parent) => Some(parent),
        Joint::Crossing(parent) if settled.trace.at(parent).is_send() => None,
        Joint::Crossing(parent) => {
            let exit = Some(answers.exits[rank as usize]).filter(|exit| *exit != NONE);
            let during = exit.filter(|exit| {
                let call = settled.trace.at(*exit);
                call.start <= span.start && span.end <= call.end
            });
            Some(during.unwrap_or(parent))
        }
    }
}
