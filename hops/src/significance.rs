//! Whether two numbers made of hops differ by more than chance.
//!
//! | what | test | where it is exact |
//! |---|---|---|
//! | rates | Poisson ratio: given the sum, one of two counts is binomial (Przyborowski and Wilenski 1940) | up to a variance of 10,000, then the normal approximation with correction for continuity |
//! | shares | score test of two proportions | Fisher's test, where the normal approximation is none: an expected count below 5, or skewness above 0.05 |
//! | quantiles | Mood's median test, for any quantile: the shares below a quantile of both together | as of shares |
//! | quantiles' shift | interval of order statistics for each, joined (Zou and Donner 2008) | the ranks, as of rates |
//!
//! All are two-sided; of exact tests the smaller tail is doubled, so that which of the two is named first does not matter. They take requests for
//! independent of each other: of requests that come in bursts they find more than there is.

mod discoveries;
mod normal;
mod quantiles;
mod rates;
mod shares;
mod tail;

pub use discoveries::adjust;
pub use quantiles::{QuantileTest, Shift};
pub use rates::{Rate, rates_differ};
pub use shares::{Share, shares_differ};

#[cfg(test)]
mod tests;
