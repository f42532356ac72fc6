//! Rows taken in by several tasks, for one does not keep more than a processor busy.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use futures::TryStreamExt;
use futures::future::try_join_all;

/// Rows in partitions, of which those of files are about as large as each other. DataFusion splits files for operators above a scan
/// only, and one file may have most of an hour.
pub(super) async fn partitions(rows: DataFrame) -> Result<Vec<SendableRecordBatchStream>> {
    let context = Arc::new(rows.task_ctx());
    let config = context.session_config();
    let split = |plan: Arc<dyn ExecutionPlan>| {
        let split = plan.repartitioned(config.target_partitions(), config.options())?;
        Ok(split.map_or_else(|| Transformed::no(plan), Transformed::yes))
    };
    let plan = rows.create_physical_plan().await?.transform_up(split)?.data;
    execute_stream_partitioned(plan, context)
}

/// What `add` makes of the rows of each partition, from what `begin` gives for it. The tasks end with this future, and with the first
/// error.
pub(super) async fn each_apart<T: Send + 'static>(
    partitions: Vec<SendableRecordBatchStream>,
    begin: impl Fn() -> T,
    add: impl Fn(&mut T, &RecordBatch) -> Result<()> + Clone + Send + 'static,
) -> Result<Vec<T>> {
    let task = |mut rows: SendableRecordBatchStream| {
        let (mut part, add) = (begin(), add.clone());
        SpawnedTask::spawn(async move {
            while let Some(batch) = rows.try_next().await? {
                add(&mut part, &batch)?;
                tokio::task::yield_now().await;
            }
            Ok::<_, DataFusionError>(part)
        })
    };
    let tasks: Vec<_> = partitions.into_iter().map(task).collect();
    let ended =
        tasks.into_iter().map(async |task| task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?);
    try_join_all(ended).await
}

#[cfg(test)]
mod tests {
    use datafusion::common::internal_err;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::{Stream, StreamExt, stream};

    use super::*;
    use crate::testing::{SpanRow, batch};

    fn partition(rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(batch(&[]).schema(), rows))
    }

    fn spans(count: usize) -> Result<RecordBatch> {
        Ok(batch(&vec![SpanRow { tenant: "a".to_owned(), ..SpanRow::default() }; count]))
    }

    /// Scenario: partitions of several batches, of one and of none; then one that fails beside one that never ends. Guarantee: what is
    /// made of each, in their order; the error, and nothing is left of what the other had.
    #[tokio::test]
    async fn partitions_are_taken_in_apart() {
        let add = |rows: &mut Arc<Vec<usize>>, batch: &RecordBatch| {
            Arc::make_mut(rows).push(batch.num_rows());
            if batch.num_rows() == 7 { internal_err!("seven") } else { Ok(()) }
        };
        let all = [vec![1, 2, 1], vec![], vec![3]];
        let of = |counts: &Vec<usize>| partition(stream::iter(counts.iter().map(|count| spans(*count)).collect::<Vec<_>>()));
        let parts = each_apart(all.iter().map(of).collect(), Arc::default, add).await.unwrap();
        assert_eq!(parts.iter().map(|part| part.as_ref().clone()).collect::<Vec<_>>(), all);
        let held = Arc::new(());
        let endless = {
            let held = held.clone();
            stream::once(async { spans(1) }).chain(stream::once(async move {
                let _held = held;
                std::future::pending().await
            }))
        };
        let failing = each_apart(vec![partition(endless), of(&vec![1, 7])], Arc::default, add);
        assert!(failing.await.unwrap_err().to_string().contains("seven"));
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
