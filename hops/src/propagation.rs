//! How sure it is that a workload begins new traces where it should continue those of its requests.
//!
//! No span says that a context was dropped. What a mesh sees of an application that does not forward the headers: requests that
//! came in with a context and in whose traces it calls nobody, and calls of its own that begin traces. But so does a workload that
//! answers from memory and calls others by a timer. Time tells the two apart where enough is kept: calls for a request are made
//! while the same pod serves one, those of a timer no more often than chance has it.

use crate::poisson::ln_gamma;

/// The fewest calls during requests, and requests and calls of its own, that say something.
const OVERLAPPING_MIN: u64 = 5;
const COUNTED_MIN: u64 = 10;
/// A chance below which it is taken for no chance.
const CHANCE_MAX: f64 = 0.01;
/// Of all calls, the part that may be made within requests where headers are said not to be forwarded.
const CONTINUED_MAX: f64 = 0.05;
/// For each request, the fewest traces begun that can be its calls.
const STARTED_MIN: f64 = 0.1;

/// What spans tell of one workload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Propagation {
    /// Requests that it received in traces that others began.
    pub requests: u64,
    /// Of these, those on which it called somebody in the same trace.
    pub continued: u64,
    /// Calls that it made on such requests, in the same traces.
    pub calls_continued: u64,
    /// Traces that it began by calling somebody.
    pub started: u64,
    /// Calls that it made in these.
    pub calls_started: u64,
    /// Of the traces that it began, those by a pod that is known to receive requests.
    pub checked: u64,
    /// Of these, those that began while the pod served a request of another trace.
    pub overlapping: u64,
    /// How many of them would if the pod called at any time: the sum of the parts of the time that it was serving.
    pub overlapping_by_chance: f64,
}

/// How sure it is that headers are not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// It receives requests and begins traces. Work of its own looks the same.
    Low,
    /// It nearly never calls anybody in the traces of its requests, and begins many. So does one that answers from memory and
    /// calls by a timer.
    Medium,
    /// It begins traces while it serves requests, and so much more often than chance has it that the calls are for these.
    High,
}

impl Confidence {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}

impl Propagation {
    /// How sure it is; none of a workload that no traced request reaches, which has nothing to forward, and of one that begins no
    /// traces.
    pub fn confidence(&self) -> Option<Confidence> {
        if self.requests == 0 || self.started == 0 {
            return None;
        }
        let calls = (self.calls_continued + self.calls_started) as f64;
        let rarely_continues = (self.calls_continued as f64) < CONTINUED_MAX * calls;
        let many = self.requests.min(self.started) >= COUNTED_MIN && self.started as f64 >= STARTED_MIN * self.requests as f64;
        Some(match () {
            () if self.overlaps() => Confidence::High,
            () if rarely_continues && many => Confidence::Medium,
            () => Confidence::Low,
        })
    }

    /// Whether traces begin during requests more often than chance has it. To be sure, chance is given twice the requests: load
    /// comes and goes, and not every request was kept.
    fn overlaps(&self) -> bool {
        if self.overlapping < OVERLAPPING_MIN {
            return false;
        }
        let idle = 1.0 - (self.overlapping_by_chance / self.checked as f64).clamp(0.0, 1.0);
        at_least(self.overlapping, self.checked, 1.0 - idle * idle) <= CHANCE_MAX
    }
}

