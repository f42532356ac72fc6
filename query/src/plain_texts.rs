//! Text columns as plain texts.
//!
//! A text column is a dictionary to whoever reads it. Of texts that stand in the pages of a file, for they are too many for a
//! dictionary there, Parquet makes one for each batch, a hash a row. Who looks at each of them anyway has them as they stand.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::datasource::physical_plan::FileGroup;
use datafusion::physical_expr::{PhysicalExpr, expressions};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

/// The text columns of a scan that have no dictionaries.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlainTexts(Vec<&'static str>);

impl PlainTexts {
    /// By their names.
    pub(crate) fn new(columns: Vec<&'static str>) -> PlainTexts {
        PlainTexts(columns)
    }

    fn has(&self, field: &FieldRef) -> bool {
        self.0.contains(&field.name().as_str())
    }

    /// A schema in which they are what they are read as.
    pub(crate) fn of_schema(&self, schema: &SchemaRef) -> SchemaRef {
        if self.0.is_empty() {
            return schema.clone();
        }
        let plain = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View));
        let fields = schema.fields().iter().map(|field| if self.has(field) { plain(field) } else { field.clone() });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Files with all columns of such a schema, which are read by it and not by their own.
    pub(crate) fn of_files(&self, groups: Vec<FileGroup>, schema: &SchemaRef) -> Vec<FileGroup> {
        if self.0.is_empty() {
            return groups;
        }
        let of_group =
            |group: FileGroup| group.into_inner().into_iter().map(|file| file.with_arrow_schema(schema.clone())).collect();
        groups.into_iter().map(of_group).collect()
    }

    /// Live rows, whose texts have dictionaries, as if they had none.
    pub(crate) fn of_live(&self, rows: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = rows.schema();
        if !schema.fields().iter().any(|field| self.has(field)) {
            return Ok(rows);
        }
        let column = |(place, field): (usize, &FieldRef)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(expressions::Column::new(field.name(), place));
            let plain = if self.has(field) { expressions::cast(column, &schema, DataType::Utf8View)? } else { column };
            Ok((plain, field.name().clone()))
        };
        let columns = schema.fields().iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, rows)?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;
    use crate::testing::{Chance, pretty, random_rows, scatter, tenant, text};
    use crate::view::View;

    /// Scenario: texts of many rows, and missing ones, in live batches and files that two tenants share, read with and without
    /// dictionaries. Guarantee: they are the same, and those without are so wherever they stand.
    #[tokio::test]
    async fn plain_texts_are_the_same() {
        let mut chance = Chance(4);
        let mut rows = [random_rows(&mut chance, "a", 200), random_rows(&mut chance, "b", 50)].concat();
        for (number, row) in rows.iter_mut().enumerate().filter(|(number, _)| number % 3 > 0) {
            row.attributes.push(text("http.url", &format!("http://shop.example/{}", number % 60)));
        }
        let engine = scatter(&mut chance, &rows).await.engine();
        for name in ["a", "b"] {
            let read = async move |view: View| {
                let columns = ["span_id", "name", "http_url"];
                let plain = view.plain_spans_of(view.snapshot.as_ref().clone(), PlainTexts::new(vec!["http_url"]))?;
                let plain = plain.select_columns(&columns)?.collect().await?;
                Ok((plain, view.spans()?.select_columns(&columns)?.collect().await?))
            };
            let (plain, expected) = engine.run(&tenant(name), read).await.unwrap();
            let urls = plain.iter().map(|batch| batch.column_by_name("http_url").unwrap());
            assert!(urls.clone().all(|urls| urls.data_type() == &DataType::Utf8View), "{name}");
            assert!(urls.map(|urls| urls.len() - urls.null_count()).sum::<usize>() > 50, "{name}");
            let [plain, expected] = [plain, expected].map(|batches| {
                let mut lines: Vec<String> = pretty(&batches).lines().map(str::to_owned).collect();
                lines.sort_unstable();
                lines
            });
            assert_eq!(plain, expected, "{name}");
        }
    }
}
