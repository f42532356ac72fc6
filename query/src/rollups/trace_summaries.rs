//! Summaries of traces that stand beside lake files: a list of traces that are in one file each opens none of them.
//!
//! What two places have spans of is not added up, for both may have the same: such a trace is opened. So is one that its file does
//! not tell of.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::error::Result;
use futures::{StreamExt, stream};
use meshlake_hops::trace_summary::{ServiceCounts, StoredTrace, Told};
use meshlake_storage::{Snapshot, SpanFile};

use super::pieces::Summed;
use super::resident::OpenedTraces;
use crate::lookup::FoundRows;
use crate::search::{ServiceSpans, TraceSummary};
use crate::spans::may_hold;
use crate::trace_id::{TraceId, trace_ids};

/// Files, or sections of them, that are read at once.
const READS: usize = 32;

/// How copies of spans count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Each is a span.
    Counted,
    /// Not at all: traces with copies are not told of.
    LeftOut,
}

/// Where a trace was found so far.
#[derive(Clone)]
enum Found {
    Nowhere,
    Once(TraceSummary),
    /// Perhaps, or in several places.
    Unclear,
}

/// A section that is to be read, and the positions of the traces it tells of.
struct Wanted {
    file: Arc<OpenedTraces>,
    section: usize,
    positions: Vec<usize>,
}

