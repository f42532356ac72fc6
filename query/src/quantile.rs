//! Which quantile is asked for.

use std::fmt;
use std::str::FromStr;

use crate::error::QueryError;

/// Digits after the point.
const DIGITS: usize = 6;
const ONE: u32 = 1_000_000;

/// A quantile: the share of values that it is not exceeded by, from 0 to 1. It has a name, so a share has no more digits than names show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantile {
    millionths: u32,
}

impl Quantile {
    /// The share.
    pub fn share(self) -> f64 {
        f64::from(self.millionths) / f64::from(ONE)
    }
}

impl FromStr for Quantile {
    type Err = QueryError;

    /// Reads a decimal number, `0.99`.
    fn from_str(text: &str) -> Result<Self, QueryError> {
        let wrong = || {
            QueryError::invalid(format!(
                "`{text}` is no quantile: allowed are numbers from 0 to 1 with at most {DIGITS} digits after the point"
            ))
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.len() <= DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        let number: Option<u64> = format!("{whole}{fraction:0<DIGITS$}").parse().ok();
        let millionths = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= ONE);
        millionths.map(|millionths| Quantile { millionths }).ok_or_else(wrong)
    }
}

impl fmt::Display for Quantile {
    /// Its name: `p` and the share in percent, `p99.9`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, rest) = (self.millionths / 10_000, self.millionths % 10_000);
        if rest == 0 {
            return write!(out, "p{percent}");
        }
        let rest = format!("{rest:04}");
        write!(out, "p{percent}.{}", rest.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: quantiles as people write them, and what is none. Guarantee: the share and the name of each; the rest is refused by its text.
    #[test]
    fn shares_and_names() {
        for (text, share, name) in [
            ("0.5", 0.5, "p50"),
            ("0.99", 0.99, "p99"),
            ("0.999", 0.999, "p99.9"),
            ("0.99999", 0.99999, "p99.999"),
            ("0.000001", 0.000001, "p0.0001"),
            ("0.05", 0.05, "p5"),
            ("0", 0.0, "p0"),
            ("1", 1.0, "p100"),
            ("1.000000", 1.0, "p100"),
        ] {
            let quantile: Quantile = text.parse().unwrap();
            assert_eq!((quantile.share(), quantile.to_string().as_str()), (share, name), "{text}");
        }
        for text in ["", "1.1", "-0.5", "0.", ".5", "0.1234567", "50", "p50", "NaN", "0.5 ", "1e-1", "0.+5", "99999999"] {
            let refused = text.parse::<Quantile>().unwrap_err();
            assert!(refused.to_string().starts_with(&format!("`{text}` is no quantile")), "{refused}");
        }
    }
}
