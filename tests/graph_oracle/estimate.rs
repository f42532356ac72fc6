//! How many requests there were before sampling, by the definition (`docs/service-graph.md`, decision 0014).

use meshlake_query::Estimate;

/// The weight of a request that stands for itself.
const ONE: f64 = 65_536.0;

/// Of the weights of some hops, apart from each other those that are sampled apart. None if one of them is unknown.
pub fn estimate<'w>(apart: impl Iterator<Item = &'w Vec<Option<u64>>>) -> Option<Estimate> {
    let known = |weights: &Vec<Option<u64>>| weights.iter().map(|weight| Some((*weight)? as f64 / ONE)).collect();
    let apart = apart.map(known).collect::<Option<Vec<Vec<f64>>>>()?;
    let hops = apart.iter().flatten().count() as f64;
    let value: f64 = apart.iter().flatten().sum();
    let variance: f64 = apart.iter().map(|weights| variance(weights)).sum();
    let (low, high) = if variance == 0.0 {
        (value, value)
    } else if apart.len() < 30 {
        // Garwood's interval of a count, here of the one that is as uncertain.
        let count = value * value / variance;
        (value * gamma_quantile(count, 0.025) / count, value * gamma_quantile(count + 1.0, 0.975) / count)
    } else {
        let error = 1.96 * variance.sqrt();
        (value - error, value + error)
    };
    // No fewer than were seen.
    Some(Estimate { value, low: low.max(hops).min(value), high })
}

/// Of each pair of hops, a hop and itself too, both are kept as often as that of the larger weight.
fn variance(weights: &[f64]) -> f64 {
    weights.iter().flat_map(|a| weights.iter().map(move |b| a * b - a.max(*b))).sum()
}

/// Below it is so large a share of the gamma distribution of this shape, 1 or more: summed over logarithms, a four-hundredth of a deviation at a time.
fn gamma_quantile(shape: f64, share: f64) -> f64 {
    let step = 0.0025 / shape.sqrt();
    let places = (-8_000..2_400).map(|place| f64::from(place) * step);
    let masses: Vec<(f64, f64)> = places.map(|log| (log, (shape * (1.0 + log - log.exp())).exp())).collect();
    let mut left = share * masses.iter().map(|(_, mass)| mass).sum::<f64>();
    for (log, mass) in masses {
        if left <= mass {
            return shape * (log + (left / mass - 0.5) * step).exp();
        }
        left -= mass;
    }
    f64::INFINITY
}

/// Whether estimates are one but for rounding.
pub fn are_near(left: Option<Estimate>, right: Option<Estimate>) -> bool {
    let near = |left: f64, right: f64| (left - right).abs() <= 1e-5 * right;
    match (left, right) {
        (Some(left), Some(right)) => left.value == right.value && near(left.low, right.low) && near(left.high, right.high),
        _ => left.is_none() && right.is_none(),
    }
}