impl Summed {
    /// The summaries of those of these traces whose spans are all in one lake file, which tells of them; the others have to be
    /// opened. Each of the traces must have a span in the snapshot: of another, it might be told what is of a trace that looks like
    /// it.
    pub(crate) async fn told(&self, ids: &[TraceId], copies: Copies) -> Result<HashMap<TraceId, TraceSummary>> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut found = vec![Found::Nowhere; ids.len()];
        let (wanted, rest) = self.sections_of(&ids, &mut found).await;
        self.look_into(rest, &ids, &mut found).await?;
        self.read(wanted, (&ids, copies), &mut found).await;
        let once = |(id, found): (TraceId, Found)| match found {
            Found::Once(summary) => Some((id, summary)),
            Found::Nowhere | Found::Unclear => None,
        };
        Ok(ids.into_iter().zip(found).filter_map(once).collect())
    }

    /// The sections that tell of the traces, which are sorted; and the files that may hold any trace, and do not tell. What others
    /// that do not tell may hold is noted as unclear.
    async fn sections_of(&self, ids: &[TraceId], found: &mut [Found]) -> (Vec<Wanted>, Vec<Arc<SpanFile>>) {
        let keys: Vec<[u8; 16]> = ids.iter().map(|id| id.0).collect();
        let mut files = self.snapshot.files.of_traces(&keys);
        files.retain(|(file, _)| may_hold(file, &self.tenant));
        let opened = files.into_iter().map(|(file, positions)| async move {
            let tells = file.rollup.is_some() && file.tenants == [self.tenant.as_str()];
            let traces = if tells { self.rollups.traces.get(&file).await } else { None };
            (file, traces, positions)
        });
        let mut opened = stream::iter(opened).buffer_unordered(READS);
        let (mut wanted, mut rest) = (Vec::new(), Vec::new());
        while let Some((file, traces, positions)) = opened.next().await {
            let Some(traces) = traces else {
                match &file.traces {
                    Some(_) => positions.into_iter().for_each(|position| found[position] = Found::Unclear),
                    None => rest.push(file),
                }
                continue;
            };
            let sections = positions.into_iter().filter_map(|position| Some((traces.outline.section(&ids[position].0)?, position)));
            // Both ascend.
            for run in sections.collect::<Vec<_>>().chunk_by(|(one, _), (other, _)| one == other) {
                let positions = run.iter().map(|(_, position)| *position).collect();
                wanted.push(Wanted { file: traces.clone(), section: run[0].0, positions });
            }
        }
        (wanted, rest)
    }

    /// Notes as unclear the traces that have live spans, or spans in one of these files.
    async fn look_into(&self, files: Vec<Arc<SpanFile>>, ids: &[TraceId], found: &mut [Found]) -> Result<()> {
        let asked = ids.iter().zip(found.iter()).filter(|(_, found)| !matches!(found, Found::Unclear)).map(|(id, _)| *id).collect();
        let places = Snapshot { files: Arc::new(files.into_iter().collect()), ..(*self.snapshot).clone() };
        let note = |rows: FoundRows| {
            let there = rows.batches.iter().flat_map(trace_ids);
            there.filter_map(|id| ids.binary_search(&id).ok()).for_each(|position| found[position] = Found::Unclear);
            Ok(())
        };
        self.lookups.find(&places, &self.tenant, asked, Some(&["trace_id"]), note).await
    }

    /// Notes what sections say of the traces that are not unclear.
    async fn read(&self, mut wanted: Vec<Wanted>, (ids, copies): (&[TraceId], Copies), found: &mut [Found]) {
        for one in &mut wanted {
            one.positions.retain(|position| !matches!(found[*position], Found::Unclear));
        }
        wanted.retain(|one| !one.positions.is_empty());
        let reads = wanted.into_iter().map(|wanted| async {
            let block = self.rollups.sections.bytes(&wanted.file.sections, wanted.section).await;
            (wanted, block)
        });
        let mut reads = stream::iter(reads).buffer_unordered(READS);
        while let Some((wanted, block)) = reads.next().await {
            for position in wanted.positions {
                let id = ids[position];
                let told = block.as_ref().and_then(|block| wanted.file.outline.find(block, &id.0).ok());
                found[position].note(told.unwrap_or(Told::Untold), id, copies);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Found {
    fn note(&mut self, told: Told<'_>, id: TraceId, copies: Copies) {
        *self = match (&self, told) {
            (_, Told::Absent) => return,
            (Found::Nowhere, Told::Trace(trace)) if copies == Copies::Counted || !trace.has_copies => {
                Found::Once(summary(id, trace))
            }
            _ => Found::Unclear,
        };
    }
}

fn summary(trace_id: TraceId, trace: StoredTrace<'_>) -> TraceSummary {
    let StoredTrace { start, duration, spans, errors, root, services, .. } = trace;
    let service = |ServiceCounts { service, spans, errors }| ServiceSpans { service: String::from(service), spans, errors };
    TraceSummary {
        trace_id,
        root_service: root.and_then(|(service, _)| service).map(str::to_owned),
        root_operation: root.map(|(_, name)| name.to_owned()),
        start,
        duration,
        spans,
        errors,
        services: ServiceSpans::sorted(services.into_iter().map(service)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use datafusion::execution::runtime_env::RuntimeEnv;
    use object_store::ObjectStoreExt;
    use object_store::path::Path;

    use super::super::resident::FileRollups;
    use super::*;
    use crate::SpanSource;
    use crate::lookup::Lookups;
    use crate::summary::Summaries;
    use crate::testing::{Chance, SpanRow, TestSource, batch, random_rows, tenant};

    /// Where [`source`] has the live spans; the files are 0 and 1.
    const LIVE: usize = 2;

    /// Of most traces all spans are in one of two files; of some a part is in the other one, or live.
    fn place(row: &SpanRow) -> usize {
        let home = (row.trace / 8 % 2) as usize;
        match (row.trace % 8, row.span % 2) {
            (0, 0) => LIVE,
            (1, 0) => 1 - home,
            _ => home,
        }
    }

    fn rows() -> Vec<SpanRow> {
        let rows = random_rows(&mut Chance(5), "a", 1_200);
        // With copies.
        let again = rows.iter().filter(|row| row.span.is_multiple_of(13)).cloned().collect::<Vec<_>>();
        [rows, again].concat()
    }

    async fn source(rows: &[SpanRow]) -> TestSource {
        let mut source = TestSource::new();
        let of_place = |at: usize| rows.iter().filter(|row| place(row) == at).cloned().collect::<Vec<_>>();
        source.add_summed_file(&of_place(0)).await;
        source.add_summed_file(&of_place(1)).await;
        source.add_summed_file(&random_rows(&mut Chance(6), "b", 50)).await;
        source.add_live(&of_place(LIVE));
        source
    }

    fn summed(source: &TestSource) -> Summed {
        let store = source.object_store();
        Summed {
            tenant: tenant("a"),
            snapshot: Arc::new(source.snapshot.clone()),
            lookups: Arc::new(Lookups::new(store.clone(), 2 << 20, Arc::new(RuntimeEnv::default()))),
            rollups: Arc::new(FileRollups::new(store, 1 << 20)),
        }
    }

    /// What spans say of the traces that are in one file alone.
    fn expected(rows: &[SpanRow]) -> HashMap<TraceId, TraceSummary> {
        let mut places = HashMap::<TraceId, HashSet<usize>>::new();
        rows.iter().for_each(|row| {
            places.entry(TraceId(row.trace.to_be_bytes())).or_default().insert(place(row));
        });
        let mut summaries = Summaries::default();
        summaries.add(&batch(rows)).unwrap();
        let mut expected = summaries.finish();
        expected.retain(|id, _| places[id].len() == 1 && !places[id].contains(&LIVE));
        expected
    }

    fn ids(rows: &[SpanRow]) -> Vec<TraceId> {
        rows.iter().map(|row| TraceId(row.trace.to_be_bytes())).collect::<HashSet<_>>().into_iter().collect()
    }

    /// Scenario: traces of several sections in lake files, some in two of them, some with live spans, another tenant's beside them;
    /// the files themselves are gone. Then there is a file without summaries, with a span of one trace. Guarantee: of each trace
    /// that is in one file alone is told what its spans say, copies included; of no other. Where copies are left out, of no trace that
    /// has any.
    #[tokio::test]
    async fn traces_of_one_file_are_told_of() {
        let rows = rows();
        let mut source = source(&rows).await;
        for file in source.snapshot.files.clone().iter() {
            source.object_store().delete(&Path::from(file.path.as_str())).await.unwrap();
        }
        let (told, mut expected) = (summed(&source).told(&ids(&rows), Copies::Counted).await.unwrap(), expected(&rows));
        assert!(expected.len() > 600 && expected.len() < ids(&rows).len());
        assert_eq!(told, expected);
        let copied: HashSet<TraceId> =
            ids(&rows.iter().filter(|row| row.span.is_multiple_of(13)).cloned().collect::<Vec<_>>()).into_iter().collect();
        let mut single = expected.clone();
        single.retain(|id, _| !copied.contains(id));
        assert!(!single.is_empty() && single.len() < expected.len());
        assert_eq!(summed(&source).told(&ids(&rows), Copies::LeftOut).await.unwrap(), single);
        let again = rows.iter().find(|row| expected.contains_key(&TraceId(row.trace.to_be_bytes()))).unwrap();
        source.add_file(std::slice::from_ref(again)).await;
        expected.remove(&TraceId(again.trace.to_be_bytes()));
        assert_eq!(summed(&source).told(&ids(&rows), Copies::Counted).await.unwrap(), expected);
    }

    /// Scenario: a byte of the summaries of a file is changed, anywhere; they end early; they are empty. Guarantee: less is told,
    /// and that is right.
    #[tokio::test]
    async fn damaged_summaries_tell_nothing_wrong() {
        let rows = rows();
        let source = source(&rows).await;
        let (store, path) = (source.object_store().clone(), Path::from("lake/_index/1.trace-summaries"));
        let whole = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let mut damaged: Vec<Vec<u8>> = vec![whole[..whole.len() / 2].to_vec(), Vec::new()];
        for part in 0..40 {
            let mut changed = whole.clone();
            changed[(whole.len() - 1) * part / 39] ^= 4;
            damaged.push(changed);
        }
        let (expected, ids) = (expected(&rows), ids(&rows));
        for bytes in damaged {
            store.put(&path, bytes.into()).await.unwrap();
            let told = summed(&source).told(&ids, Copies::Counted).await.unwrap();
            assert!(told.len() < expected.len());
            assert!(told.iter().all(|(id, summary)| expected.get(id) == Some(summary)));
        }
    }
}
