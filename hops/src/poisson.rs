//! Garwood's interval of a Poisson count, for counts that need not be whole.

/// Probability that is left out on either side.
const TAIL: f64 = 0.025;
/// Halvings of a range: enough for any f64.
const STEPS: usize = 200;

/// The means between which 95 % lie, given a count greater than zero.
pub(crate) fn interval(count: f64) -> (f64, f64) {
    // Chi-squared quantiles over two: quantiles of the gamma distribution of shape count, and count + 1.
    (quantile(count, TAIL), quantile(count + 1.0, 1.0 - TAIL))
}

/// The `x` below which the gamma distribution of this shape has the probability `p`.
fn quantile(shape: f64, p: f64) -> f64 {
    let (mut low, mut high) = (0.0, shape + 20.0 * shape.sqrt() + 20.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if below(shape, middle) < p { low = middle } else { high = middle }
    }
    high
}

/// The regularised lower incomplete gamma function (Numerical Recipes, 6.2): by its series below the mean, by the continued
/// fraction of its complement above.
fn below(shape: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let scale = (shape * x.ln() - x - ln_gamma(shape)).exp();
    let terms = 100 + 20 * shape.sqrt() as usize;
    if x < shape + 1.0 {
        let (mut term, mut sum) = (1.0 / shape, 1.0 / shape);
        for n in 1..terms {
            term *= x / (shape + n as f64);
            sum += term;
        }
        return sum * scale;
    }
    let tiny = 1e-300;
    let mut b = x + 1.0 - shape;
    let (mut c, mut d) = (1.0 / tiny, 1.0 / b);
    let mut fraction = d;
    for n in 1..terms {
        let a = -(n as f64) * (n as f64 - shape);
        b += 2.0;
        let nonzero = |value: f64| if value.abs() < tiny { tiny } else { value };
        d = 1.0 / nonzero(a * d + b);
        c = nonzero(b + a / c);
        fraction *= d * c;
    }
    1.0 - scale * fraction
}

/// Logarithm of the gamma function (Lanczos).
pub(crate) fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        0.001_208_650_973_866_179,
        -0.000_005_395_239_384_953,
    ];
    let shifted = x + 5.5;
    let sum = COEFFICIENTS.iter().enumerate().fold(1.000_000_000_190_015, |sum, (n, c)| sum + c / (x + n as f64 + 1.0));
    (x + 0.5) * shifted.ln() - shifted + (2.506_628_274_631_000_5 * sum / x).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: counts whose intervals are in every table. Guarantee: those.
    #[test]
    fn garwood() {
        for (count, low, high) in [(1.0, 0.0253, 5.572), (5.0, 1.623, 11.668), (10.0, 4.795, 18.390), (29.0, 19.42, 41.65)] {
            let found = interval(count);
            assert!((found.0 - low).abs() < 0.006 && (found.1 - high).abs() < 0.006, "{count}: {found:?}");
        }
    }

    /// Scenario: a tiny and a huge effective count. Guarantee: finite, around the count.
    #[test]
    fn extremes() {
        for count in [1e-6, 0.5, 1e3, 1e6] {
            let (low, high) = interval(count);
            assert!(low >= 0.0 && low < count && high > count && high.is_finite(), "{count}: {low} {high}");
        }
        let (low, high) = interval(1e6);
        assert!((low - (1e6 - 1960.0)).abs() < 10.0 && (high - (1e6 + 1960.0)).abs() < 10.0, "{low} {high}");
    }
}
