//! Arithmetic between series. Series of equal labels are computed with each other; one without labels, with all. The label
//! `__name__` does not tell series apart here: the result's is made of both.

use std::collections::BTreeMap;

use super::groups::NAME;
use super::series::Series;
use crate::ast::Arithmetic;
use crate::eval::floats;
use crate::value::Value;

type Labels = Vec<(String, Value<'static>)>;

/// Series of both sides, sample by sample. Where either has none, or something is divided by zero, there is none.
pub(super) fn between(op: Arithmetic, left: Vec<Series>, right: Vec<Series>) -> Vec<Series> {
    let (left, left_name) = named(left);
    let (right, right_name) = named(right);
    let name = left_name.zip(right_name).map(|(left, right)| format!("({left} {op} {right})"));
    let unlabelled = Labels::new();
    let fans_out = right.contains_key(&unlabelled);
    let over = if fans_out { &left } else { &right };
    let mut all = Vec::new();
    for labels in over.keys() {
        let find = |side: &BTreeMap<Labels, Series>| side.get(labels).or_else(|| side.get(&unlabelled)).cloned();
        let (Some(a), Some(b)) = (find(&left), find(&right)) else { continue };
        let values = a.values.iter().zip(&b.values).map(|(a, b)| compute(op, *a, *b)).collect();
        let name = name.iter().map(|name| (NAME.to_owned(), Value::Text(name.clone().into())));
        let mut series = Series { labels: name.chain(labels.iter().cloned()).collect(), values, exemplars: a.exemplars };
        series.exemplars.extend(b.exemplars);
        series.trim();
        all.push(series);
    }
    all.retain(Series::has_samples);
    all
}

/// Series and a number.
pub(super) fn with_number(mut all: Vec<Series>, compute: impl Fn(f64) -> f64) -> Vec<Series> {
    all.iter_mut().flat_map(|series| &mut series.values).for_each(|value| *value = compute(*value));
    all.retain(Series::has_samples);
    all.iter_mut().for_each(Series::trim);
    all
}

/// A number of two; NaN, which is none, if either is none or it is divided by zero.
pub(super) fn compute(op: Arithmetic, left: f64, right: f64) -> f64 {
    if op == Arithmetic::Div && right == 0.0 { f64::NAN } else { floats(op, left, right) }
}

/// Series by their labels without the name, and the name.
fn named(all: Vec<Series>) -> (BTreeMap<Labels, Series>, Option<String>) {
    let mut name = None;
    let mut by_labels = BTreeMap::new();
    for mut series in all {
        if let Some((_, Value::Text(own))) = series.labels.iter().find(|(label, _)| label == NAME) {
            name = Some(own.clone().into_owned());
        }
        series.labels.retain(|(label, _)| label != NAME);
        by_labels.insert(series.labels.clone(), series);
    }
    (by_labels, name)
}
