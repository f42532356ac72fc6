//! What of a hop is summed.

use super::gathered::Fact;
use super::measures::Measures;
use crate::estimate::Tally;
use crate::flags::Flags;
use crate::hop::{ErrorClass, Hop, Report};

/// More than a body has: so that no span that claims more makes the sum meaningless.
const BODY_MAX: u64 = 1 << 44;

/// Something that is counted in a row of hops; `sign` is -1 of what is taken out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HopFact {
    /// A hop.
    Hop { told: Told, sign: i8 },
    /// The known weights of a trace's hops on an edge.
    Weights { tally: Tally, sign: i8 },
    /// A trace has no hop here any more, if it had one.
    Gone([u8; 16]),
}

/// What a hop tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub trace_id: [u8; 16],
    pub time: u64,
    pub caller: Option<Seen>,
    pub callee: Option<Seen>,
    pub network: Option<u64>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub calls: u32,
    pub messages: u32,
    pub flags: Flags,
    pub mtls: Option<bool>,
    /// Whether its weight is known, which is told apart.
    pub weighed: bool,
}

/// What one side saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub latency: Option<u64>,
    pub error: ErrorClass,
}

impl Seen {
    fn of(report: Report<'_>) -> Seen {
        Seen { latency: report.latency, error: report.error }
    }
}

impl Told {
    pub(crate) fn of(trace_id: [u8; 16], hop: &Hop<'_>) -> Told {
        let bytes = |bytes: Option<u64>| bytes.unwrap_or(0).min(BODY_MAX);
        Told {
            trace_id,
            time: hop.time,
            caller: hop.caller_report.map(Seen::of),
            callee: hop.callee_report.map(Seen::of),
            network: hop.network,
            request_bytes: bytes(hop.request_bytes),
            response_bytes: bytes(hop.response_bytes),
            calls: hop.calls,
            messages: hop.messages,
            flags: hop.flags,
            mtls: hop.mtls,
            weighed: hop.weight.is_some(),
        }
    }
}

impl Fact for HopFact {
    type Sum = Measures;

    fn add_to(&self, sum: &mut Measures) {
        match self {
            HopFact::Hop { told, sign } => sum.add(told, (*sign).into()),
            HopFact::Weights { tally, sign } => sum.add_weights(tally, (*sign).into()),
            HopFact::Gone(trace_id) => sum.retract(*trace_id),
        }
    }
}
