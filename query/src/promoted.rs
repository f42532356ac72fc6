//! Promoted attributes in queries: a column of the table wherever its values stand.
//!
//! A lake file has columns for the first so many of the lake's promoted attributes, and what they hold is not in its maps; all else has the
//! values in the maps only. Each kind of input is a scan of its own, so that Parquet sees plain columns and takes the
//! filters on them; above it a projection makes the columns that it has not from its maps, and its maps whole again from
//! its columns. Nobody who asks knows which it was.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use meshlake_storage::{
    Promoted, Scope, attribute_map_type, column_index, lake_schema, promoted_column, restored_map, spans_schema,
};

/// How inputs of one kind give the columns of the table.
pub(crate) struct Layout {
    /// The columns of the inputs.
    pub(crate) schema: SchemaRef,
    /// Those that are read, by position in `schema`.
    pub(crate) read: Vec<usize>,
    /// What the table's columns are made of, where they are not just what is read.
    made: Option<Vec<(Arc<dyn PhysicalExpr>, String)>>,
}

impl Layout {
    /// The columns of `table` at the positions `wanted`, from inputs that have columns for the attributes in `present`.
    pub(crate) fn new(table: &Schema, wanted: &[usize], visible: &[Promoted], present: &[Promoted]) -> Layout {
        let schema = lake_schema(present);
        let plan = Wanted { table, visible, present, schema: &schema };
        let sources: Vec<Source> = wanted.iter().map(|index| plan.source(*index)).collect();
        if sources.iter().all(|source| source.function.is_none()) {
            let read = sources.iter().map(|source| source.inputs[0]).collect();
            return Layout { schema, read, made: None };
        }
        let read: BTreeSet<usize> = sources.iter().flat_map(|source| &source.inputs).copied().collect();
        let read: Vec<usize> = read.into_iter().collect();
        let made =
            sources.iter().zip(wanted).map(|(source, index)| (source.expr(&schema, &read), table.field(*index).name().clone()));
        Layout { made: Some(made.collect()), schema: schema.clone(), read }
    }

    /// The table's columns on top of a scan of `read`.
    pub(crate) fn finish(&self, scan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.made {
            None => Ok(scan),
            Some(made) => Ok(Arc::new(ProjectionExec::try_new(made.clone(), scan)?)),
        }
    }
}

/// What a column of the table is made of.
struct Source {
    /// Positions in the inputs' columns.
    inputs: Vec<usize>,
    /// None where it is just the one input.
    function: Option<(Function, DataType)>,
}

impl Source {
    fn expr(&self, schema: &Schema, read: &[usize]) -> Arc<dyn PhysicalExpr> {
        let column = |input: &usize| {
            let place = read.binary_search(input).unwrap_or_default();
            Arc::new(Column::new(schema.field(*input).name(), place)) as Arc<dyn PhysicalExpr>
        };
        let mut inputs: Vec<_> = self.inputs.iter().map(column).collect();
        match &self.function {
            None => inputs.remove(0),
            Some((function, data_type)) => {
                let field = Arc::new(Field::new(function.name(), data_type.clone(), true));
                let function = Arc::new(ScalarUDF::from(function.clone()));
                let name = function.name().to_owned();
                Arc::new(ScalarFunctionExpr::new(&name, function, inputs, field, Arc::new(ConfigOptions::default())))
            }
        }
    }
}

struct Wanted<'a> {
    table: &'a Schema,
    visible: &'a [Promoted],
    present: &'a [Promoted],
    schema: &'a Schema,
}

