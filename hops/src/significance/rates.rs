//! Rates of events that come by chance.

use super::normal;
use super::tail::Binomial;

/// The largest variance of a count whose tail is summed, in some hundred terms. Beyond it the normal approximation is wrong by less than a third
/// at five deviations.
pub(crate) const EXACT_VARIANCE: f64 = 10_000.0;

/// Events, and how long or of how many they were counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Events.
    pub events: u64,
    /// Time, or what else the number of events is in proportion to; greater than zero.
    pub exposure: f64,
}

/// How probable counts are that differ so much or more, if both rates are equal; 1 without events, and for an exposure that is none.
pub fn rates_differ(before: Rate, after: Rate) -> f64 {
    let exposure = before.exposure + after.exposure;
    let n = before.events.saturating_add(after.events);
    let measured = before.exposure > 0.0 && after.exposure > 0.0 && exposure.is_finite();
    if n == 0 || !measured {
        return 1.0;
    }
    let events = Binomial { n, p: after.exposure / exposure, complement: before.exposure / exposure };
    if events.variance() <= EXACT_VARIANCE {
        return events.two_sided(after.events);
    }
    let distance = (after.events as f64 - events.mean()).abs() - 0.5;
    normal::two_sided(distance.max(0.0) / events.variance().sqrt())
}
