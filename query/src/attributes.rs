//! Which attributes there are, and their frequent values.
//!
//! Lake files within the range say it themselves; all other rows are read and counted as if they were a file. Each attribute
//! (scope, key, type) counts once a span, with its first value, as SQL's `attribute()` finds it. Where a limit cut what a file
//! tells ([`AttributeCounts`]), the answer says so, and its counts are lower bounds (P10).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::logical_expr::col;
use futures::TryStreamExt;
use meshlake_storage::{
    ATTRIBUTE_COLUMNS, AttributeCount, AttributeCounter, AttributeCounts, Counted, Scope, Snapshot, ValueType, places,
};

use crate::types::TimeRange;
use crate::view::{View, starts_in};

/// The attributes that spans carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeNames {
    /// By name, then scope.
    pub attributes: Vec<AttributeName>,
    /// Whether these are all, with true counts; else some may be missing, and counts are lower bounds.
    pub exact: bool,
}

/// One attribute, with all types of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeName {
    /// Its key.
    pub name: String,
    /// Whose it is.
    pub scope: Scope,
    /// The types of its values, and how many spans carry it with such a value.
    pub types: Vec<(ValueType, u64)>,
}

/// The frequent values of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeValues {
    /// The most frequent first, then by value, scope and type.
    pub values: Vec<AttributeValue>,
    /// Whether every value there is was counted, and truly; so these are the most frequent ones.
    pub exact: bool,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeValue {
    /// As text, numbers as SQL prints them.
    pub value: String,
    /// Whose attribute it is.
    pub scope: Scope,
    /// Its type.
    pub value_type: ValueType,
    /// Spans that carry it.
    pub spans: u64,
    /// Whether `spans` is the true count; else a lower bound.
    pub exact: bool,
}

/// The names of all attributes.
pub(crate) async fn names(view: &View, range: TimeRange) -> Result<AttributeNames> {
    let columns = ATTRIBUTE_COLUMNS.iter().map(|column| column.name);
    let columns = columns.chain(Scope::ALL.map(Scope::residual_column)).collect();
    let parts = parts(view, range, Counted::Names, columns).await?;
    let mut types = BTreeMap::<(String, Scope), BTreeMap<ValueType, u64>>::new();
    for one in parts.iter().flat_map(|part| &part.attributes) {
        *types.entry((one.key.clone(), one.scope)).or_default().entry(one.value_type).or_default() += one.spans;
        view.check_rows(types.len())?;
    }
    let name = |((name, scope), types): (_, BTreeMap<_, _>)| AttributeName { name, scope, types: types.into_iter().collect() };
    let exact = parts.iter().all(|part| part.complete);
    Ok(AttributeNames { attributes: types.into_iter().map(name).collect(), exact })
}

/// The most frequent values of an attribute, in one scope or all, at most `limit`.
pub(crate) async fn values(
    view: &View,
    scope: Option<Scope>,
    key: &str,
    range: TimeRange,
    limit: usize,
) -> Result<AttributeValues> {
    let scopes: Vec<Scope> = scope.map_or_else(|| Scope::ALL.to_vec(), |scope| vec![scope]);
    let of_scope = |scope: &Scope| {
        let columns = places(*scope, key).map(|place| ATTRIBUTE_COLUMNS[place.column].name);
        columns.chain([scope.residual_column()]).collect::<Vec<_>>()
    };
    let columns = scopes.iter().flat_map(of_scope).collect();
    let parts = parts(view, range, Counted::Key(key.to_owned()), columns).await?;
    let mut merged = Values::default();
    for part in &parts {
        merged.complete &= part.complete;
        let asked = |one: &&AttributeCount| one.key == key && scopes.contains(&one.scope);
        part.attributes.iter().filter(asked).for_each(|one| merged.add(one));
        view.check_rows(merged.counts.len())?;
    }
    Ok(merged.finish(limit))
}

/// What the tenant's spans in the range say: of each file that tells it, and of all other rows.
async fn parts(view: &View, range: TimeRange, counted: Counted, columns: BTreeSet<&str>) -> Result<Vec<Arc<AttributeCounts>>> {
    let (mut parts, rest) = view.attribute_counts.split(&view.snapshot, &view.tenant, range).await;
    parts.push(Arc::new(read(view, rest, range, counted, columns).await?));
    Ok(parts)
}