impl Wanted<'_> {
    fn source(&self, index: usize) -> Source {
        let base = spans_schema().fields().len();
        let name = self.table.field(index).name();
        let column = |index| Source { inputs: vec![index], function: None };
        let Some(attribute) = index.checked_sub(base).and_then(|position| self.visible.get(position)) else {
            let scope = [Scope::Span, Scope::Resource].into_iter().find(|scope| scope.residual_column() == name);
            return scope.map_or_else(|| column(index), |scope| self.map(index, scope));
        };
        match self.schema.index_of(name) {
            Ok(present) => column(present),
            Err(_) => {
                let map = column_index(attribute.scope.residual_column()).unwrap_or_default();
                let data_type = attribute.data_type();
                Source { inputs: vec![map], function: Some((Function::promoted(attribute.clone()), data_type)) }
            }
        }
    }

    /// The residual map of a scope.
    fn map(&self, index: usize, scope: Scope) -> Source {
        let base = spans_schema().fields().len();
        let columns: Vec<usize> = (0..self.present.len()).filter(|position| self.present[*position].scope == scope).collect();
        if columns.is_empty() {
            return Source { inputs: vec![index], function: None };
        }
        let attributes = columns.iter().map(|position| self.present[*position].clone()).collect();
        let inputs = [index].into_iter().chain(columns.iter().map(|position| base + position)).collect();
        Source { inputs, function: Some((Function::restored(attributes), attribute_map_type())) }
    }
}

/// What a projection computes. Not a function of SQL: only scans make calls of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Function {
    signature: Signature,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    /// The column of an attribute, from the map.
    Promoted(Promoted),
    /// The map, from the map and the columns of the attributes.
    Restored(Vec<Promoted>),
}

impl Function {
    fn promoted(attribute: Promoted) -> Function {
        Function { signature: Signature::variadic_any(Volatility::Immutable), what: What::Promoted(attribute) }
    }

