//! What a span's own time is.

use crate::node::Node;
use crate::rules::answer::{Answers, Settled};
use crate::rules::crossing::Joint;
use crate::rules::fill;
use crate::span::Role;

use super::Class;

/// Who serves a request inside of a span, as far as spans tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Served {
    #[default]
    Nobody,
    Proxy,
    Application,
}

/// The classes of a trace's spans.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    /// By rank, who serves the request inside of it, nearest to the work.
    inside: Vec<Served>,
}

impl Classes {
    pub(crate) fn new(settled: &Settled<'_, '_>) -> Classes {
        let mut classes = Classes::default();
        fill(&mut classes.inside, &settled.trace, Served::Nobody);
        for &rank in settled.downward.iter().rev() {
            let Joint::Inside(parent) = settled.groups.joints[rank as usize] else { continue };
            let span = settled.trace.at(rank);
            let own = match span {
                _ if !span.is_server() || span.is_waypoint() => Served::Nobody,
                _ if span.is_application() => Served::Application,
                _ => Served::Proxy,
            };
            let served = own.max(classes.inside[rank as usize]);
            let inside = &mut classes.inside[parent as usize];
            *inside = served.max(*inside);
        }
        classes
    }

    /// The class of a span's own time, and whose it is.
    pub(crate) fn of<'a>(&self, settled: &Settled<'_, 'a>, answers: &Answers, rank: u32) -> (Class, Node<'a>) {
        let (span, node, at) = (settled.trace.at(rank), *settled.node(rank), rank as usize);
        if let Some(call) = settled.exits.call(rank) {
            let target = &settled.targets[call as usize];
            return match answers.answered[at] {
                true => (Class::Network, node),
                false if target.is_known() => (Class::Unknown, target.node(&node)),
                false => (Class::Unknown, node),
            };
        }
        let receives = span.is_server() || span.is_waypoint();
        let class = match span.role {
            Role::Application => Class::Application,
            Role::Gateway => Class::Proxy,
            _ if !receives => Class::Proxy,
            // Without a span of whom it sends the request on to, all of the work is in its time.
            _ if span.is_waypoint() && self.inside[at] == Served::Nobody => Class::Application,
            _ if !span.is_waypoint() && self.inside[at] < Served::Application => Class::Application,
            _ => Class::Proxy,
        };
        (class, node)
    }
}
