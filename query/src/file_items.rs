//! Which columns of maps and lists have nothing in a lake file, as the file itself tells.
//!
//! Each has half a dozen columns of its own in Parquet: together they are half of a file, and cost most of its reading even where no span
//! has any event or link. The footer does not say where that is so. What all of their items have, does, and it is read but once.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use datafusion::error::Result;
use futures::TryStreamExt;
use meshlake_storage::{FileReader, Scope, SpanFile};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use crate::file_summaries::Beside;
use crate::lookup::footers;

/// The columns of maps and lists.
const COLUMNS: [&str; 5] =
    [Scope::Span.residual_column(), Scope::Resource.residual_column(), Scope::Instrumentation.residual_column(), "events", "links"];
const BATCH_ROWS: usize = 8192;

/// The columns of maps and lists in which no row of a file has anything.
pub(crate) struct FileItems {
    pub(crate) empty: BTreeSet<&'static str>,
}

impl FileItems {
    /// Stops where each column has something.
    async fn of(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Result<FileItems> {
        let path = Path::parse(&file.path).map_err(object_store::Error::from)?;
        let mut reader = FileReader::new(store.clone(), path, file.size);
        let footer = footers::read(&mut reader, file.size).await?;
        let footer = ArrowReaderMetadata::try_new(Arc::new(footer), ArrowReaderOptions::new())?;
        let schema = footer.parquet_schema();
        let leaves = |name: &&'static str| {
            let is_of = |leaf: &usize| schema.get_column_root(*leaf).name() == *name;
            let mut leaves = (0..schema.num_columns()).filter(is_of);
            // Keys, or what comes first in items; and for one, as Parquet does not read maps without values.
            [leaves.next(), leaves.next_back()]
        };
        let mask = ProjectionMask::leaves(schema, COLUMNS.iter().flat_map(leaves).flatten());
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer);
        let mut batches = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
        let mut empty = BTreeSet::from(COLUMNS);
        if file.promoted.count > 0 {
            // Maps hold what stands in columns of promoted attributes, too.
            empty.retain(|name| ![Scope::Span, Scope::Resource].map(Scope::residual_column).contains(name));
        }
        while let Some(batch) = batches.try_next().await? {
            empty.retain(|name| batch.column_by_name(name).is_some_and(has_nothing));
            if empty.is_empty() {
                break;
            }
            // Others are to be served, too.
            tokio::task::yield_now().await;
        }
        Ok(FileItems { empty })
    }
}

impl Beside for FileItems {
    async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Self> {
        FileItems::of(store, file).await.ok()
    }

    fn size(&self) -> usize {
        self.empty.len() * size_of::<&str>()
    }
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

    use super::*;
    use crate::testing::{START, SpanRow, TestSource, int};

    /// Scenario: a file of spans with nothing but their columns, and such of which the last span of many has something in one column
    /// more. Guarantee: all other columns of maps and lists are told; of what may stand in promoted columns, nothing is.
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
            let mut source = TestSource::promoting(Vec::new());
            source.add_lake_file(&rows, false).await;
            let file = source.snapshot.files.iter().next().unwrap().clone();
            let store = crate::SpanSource::object_store(&source);
            let told = FileItems::of(store, &file).await.unwrap().empty;
            let expected: BTreeSet<&str> = COLUMNS.into_iter().filter(|name| Some(*name) != has).collect();
            assert_eq!(told, expected, "{has:?}");
            let mut promoted = (*file).clone();
            promoted.promoted.count = 1;
            let told = FileItems::of(store, &promoted).await.unwrap().empty;
            assert!(!told.contains("span_attributes") && !told.contains("resource_attributes"), "{told:?}");
        }
    }
}
