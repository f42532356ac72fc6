//! Rows of a scan, read by several tasks: one does not keep more than a processor busy.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream, execute_stream_partitioned};
use futures::TryStreamExt;
use futures::future::try_join_all;
use parking_lot::Mutex;

/// Partitions of a scan for each task, so that tasks end at about the same time.
const FOR_EACH_TASK: usize = 4;

/// Rows in partitions.
pub(crate) struct Partitions {
    rows: Vec<SendableRecordBatchStream>,
    /// How many tasks read them.
    tasks: usize,
}

/// Rows of a scan that is filtered and projected at most, in no particular order; partitions are read by a task each.
pub(crate) async fn together(rows: DataFrame) -> Result<SendableRecordBatchStream> {
    let (plan, context) = split(rows).await?;
    execute_stream(plan, context)
}

/// The same rows, in half as many partitions more than there are tasks if so few files are read that each is split: of eight row
/// groups and a rest, of which none is split, one of two partitions has five. Tasks take three by turns, and end at about the same
/// time. Of more files each partition has its own, the newest first: more of them at once would be read in vain.
pub(crate) fn by_turns(rows: DataFrame, files: usize) -> DataFrame {
    let (mut state, plan) = rows.into_parts();
    let tasks = state.config().target_partitions();
    if files <= tasks {
        state.config_mut().options_mut().execution.target_partitions = tasks + tasks / 2;
    }
    DataFrame::new(state, plan)
}

/// The plan of such a scan, in partitions of which those of files are about as large as each other. DataFusion splits files for
/// operators above a scan only, and one file may have most of an hour.
async fn split(rows: DataFrame) -> Result<(Arc<dyn ExecutionPlan>, Arc<TaskContext>)> {
    let context = Arc::new(rows.task_ctx());
    let config = context.session_config();
    let split = |plan: Arc<dyn ExecutionPlan>| {
        let is_scan = plan.children().is_empty();
        let partitions = FOR_EACH_TASK * config.target_partitions();
        let split = if is_scan { plan.repartitioned(partitions, config.options())? } else { None };
        Ok(split.map_or_else(|| Transformed::no(plan), Transformed::yes))
    };
    let plan = rows.create_physical_plan().await?.transform_up(split)?.data;
    Ok((plan, context))
}

impl Partitions {
    /// Of scans that are filtered and projected at most.
    pub(crate) async fn of(scans: Vec<DataFrame>) -> Result<Partitions> {
        let mut all = Partitions { rows: Vec::new(), tasks: 1 };
        for rows in scans {
            let (plan, context) = split(rows).await?;
            all.tasks = context.session_config().target_partitions();
            all.rows.extend(execute_stream_partitioned(plan, context)?);
        }
        Ok(all)
    }

    /// How many tasks read them.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks.min(self.rows.len())
    }

    /// What `add` makes of the rows that a task reads, from what `begin` gives for it. The tasks end with this future, and with the
    /// first error.
    pub(crate) async fn each<T: Send + 'static>(
        self,
        begin: impl Fn() -> T,
        add: impl Fn(&mut T, &RecordBatch) -> Result<()> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        let tasks = self.tasks();
        let left = Arc::new(Mutex::new(self.rows.into_iter()));
        let task = |_| {
            let (mut part, add, left) = (begin(), add.clone(), left.clone());
            let next = move || left.lock().next();
            SpawnedTask::spawn(async move {
                while let Some(mut rows) = next() {
                    while let Some(batch) = rows.try_next().await? {
                        add(&mut part, &batch)?;
                        tokio::task::yield_now().await;
                    }
                }
                Ok::<_, DataFusionError>(part)
            })
        };
        let tasks: Vec<_> = (0..tasks).map(task).collect();
        let ended = tasks
            .into_iter()
            .map(async |task| task.join().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?);
        try_join_all(ended).await
    }
}

#[cfg(test)]
mod tests {
    use datafusion::common::internal_err;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::{Stream, StreamExt, stream};

    use super::*;
    use crate::testing::{SpanRow, batch};

    fn rows_of(rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(batch(&[]).schema(), rows))
    }

    fn spans(count: usize) -> Result<RecordBatch> {
        Ok(batch(&vec![SpanRow { tenant: "a".to_owned(), ..SpanRow::default() }; count]))
    }

    /// Scenario: as many files as tasks, and one more. Guarantee: only the first are read in more partitions.
    #[test]
    fn few_files_are_read_by_turns() {
        let partitions = |tasks, files| {
            let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(tasks));
            by_turns(context.read_empty().unwrap(), files).task_ctx().session_config().target_partitions()
        };
        assert_eq!([(1, 1), (2, 2), (2, 3), (4, 1), (4, 5)].map(|(tasks, files)| partitions(tasks, files)), [1, 3, 2, 6, 4]);
    }

    /// Scenario: more partitions than tasks, of several batches, of one and of none; then one that fails beside one that never ends.
    /// Guarantee: each batch is taken in once; the error, and nothing is left of what the other had.
    #[tokio::test]
    async fn partitions_are_taken_in_apart() {
        let add = |rows: &mut Arc<Vec<usize>>, batch: &RecordBatch| {
            Arc::make_mut(rows).push(batch.num_rows());
            if batch.num_rows() == 7 { internal_err!("seven") } else { Ok(()) }
        };
        let of = |counts: &[usize]| rows_of(stream::iter(counts.iter().map(|count| spans(*count)).collect::<Vec<_>>()));
        for tasks in [1, 2, 9] {
            let rows = [&[1, 2, 1][..], &[], &[3], &[5, 4]].map(of).into();
            let parts = Partitions { rows, tasks }.each(Arc::default, add).await.unwrap();
            assert_eq!(parts.len(), tasks.min(4));
            let mut taken: Vec<usize> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            taken.sort_unstable();
            assert_eq!(taken, [1, 1, 2, 3, 4, 5]);
        }
        let held = Arc::new(());
        let endless = {
            let held = held.clone();
            stream::once(async { spans(1) }).chain(stream::once(async move {
                let _held = held;
                std::future::pending().await
            }))
        };
        let failing = Partitions { rows: vec![rows_of(endless), of(&[1, 7])], tasks: 2 }.each(Arc::default, add);
        assert!(failing.await.unwrap_err().to_string().contains("seven"));
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