async fn read(view: &View, rest: Snapshot, range: TimeRange, counted: Counted, columns: BTreeSet<&str>) -> Result<AttributeCounts> {
    let columns = columns.into_iter().chain(["origins"]).map(col).collect::<Vec<_>>();
    let mut rows = view.spans_of(rest)?.filter(starts_in(range))?.select(columns)?.execute_stream().await?;
    let mut counter = AttributeCounter::new(counted);
    while let Some(batch) = rows.try_next().await? {
        counter.add(&batch)?;
    }
    Ok(counter.finish())
}

/// Values of one attribute in several parts of the spans.
struct Values {
    /// Spans, and in how many of the parts that do not tell everything this value's count is true.
    counts: BTreeMap<(Scope, ValueType, String), (u64, u64)>,
    /// Parts that do not tell every value.
    open: BTreeMap<(Scope, ValueType), u64>,
    /// Whether each part tells every attribute.
    complete: bool,
}

impl Default for Values {
    fn default() -> Self {
        Values { counts: BTreeMap::new(), open: BTreeMap::new(), complete: true }
    }
}

impl Values {
    fn add(&mut self, attribute: &AttributeCount) {
        let (scope, value_type, is_whole) = (attribute.scope, attribute.value_type, attribute.is_whole());
        if !is_whole {
            *self.open.entry((scope, value_type)).or_default() += 1;
        }
        let is_true = u64::from(!is_whole && !attribute.lower_bounds);
        for (value, spans) in &attribute.values {
            let count = self.counts.entry((scope, value_type, value.clone())).or_default();
            *count = (count.0 + spans, count.1 + is_true);
        }
    }

    fn finish(self, limit: usize) -> AttributeValues {
        let value = |((scope, value_type, value), (spans, told)): ((Scope, ValueType, String), (u64, u64))| {
            let open = self.open.get(&(scope, value_type)).copied().unwrap_or_default();
            AttributeValue { value, scope, value_type, spans, exact: self.complete && told == open }
        };
        let mut values: Vec<AttributeValue> = self.counts.into_iter().map(value).collect();
        values.sort_by(|a, b| (b.spans, &a.value, a.scope, a.value_type).cmp(&(a.spans, &b.value, b.scope, b.value_type)));
        values.truncate(limit);
        AttributeValues { values, exact: self.complete && self.open.is_empty() }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::KeyValue;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;
    use crate::testing::{Chance, START, SpanRow, TestSource, int, key_value, random_rows, tenant, text};
    use crate::{Engine, SpanSource};

    /// Attributes of every type, that stand in columns, in maps for want of room or fit, and several times.
    fn random_attributes(chance: &mut Chance) -> Vec<KeyValue> {
        let attribute = |chance: &mut Chance| match chance.below(14) {
            0 => text("http.method", chance.pick(&["GET", "POST"])),
            1 => text("http.request.method", chance.pick(&["GET", "PUT"])),
            2 => text("http.status_code", chance.pick(&["200", "0200", "503"])),
            3 => int("http.status_code", chance.pick(&[200, 404])),
            4 => int("http.method", chance.below(2) as i64),
            5 => text("host.name", chance.pick(&["a", "b"])),
            6 => key_value("ratio", Value::DoubleValue(chance.below(3) as f64 / 2.0)),
            7 => key_value("ok", Value::BoolValue(chance.below(2) == 0)),
            8 => key_value("raw", Value::BytesValue(vec![1])),
            9 => text("user", &format!("u{}", chance.below(40))),
            10 => int("user", chance.below(5) as i64),
            11 => text("istio.canonical_service", chance.pick(&["reviews", "ratings"])),
            12 => text("service.name", chance.pick(&["reviews", ""])),
            _ => text("x", chance.pick(&["1", "2", "true"])),
        };
        let mut attributes: Vec<KeyValue> = Vec::new();
        for _ in 0..chance.below(6) {
            let attribute = attribute(chance);
            // The first of a span is that in the column: of keys whose values do not all fit, it need not be the first that came.
            let is_fit = !["http.status_code", "istio.canonical_service"].contains(&attribute.key.as_str());
            if is_fit || attributes.iter().all(|known| known.key != attribute.key) {
                attributes.push(attribute);
            }
        }
        attributes
    }

    fn rows(chance: &mut Chance, tenant: &str, traces: u64) -> Vec<SpanRow> {
        let mut rows = random_rows(chance, tenant, traces);
        for row in &mut rows {
            row.attributes = random_attributes(chance);
            row.resource.attributes = random_attributes(chance);
            row.scope_attributes = if chance.below(3) == 0 { random_attributes(chance) } else { Vec::new() };
        }
        rows
    }

    fn told(attribute: &KeyValue) -> (ValueType, Option<String>) {
        match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(text) => (ValueType::String, Some(text.clone())),
            Value::IntValue(value) => (ValueType::Int, Some(value.to_string())),
            Value::DoubleValue(value) => (ValueType::Double, Some(format!("{value:?}"))),
            Value::BoolValue(value) => (ValueType::Bool, Some(value.to_string())),
            _ => (ValueType::Other, None),
        }
    }

