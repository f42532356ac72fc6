//! Rows taken in by several tasks, for one does not keep more than a processor busy.

use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use futures::future::try_join_all;

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
