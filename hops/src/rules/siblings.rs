//! Proxy spans beside application spans under one parent: what Istio 1.30 makes where proxies do not propagate their context.

use super::parent::Parent;
use super::{Trace, fill};

/// Of the proxy spans that began before an application span, how many of the latest are looked at.
pub(crate) const SIBLINGS_MAX: usize = 64;

/// A parent: whether it is absent, and its rank or id.
type Under = (bool, u64);

/// The server-side spans of proxies, by parent and start.
#[derive(Debug, Default)]
pub(crate) struct Siblings {
    proxies: Vec<(Under, u64, u32)>,
    /// By rank, whether an application's span might have proxies beside it.
    wanted: Vec<bool>,
}

impl Siblings {
    pub(crate) fn collect(&mut self, trace: &Trace<'_, '_>, parents: &[Parent]) {
        self.proxies.clear();
        fill(&mut self.wanted, trace, false);
        let mut any = false;
        for rank in trace.ranks() {
            let span = trace.at(rank);
            self.wanted[rank as usize] = span.is_application() && span.is_server();
            any |= self.wanted[rank as usize];
        }
        if !any {
            return;
        }
        for rank in trace.ranks() {
            let span = trace.at(rank);
            if let (false, true, Some(under)) = (span.is_application(), span.is_server(), under(trace, parents, rank)) {
                self.proxies.push((under, span.start, rank));
            }
        }
        self.proxies.sort_unstable();
    }

    /// Of the proxy spans that enclose this application span in time and are accepted, the shortest; of several the least rank.
    pub(crate) fn around(
        &self,
        trace: &Trace<'_, '_>,
        parents: &[Parent],
        rank: u32,
        mut accept: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        if self.proxies.is_empty() || !self.wanted[rank as usize] {
            return None;
        }
        let under = under(trace, parents, rank)?;
        let span = trace.at(rank);
        let past = self.proxies.partition_point(|(parent, start, _)| (*parent, *start) <= (under, span.start));
        let before = self.proxies[..past].iter().rev().take_while(|(parent, _, _)| *parent == under).take(SIBLINGS_MAX);
        let enclosing = before.map(|(_, _, rank)| *rank).filter(|proxy| trace.at(*proxy).end >= span.end && accept(*proxy));
        enclosing.min_by_key(|proxy| (trace.at(*proxy).duration(), *proxy))
    }
}

fn under(trace: &Trace<'_, '_>, parents: &[Parent], rank: u32) -> Option<Under> {
    match parents[rank as usize] {
        Parent::Root => None,
        Parent::Absent => Some((true, trace.at(rank).parent_id())),
        Parent::Linked(parent) => Some((false, parent.into())),
    }
}
