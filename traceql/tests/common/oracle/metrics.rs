//! Metrics from lists of all numbers, with no regard for their length.

use std::collections::BTreeMap;

use meshlake_traceql::*;

use super::value::number;
use super::{Failed, Oracle, search};
use crate::common::Spans;

type Labels = Vec<(String, Value<'static>)>;
/// NaN where there is no sample.
type All = BTreeMap<Labels, Vec<f64>>;

/// The range and step that are asked for.
pub struct Range {
    pub start: u64,
    pub end: u64,
    pub step: u64,
}

impl Range {
    /// The end of each interval: each multiple of the step, from the last at or before the start to the first at or after the end.
    fn ends(&self) -> Vec<u64> {
        let first = self.start / self.step * self.step;
        (0..).map(|n| first + n * self.step).take_while(|end| *end < self.end + self.step).collect()
    }

    fn interval(&self, time: u64) -> Option<usize> {
        self.ends().iter().position(|end| time <= *end && time + self.step > *end)
    }
}

enum Answer {
    Series(All),
    Number(f64),
}

pub fn series(expr: &SeriesExpr, traces: &[Spans], range: &Range) -> Result<All, Failed> {
    match answer(expr, traces, range)? {
        Answer::Series(all) => Ok(all),
        Answer::Number(_) => panic!("a number alone"),
    }
}

fn answer(expr: &SeriesExpr, traces: &[Spans], range: &Range) -> Result<Answer, Failed> {
    let sampled = |mut all: All| {
        all.retain(|_, values| values.iter().any(|value| !value.is_nan()));
        Answer::Series(all)
    };
    Ok(match expr {
        SeriesExpr::Number(number) => Answer::Number(literal(number)),
        SeriesExpr::Query(query) => match &query.function {
            Function::Compare { .. } => Answer::Series(compared(query, traces, range)?),
            _ => sampled(of_spans(query, traces, range)?),
        },
        SeriesExpr::Stage { input, stage } => {
            let mut all = series(input, traces, range)?;
            apply(stage, &mut all);
            sampled(all)
        }
        SeriesExpr::Math { op, left, right } => sampled(match (answer(left, traces, range)?, answer(right, traces, range)?) {
            (Answer::Series(left), Answer::Series(right)) => math(*op, &left, &right),
            (Answer::Series(left), Answer::Number(right)) => left
                .into_iter()
                .map(|(labels, all)| (labels, all.into_iter().map(|left| compute(*op, left, right)).collect()))
                .collect(),
            (Answer::Number(left), Answer::Series(right)) => right
                .into_iter()
                .map(|(labels, all)| (labels, all.into_iter().map(|right| compute(*op, left, right)).collect()))
                .collect(),
            (Answer::Number(_), Answer::Number(_)) => All::new(),
        }),
    })
}

fn literal(literal: &Literal) -> f64 {
    match literal {
        Literal::Duration(nanos) => *nanos as f64 / 1e9,
        literal => number(&literal.value()).unwrap(),
    }
}

/// Each span of the range that a query leaves.
fn each_span(
    query: &MetricsQuery,
    traces: &[Spans],
    range: &Range,
    mut take: impl FnMut(&Oracle<'_>, usize, usize) -> Result<(), Failed>,
) -> Result<(), Failed> {
    for trace in traces {
        let oracle = Oracle::new(trace);
        for span in search(&query.pipeline, trace)?.into_iter().flat_map(|(spans, _)| spans) {
            if let Some(interval) = range.interval(trace.spans[span].start) {
                take(&oracle, span, interval)?;
            }
        }
    }
    Ok(())
}

fn of_spans(query: &MetricsQuery, traces: &[Spans], range: &Range) -> Result<All, Failed> {
    let mut lists: BTreeMap<Vec<Value<'static>>, Vec<Vec<Value<'static>>>> = BTreeMap::new();
    each_span(query, traces, range, |oracle, span, interval| {
        let mut value = query.function.attribute().map_or(Value::Int(1), |attribute| oracle.attribute(attribute, span, None));
        let mut key: Vec<Value<'static>> = query.by.iter().map(|attribute| group(oracle, attribute, span)).collect();
        match (&query.function, &value) {
            (Function::QuantileOverTime(..), Value::Duration(n)) if *n < 0 => value = Value::Duration(0),
            (Function::QuantileOverTime(..), Value::Int(n) | Value::Duration(n)) if *n >= 0 => {}
            (Function::HistogramOverTime(attribute), Value::Int(n) | Value::Duration(n)) if *n >= 2 => {
                let bucket = (1..).map(|k| 2f64.powi(k)).find(|bucket| *bucket >= *n as f64).unwrap();
                key.push(Value::Float(bucket / if is_duration(attribute) { 1e9 } else { 1.0 }));
            }
            (Function::QuantileOverTime(..) | Function::HistogramOverTime(_), _) => return Ok(()),
            (_, value) if number(value).is_none_or(f64::is_nan) => return Ok(()),
            _ => {}
        }
        let intervals = vec![Vec::new(); range.ends().len()];
        lists.entry(key).or_insert(intervals)[interval].push(value);
        Ok(())
    })?;
    let mut all = All::new();
    for (key, intervals) in lists {
        let names = query.by.iter().map(Attribute::to_string).chain(["__bucket".to_owned()]);
        let mut labels: Labels = names.zip(key).filter(|(_, value)| *value != Value::Nil).collect();
        if let Function::QuantileOverTime(attribute, quantiles) = &query.function {
            for quantile in quantiles {
                let mut labels = labels.clone();
                labels.push(("p".to_owned(), Value::Float(*quantile)));
                let unit = if is_duration(attribute) { 1e9 } else { 1.0 };
                all.insert(labels, intervals.iter().map(|list| exact_quantile(*quantile, list) / unit).collect());
            }
            continue;
        }
        if labels.is_empty() {
            labels.push(match query.by.first() {
                Some(first) => (first.to_string(), Value::Nil),
                None => ("__name__".to_owned(), Value::Text(query.function.name().into())),
            });
        }
        all.insert(labels, intervals.iter().map(|list| reduce(&query.function, list, range)).collect());
    }
    Ok(all)
}

fn is_duration(attribute: &Attribute) -> bool {
    use Intrinsic::*;
    matches!(attribute, Attribute::Intrinsic(Duration | TraceDuration | EventTimeSinceStart))
}

fn group(oracle: &Oracle<'_>, attribute: &Attribute, span: usize) -> Value<'static> {
    if let Attribute::Named(Named { scope: Scope::Any, name, .. }) = attribute {
        let of = |scope| oracle.attribute(&Attribute::Named(Named { scope, name: name.clone(), slot: 0 }), span, None);
        let value = of(Scope::Span);
        return if value == Value::Nil { of(Scope::Resource) } else { value };
    }
    oracle.attribute(attribute, span, None)
}

fn exact_quantile(quantile: f64, list: &[Value<'static>]) -> f64 {
    let mut sorted: Vec<f64> = list.iter().filter_map(number).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (1..=sorted.len()).find(|rank| *rank as f64 >= quantile * sorted.len() as f64);
    rank.map_or(0.0, |rank| sorted[rank - 1])
}

fn reduce(function: &Function, list: &[Value<'static>], range: &Range) -> f64 {
    let numbers = || list.iter().filter_map(number);
    let unit = if function.attribute() == Some(&Attribute::Intrinsic(Intrinsic::Duration)) { 1e9 } else { 1.0 };
    match function {
        Function::Rate => list.len() as f64 / (range.step as f64 / 1e9),
        Function::CountOverTime | Function::HistogramOverTime(_) => list.len() as f64,
        _ if list.is_empty() => f64::NAN,
        Function::MinOverTime(_) => numbers().fold(f64::INFINITY, f64::min) / unit,
        Function::MaxOverTime(_) => numbers().fold(f64::NEG_INFINITY, f64::max) / unit,
        Function::SumOverTime(_) => numbers().sum::<f64>() / unit,
        Function::AvgOverTime(_) => numbers().sum::<f64>() / list.len() as f64 / unit,
        other => panic!("{other:?}"),
    }
}

fn apply(stage: &SeriesStage, all: &mut All) {
    let (limit, sign) = match stage {
        SeriesStage::Filter(op, than) => {
            let than = literal(than);
            let keep = |value: f64| match op {
                Comparison::Eq => value == than,
                Comparison::Ne => value != than,
                Comparison::Lt => value < than,
                Comparison::Le => value <= than,
                Comparison::Gt => value > than,
                Comparison::Ge => value >= than,
            };
            all.values_mut().flatten().filter(|value| !keep(**value)).for_each(|value| *value = f64::NAN);
            return;
        }
        SeriesStage::Top(limit) => (*limit, -1.0),
        SeriesStage::Bottom(limit) => (*limit, 1.0),
    };
    if all.len() <= limit {
        return;
    }
    let intervals = all.values().next().map_or(0, Vec::len);
    for interval in 0..intervals {
        let mut samples: Vec<(f64, Labels)> =
            all.iter().map(|(labels, values)| (sign * values[interval], labels.clone())).collect();
        samples.retain(|(value, _)| !value.is_nan());
        samples.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap().then_with(|| a.1.cmp(&b.1)));
        for (_, labels) in samples.iter().skip(limit) {
            all.get_mut(labels).unwrap()[interval] = f64::NAN;
        }
    }
}

fn compute(op: Arithmetic, left: f64, right: f64) -> f64 {
    match op {
        Arithmetic::Add => left + right,
        Arithmetic::Sub => left - right,
        Arithmetic::Mul => left * right,
        Arithmetic::Div if right == 0.0 => f64::NAN,
        Arithmetic::Div => left / right,
        other => panic!("{other}"),
    }
}

fn math(op: Arithmetic, left: &All, right: &All) -> All {
    let name =
        |all: &All| all.keys().flatten().find(|(label, _)| label == "__name__").map(|(_, name)| name.to_string().replace('"', ""));
    let unnamed = |all: &All| -> All {
        let without = |labels: &Labels| labels.iter().filter(|(label, _)| label != "__name__").cloned().collect();
        all.iter().map(|(labels, values)| (without(labels), values.clone())).collect()
    };
    let result_name = name(left).zip(name(right)).map(|(left, right)| format!("({left} {op} {right})"));
    let (left, right) = (unnamed(left), unnamed(right));
    let none = Labels::new();
    let over = if right.contains_key(&none) { &left } else { &right };
    let mut all = All::new();
    for labels in over.keys() {
        let (Some(a), Some(b)) = (left.get(labels).or(left.get(&none)), right.get(labels).or(right.get(&none))) else { continue };
        let mut labels = labels.clone();
        if let Some(name) = &result_name {
            labels.insert(0, ("__name__".to_owned(), Value::Text(name.clone().into())));
        }
        all.insert(labels, a.iter().zip(b).map(|(a, b)| compute(op, *a, *b)).collect());
    }
    all
}

fn compared(query: &MetricsQuery, traces: &[Spans], range: &Range) -> Result<All, Failed> {
    let Function::Compare { selection, top, window } = &query.function else { panic!() };
    /// Side, attribute, value, interval.
    type Counted = (&'static str, String, Value<'static>, usize);
    let mut counted: Vec<Counted> = Vec::new();
    each_span(query, traces, range, |oracle, place, interval| {
        let span = oracle.at(place);
        let in_window = window.is_none_or(|(after, until)| span.start > after && span.start <= until);
        let side = if in_window && oracle.holds(selection, place)? { "selection" } else { "baseline" };
        let mut count = |name: String, value: Value<'static>| {
            if value != Value::Nil {
                counted.push((side, name, value, interval));
            }
        };
        use Intrinsic::*;
        for intrinsic in [Name, Status, StatusMessage, Kind, RootName, RootServiceName, InstrumentationName, InstrumentationVersion]
        {
            count(intrinsic.name().to_owned(), oracle.attribute(&Attribute::Intrinsic(intrinsic), place, None));
        }
        let mut all = |scope: &str, attributes: &[(String, Value<'static>)]| {
            attributes.iter().for_each(|(name, value)| count(format!("{scope}.{name}"), value.clone()));
        };
        all("span", &span.span);
        all("resource", &span.resource);
        all("instrumentation", &span.instrumentation);
        span.events.iter().for_each(|event| all("event", &event.2));
        span.links.iter().for_each(|link| all("link", &link.1));
        span.events.iter().for_each(|event| count("event:name".to_owned(), Value::Text(event.0.clone().into())));
        Ok(())
    })?;
    let intervals = range.ends().len();
    let label = |kind: &str, text: &str| (kind.to_owned(), Value::Text(text.to_owned().into()));
    let mut all = All::new();
    for side in ["baseline", "selection"] {
        let mut names: Vec<&String> = counted.iter().filter(|(own, ..)| *own == side).map(|(_, name, ..)| name).collect();
        names.sort();
        names.dedup();
        for name in names {
            let own: Vec<&Counted> = counted.iter().filter(|(own, attribute, ..)| *own == side && attribute == name).collect();
            let at = |of: &dyn Fn(&Counted) -> bool| -> Vec<f64> {
                (0..intervals)
                    .map(|interval| own.iter().filter(|counted| of(counted) && counted.3 == interval).count() as f64)
                    .collect()
            };
            let mut values: Vec<&Value<'static>> = own.iter().map(|counted| &counted.2).collect();
            values.sort();
            values.dedup();
            values.sort_by_key(|value| std::cmp::Reverse(own.iter().filter(|counted| counted.2 == **value).count()));
            if values.len() > *top {
                all.insert(
                    vec![label("__meta_error", "__too_many_values__"), (name.clone(), Value::Nil)],
                    vec![f64::NAN; intervals],
                );
            }
            for value in values.into_iter().take(*top) {
                all.insert(vec![label("__meta_type", side), (name.clone(), value.clone())], at(&|counted| counted.2 == *value));
            }
            all.insert(vec![label("__meta_type", &format!("{side}_total")), (name.clone(), Value::Nil)], at(&|_| true));
        }
    }
    Ok(all)
}
