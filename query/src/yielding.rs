//! Operators that give way.
//!
//! A deadline, or a client that goes away, can only stop a query where it awaits. DataFusion makes its sources await now and
//! then; but an operator that makes many rows of few, a join or an unnest, can feed a filter that lets nothing through for
//! hours without ever asking a source again. So the output of these is made to await too (P6, P7).

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::unnest::UnnestExec;

/// Puts a cooperative step above each operator that may give more rows than it takes.
#[derive(Debug)]
pub(crate) struct GiveWay;

impl PhysicalOptimizerRule for GiveWay {
    fn name(&self) -> &str {
        "give_way"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let step = |plan: Arc<dyn ExecutionPlan>| {
            // Joins and recursion have several inputs.
            let multiplies = plan.children().len() > 1 || plan.downcast_ref::<UnnestExec>().is_some();
            Ok(if multiplies { Transformed::yes(Arc::new(CooperativeExec::new(plan)) as _) } else { Transformed::no(plan) })
        };
        plan.transform_up(step).map(|plan| plan.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}
