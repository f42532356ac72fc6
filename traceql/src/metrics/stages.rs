//! What is left of series: `topk`, `bottomk`, comparisons with a number.

use std::cmp::Ordering;

use super::series::Series;
use crate::ast::{Comparison, Literal, SeriesStage};

pub(super) fn apply(stage: &SeriesStage, mut all: Vec<Series>) -> Vec<Series> {
    match stage {
        SeriesStage::Filter(op, number) => {
            let number = seconds(number);
            for value in all.iter_mut().flat_map(|series| &mut series.values) {
                if !holds(*op, *value, number) {
                    *value = f64::NAN;
                }
            }
        }
        SeriesStage::Top(limit) if all.len() > *limit => keep(*limit, &mut all, |a, b| b.total_cmp(&a)),
        SeriesStage::Bottom(limit) if all.len() > *limit => keep(*limit, &mut all, |a, b| a.total_cmp(&b)),
        SeriesStage::Top(_) | SeriesStage::Bottom(_) => {}
    }
    all.retain(Series::has_samples);
    all.iter_mut().for_each(Series::trim);
    all
}

/// Leaves the first samples of each interval. Of equal samples, those of the least labels come first.
fn keep(limit: usize, all: &mut [Series], order: impl Fn(f64, f64) -> Ordering) {
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    let intervals = all.first().map_or(0, |series| series.values.len());
    let mut ranking: Vec<usize> = Vec::with_capacity(all.len());
    for interval in 0..intervals {
        ranking.clear();
        ranking.extend((0..all.len()).filter(|place| !all[*place].values[interval].is_nan()));
        ranking.sort_by(|a, b| order(all[*a].values[interval], all[*b].values[interval]));
        for place in ranking.iter().skip(limit) {
            all[*place].values[interval] = f64::NAN;
        }
    }
}

/// A number as series have it: durations in seconds.
pub(super) fn seconds(number: &Literal) -> f64 {
    let value = number.value().number().unwrap_or(f64::NAN);
    if matches!(number, Literal::Duration(_)) { value / 1e9 } else { value }
}

fn holds(op: Comparison, value: f64, number: f64) -> bool {
    match op {
        Comparison::Eq => value == number,
        Comparison::Ne => value != number,
        Comparison::Lt => value < number,
        Comparison::Le => value <= number,
        Comparison::Gt => value > number,
        Comparison::Ge => value >= number,
    }
}
