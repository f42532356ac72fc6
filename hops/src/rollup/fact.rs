//! What of a hop is summed.

use super::gathered::{Fact, Place};
use super::measures::Measures;
use crate::estimate::Tally;
use crate::flags::Flags;
use crate::hop::{ErrorClass, Hop, Report};

/// More than a body has: so that no span that claims more makes the sum meaningless.
const BODY_MAX: u64 = 1 << 44;

/// Facts that are read at once, so that none is waited for.
const READ_AT_ONCE: usize = 64;

/// Something that is counted in a row of hops. There are many of them at once, so they are small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HopFact {
    /// The row.
    pub place: Place,
    pub what: What,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// A hop.
    Hop(Told),
    /// The known weights of a trace's hops on an edge.
    Weights(Weighed, Sign),
    /// A trace has no hop here any more, if it had one.
    Gone([u8; 16]),
}

/// Whether it is put in or taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    In,
    Out,
}

impl Sign {
    pub(crate) fn factor(self) -> i64 {
        match self {
            Sign::In => 1,
            Sign::Out => -1,
        }
    }
}

/// What a hop tells. Large fields are first and small ones side by side, for nothing to stand between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub trace_id: [u8; 16],
    pub time: u64,
    /// Of caller and callee; see [`Seen`].
    latencies: [u64; 2],
    /// Nanoseconds; [`NONE`] if it is not known.
    pub network: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub calls: u32,
    pub messages: u32,
    errors: [Option<ErrorClass>; 2],
    pub mtls: Option<bool>,
    pub mirror: bool,
    pub unresolved: bool,
    pub assumed: bool,
    /// Whether its weight is known, which is told apart.
    pub weighed: bool,
    pub sign: Sign,
}

/// A cache line and a half: the smaller they are, the more of them meet others of their rows.
const _: () = assert!(size_of::<HopFact>() <= 96);

/// A time that is not known. One that is as long is taken for a nanosecond less, which is in the same bucket.
pub(crate) const NONE: u64 = u64::MAX;

/// What one side saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Nanoseconds; [`NONE`] if it is not known.
    pub latency: u64,
    /// None if the side tells nothing.
    pub error: Option<ErrorClass>,
}

/// The weights of some hops of one trace, as a [`Tally`] has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighed {
    pub hops: u32,
    weight: [u64; 2],
    variance: [u64; 2],
}

fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

fn whole([high, low]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

impl Weighed {
    pub(crate) fn of(weights: &mut [Option<u64>]) -> Weighed {
        let mut tally = Tally::default();
        tally.add_trace(weights);
        Weighed { hops: tally.hops as u32, weight: halves(tally.weight), variance: halves(tally.variance) }
    }

    pub(crate) fn weight(&self) -> u128 {
        whole(self.weight)
    }

    pub(crate) fn variance(&self) -> u128 {
        whole(self.variance)
    }
}

fn time(nanoseconds: Option<u64>) -> u64 {
    nanoseconds.map_or(NONE, |time| time.min(NONE - 1))
}

impl Seen {
    fn of(report: Option<&Report<'_>>) -> Seen {
        Seen { latency: time(report.and_then(|report| report.latency)), error: report.map(|report| report.error) }
    }
}

impl Told {
    pub(crate) fn of(trace_id: [u8; 16], hop: &Hop<'_>, sign: Sign) -> Told {
        let [caller, callee] = [&hop.caller_report, &hop.callee_report].map(|report| Seen::of(report.as_ref()));
        let bytes = |bytes: Option<u64>| bytes.unwrap_or(0).min(BODY_MAX);
        Told {
            trace_id,
            time: hop.time,
            latencies: [caller.latency, callee.latency],
            network: time(hop.network),
            request_bytes: bytes(hop.request_bytes),
            response_bytes: bytes(hop.response_bytes),
            calls: hop.calls,
            messages: hop.messages,
            errors: [caller.error, callee.error],
            mtls: hop.mtls,
            mirror: hop.flags.contains(Flags::MIRROR),
            unresolved: hop.flags.contains(Flags::UNRESOLVED),
            assumed: hop.flags.contains(Flags::ASSUMED),
            weighed: hop.weight.is_some(),
            sign,
        }
    }

    pub(crate) fn caller(&self) -> Seen {
        Seen { latency: self.latencies[0], error: self.errors[0] }
    }

    pub(crate) fn callee(&self) -> Seen {
        Seen { latency: self.latencies[1], error: self.errors[1] }
    }
}

impl Fact for HopFact {
    type Sum = Measures;

    fn in_order(facts: &mut [HopFact], mut each: impl FnMut(Place, &HopFact)) {
        // They are large to be moved, so their places are sorted: key, step and number in one integer, which is quick to compare.
        let in_order = |(HopFact { place: (key, step), .. }, number): (&HopFact, u32)| {
            u128::from(*key) << 96 | u128::from(*step) << 32 | u128::from(number)
        };
        let mut order: Vec<u128> = facts.iter().zip(0..).map(in_order).collect();
        order.sort_unstable();
        // Each is a miss in every cache. Nothing depends on what is only copied, so the processor waits for many of them at once.
        let mut read = Vec::with_capacity(READ_AT_ONCE);
        for numbers in order.chunks(READ_AT_ONCE) {
            read.clear();
            read.extend(numbers.iter().map(|number| facts[*number as u32 as usize]));
            read.iter().for_each(|fact| each(fact.place, fact));
        }
    }

    fn add_to(&self, sum: &mut Measures) {
        match &self.what {
            What::Hop(told) => sum.add(told),
            What::Weights(weighed, sign) => sum.add_weights(weighed, sign.factor()),
            What::Gone(trace_id) => sum.retract(*trace_id),
        }
    }
}
