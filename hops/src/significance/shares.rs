//! Shares of two wholes.

use super::normal;
use super::tail::Hypergeometric;

/// Below this expected count the normal approximation is none (Cochran 1954).
const EXPECTED_MIN: f64 = 5.0;
/// Above it the far tail, which decides among many tests, is wrong by more than a factor of three at five deviations.
const SKEWNESS_MAX: f64 = 0.05;

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// At most the whole.
    pub part: u64,
    /// The whole.
    pub whole: u64,
}

/// How probable shares are that differ so much or more, if both are of one kind; 1 where one of the wholes, or all of their parts or none, is
/// nothing to compare.
pub fn shares_differ(before: Share, after: Share) -> f64 {
    let (parts, all) = (before.part + after.part, before.whole + after.whole);
    if before.whole == 0 || after.whole == 0 || parts == 0 || parts == all {
        return 1.0;
    }
    let [parts_f, all_f, before_f, after_f] = [parts, all, before.whole, after.whole].map(|count| count as f64);
    let share = parts_f / all_f;
    let least = before_f.min(after_f) * share.min(1.0 - share);
    let drawn = Hypergeometric { all, marked: parts, drawn: after.whole };
    if least < EXPECTED_MIN || drawn.skewness().abs() > SKEWNESS_MAX {
        return drawn.two_sided(after.part);
    }
    let difference = after.part as f64 / after_f - before.part as f64 / before_f;
    normal::two_sided(difference / (share * (1.0 - share) * (1.0 / before_f + 1.0 / after_f)).sqrt())
}
