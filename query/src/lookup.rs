//! All rows of given traces, read directly: no SQL, no plan.
//!
//! Live batches are filtered in memory. Files whose filter holds none of the ids are left out. Of a file, the pages of `trace_id`
//! that may hold an id are read first (see [`fences`]), the asked columns only for the rows that do (see
//! [`rows`] and [`places`]).

mod fences;
pub(crate) mod footers;
mod pages;
mod places;
mod rows;
mod wanted;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use arrow_select::dictionary::garbage_collect_any_dictionary;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, stream};
use meshlake_config::Tenant;
use meshlake_storage::{FileReader, Promotions, Snapshot, SpanFile, column_index};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use crate::id_set::IdSet;
use crate::spans::{holds_only, may_hold};
use crate::trace_id::TraceId;
use fences::{FENCE_COLUMNS, Fence, Fences};
use places::PlacesCache;
use rows::Rows;
pub(crate) use wanted::Needless;
use wanted::Wanted;

/// Files looked into at once: enough to hide an object store's latency.
const FILES_AT_ONCE: usize = 16;
/// Tasks that look into few files, several into each: one core reads what one task does.
const TASKS: usize = 4;
/// Traces that are not worth several tasks.
const IDS_MIN: usize = 16;
const BATCH_ROWS: usize = 8192;
/// Values of a dictionary that are kept, whether a row has them or not: to look costs more than they do.
const DICTIONARY_VALUES: usize = 256;

/// What lookups share.
pub(crate) struct Lookups {
    pub(crate) store: Arc<dyn ObjectStore>,
    fences: Fences,
    places: PlacesCache,
    pub(crate) runtime: Arc<RuntimeEnv>,
}

/// Rows found in one place, and the memory they take of the queries' pool as long as this lives.
pub(crate) struct FoundRows {
    /// The path of the file that they are in; none of live rows.
    pub(crate) file: Option<String>,
    pub(crate) batches: Vec<RecordBatch>,
    memory: MemoryReservation,
}

impl FoundRows {
    fn new(file: Option<String>, runtime: &RuntimeEnv) -> Self {
        FoundRows { file, batches: Vec::new(), memory: MemoryConsumer::new("lookup").register(&runtime.memory_pool) }
    }

    /// How much memory they take.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.size()
    }

    fn add(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() > 0 {
            let batch = compact(batch)?;
            self.memory.try_grow(batch.get_array_memory_size())?;
            self.batches.push(batch);
        }
        Ok(())
    }
}

/// The same rows without the texts of others: a dictionary is that of all rows of a row group, or of a live batch.
pub(crate) fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let most = batch.num_rows().max(DICTIONARY_VALUES);
    let of_rows = |column: &ArrayRef| match column.as_any_dictionary_opt() {
        Some(dictionary) if dictionary.values().len() > most => garbage_collect_any_dictionary(dictionary),
        _ => Ok(column.clone()),
    };
    let columns = batch.columns().iter().map(of_rows).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

