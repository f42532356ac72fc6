//! All rows of given traces, read directly: no SQL, no plan.
//!
//! Live batches are filtered in memory. Lake files whose filter holds none of the ids are left out. Of a file, the pages of `trace_id` that may hold an id are read first, the asked
//! columns only for the rows that do (see [`crate::fences`]).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt, stream};
use meshlake_config::Tenant;
use meshlake_storage::{FileReader, Promoted, Promotions, Snapshot, SpanFile, column_index, demote};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection};
use parquet::arrow::async_reader::ParquetRecordBatchStream;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use crate::fences::{FENCE_COLUMNS, Fences};
use crate::footers;
use crate::spans::{holds_only, may_hold};
use crate::trace_id::TraceId;

/// Files looked into at once: enough to hide an object store's latency.
const FILES_AT_ONCE: usize = 16;
const BATCH_ROWS: usize = 8192;

/// What lookups share.
pub(crate) struct Lookups {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) fences: Fences,
    pub(crate) runtime: Arc<RuntimeEnv>,
}

/// Rows found in one place, and the memory they take of the queries' pool as long as this lives.
pub(crate) struct FoundRows {
    pub(crate) batches: Vec<RecordBatch>,
    memory: MemoryReservation,
}

impl FoundRows {
    fn new(runtime: &RuntimeEnv) -> Self {
        FoundRows { batches: Vec::new(), memory: MemoryConsumer::new("lookup").register(&runtime.memory_pool) }
    }

    fn add(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            self.memory.try_grow(batch.get_array_memory_size())?;
            self.batches.push(batch);
        }
        Ok(())
    }
}

/// Which rows of which columns.
struct Wanted {
    tenant: Tenant,
    /// Sorted.
    ids: Vec<TraceId>,
    /// All of them where none are named.
    columns: Option<&'static [&'static str]>,
}

impl Lookups {
    /// Gives `each` all rows of the tenant with one of `ids`, place by place in no particular order, with the columns named
    /// (in the order of the schema) or all of them.
    pub(crate) async fn find(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        tenant: &Tenant,
        mut ids: Vec<TraceId>,
        columns: Option<&'static [&'static str]>,
        mut each: impl FnMut(FoundRows) -> Result<()>,
    ) -> Result<()> {
        ids.sort_unstable();
        let wanted = Arc::new(Wanted { tenant: tenant.clone(), ids, columns });
        for live in &snapshot.live {
            let mut found = FoundRows::new(&self.runtime);
            found.add(wanted.of_live(&live.batch)?)?;
            each(found)?;
            tokio::task::yield_now().await;
        }
        let keys: Vec<[u8; 16]> = wanted.ids.iter().map(|id| id.0).collect();
        let files: Vec<_> = snapshot.files.of_traces(&keys).filter(|file| may_hold(file, tenant)).cloned().collect();
        let tasks = files.into_iter().map(|file| {
            let (lookups, wanted, promotions) = (self.clone(), wanted.clone(), snapshot.promotions.clone());
            async move { SpawnedTask::spawn(async move { lookups.of_file(&wanted, &file, &promotions).await }).join().await }
        });
        let mut tasks = stream::iter(tasks).buffer_unordered(FILES_AT_ONCE);
        while let Some(found) = tasks.next().await {
            each(found.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??)?;
        }
        Ok(())
    }

    async fn of_file(&self, wanted: &Wanted, file: &SpanFile, promotions: &Promotions) -> Result<FoundRows> {
        let promoted: &[Promoted] = promotions.list.get(..file.promoted.count).unwrap_or_default();
        let mut reader = self.reader(file)?;
        let mut found = FoundRows::new(&self.runtime);
        let mut rows = self.rows(wanted, file, &mut reader).await?;
        if !rows.selects_any() {
            return Ok(found);
        }
        let footer = footers::read(&mut reader, file.size).await?;
        for (group, metadata) in footer.row_groups().iter().enumerate() {
            let of_group = rows.split_off(metadata.num_rows() as usize);
            if !of_group.selects_any() {
                continue;
            }
            let footer = footers::with_pages(footers::of_row_group(&footer, group), &mut reader, false).await?;
            let mut batches = open(self.reader(file)?, footer, of_group, wanted.columns)?;
            while let Some(batch) = batches.try_next().await? {
                // Without all columns none of the maps is asked for, and so nothing that promoted attributes hold.
                found.add(if wanted.columns.is_none() { demote(&batch, promoted)? } else { batch })?;
            }
        }
        Ok(found)
    }

    /// The rows of a file that are wanted.
    async fn rows(&self, wanted: &Wanted, file: &SpanFile, reader: &mut FileReader) -> Result<RowSelection> {
        let fence = self.fences.get(reader, file).await?;
        let Some(pages) = fence.select(&wanted.ids) else { return Ok(RowSelection::default()) };
        let names = if file.tenants.len() == 1 { &FENCE_COLUMNS[1..] } else { &FENCE_COLUMNS[..] };
        let mut masks = Vec::new();
        let mut candidates = open(self.reader(file)?, fence.metadata().clone(), pages.clone(), Some(names))?;
        while let Some(batch) = candidates.try_next().await? {
            masks.push(wanted.mask(&batch)?);
        }
        Ok(pages.and_then(&RowSelection::from_filters(&masks)))
    }

    fn reader(&self, file: &SpanFile) -> Result<FileReader> {
        let path = Path::parse(&file.path).map_err(object_store::Error::from)?;
        Ok(FileReader::new(self.store.clone(), path, file.size))
    }
}

