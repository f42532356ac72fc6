//! Which pages of a file may hold a trace.
//!
//! Files are sorted by tenant, trace id, start: a trace is in one page or a few next to each other, but every file may hold
//! it, for ids are random. So a lookup reads one page of `trace_id` of each file that its filter does not rule out, and other
//! columns only of files that hold the trace. What that first step needs of a file's footer is kept in a cache: the footer cut down to `tenant`
//! and `trace_id`, a few per cent of the whole, so that it stays in memory for very many files.

use std::sync::Arc;

use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheValue};
use meshlake_storage::{FileReader, SpanFile};
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection, RowSelector};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::schema::types::{SchemaDescriptor, Type};

use super::footers;
use super::places::Places;
use crate::trace_id::TraceId;

/// The columns of a cut footer, in this order.
pub(super) const FENCE_COLUMNS: [&str; 2] = ["tenant", "trace_id"];
const TRACE_ID: usize = 1;

/// Cut footers by path, the least recently used go first.
pub(super) struct Fences {
    cache: DefaultCache<Path, Fence>,
}

/// What is kept of the footer of one file.
#[derive(Clone)]
pub(super) struct Fence(Arc<Vec<Group>>);

/// What is kept of a row group.
struct Group {
    /// Of [`FENCE_COLUMNS`].
    places: Arc<Places>,
    /// The least and the greatest id of each page of `trace_id`; empty where the file does not tell.
    bounds: Vec<(TraceId, TraceId)>,
}

impl CacheValue for Fence {
    fn size(&self) -> usize {
        self.0.iter().map(|group| group.places.bytes() + size_of_val(group.bounds.as_slice())).sum()
    }
}

impl Fences {
    /// A cache of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Fences { cache: DefaultCache::new(limit) }
    }

    /// The fence of a file, read where it is not in the cache. Files never change, so their path is their identity.
    pub(super) async fn get(&self, reader: &mut FileReader, file: &SpanFile) -> Result<Fence> {
        let path = Path::from(file.path.as_str());
        if let Some(fence) = self.cache.get(&path) {
            return Ok(fence);
        }
        let footer = cut(&footers::read(reader, file.size, false).await?)?;
        let footer = footers::with_pages(footer, reader, true).await?;
        let group = |group| Ok(Group { places: Arc::new(Places::new(&footer, group)?), bounds: bounds(&footer, group) });
        let groups = (0..footer.metadata().num_row_groups()).map(group).collect::<Result<_>>()?;
        let fence = Fence(Arc::new(groups));
        self.cache.put(&path, fence.clone());
        Ok(fence)
    }
}

fn cut(footer: &ParquetMetaData) -> Result<ParquetMetaData> {
    let file = footer.file_metadata();
    let columns = file.schema_descr().columns();
    let position = |name: &str| {
        let found = columns.iter().position(|column| column.path().parts().len() == 1 && column.name() == name);
        found.ok_or_else(|| ParquetError::General(format!("the file has no column {name}")))
    };
    let kept: Vec<usize> = FENCE_COLUMNS.into_iter().map(position).collect::<Result<_>>()?;
    let fields = kept.iter().map(|leaf| columns[*leaf].self_type_ptr()).collect();
    let root = Type::group_type_builder(file.schema_descr().root_schema().name()).with_fields(fields).build()?;
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
    let row_group = |group: &RowGroupMetaData| {
        let chunks = kept.iter().map(|leaf| group.column(*leaf).clone()).collect();
        let builder = RowGroupMetaData::builder(schema.clone()).set_num_rows(group.num_rows());
        builder.set_total_byte_size(group.total_byte_size()).set_column_metadata(chunks).build()
    };
    let row_groups = footer.row_groups().iter().map(row_group).collect::<Result<_>>()?;
    let cut = FileMetaData::new(file.version(), file.num_rows(), None, None, schema.clone(), None);
    Ok(ParquetMetaDataBuilder::new(cut).set_row_groups(row_groups).build())
}

/// The bounds of the pages of `trace_id` in a row group.
fn bounds(footer: &ArrowReaderMetadata, group: usize) -> Vec<(TraceId, TraceId)> {
    let index = footer.metadata().column_index().and_then(|index| index.get(group)?.get(TRACE_ID));
    let Some(ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index)) = index else { return Vec::new() };
    let id = |bytes: Option<&[u8]>| TraceId::from_slice(bytes?);
    let of_page = |page: usize| Some((id(index.min_value(page))?, id(index.max_value(page))?));
    (0..index.num_pages() as usize).map(of_page).collect::<Option<_>>().unwrap_or_default()
}

impl Fence {
    /// The places of each row group's [`FENCE_COLUMNS`].
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<Places>> {
        self.0.iter().map(|group| &group.places)
    }

    /// The rows of the file's pages that may hold one of `ids` (sorted); none where no page may.
    pub(super) fn select(&self, ids: &[TraceId]) -> Option<RowSelection> {
        let mut selectors = Vec::new();
        for Group { places, bounds } in self.0.iter() {
            let Some(chunk) = places.chunks.get(TRACE_ID).filter(|chunk| chunk.pages() == bounds.len() && !bounds.is_empty())
            else {
                selectors.push(RowSelector::select(places.rows));
                continue;
            };
            for (page, bounds) in bounds.iter().enumerate() {
                let rows = chunk.rows_of(&(page..page + 1), places.rows);
                selectors.push(RowSelector { row_count: rows, skip: !may_hold(bounds, ids) });
            }
        }
        let selection = RowSelection::from(selectors);
        selection.selects_any().then_some(selection)
    }
}

/// Whether one of the sorted ids lies within the bounds.
fn may_hold((min, max): &(TraceId, TraceId), ids: &[TraceId]) -> bool {
    let first = ids.partition_point(|id| id < min);
    ids.get(first).is_some_and(|id| id <= max)
}
