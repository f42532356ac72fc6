//! What spans change of the hops of a trace that other places have spans of, too.

use std::sync::Arc;

use datafusion::error::Result;
use meshlake_config::Tenant;
use meshlake_hops::rollup::RollupBuilder;
use meshlake_hops::{Hop, Span, Summary, TraceHops};
use meshlake_storage::{Files, Promotions, Snapshot, SpanFile};

use crate::hops::{SPAN_COLUMNS, TRACES_AT_ONCE, TraceRows};
use crate::lookup::{FoundRows, Lookups};
use crate::trace_id::TraceId;

/// Where rows of traces are looked up.
pub(crate) struct Places {
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) tenant: Tenant,
    pub(crate) promotions: Arc<Promotions>,
}

impl Places {
    /// A part of what there is.
    pub(crate) fn files(&self, files: impl IntoIterator<Item = Arc<SpanFile>>) -> Snapshot {
        let files = Arc::new(files.into_iter().collect::<Files>());
        Snapshot { live: Vec::new(), files, promotions: self.promotions.clone() }
    }

    pub(super) async fn rows(&self, place: &Snapshot, ids: &[TraceId]) -> Result<Vec<FoundRows>> {
        let mut parts = Vec::new();
        let add = |found: FoundRows| {
            parts.push(found);
            Ok(())
        };
        self.lookups.find(place, &self.tenant, ids.to_vec(), Some(SPAN_COLUMNS), add).await?;
        Ok(parts)
    }

    /// Corrects `builder`, which has the hops of the spans in `own`, for those of the traces that spans in `before` are of, too.
    pub(crate) async fn correct(
        &self,
        builder: &mut RollupBuilder,
        before: &Snapshot,
        own: &Snapshot,
        ids: &[TraceId],
    ) -> Result<()> {
        let mut worker = TraceHops::new();
        for ids in ids.chunks(TRACES_AT_ONCE) {
            let earlier = self.rows(before, ids).await?;
            if earlier.iter().all(|found| found.batches.is_empty()) {
                continue;
            }
            let own = self.rows(own, ids).await?;
            correct(builder, &mut worker, &earlier, &own)?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn correct(builder: &mut RollupBuilder, worker: &mut TraceHops, earlier: &[FoundRows], own: &[FoundRows]) -> Result<()> {
    // In the order of these, each row's batch tells its file.
    let batches = || {
        earlier.iter().flat_map(|found| found.batches.iter().map(move |batch| (found.file.as_deref().unwrap_or_default(), batch)))
    };
    let files: Vec<&str> = batches().map(|(file, _)| file).collect();
    let earlier = TraceRows::new(batches().map(|(_, batch)| batch))?;
    let own = TraceRows::new(own.iter().flat_map(|found| &found.batches))?;
    for (id, rows) in earlier.traces() {
        let mut of: Vec<&str> = rows.iter().map(|(_, batch, _)| files[*batch]).collect();
        of.sort_unstable();
        of.dedup();
        let old = earlier.spans(rows);
        let new = own.spans(own.trace(id));
        let all: Vec<Span<'_>> = old.iter().chain(&new).copied().collect();
        let (mut hops, mut summaries) = ([Vec::new(), Vec::new(), Vec::new()], [Summary::default(); 3]);
        for ((spans, hops), summary) in [&all, &old, &new].into_iter().zip(&mut hops).zip(&mut summaries) {
            *summary = worker.append(&id.0, spans, hops);
        }
        let [together, old, new]: [(&[Hop<'_>], Summary); 3] = std::array::from_fn(|index| (&hops[index][..], summaries[index]));
        builder.correct(&of, id.0, together, [old, new]);
    }
    Ok(())
}