/// The columns of the selected rows of a file, of which only these are read.
fn open(
    reader: FileReader,
    footer: ArrowReaderMetadata,
    rows: RowSelection,
    columns: Option<&[&str]>,
) -> Result<ParquetRecordBatchStream<FileReader>> {
    let mask = match columns {
        Some(columns) => ProjectionMask::columns(footer.parquet_schema(), columns.iter().copied()),
        None => ProjectionMask::all(),
    };
    let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer);
    Ok(builder.with_projection(mask).with_row_selection(rows).with_batch_size(BATCH_ROWS).build()?)
}

impl Wanted {
    fn of_live(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let fence: Vec<usize> = FENCE_COLUMNS.into_iter().filter_map(column_index).collect();
        let fence = batch.project(if holds_only(batch, &self.tenant) { &fence[1..] } else { &fence })?;
        let mask = self.mask(&fence)?;
        if mask.true_count() == 0 {
            return Ok(batch.slice(0, 0));
        }
        let batch = match self.columns {
            Some(names) => {
                let mut indices: Vec<usize> = names.iter().filter_map(|name| column_index(name)).collect();
                indices.sort_unstable();
                batch.project(&indices)?
            }
            None => batch.clone(),
        };
        Ok(filter_record_batch(&batch, &mask)?)
    }

    /// The rows of a batch that are wanted. A batch without the column `tenant` is all of the tenant's.
    fn mask(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let ids = batch.column_by_name(FENCE_COLUMNS[1]).and_then(|column| column.as_fixed_size_binary_opt());
        let ids = ids.ok_or_else(|| DataFusionError::Internal("the column trace_id has another type".to_owned()))?;
        let mask: BooleanArray = match self.ids.as_slice() {
            [one] => ids.iter().map(|id| Some(id == Some(one.0.as_slice()))).collect(),
            many => {
                let many: HashSet<&[u8]> = many.iter().map(|id| id.0.as_slice()).collect();
                ids.iter().map(|id| Some(id.is_some_and(|id| many.contains(id)))).collect()
            }
        };
        match batch.column_by_name(FENCE_COLUMNS[0]) {
            Some(tenants) => {
                let own = arrow::array::StringArray::new_scalar(self.tenant.as_str());
                Ok(arrow::compute::and(&mask, &arrow::compute::kernels::cmp::eq(tenants, &own)?)?)
            }
            None => Ok(mask),
        }
    }
}
