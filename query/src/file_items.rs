//! Which columns of maps and lists have nothing in a lake file, as the file itself tells.
//!
//! Each has half a dozen columns of its own in Parquet: together they are half of a file, and cost most of its reading even where no span
//! has any event or link. Footers say where that is so, but not those of older files, nor of every row group. What all of their items
//! have, does, and it is read but once.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use datafusion::error::Result;
use futures::TryStreamExt;
use meshlake_storage::{FileReader, Scope, SpanFile, columns_with_values};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;

use crate::file_summaries::Beside;
use crate::lookup::footers;

/// The columns of maps and lists.
const COLUMNS: [&str; 5] =
    [Scope::Span.residual_column(), Scope::Resource.residual_column(), Scope::Instrumentation.residual_column(), "events", "links"];
const BATCH_ROWS: usize = 8192;

/// The columns of maps and lists in which no row of a file has anything.
pub(crate) struct FileItems {
    /// By place in [`COLUMNS`].
    is_empty: [bool; COLUMNS.len()],
}

impl FileItems {
    /// The names of those columns.
    pub(crate) fn empty(&self) -> impl Iterator<Item = &'static str> {
        COLUMNS.into_iter().zip(self.is_empty).filter(|(_, is_empty)| *is_empty).map(|(name, _)| name)
    }

    /// Whether no row has anything in the column of that name.
    pub(crate) fn has_none(&self, name: &str) -> bool {
        self.empty().any(|empty| empty == name)
    }

    /// Reads what the footer does not tell, each column up to the row group in which it has something.
    async fn of(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Result<FileItems> {
        let path = Path::parse(&file.path).map_err(object_store::Error::from)?;
        let reader = || FileReader::new(store.clone(), path.clone(), file.size);
        let footer = footers::read(&mut reader(), file.size, true).await?;
        let footer = ArrowReaderMetadata::try_new(Arc::new(footer), ArrowReaderOptions::new())?;
        let is_told = told(footer.metadata());
        // Maps hold what stands in columns of promoted attributes, too.
        let holds_more =
            |name| file.promoted.count > 0 && [Scope::Span, Scope::Resource].map(Scope::residual_column).contains(&name);
        let mut items = FileItems { is_empty: COLUMNS.map(|name| !holds_more(name)) };
        for group in 0..footer.metadata().num_row_groups() {
            let open: Vec<&str> = items.empty().filter(|name| !is_told.contains(name)).collect();
            if open.is_empty() {
                break;
            }
            let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader(), footer.clone());
            let mask = leaves(footer.parquet_schema(), &open);
            let mut batches = builder.with_row_groups(vec![group]).with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
            while let Some(batch) = batches.try_next().await? {
                for (name, is_empty) in COLUMNS.iter().zip(&mut items.is_empty) {
                    *is_empty &= batch.column_by_name(name).is_none_or(has_nothing);
                }
                if !items.empty().any(|name| open.contains(&name)) {
                    break;
                }
                // Others are to be served, too.
                tokio::task::yield_now().await;
            }
        }
        Ok(items)
    }
}

impl Beside for FileItems {
    async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Self> {
        FileItems::of(store, file).await.ok()
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// The columns of which the footer tells that no row has a value.
fn told(footer: &ParquetMetaData) -> Vec<&str> {
    let fields = footer.file_metadata().schema_descr().root_schema().get_fields();
    let columns = fields.iter().zip(columns_with_values(footer));
    columns.filter(|(_, has_values)| !has_values).map(|(field, _)| field.name()).collect()
}

/// The keys of maps, or what comes first in items; and of maps one kind of values, as Parquet reads none without.
fn leaves(schema: &SchemaDescriptor, names: &[&str]) -> ProjectionMask {
    let leaves = names.iter().flat_map(|name| {
        let mut leaves = (0..schema.num_columns()).filter(|leaf| schema.get_column_root(*leaf).name() == *name);
        let is_bool = |leaf: &usize| matches!(schema.column(*leaf).path().parts(), [_, _, _, last] if last == "bool");
        [leaves.next(), leaves.find(is_bool)]
    });
    ProjectionMask::leaves(schema, leaves.flatten())
}

/// Whether no row of a map or list has an item.
fn has_nothing(column: &ArrayRef) -> bool {
    let map = column.as_map_opt().map(|map| map.value_offsets());
    let offsets = map.or_else(|| column.as_list_opt::<i32>().map(|list| list.value_offsets()));
    offsets.is_some_and(|offsets| offsets.first() == offsets.last())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
    use parquet::file::properties::{EnabledStatistics, WriterProperties};

    use super::*;
    use crate::testing::{START, SpanRow, TestSource, int};

    /// Scenario: a file of spans with nothing but their columns, and such of which the last span of many has something in one column
    /// more; with statistics and without. Guarantee: all other columns of maps and lists are told; of what may stand in promoted columns,
    /// nothing is.
    #[tokio::test]
    async fn columns_without_items_are_told() {
        let row = |span: u64| SpanRow { tenant: "a".to_owned(), trace: 1, span, start: START + span, ..SpanRow::default() };
        let with = |change: &dyn Fn(&mut SpanRow)| {
            let mut rows: Vec<SpanRow> = (1..20_000).map(row).collect();
            rows.last_mut().into_iter().for_each(change);
            rows
        };
        let cases: [(Vec<SpanRow>, Option<&str>); 6] = [
            (with(&|_| {}), None),
            (with(&|row| row.attributes = vec![int("far", 1)]), Some("span_attributes")),
            (with(&|row| row.resource.attributes = vec![int("far", 1)]), Some("resource_attributes")),
            (with(&|row| row.scope_attributes = vec![int("far", 1)]), Some("scope_attributes")),
            (with(&|row| row.events = vec![Event::default()]), Some("events")),
            (with(&|row| row.links = vec![Link::default()]), Some("links")),
        ];
        for (rows, has) in cases {
            let told = WriterProperties::builder().set_max_row_group_row_count(Some(8_192));
            let untold = told.clone().set_statistics_enabled(EnabledStatistics::None);
            for properties in [told, untold] {
                let mut source = TestSource::promoting(Vec::new());
                source.add_file_with(&rows, properties.build()).await;
                let file = source.snapshot.files.iter().next().unwrap().clone();
                let store = crate::SpanSource::object_store(&source);
                let empty = FileItems::of(store, &file).await.unwrap();
                let expected: Vec<&str> = COLUMNS.into_iter().filter(|name| Some(*name) != has).collect();
                assert_eq!(empty.empty().collect::<Vec<_>>(), expected, "{has:?}");
                let mut promoted = (*file).clone();
                promoted.promoted.count = 1;
                let empty = FileItems::of(store, &promoted).await.unwrap();
                assert!(empty.empty().all(|name| !["span_attributes", "resource_attributes"].contains(&name)));
            }
        }
    }
}