    fn restored(attributes: Vec<Promoted>) -> Function {
        Function { signature: Signature::variadic_any(Volatility::Immutable), what: What::Restored(attributes) }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        match self.what {
            What::Promoted(_) => "promoted",
            What::Restored(_) => "restored",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match &self.what {
            What::Promoted(attribute) => attribute.data_type(),
            What::Restored(_) => attribute_map_type(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some((map, columns)) = arrays.split_first() else { return exec_err!("{}() needs a map", self.name()) };
        Ok(ColumnarValue::Array(match &self.what {
            What::Promoted(attribute) => promoted_column(map, attribute)?,
            What::Restored(attributes) => restored_map(map, &attributes.iter().zip(columns).collect::<Vec<_>>())?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use crate::Engine;
    use crate::session::plan_sql;
    use crate::testing::{Chance, SpanRow, TestSource, int, key_value, pretty, random_rows, sql, table, tenant, text};
    use crate::view::View;

    fn rows(chance: &mut Chance, tenant: &str) -> Vec<SpanRow> {
        let mut rows = random_rows(chance, tenant, 120);
        for row in &mut rows {
            match chance.below(5) {
                0 => row.attributes.push(text("x", chance.pick(&["red", "green", ""]))),
                1 => row.attributes.extend([int("x", 7), text("x", "red")]),
                2 => row.resource.attributes.push(text("x", chance.pick(&["red", "blue"]))),
                3 => row.attributes.push(key_value("ok", Value::BoolValue(chance.below(2) == 0))),
                _ => row.attributes.push(key_value("d", Value::DoubleValue(chance.below(4) as f64 / 2.0))),
            }
        }
        rows
    }

    /// The same rows in files of every kind, of which some have rows of another tenant, too, and live; and again all of them live.
    async fn sources(rows: &[SpanRow], foreign: &[SpanRow]) -> (TestSource, TestSource) {
        let mut mixed = TestSource::new();
        let mut live = TestSource::new();
        for (index, part) in rows.chunks(rows.len().div_ceil(8)).enumerate() {
            match index {
                7 => mixed.add_live(part),
                3 | 5 => mixed.add_file(&[part, foreign].concat()).await,
                _ => mixed.add_file(part).await,
            }
        }
        live.add_live(rows);
        live.snapshot.promotions = mixed.snapshot.promotions.clone();
        (mixed, live)
    }

    const FILTERS: [&str; 12] = [
        "true",
        r#""span.x" = 'red'"#,
        r#""span.x" <> 'red'"#,
        r#""span.x" IS NULL AND "resource.x" = 'blue'"#,
        r#""span.retries" >= 1 AND service = 'reviews'"#,
        r#""span.retries" = 1 OR "span.x" = ''"#,
        r#"NOT "span.ok""#,
        r#""span.d" > 0.5 AND duration > 0"#,
        r#"upper("span.x") LIKE 'R%'"#,
        r#"attribute('x') = 'red'"#,
        r#"attribute('x', 'int') = 7 AND attribute('x') = "span.x""#,
        r#"coalesce("span.x", "resource.x") IN ('green', 'blue')"#,
    ];

    /// The answer of a query of tenant a, where Parquet applies filters or only prunes by them.
    async fn answer(engine: &Engine, query: &str, pushdown: bool) -> String {
        let query = query.to_owned();
        let ask = async move |mut view: View| {
            view.state.config_mut().options_mut().execution.parquet.pushdown_filters = pushdown;
            plan_sql(view.state, &query).await?.collect().await
        };
        pretty(&engine.run(&tenant("a"), ask).await.unwrap())
    }

    /// Scenario: filters on and answers of promoted attributes, over files that have columns for none, some and all of them, and live rows;
    /// with filters pushed down and without. Guarantee: the same rows, with maps as they came, as where all are live and nothing is
    /// pushed down; of the tenant only.
    #[tokio::test]
    async fn columns_are_resolved_per_file() {
        let mut chance = Chance(77);
        let (own, foreign) = (rows(&mut chance, "a"), rows(&mut chance, "b"));
        let (mixed, live) = sources(&own, &foreign[..20]).await;
        let (mixed, live) = (mixed.engine(), live.engine());
        for filter in FILTERS {
            let query = format!(
                r#"SELECT encode(span_id, 'hex') span, "span.x", "resource.x", "span.retries", "span.ok", "span.d", attribute('x') x,
                attribute('retries', 'int') retries, span_attributes, resource_attributes FROM spans WHERE {filter} ORDER BY span"#
            );
            let count = format!("SELECT count(*) FROM spans WHERE {filter}");
            for query in [query, count] {
                let expected = table(&live, "a", &query).await;
                for pushdown in [true, false] {
                    assert_eq!(answer(&mixed, &query, pushdown).await, expected, "{query}, pushdown: {pushdown}");
                }
            }
        }
        let green = table(&mixed, "a", r#"EXPLAIN SELECT 1 FROM spans WHERE "span.x" = 'green'"#).await;
        assert!(green.contains("predicate=span.x") && green.contains("promoted"), "{green}");
    }

    /// Scenario: a filter on a column that each file has. Guarantee: above files of one tenant something is left to filter only where
    /// filters are not pushed down.
    #[tokio::test]
    async fn filters_are_pushed_down() {
        let mut source = TestSource::new();
        source.add_file(&random_rows(&mut Chance(3), "a", 20)).await;
        let engine = source.engine();
        for pushdown in [true, false] {
            let plan = answer(&engine, "EXPLAIN SELECT name FROM spans WHERE service = 'reviews'", pushdown).await;
            assert!(plan.contains("predicate=service") && plan.contains("FilterExec") != pushdown, "{plan}");
        }
    }

    /// Scenario: two tenants, of which one has no value of some promoted attributes. Guarantee: it sees no column of them (P8).
    #[tokio::test]
    async fn names_of_attributes_are_a_tenants_own() {
        let mut chance = Chance(5);
        let mut source = TestSource::new();
        let (own, other) = (random_rows(&mut chance, "a", 60), rows(&mut chance, "b"));
        for part in 0..7 {
            source.add_file(&own[part * 10..(part + 1) * 10]).await;
            source.add_file(&other[part * 10..(part + 1) * 10]).await;
        }
        let engine = source.engine();
        let columns = "SELECT column_name FROM information_schema.columns WHERE column_name LIKE '%.%' ORDER BY 1";
        let names = async |tenant: &str| pretty(&sql(&engine, tenant, columns).await.unwrap());
        let (own, other) = (names("a").await, names("b").await);
        assert!(own.contains("span.retries") && !own.contains(".x") && !own.contains("span.ok"), "{own}");
        let all = ["span.retries", "span.x", "resource.x", "span.ok", "span.d"];
        let seen: BTreeMap<&str, bool> = all.into_iter().map(|name| (name, other.contains(name))).collect();
        assert!(seen.values().all(|seen| *seen), "{seen:?}");
        assert!(sql(&engine, "a", r#"SELECT "span.x" FROM spans"#).await.is_err());
    }
}
