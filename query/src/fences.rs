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

use crate::footers;
use crate::trace_id::TraceId;

/// The columns of a cut footer, in this order.
pub(crate) const FENCE_COLUMNS: [&str; 2] = ["tenant", "trace_id"];
const TRACE_ID: usize = 1;

/// Cut footers by path, the least recently used go first.
pub(crate) struct Fences {
    cache: DefaultCache<Path, Fence>,
}

/// The footer of one file, cut down to [`FENCE_COLUMNS`].
#[derive(Clone)]
pub(crate) struct Fence(ArrowReaderMetadata);

impl CacheValue for Fence {
    fn size(&self) -> usize {
        self.0.metadata().memory_size()
    }
}

impl Fences {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Fences { cache: DefaultCache::new(limit) }
    }

    /// The fence of a file, read where it is not in the cache. Files never change, so their path is their identity.
    pub(crate) async fn get(&self, reader: &mut FileReader, file: &SpanFile) -> Result<Fence> {
        let path = Path::from(file.path.as_str());
        if let Some(fence) = self.cache.get(&path) {
            return Ok(fence);
        }
        let footer = cut(&footers::read(reader, file.size).await?)?;
        let fence = Fence(footers::with_pages(footer, reader, true).await?);
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

impl Fence {
    /// The cut footer, for a reader.
    pub(crate) fn metadata(&self) -> &ArrowReaderMetadata {
        &self.0
    }

    /// The rows of the file's pages that may hold one of `ids` (sorted); none where no page may.
    pub(crate) fn select(&self, ids: &[TraceId]) -> Option<RowSelection> {
        let mut selectors = Vec::new();
        for (group, metadata) in self.0.metadata().row_groups().iter().enumerate() {
            let rows = metadata.num_rows() as usize;
            match self.pages(group) {
                Some((index, starts)) => {
                    let ends = starts.iter().skip(1).copied().chain([rows]);
                    for (page, (start, end)) in starts.iter().zip(ends).enumerate() {
                        selectors.push(selector(end - start, may_hold(page_bounds(index, page), ids)));
                    }
                }
                None => selectors.push(selector(rows, true)),
            }
        }
        let selection = RowSelection::from(selectors);
        selection.selects_any().then_some(selection)
    }

    /// Statistics of the pages of `trace_id` in a row group, and the first row of each; none where the file has no index.
    fn pages(&self, group: usize) -> Option<(&ColumnIndexMetaData, Vec<usize>)> {
        let metadata = self.0.metadata();
        let index = metadata.column_index()?.get(group)?.get(TRACE_ID)?;
        let locations = metadata.offset_index()?.get(group)?.get(TRACE_ID)?.page_locations();
        let starts: Vec<usize> = locations.iter().map(|page| page.first_row_index as usize).collect();
        (starts.len() as u64 == index.num_pages()).then_some((index, starts))
    }
}

fn selector(rows: usize, selected: bool) -> RowSelector {
    if selected { RowSelector::select(rows) } else { RowSelector::skip(rows) }
}

fn page_bounds(index: &ColumnIndexMetaData, page: usize) -> Option<(&[u8], &[u8])> {
    match index {
        ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) => Some((index.min_value(page)?, index.max_value(page)?)),
        _ => None,
    }
}

/// Whether one of the sorted ids lies within the bounds; yes where there are none.
fn may_hold(bounds: Option<(&[u8], &[u8])>, ids: &[TraceId]) -> bool {
    let Some((min, max)) = bounds else { return true };
    let first = ids.partition_point(|id| id.0.as_slice() < min);
    ids.get(first).is_some_and(|id| id.0.as_slice() <= max)
}