/// The chance that `k` or more of `n` happen, each of the chance `p`.
fn at_least(k: u64, n: u64, p: f64) -> f64 {
    if k as f64 <= n as f64 * p {
        // Not more than is to be expected: near one, and too far from the sum below.
        return 1.0;
    }
    let (successes, failures) = (k as f64, n.saturating_sub(k) as f64);
    let ways = ln_gamma(n as f64 + 1.0) - ln_gamma(successes + 1.0) - ln_gamma(failures + 1.0);
    let power = |base: f64, exponent: f64| if exponent == 0.0 { 0.0 } else { exponent * base.ln() };
    let mut term = (ways + power(p, successes) + power(1.0 - p, failures)).exp();
    let mut sum = 0.0;
    // Past the mean each term is less than the one before.
    for more in k..=n {
        sum += term;
        if term <= sum * f64::EPSILON {
            break;
        }
        term *= n.saturating_sub(more) as f64 / (more + 1) as f64 * p / (1.0 - p);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: chances that can be worked out by hand, and extremes. Guarantee: those; and never more than one or no number.
    #[test]
    fn binomial_tails() {
        for (k, n, p, expected) in [
            (1, 1, 0.5, 0.5),
            (2, 2, 0.5, 0.25),
            (3, 4, 0.5, 5.0 / 16.0),
            (2, 3, 0.1, 0.028),
            (10, 10, 0.9, 0.9f64.powi(10)),
            (5, 5, 1.0, 1.0),
            (1, 5, 0.0, 0.0),
            (0, 5, 0.3, 1.0),
        ] {
            let found = at_least(k, n, p);
            assert!((found - expected).abs() < 1e-9, "{k} {n} {p}: {found}");
        }
        for (k, n, p) in [(100_000, 100_000, 0.01), (60_000, 100_000, 0.5), (1_100, 1_000_000, 0.001)] {
            let found = at_least(k, n, p);
            assert!((0.0..=1.0).contains(&found), "{k} {n} {p}: {found}");
        }
    }

    fn begins(requests: u64, started: u64) -> Propagation {
        Propagation { requests, started, calls_started: started, checked: started, ..Propagation::default() }
    }

    /// Scenario: a cron job, which is never asked; a service that only forwards. Guarantee: nothing is said of them.
    #[test]
    fn who_has_nothing_to_forward() {
        assert_eq!(begins(0, 10_000).confidence(), None);
        assert_eq!(Propagation { continued: 100, calls_continued: 200, ..begins(100, 0) }.confidence(), None);
    }

    /// Scenario: a service that begins its calls during its requests, kept all or one in ten, of a pod that is rarely, half or
    /// always busy; a poller that does so as often as chance has it. Guarantee: sure only where chance cannot have it.
    #[test]
    fn time_tells_drops_from_timers() {
        let kept = |checked: u64, overlapping: u64, busy: f64| {
            let continued = Propagation { continued: 50, calls_continued: 500, ..begins(100, checked) };
            Propagation { overlapping, overlapping_by_chance: busy * checked as f64, ..continued }.confidence()
        };
        for (checked, overlapping, busy, expected) in [
            (100, 100, 0.1, Confidence::High),
            (1_000, 100, 0.01, Confidence::High),
            (100, 100, 0.5, Confidence::High),
            (100, 100, 1.0, Confidence::Low),
            (100, 10, 0.1, Confidence::Low),
            (100, 20, 0.1, Confidence::Low),
            (4, 4, 0.01, Confidence::Low),
        ] {
            assert_eq!(kept(checked, overlapping, busy), Some(expected), "{checked} {overlapping} {busy}");
        }
    }

    /// Scenario: services whose calls are hardly ever in the traces of their requests; with few of them, with many more requests
    /// than calls, with calls in half of them. Guarantee: only the first may drop headers, and no more is said.
    #[test]
    fn calls_that_are_never_in_the_traces_of_requests() {
        assert_eq!(begins(1_000, 900).confidence(), Some(Confidence::Medium));
        assert_eq!(Propagation { continued: 4, calls_continued: 4, ..begins(100, 100) }.confidence(), Some(Confidence::Medium));
        assert_eq!(Propagation { continued: 50, calls_continued: 50, ..begins(100, 50) }.confidence(), Some(Confidence::Low));
        assert_eq!(begins(9, 900).confidence(), Some(Confidence::Low));
        assert_eq!(begins(900, 9).confidence(), Some(Confidence::Low));
        assert_eq!(begins(100_000, 100).confidence(), Some(Confidence::Low));
    }
}
