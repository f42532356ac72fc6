//! The critical path once more: for each nanosecond by itself, from the text of `docs/critical-path.md`.

use meshlake_hops::{Class, Node, NodeKind, Role, Span};

use super::said::*;
use super::{Judged, Oracle, Up, set, target_node};

/// Whose a nanosecond is: the span's id and side, if it is a span's, its class and its node.
pub type Owner<'a> = (Option<([u8; 8], meshlake_hops::Side)>, Class, Node<'a>);

/// A span with what is below it, in the time of the path.
struct Tree {
    span: Option<usize>,
    from: i128,
    to: i128,
    below: Vec<Tree>,
}

/// Start and end of the path of a trace, and the owner of each nanosecond between them.
pub fn path<'a>(trace_id: &[u8; 16], spans: &[Span<'a>]) -> (u64, u64, Vec<Owner<'a>>) {
    let oracle = Oracle::of(trace_id, set(spans));
    let all = || 0..oracle.spans.len();
    let of = |up: Up| all().filter(|&i| oracle.parents[i] == up).collect::<Vec<_>>();
    let roots = of(Up::Root);
    let (tops, nobody) = if roots.is_empty() { (of(Up::Absent), NodeKind::Missing) } else { (roots, NodeKind::Unknown) };
    let interval = |i: usize| (i128::from(oracle.spans[i].start), i128::from(oracle.spans[i].end.max(oracle.spans[i].start)));
    let start = tops.iter().map(|&i| interval(i).0).min().unwrap_or(0);
    let end = tops.iter().map(|&i| interval(i).1).max().unwrap_or(0);
    let below = tops.iter().map(|&i| oracle.tree(i, interval(i), (start, end))).collect();
    let whole = Tree { span: None, from: start, to: end, below };
    let owners = (start..end).map(|now| oracle.owner(owner_of(&whole, now), nobody));
    (start as u64, end as u64, owners.collect())
}

/// The owner of one nanosecond below a span.
fn owner_of(tree: &Tree, now: i128) -> Option<usize> {
    let mut at = tree.to;
    loop {
        let finished = tree.below.iter().filter(|child| child.from < child.to && child.to <= at);
        let Some(last) = finished.max_by_key(|child| (child.to, -child.from, -(child.span.unwrap() as i128))) else {
            return tree.span;
        };
        match now {
            _ if now >= last.to => return tree.span,
            _ if now >= last.from => return owner_of(last, now),
            _ => at = last.from,
        }
    }
}

impl<'a> Oracle<'a> {
    /// A span that has been put at `at`, of which what is `within` counts.
    fn tree(&self, i: usize, at: (i128, i128), within: (i128, i128)) -> Tree {
        let clip = |time: i128| time.max(within.0).min(within.1);
        let (from, to) = (clip(at.0), clip(at.1));
        let moved_by = at.0 - i128::from(self.spans[i].start);
        let waited_for = (0..self.spans.len()).filter(|&j| self.waiter(j) == Some(i));
        let below = waited_for.map(|j| {
            let start = i128::from(self.spans[j].start) + moved_by;
            let end = i128::from(self.spans[j].end.max(self.spans[j].start)) + moved_by;
            let answers = matches!(self.judged(j), Some(Judged::Proved | Judged::Assumed));
            let by = match () {
                () if !answers || self.spans[i].error || end - start > at.1 - at.0 => 0,
                () if start < at.0 => at.0 - start,
                () if end > at.1 => at.1 - end,
                () => 0,
            };
            self.tree(j, (start + by, end + by), (from, to))
        });
        let below = below.collect();
        Tree { span: Some(i), from, to, below }
    }

    fn waiter(&self, i: usize) -> Option<usize> {
        let (s, p) = (&self.spans[i], self.above(i)?);
        if mirror(s) || (self.crossing[i] == Some(true) && send(&self.spans[p])) {
            return None;
        }
        let answers = matches!(self.judged(i), Some(Judged::Proved | Judged::Assumed));
        let call = if answers { self.last_exit(p) } else { None };
        let during = call.filter(|&c| self.spans[c].start <= s.start && self.spans[c].end >= s.end);
        Some(during.unwrap_or(p))
    }

    fn owner(&self, i: Option<usize>, nobody: NodeKind) -> Owner<'a> {
        let Some(i) = i else { return (None, Class::Unknown, Node { kind: nobody, ..Node::default() }) };
        let s = &self.spans[i];
        let (class, node) = self.spent(i);
        (Some((s.span_id, s.kind.side())), class, node)
    }

    fn spent(&self, i: usize) -> (Class, Node<'a>) {
        let (s, node) = (&self.spans[i], self.merged[self.top(i)]);
        let carried = self.message_around(i).filter(|_| self.innermost(i));
        if let Some(call) = Some(i).filter(|_| self.exit(i)).or(carried) {
            let answered = self.answered_by(i, &[Judged::Proved, Judged::Assumed]);
            let target = self.target(call).map_or(node, |target| target_node(target, &node));
            return if answered { (Class::Network, node) } else { (Class::Unknown, target) };
        }
        let within = |j: usize| std::iter::successors(self.inside(j), |&p| self.inside(p)).any(|p| p == i);
        let mut served = (0..self.spans.len()).filter(|&j| within(j) && server(&self.spans[j]) && !waypoint(&self.spans[j]));
        let served_by_another = if waypoint(s) { served.next().is_some() } else { served.any(|j| app(&self.spans[j])) };
        let receives = server(s) || waypoint(s);
        let works = app(s) || (s.role != Role::Gateway && receives && !served_by_another);
        (if works { Class::Application } else { Class::Proxy }, node)
    }
}