    /// Spans by scope, key, type and value, one for each of the first that a span has.
    type Naive = BTreeMap<(Scope, String, ValueType), BTreeMap<Option<String>, u64>>;

    fn naive<'a>(rows: impl Iterator<Item = &'a SpanRow>) -> Naive {
        let mut counts = Naive::new();
        for row in rows {
            let of = [&row.attributes, &row.resource.attributes, &row.scope_attributes];
            for (scope, attributes) in Scope::ALL.into_iter().zip(of) {
                let mut seen = Vec::new();
                for attribute in attributes {
                    let (value_type, text) = told(attribute);
                    if !seen.contains(&(&attribute.key, value_type)) {
                        seen.push((&attribute.key, value_type));
                        let values = counts.entry((scope, attribute.key.clone(), value_type)).or_default();
                        *values.entry(text).or_default() += 1;
                    }
                }
            }
        }
        counts
    }

    async fn compare(engine: &Engine, range: TimeRange, naive: &Naive) {
        let found = engine.attribute_names(&tenant("a"), range).await.unwrap();
        let mut names = BTreeMap::<(String, Scope), Vec<(ValueType, u64)>>::new();
        for ((scope, key, value_type), values) in naive {
            names.entry((key.clone(), *scope)).or_default().push((*value_type, values.values().sum()));
        }
        let name = |((name, scope), types)| AttributeName { name, scope, types };
        let expected: Vec<AttributeName> = names.clone().into_iter().map(name).collect();
        assert_eq!(found, AttributeNames { attributes: expected, exact: true });
        let keys = names.keys().map(|(key, _)| key.as_str()).chain(["nothing"]);
        for key in keys {
            for scope in [None, Some(Scope::Span), Some(Scope::Resource), Some(Scope::Instrumentation)] {
                let asked = naive.iter().filter(|((of, name, _), _)| name == key && scope.is_none_or(|scope| scope == *of));
                let mut expected = Vec::new();
                let mut is_whole = true;
                for ((scope, _, value_type), values) in asked {
                    is_whole &= !values.contains_key(&None);
                    let value = |(value, spans): (&Option<String>, &u64)| {
                        let (scope, value_type, spans) = (*scope, *value_type, *spans);
                        Some(AttributeValue { value: value.clone()?, scope, value_type, spans, exact: true })
                    };
                    expected.extend(values.iter().filter_map(value));
                }
                let order = |one: &AttributeValue| (std::cmp::Reverse(one.spans), one.value.clone(), one.scope, one.value_type);
                expected.sort_by_key(order);
                expected.truncate(7);
                let found = engine.attribute_values(&tenant("a"), scope, key, range, 7).await.unwrap();
                assert_eq!(found, AttributeValues { values: expected, exact: is_whole }, "{key} {scope:?}");
            }
        }
    }

    /// Scenario: random attributes in lake files that tell them, in one that does not, in fresh files that two tenants share, and live, asked
    /// for ranges that hold whole files and parts of them. Guarantee: names, values and counts are those of a naive pass over
    /// the tenant's spans that start in the range.
    #[tokio::test]
    async fn attributes_are_those_of_a_naive_pass() {
        for seed in 0..3 {
            let mut chance = Chance(seed);
            let own = rows(&mut chance, "a", 120);
            let other = rows(&mut chance, "b", 20);
            let mut source = TestSource::new();
            let mut parts = vec![Vec::new(); 5];
            own.iter().for_each(|row| parts[((row.start - START) / 210_000_000_000).min(4) as usize].push(row.clone()));
            source.add_lake_file(&parts[0], true).await;
            source.add_file(&[parts[1].clone(), other.clone()].concat()).await;
            source.add_lake_file(&parts[2], true).await;
            source.add_lake_file(&parts[3], false).await;
            source.add_live(&parts[4]);
            source.add_live(&other);
            let engine = source.engine();
            let start = (START / 1000) as i64;
            let all = TimeRange { start, end: start + 2_000_000_000 };
            for range in [all, TimeRange { start: start + 100_000_000, ..all }, TimeRange { end: start + 500_000_000, ..all }] {
                let in_range = own.iter().filter(|row| (range.start..range.end).contains(&row.start_micros()));
                compare(&engine, range, &naive(in_range)).await;
            }
            compare(&engine, TimeRange { start: 0, end: 1 }, &Naive::new()).await;
        }
    }

    /// Scenario: files that tell other counts than their rows have. Guarantee: what they tell is taken where they are wholly in the
    /// range, and the rows where they are not.
    #[tokio::test]
    async fn files_that_tell_are_not_read() {
        let mut chance = Chance(9);
        let rows = random_rows(&mut chance, "a", 30);
        let spans = async |source: TestSource| {
            let engine = source.engine();
            let start = (START / 1000) as i64;
            let last = rows.iter().map(SpanRow::start_micros).max().unwrap();
            let mut counts = Vec::new();
            for end in [last + 1, last] {
                let names = engine.attribute_names(&tenant("a"), TimeRange { start, end }).await.unwrap();
                counts.push(names.attributes.iter().find(|one| one.name == "retries").map(|one| one.types.clone()));
            }
            counts
        };
        let mut source = TestSource::new();
        source.add_lake_file(&rows, true).await;
        let (all, rest) = (rows.len() as u64, rows.len() as u64 - 1);
        assert_eq!(spans(source).await, [Some(vec![(ValueType::Int, all)]), Some(vec![(ValueType::Int, rest)])]);
        let mut source = TestSource::new();
        source.add_lake_file(&rows, true).await;
        let nothing = AttributeCounts { complete: true, attributes: Vec::new() };
        nothing.put(source.object_store().as_ref(), &source.snapshot.files.iter().next().unwrap().path).await.unwrap();
        assert_eq!(spans(source).await, [None, Some(vec![(ValueType::Int, rest)])]);
    }

    fn attribute(spans: u64, lower_bounds: bool, values: &[(&str, u64)]) -> AttributeCount {
        AttributeCount {
            scope: Scope::Span,
            key: "k".to_owned(),
            value_type: ValueType::String,
            spans,
            residual: 0,
            lower_bounds,
            values: values.iter().map(|(value, spans)| ((*value).to_owned(), *spans)).collect(),
        }
    }

    /// Scenario: parts of which one tells every value, one only the most frequent, one lower bounds. Guarantee: a count is called
    /// exact where each part that leaves values out tells this one's truly, and the whole only where none leaves any out (P10).
    #[test]
    fn what_was_cut_is_said() {
        let whole = attribute(5, false, &[("a", 3), ("b", 2)]);
        let frequent = attribute(9, false, &[("a", 4), ("c", 4)]);
        let bounds = attribute(9, true, &[("a", 2)]);
        let merged = |parts: &[&AttributeCount], complete: bool| {
            let mut values = Values { complete, ..Values::default() };
            parts.iter().for_each(|part| values.add(part));
            let found = values.finish(3);
            let values: Vec<_> = found.values.into_iter().map(|one| (one.value, one.spans, one.exact)).collect();
            (values, found.exact)
        };
        let value = |value: &str, spans, exact| (value.to_owned(), spans, exact);
        assert_eq!(merged(&[&whole, &whole], true), (vec![value("a", 6, true), value("b", 4, true)], true));
        let expected = vec![value("a", 7, true), value("c", 4, true), value("b", 2, false)];
        assert_eq!(merged(&[&whole, &frequent], true), (expected, false));
        assert_eq!(merged(&[&whole, &bounds], true), (vec![value("a", 5, false), value("b", 2, false)], false));
        assert_eq!(merged(&[&whole], false), (vec![value("a", 3, false), value("b", 2, false)], false));
    }
}
