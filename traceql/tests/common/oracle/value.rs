use meshlake_traceql::*;

use super::Failed;

pub fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(value) => Some(*value as f64),
        Value::Float(value) => Some(*value),
        Value::Duration(value) => Some(*value as f64),
        _ => None,
    }
}

fn elements(value: &Value<'_>) -> Option<Vec<Value<'static>>> {
    match value {
        Value::Array(Array::Bool(values)) => Some(values.iter().map(|value| Value::Bool(*value)).collect()),
        Value::Array(Array::Int(values)) => Some(values.iter().map(|value| Value::Int(*value)).collect()),
        Value::Array(Array::Float(values)) => Some(values.iter().map(|value| Value::Float(*value)).collect()),
        Value::Array(Array::Text(values)) => {
            Some(values.iter().map(|value| Value::Text(value.clone().into_owned().into())).collect())
        }
        _ => None,
    }
}

/// What values of one kind are compared by: as bools, as texts, as numbers. The ends of an order that NaN is not in.
fn three_way(left: &Value<'_>, right: &Value<'_>) -> Option<(bool, bool, bool)> {
    if let (Some(left), Some(right)) = (number(left), number(right)) {
        return Some((left < right, left == right, left > right));
    }
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some((left < right, left == right, left > right)),
        (Value::Bool(_), Value::Bool(_)) | (Value::Status(_), Value::Status(_)) | (Value::Kind(_), Value::Kind(_)) => {
            Some((false, left == right, false))
        }
        _ => None,
    }
}

fn holds(op: Comparison, left: &Value<'_>, right: &Value<'_>) -> bool {
    let ordered = matches!(left, Value::Text(_)) || number(left).is_some();
    three_way(left, right).is_some_and(|(less, equal, greater)| match op {
        Comparison::Eq => equal,
        Comparison::Ne => !equal,
        Comparison::Lt => less,
        Comparison::Gt => greater,
        Comparison::Le => less || (ordered && equal),
        Comparison::Ge => greater || (ordered && equal),
    })
}

pub fn compare(op: Comparison, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Failed> {
    let each: Vec<bool> = match (elements(left), elements(right)) {
        (Some(_), Some(_)) => return Err(Failed),
        (None, None) => return Ok(holds(op, left, right)),
        (Some(left), None) => left.iter().map(|left| holds(op, left, right)).collect(),
        (None, Some(right)) => right.iter().map(|right| holds(op, left, right)).collect(),
    };
    if op != Comparison::Ne {
        return Ok(each.contains(&true));
    }
    // An empty array has a type, and differs from everything of it.
    let (array, single) = if elements(left).is_some() { (left, right) } else { (right, left) };
    let of_type = match array {
        Value::Array(Array::Bool(_)) => matches!(single, Value::Bool(_)),
        Value::Array(Array::Text(_)) => matches!(single, Value::Text(_)),
        _ => number(single).is_some(),
    };
    Ok(of_type && !each.contains(&false))
}

pub fn matches(value: &Value<'_>, pattern: &str, negated: bool) -> bool {
    // The patterns of the generator, by hand.
    let one = |text: &str| match pattern {
        "x.*" => text.starts_with('x'),
        "" => text.is_empty(),
        "y|x" => text == "x" || text == "y",
        "[^x]" => text.chars().count() == 1 && text != "x",
        other => panic!("{other}"),
    };
    match value {
        Value::Text(text) => one(text) != negated,
        Value::Array(Array::Text(texts)) => texts.iter().any(|text| one(text)) != negated,
        _ => false,
    }
}

pub fn compute(op: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Result<Value<'static>, Failed> {
    if elements(left).is_some() || elements(right).is_some() {
        return Err(Failed);
    }
    if let (Value::Int(left), Value::Int(right)) = (left, right) {
        return Ok(match op {
            Arithmetic::Add => Value::Int(left + right),
            Arithmetic::Sub => Value::Int(left - right),
            Arithmetic::Mul => Value::Int(left * right),
            Arithmetic::Div | Arithmetic::Mod if *right == 0 => return Err(Failed),
            Arithmetic::Div => Value::Int(left / right),
            Arithmetic::Mod => Value::Int(left % right),
            Arithmetic::Pow if *right < 0 => Value::Float((*left as f64).powf(*right as f64)),
            Arithmetic::Pow => Value::Int((0..*right).fold(1, |power: i64, _| power.wrapping_mul(*left))),
        });
    }
    let (Some(left), Some(right)) = (number(left), number(right)) else { return Ok(Value::Nil) };
    Ok(Value::Float(match op {
        Arithmetic::Add => left + right,
        Arithmetic::Sub => left - right,
        Arithmetic::Mul => left * right,
        Arithmetic::Div => left / right,
        Arithmetic::Mod => left % right,
        Arithmetic::Pow => left.powf(right),
    }))
}
