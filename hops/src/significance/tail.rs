//! Tails of counts, summed term by term outwards.

use crate::poisson::ln_gamma;

/// What is left of a tail that is no longer summed, as a share of it.
const NEGLIGIBLE: f64 = 1e-17;

/// How often something of probability `p` came in `n` tries. Its complement stands beside it, for it may be tiny.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binomial {
    pub(crate) n: u64,
    pub(crate) p: f64,
    pub(crate) complement: f64,
}

impl Binomial {
    /// How often it did not come.
    pub(crate) fn mirrored(self) -> Binomial {
        Binomial { n: self.n, p: self.complement, complement: self.p }
    }

    pub(crate) fn mean(self) -> f64 {
        self.n as f64 * self.p
    }

    pub(crate) fn variance(self) -> f64 {
        self.mean() * self.complement
    }

    pub(crate) fn probability(self, count: u64) -> f64 {
        let rest = (self.n - count) as f64;
        (ln_choose(self.n, count) + count as f64 * self.p.ln() + rest * self.complement.ln()).exp()
    }

    /// The probability of `count` and more.
    fn at_least(self, count: u64) -> f64 {
        let odds = self.p / self.complement;
        let ratio = |step: u64| (self.n - count - step + 1) as f64 / (count + step) as f64 * odds;
        sum(self.probability(count), self.n - count, ratio)
    }

    /// Twice the tail that begins with `count`, away from the mean.
    pub(crate) fn two_sided(self, count: u64) -> f64 {
        let above = count as f64 >= self.mean();
        doubled(if above { self.at_least(count) } else { self.mirrored().at_least(self.n - count) })
    }

    /// The least count that the probability of it and fewer is more than `tail`.
    pub(crate) fn lower(self, tail: f64) -> u64 {
        // What lies further out than ten deviations does not count.
        let start = (self.mean() - 10.0 * self.variance().sqrt() - 10.0).max(0.0) as u64;
        let mut term = self.probability(start);
        let mut below = term;
        let mut count = start;
        while below <= tail && count < self.n {
            term *= (self.n - count) as f64 / (count + 1) as f64 * (self.p / self.complement);
            count += 1;
            below += term;
        }
        count
    }
}

/// How many of `drawn` are marked, drawn from `all` of which `marked` are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hypergeometric {
    pub(crate) all: u64,
    pub(crate) marked: u64,
    pub(crate) drawn: u64,
}

impl Hypergeometric {
    /// How many are not marked.
    fn mirrored(self) -> Hypergeometric {
        Hypergeometric { marked: self.all - self.marked, ..self }
    }

    fn mean(self) -> f64 {
        self.marked as f64 * (self.drawn as f64 / self.all as f64)
    }

    /// How much it leans to one side; infinite where only one count is possible.
    pub(crate) fn skewness(self) -> f64 {
        let [all, marked, drawn] = [self.all, self.marked, self.drawn].map(|count| count as f64);
        let lean = (all - 2.0 * marked) * (all - 2.0 * drawn) * (all - 1.0).sqrt();
        let width = (drawn * marked * (all - marked) * (all - drawn)).sqrt() * (all - 2.0);
        if width > 0.0 { lean / width } else { f64::INFINITY }
    }

    /// The probability of `count` and more. It is possible.
    fn at_least(self, count: u64) -> f64 {
        let Hypergeometric { all, marked, drawn } = self;
        let unmarked = all - marked;
        let probability = ln_choose(marked, count) + ln_choose(unmarked, drawn - count) - ln_choose(all, drawn);
        let ratio = |step: u64| {
            let found = count + step;
            let more = (marked - found + 1) as f64 * (drawn - found + 1) as f64;
            more / (found as f64 * (unmarked + found - drawn) as f64)
        };
        sum(probability.exp(), marked.min(drawn) - count, ratio)
    }

    /// Twice the tail that begins with `count`, away from the mean.
    pub(crate) fn two_sided(self, count: u64) -> f64 {
        let above = count as f64 >= self.mean();
        doubled(if above { self.at_least(count) } else { self.mirrored().at_least(self.drawn - count) })
    }
}

/// The first term and those that follow it, each `ratio` times the one before.
fn sum(first: f64, terms: u64, ratio: impl Fn(u64) -> f64) -> f64 {
    let (mut term, mut sum) = (first, first);
    for step in 1..=terms {
        term *= ratio(step);
        sum += term;
        if term <= sum * NEGLIGIBLE {
            break;
        }
    }
    sum
}

fn doubled(tail: f64) -> f64 {
    (2.0 * tail).min(1.0)
}

/// Logarithm of the number of ways to take `some` of `all`.
fn ln_choose(all: u64, some: u64) -> f64 {
    let ln_factorial = |count: u64| ln_gamma(count as f64 + 1.0);
    ln_factorial(all) - ln_factorial(some) - ln_factorial(all - some)
}
