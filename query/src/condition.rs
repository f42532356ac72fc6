//! Conditions over spans in the words of SQL: what a deletion selects.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::error::DataFusionError;
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use meshlake_storage::{Condition, Conditions, spans_schema};

use crate::attribute::{self, AttributeFunction};
use crate::session::SPANS;

/// What may stand after WHERE in a query over `spans`, as long as it means the same whenever it is read.
pub struct SqlConditions {
    state: SessionState,
}

impl SqlConditions {
    /// The columns and functions of SQL queries.
    #[expect(clippy::new_without_default, reason = "it is not a plain value")]
    pub fn new() -> SqlConditions {
        let mut functions = SessionStateDefaults::default_scalar_functions();
        functions.push(Arc::new(ScalarUDF::from(AttributeFunction::new())));
        let state = SessionStateBuilder::new()
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_scalar_functions(functions)
            .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
            .build();
        SqlConditions { state }
    }

    fn compile(&self, text: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let schema = DFSchema::try_from_qualified_schema(SPANS, &spans_schema())?;
        let mut parsed = self.state.sql_to_expr_with_alias(text, &self.state.config().options().sql_parser.dialect)?;
        if parsed.alias.is_some() {
            return plan_err!("a condition has no name of its own");
        }
        attribute::complete_all(&mut parsed)?;
        let expr = self.state.create_logical_expr_from_sql_expr(parsed, &schema)?;
        check_is_constant(&expr)?;
        let data_type = expr.get_type(&schema)?;
        if data_type != DataType::Boolean {
            return plan_err!("a condition is true or false, not of type {data_type}");
        }
        self.state.create_physical_expr(expr, &schema)
    }
}

/// A deletion goes on after a restart: its condition must still be the same then.
fn check_is_constant(expr: &Expr) -> Result<()> {
    expr.apply(|part| match part {
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            plan_err!("{}() means something else at each time; write what it stands for", call.func.name())
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(())
}

impl fmt::Debug for SqlConditions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SqlConditions")
    }
}

struct SqlCondition(Arc<dyn PhysicalExpr>);

impl Condition for SqlCondition {
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let of_arrow = |error: DataFusionError| ArrowError::ExternalError(Box::new(error));
        let held = self.0.evaluate(rows).and_then(|held| held.into_array(rows.num_rows())).map_err(of_arrow)?;
        Ok(held.as_boolean().clone())
    }
}

impl Conditions for SqlConditions {
    fn parse(&self, text: &str) -> Result<Arc<dyn Condition>, String> {
        let compiled = self.compile(text).map_err(|error| error.find_root().strip_backtrace())?;
        Ok(Arc::new(SqlCondition(compiled)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Chance, batch, random_rows};

    /// Scenario: conditions over random rows. Guarantee: each holds for the rows for which it is true, and not where it is null.
    #[test]
    fn conditions_hold_where_they_are_true() {
        let rows = random_rows(&mut Chance(5), "a", 300);
        let conditions = SqlConditions::new();
        let holds = |text: &str| {
            let mask = conditions.parse(text).unwrap().holds(&batch(&rows)).unwrap();
            mask.iter().map(|held| held == Some(true)).collect::<Vec<_>>()
        };
        let reviews: Vec<bool> = rows.iter().map(|row| row.service.as_deref() == Some("reviews")).collect();
        assert_eq!(holds("service = 'reviews'"), reviews);
        assert_eq!(holds("attribute('service.name', 'string', 'resource') is not null or true"), vec![true; rows.len()]);
        let errors: Vec<bool> =
            rows.iter().zip(&reviews).map(|(row, reviews)| row.error && !reviews && row.service.is_some()).collect();
        assert_eq!(holds("spans.error and service <> 'reviews'"), errors);
    }

    /// Scenario: texts that are no condition. Guarantee: each is refused, and the error says why.
    #[test]
    fn what_is_no_condition_is_refused() {
        let refused = [
            ("", "Expected"),
            ("service", "not of type"),
            ("servce = 'a'", "servce"),
            ("start_time < now()", "now()"),
            ("count(*) > 1", "count"),
            ("service in (select service from spans)", ""),
            ("error; drop table spans", ""),
            ("error as wrong", "name"),
            ("attribute('a', 'colour', 'span') = 'x'", "colour"),
        ];
        for (text, why) in refused {
            let error = SqlConditions::new().parse(text).err().unwrap_or_else(|| panic!("`{text}` is taken"));
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