impl Lookups {
    /// Lookups in the files of a store that keep at most `cache` bytes of their footers.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, cache: usize, runtime: Arc<RuntimeEnv>) -> Self {
        // What a lookup reads of a row group takes more than its fence.
        let fences = cache / 4;
        Lookups { store, fences: Fences::new(fences), places: PlacesCache::new(cache - fences), runtime }
    }

    /// Gives `each` all rows of the tenant with one of `ids`, those of one id in a place together, in no particular order, with the
    /// columns named (in the order of the schema) or all of them. Residual maps are whole, promoted attributes included.
    pub(crate) async fn find(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        tenant: &Tenant,
        ids: Vec<TraceId>,
        columns: Option<&[&str]>,
        each: impl FnMut(FoundRows) -> Result<()>,
    ) -> Result<()> {
        self.find_wanted(snapshot, Wanted::new(tenant, ids, columns), each).await
    }

    async fn find_wanted(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        wanted: Wanted,
        mut each: impl FnMut(FoundRows) -> Result<()>,
    ) -> Result<()> {
        let wanted = Arc::new(wanted);
        for live in &snapshot.live {
            let mut found = FoundRows::new(None, &self.runtime);
            found.add(wanted.of_live(&live.batch)?)?;
            each(found)?;
            tokio::task::yield_now().await;
        }
        let keys: Vec<[u8; 16]> = wanted.ids().iter().map(|id| id.0).collect();
        let mut files = snapshot.files.of_traces(&keys);
        files.retain(|(file, _)| may_hold(file, wanted.tenant()));
        let most = TASKS.div_ceil(files.len().max(1));
        let part = |(file, ids): (Arc<SpanFile>, Vec<usize>)| {
            let size = ids.len().div_ceil(most).max(IDS_MIN);
            ids.chunks(size).map(|ids| (file.clone(), ids.to_vec())).collect::<Vec<_>>()
        };
        let parts: Vec<_> = files.into_iter().flat_map(part).collect();
        // As for most single traces: another task would make nothing faster.
        if let [(file, ids)] = parts.as_slice() {
            return each(self.of_file(&wanted, ids, file, &snapshot.promotions).await?);
        }
        let tasks = parts.into_iter().map(|(file, ids)| {
            let (lookups, wanted, promotions) = (self.clone(), wanted.clone(), snapshot.promotions.clone());
            async move { SpawnedTask::spawn(async move { lookups.of_file(&wanted, &ids, &file, &promotions).await }).join().await }
        });
        let mut tasks = stream::iter(tasks).buffer_unordered(FILES_AT_ONCE);
        while let Some(found) = tasks.next().await {
            each(found.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??)?;
        }
        Ok(())
    }

    /// Gives `each` all rows of the traces together; see [`Lookups::find`]. Where those of all traces are too much for the memory
    /// of queries, those of half of them, and then of the others. Maps that are `needless` in a file are empty there.
    pub(crate) async fn find_together(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        tenant: &Tenant,
        ids: &[TraceId],
        columns: &[&str],
        needless: &Needless,
        mut each: impl FnMut(&[FoundRows]) -> Result<()>,
    ) -> Result<()> {
        let mut left = vec![ids];
        while let Some(ids) = left.pop() {
            let mut parts = Vec::new();
            let add = |found: FoundRows| {
                parts.push(found);
                Ok(())
            };
            let wanted = Wanted::new(tenant, ids.to_vec(), Some(columns)).without(needless);
            match self.find_wanted(snapshot, wanted, add).await {
                Ok(()) => each(&parts)?,
                Err(error) if ids.len() > 1 && matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    left.extend([second, first]);
                }
                Err(error) => return Err(error),
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The rows of the tenant that are not in a file yet.
    pub(crate) fn live(snapshot: &Snapshot, tenant: &Tenant, columns: &[&str]) -> Result<Vec<RecordBatch>> {
        let wanted = Wanted::new(tenant, Vec::new(), Some(columns));
        let tenants = column_index(FENCE_COLUMNS[0]).unwrap_or_default();
        let of_batch = |batch: &RecordBatch| {
            let rows = batch.project(wanted.columns())?;
            let all = holds_only(batch, tenant);
            Ok(if all { rows } else { filter_record_batch(&rows, &wanted.own(batch.column(tenants))?)? })
        };
        snapshot.live.iter().map(|live| of_batch(&live.batch)).collect()
    }

    /// The rows of a file that are of the ids at these positions, which it may hold.
    async fn of_file(&self, wanted: &Wanted, ids: &[usize], file: &SpanFile, promotions: &Promotions) -> Result<FoundRows> {
        let wanted_of = wanted.of_file(file, promotions);
        let mut reader = self.reader(file)?;
        let mut found = FoundRows::new(Some(file.path.clone()), &self.runtime);
        let ids = IdSet::new(ids.iter().map(|position| wanted.ids()[*position]).collect());
        let rows = self.rows(wanted, &ids, file, &mut reader).await?;
        self.read(file, &mut reader, rows, &wanted_of.columns(), |batch| found.add(wanted_of.restored(&batch)?)).await?;
        Ok(found)
    }

    /// Gives `each` all rows of the tenant in a file, in its order, with the columns named.
    pub(crate) async fn scan(
        &self,
        file: &SpanFile,
        tenant: &Tenant,
        promotions: &Promotions,
        columns: &[&str],
        mut each: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let wanted = Wanted::new(tenant, Vec::new(), Some(columns));
        let wanted_of = wanted.of_file(file, promotions);
        let mut reader = self.reader(file)?;
        let rows = self.own_rows(&wanted, file, &mut reader).await?;
        self.read(file, &mut reader, rows, &wanted_of.columns(), |batch| each(wanted_of.restored(&batch)?)).await
    }

    /// The first rows of the tenant in a file, at most so many, with the columns named.
    pub(crate) async fn first(
        &self,
        file: &SpanFile,
        tenant: &Tenant,
        promotions: &Promotions,
        columns: &[&str],
        most: usize,
    ) -> Result<FoundRows> {
        let wanted = Wanted::new(tenant, Vec::new(), Some(columns));
        let wanted_of = wanted.of_file(file, promotions);
        let mut reader = self.reader(file)?;
        let rows = first(&self.own_rows(&wanted, file, &mut reader).await?, most);
        let mut found = FoundRows::new(Some(file.path.clone()), &self.runtime);
        self.read(file, &mut reader, rows, &wanted_of.columns(), |batch| found.add(wanted_of.restored(&batch)?)).await?;
        Ok(found)
    }

    /// The rows of a file that are the tenant's.
    async fn own_rows(&self, wanted: &Wanted, file: &SpanFile, reader: &mut FileReader) -> Result<RowSelection> {
        let all = RowSelection::from(vec![RowSelector::select(file.rows as usize)]);
        if file.tenants.len() == 1 {
            return Ok(all);
        }
        let fence = self.fences.get(reader, file).await?;
        filter(reader, &fence, all, &[0], |batch| wanted.own(batch.column(0))).await
    }

    /// Gives `each` the selected rows of a file, one row group after the other.
    async fn read(
        &self,
        file: &SpanFile,
        reader: &mut FileReader,
        mut rows: RowSelection,
        columns: &[usize],
        mut each: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        if !rows.selects_any() {
            return Ok(());
        }
        let fence = self.fences.get(reader, file).await?;
        let mut footer = None;
        for (group, fence) in fence.groups().enumerate() {
            let of_group = rows.split_off(fence.rows);
            if !of_group.selects_any() {
                continue;
            }
            let places = self.places.get(reader, file, group, &mut footer).await?;
            for batch in Rows::read(reader, places, &of_group, columns).await? {
                let batch = batch?;
                let is_full = batch.num_rows() == BATCH_ROWS;
                each(batch)?;
                if is_full {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// The rows of a file that are of these traces.
    async fn rows(&self, wanted: &Wanted, ids: &IdSet, file: &SpanFile, reader: &mut FileReader) -> Result<RowSelection> {
        let fence = self.fences.get(reader, file).await?;
        let Some(pages) = fence.select(ids.ids()) else { return Ok(RowSelection::default()) };
        // Positions in FENCE_COLUMNS.
        let columns: &[usize] = if file.tenants.len() == 1 { &[1] } else { &[0, 1] };
        let rows = filter(reader, &fence, pages.clone(), columns, |batch| wanted.mask(ids, batch)).await?;
        Ok(pages.and_then(&rows))
    }

    fn reader(&self, file: &SpanFile) -> Result<FileReader> {
        let path = Path::parse(&file.path).map_err(object_store::Error::from)?;
        Ok(FileReader::new(self.store.clone(), path, file.size))
    }
}

/// The first of the selected rows, at most so many.
fn first(rows: &RowSelection, most: usize) -> RowSelection {
    let mut left = most;
    let mut first = Vec::new();
    for selector in rows.iter() {
        if left == 0 {
            break;
        }
        let count = if selector.skip { selector.row_count } else { selector.row_count.min(left) };
        left -= if selector.skip { 0 } else { count };
        first.push(RowSelector { row_count: count, skip: selector.skip });
    }
    first.into()
}

/// Which of the selected rows of a file are wanted by these of its [`FENCE_COLUMNS`].
async fn filter(
    reader: &mut FileReader,
    fence: &Fence,
    mut rows: RowSelection,
    columns: &[usize],
    is_wanted: impl Fn(&RecordBatch) -> Result<BooleanArray>,
) -> Result<RowSelection> {
    let mut masks = Vec::new();
    for places in fence.groups() {
        let of_group = rows.split_off(places.rows);
        if of_group.selects_any() {
            for batch in Rows::read(reader, places.clone(), &of_group, columns).await? {
                masks.push(is_wanted(&batch?)?);
            }
        }
    }
    Ok(RowSelection::from_filters(&masks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Chance, TestSource, random_rows, tenant};

    /// Scenario: many traces in one file, each asked for as often as it has spans. Guarantee: each span once.
    #[tokio::test]
    async fn one_file_is_looked_into_by_several_tasks() {
        let rows = random_rows(&mut Chance(31), "a", 200);
        let mut source = TestSource::new();
        source.add_file(&rows).await;
        let ids: Vec<TraceId> = rows.iter().map(|row| TraceId(row.trace.to_be_bytes())).collect();
        let find = async move |view: crate::view::View| {
            let (mut spans, mut places) = (Vec::new(), 0);
            let add = |found: FoundRows| {
                let ids = found.batches.iter().flat_map(|batch| batch.column(0).as_fixed_size_binary().iter().flatten());
                spans.extend(ids.map(<[u8]>::to_vec));
                places += 1;
                Ok(())
            };
            view.each_of(ids, Some(&["span_id"]), add).await?;
            Ok((spans, places))
        };
        let (mut found, places) = source.engine().run(&tenant("a"), find).await.unwrap();
        let mut expected: Vec<Vec<u8>> = rows.iter().map(|row| row.span.to_be_bytes().to_vec()).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!((found, places), (expected, TASKS));
    }

    /// Scenario: more and fewer rows than there are, in runs. Guarantee: the first of them, none more.
    #[test]
    fn the_first_rows() {
        let rows =
            RowSelection::from(vec![RowSelector::skip(2), RowSelector::select(3), RowSelector::skip(1), RowSelector::select(4)]);
        let counts = [0, 2, 3, 5, 7, 9].map(|most| first(&rows, most).row_count());
        assert_eq!(counts, [0, 2, 3, 5, 7, 7]);
        let expected = vec![RowSelector::skip(2), RowSelector::select(3), RowSelector::skip(1), RowSelector::select(2)];
        assert_eq!(first(&rows, 5), RowSelection::from(expected));
    }
}
