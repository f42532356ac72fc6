//! The normal distribution.

use std::f64::consts::SQRT_2;

/// The probability of a standard normal variable at least as far from 0 as `z`, to seven digits.
pub(crate) fn two_sided(z: f64) -> f64 {
    erfc(z.abs() / SQRT_2)
}

/// The complementary error function of a number that is not negative (Numerical Recipes, 6.2: Chebyshev, relative error below 1.2e-7 everywhere).
fn erfc(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let series = COEFFICIENTS.iter().fold(0.0, |sum, coefficient| sum * t + coefficient);
    (t * (series - x * x).exp()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: deviations that every table has, and 0. Guarantee: their probabilities, far out too.
    #[test]
    fn tables() {
        for (z, p) in [
            (0.0, 1.0),
            (0.674_489_75, 0.5),
            (1.0, 0.317_310_51),
            (1.959_963_98, 0.05),
            (2.575_829_3, 0.01),
            (5.0, 5.733_031e-7),
            (8.0, 1.244_192e-15),
        ] {
            assert!((two_sided(z) / p - 1.0).abs() < 1e-6 && two_sided(z) == two_sided(-z), "{z}: {}", two_sided(z));
        }
        assert_eq!(two_sided(60.0), 0.0);
    }
}
