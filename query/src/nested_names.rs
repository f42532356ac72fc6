//! The attributes of events and links. Files do not count them, so they are those of some spans.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::AsArray;
use datafusion::error::Result;
use futures::TryStreamExt;
use meshlake_storage::{ResidualMap, Snapshot, SpanFile};

use crate::nested::{Events, Links};
use crate::types::TimeRange;
use crate::values::open;
use crate::view::{View, starts_in};

/// Spans that are looked at, in no particular order.
const SPANS_MAX: usize = 50_000;
/// Files that are asked whether they have events or links at all: proxies write none.
const FILES_MAX: usize = 16;

/// Keys of attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NestedNames {
    /// Of events.
    pub events: BTreeSet<String>,
    /// Of links.
    pub links: BTreeSet<String>,
}

/// The keys that spans in the range have; of very many spans, some of them.
pub(crate) async fn names(view: &View, range: TimeRange) -> Result<NestedNames> {
    let spans = view.spans_of(with_items(view, range).await)?.filter(starts_in(range))?.select_columns(&["events", "links"])?;
    let mut batches = spans.limit(0, Some(SPANS_MAX))?.execute_stream().await?;
    let mut names = NestedNames::default();
    while let Some(batch) = batches.try_next().await? {
        let events = open(&batch, "events", |column| Events::new(column.as_list_opt()?))?;
        let links = open(&batch, "links", |column| Links::new(column.as_list_opt()?))?;
        for row in 0..batch.num_rows() {
            events.items(row).for_each(|item| note(events.attributes(), item, &mut names.events));
            links.items(row).for_each(|item| note(links.attributes(), item, &mut names.links));
        }
        view.check_rows(names.events.len().max(names.links.len()))?;
    }
    Ok(names)
}

/// What may have events or links in a range: all but files that have none.
async fn with_items(view: &View, range: TimeRange) -> Snapshot {
    let mut kept: Vec<Arc<SpanFile>> = Vec::new();
    for (asked, file) in view.snapshot.files.between(range.start, range.end).enumerate() {
        let items = if asked < FILES_MAX && file.is_in_lake() { view.file_items.get(file).await } else { None };
        if !items.is_some_and(|items| items.has_none("events") && items.has_none("links")) {
            kept.push(file.clone());
        }
    }
    Snapshot { files: Arc::new(kept.into_iter().collect()), ..(*view.snapshot).clone() }
}

fn note(attributes: &ResidualMap<'_>, item: usize, names: &mut BTreeSet<String>) {
    for (key, _) in attributes.entries(item) {
        if !names.contains(key) {
            names.insert(key.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

    use super::*;
    use crate::testing::{START, SpanRow, TestSource, tenant, text};

    /// Scenario: events and links with attributes, in a file, in a lake file beside one without, live, out of the range and of another
    /// tenant. Guarantee: the keys of
    /// the tenant's spans in the range, each once.
    #[tokio::test]
    async fn keys_of_events_and_links() {
        let row = |tenant: &str, start, key: &str| SpanRow {
            tenant: tenant.to_owned(),
            start: START + start,
            events: vec![Event { attributes: vec![text(key, "1"), text("all", "2")], ..Event::default() }, Event::default()],
            links: vec![Link { attributes: vec![text(&format!("link.{key}"), "1")], ..Link::default() }],
            ..SpanRow::default()
        };
        let mut source = TestSource::new();
        source.add_file(&[row("a", 0, "x"), row("a", 5_000, "late"), row("b", 0, "other")]).await;
        source.add_lake_file(&[SpanRow { events: Vec::new(), links: Vec::new(), ..row("a", 500, "") }], true).await;
        source.add_lake_file(&[SpanRow { links: Vec::new(), ..row("a", 600, "z") }], true).await;
        source.add_live(&[row("a", 1_000, "y"), SpanRow { tenant: "a".to_owned(), start: START, ..SpanRow::default() }]);
        let start = (START / 1_000) as i64;
        let names = source.engine().nested_names(&tenant("a"), TimeRange { start, end: start + 5 }).await.unwrap();
        assert_eq!(names.events.iter().collect::<Vec<_>>(), ["all", "x", "y", "z"]);
        assert_eq!(names.links.iter().collect::<Vec<_>>(), ["link.x", "link.y"]);
    }
}
