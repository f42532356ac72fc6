//! The sums of live spans, kept up to date: a question computes the hops of those traces only that got spans since the last one.
//!
//! Of each trace with live spans they have H of all its spans, those in files too, less H of those in files: so what files say of
//! the trace and this add up to H of all. They begin anew where files that have spans of these traces go or come, as when live
//! spans become a file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use meshlake_config::Tenant;
use meshlake_hops::rollup::{Rollup, RollupBuilder};
use meshlake_hops::{Hop, Span, Summary, TraceHops};
use meshlake_storage::{LiveSource, Snapshot, SpanFile, TRACE_MAX};
use parking_lot::Mutex;

use super::pieces::Summed;
use super::writer::shared;
use crate::hops::{SpanColumns, TRACES_AT_ONCE, TraceRows};
use crate::spans::may_hold;
use crate::trace_id::TraceId;
use crate::values::{TextColumn, open};

/// The sums of the live spans of each tenant that was asked for.
#[derive(Default)]
pub(crate) struct LiveSums {
    tenants: Mutex<HashMap<Tenant, Arc<tokio::sync::Mutex<State>>>>,
}

/// A live row: where its source stands among those of the state, and its number there.
type Place = (u32, u32);

#[derive(Default)]
struct State {
    /// How many rows of each source are summed.
    sources: Vec<(LiveSource, u64)>,
    traces: HashMap<TraceId, Vec<Place>>,
    /// The files that were asked for all of these traces.
    asked: HashSet<String>,
    /// Those that may have some, and which.
    files: HashSet<String>,
    shared: HashSet<TraceId>,
    builder: RollupBuilder,
    /// What was made of it last.
    finished: Option<Arc<Rollup>>,
}

impl LiveSums {
    /// The sums of the tenant's live spans. They may have some that came after the snapshot was taken, if somebody asked with a
    /// later one.
    pub(crate) async fn rollup(&self, summed: &Summed) -> Result<Arc<Rollup>> {
        let held = self.state(summed);
        let mut held = held.lock().await;
        if held.is_later(&summed.snapshot) {
            let near: HashSet<String> = near(summed).iter().map(|file| file.path.clone()).collect();
            if near == held.asked {
                return Ok(held.finish());
            }
            let mut own = State::default();
            own.update(summed).await?;
            return Ok(own.finish());
        }
        // A question may be given up at any moment: what is half done is not put back.
        let mut state = std::mem::take(&mut *held);
        if !state.update(summed).await? {
            state = State::default();
            state.update(summed).await?;
        }
        let rollup = state.finish();
        *held = state;
        Ok(rollup)
    }

    fn state(&self, summed: &Summed) -> Arc<tokio::sync::Mutex<State>> {
        let there: HashSet<LiveSource> = summed.snapshot.live.iter().map(|live| live.source).collect();
        let mut tenants = self.tenants.lock();
        // Those of spans that are in files now: nobody may ask for this tenant again.
        tenants.retain(|_, state| {
            state.try_lock().map_or(true, |state| state.sources.iter().all(|(source, _)| there.contains(source)))
        });
        tenants.entry(summed.tenant.clone()).or_default().clone()
    }
}

/// The files that may have spans of the traces of live spans.
fn near(summed: &Summed) -> Vec<Arc<SpanFile>> {
    let live = || summed.snapshot.live.iter();
    let (Some(first), Some(last)) = (live().map(|live| live.start_min).min(), live().map(|live| live.start_max).max()) else {
        return Vec::new();
    };
    let files = summed.snapshot.files.between(first.saturating_sub(TRACE_MAX), last.saturating_add(TRACE_MAX));
    files.filter(|file| may_hold(file, &summed.tenant)).cloned().collect()
}

/// How many rows there are of each source.
fn rows_of(snapshot: &Snapshot) -> HashMap<LiveSource, u64> {
    let mut rows = HashMap::new();
    for live in &snapshot.live {
        *rows.entry(live.source).or_default() += live.batch.num_rows() as u64;
    }
    rows
}

impl State {
    /// Whether it knows the sources of the snapshot alone, and more rows of them.
    fn is_later(&self, snapshot: &Snapshot) -> bool {
        let rows = rows_of(snapshot);
        let known: HashMap<LiveSource, u64> = self.sources.iter().copied().collect();
        let is_known = rows.iter().all(|(source, rows)| known.get(source).is_some_and(|known| known >= rows));
        is_known && known.iter().any(|(source, known)| rows.get(source).is_none_or(|rows| rows < known))
    }

    /// Takes in what is new; false if it has to begin anew.
    async fn update(&mut self, summed: &Summed) -> Result<bool> {
        let rows = rows_of(&summed.snapshot);
        let near = near(summed);
        let has_all = self.sources.iter().all(|(source, known)| rows.get(source).is_some_and(|rows| rows >= known));
        if !has_all || !self.take_files(&near) {
            return Ok(false);
        }
        let batches = Batches::open(&summed.snapshot, &summed.tenant)?;
        let touched = self.take_rows(&batches);
        if touched.is_empty() {
            return Ok(true);
        }
        self.finished = None;
        let new: Vec<TraceId> = touched.keys().filter(|id| !self.traces.contains_key(id)).copied().collect();
        let (files, ids) = shared(&new, &near);
        self.files.extend(files.iter().map(|file| file.path.clone()));
        self.shared.extend(ids);
        let touched: Vec<(TraceId, Vec<Place>)> = touched.into_iter().collect();
        let memory = MemoryConsumer::new("hops: live sums").register(&summed.lookups.runtime.memory_pool);
        for touched in touched.chunks(TRACES_AT_ONCE) {
            self.sum(summed, &near, &batches, touched).await?;
            memory.try_resize(self.builder.bytes())?;
            tokio::task::yield_now().await;
        }
        Ok(true)
    }

    /// Asks files that are new for the traces; false if one of them, or one that went, may have some.
    fn take_files(&mut self, near: &[Arc<SpanFile>]) -> bool {
        let there: HashSet<&str> = near.iter().map(|file| file.path.as_str()).collect();
        if !self.files.iter().all(|path| there.contains(path.as_str())) {
            return false;
        }
        self.asked.retain(|path| there.contains(path.as_str()));
        let new: Vec<Arc<SpanFile>> = near.iter().filter(|file| !self.asked.contains(&file.path)).cloned().collect();
        if !new.is_empty() && !self.traces.is_empty() {
            let ids: Vec<TraceId> = self.traces.keys().copied().collect();
            if !shared(&ids, &new).0.is_empty() {
                return false;
            }
        }
        self.asked.extend(new.iter().map(|file| file.path.clone()));
        true
    }

    /// The new rows of the tenant, by trace.
    fn take_rows(&mut self, batches: &Batches<'_>) -> BTreeMap<TraceId, Vec<Place>> {
        let mut touched = BTreeMap::<TraceId, Vec<Place>>::new();
        for (source, batches) in &batches.sources {
            let place = self.sources.iter().position(|(known, _)| known == source).unwrap_or_else(|| {
                self.sources.push((*source, 0));
                self.sources.len() - 1
            });
            let known = &mut self.sources[place].1;
            for batch in batches {
                for row in known.saturating_sub(batch.first)..batch.rows {
                    if batch.is_own(row as usize) {
                        let id = batch.columns.trace_id(row as usize);
                        touched.entry(id).or_default().push((place as u32, (batch.first + row) as u32));
                    }
                }
                *known = (*known).max(batch.first + batch.rows);
            }
        }
        touched
    }

    /// Sums traces with more spans than before.
    async fn sum(
        &mut self,
        summed: &Summed,
        near: &[Arc<SpanFile>],
        batches: &Batches<'_>,
        touched: &[(TraceId, Vec<Place>)],
    ) -> Result<()> {
        let ids: Vec<TraceId> = touched.iter().map(|(id, _)| *id).filter(|id| self.shared.contains(id)).collect();
        let places = summed.places();
        let files = near.iter().filter(|file| self.files.contains(&file.path)).cloned();
        let found = if ids.is_empty() { Vec::new() } else { places.rows(&places.files(files), &ids).await? };
        let in_files = TraceRows::new(found.iter().flat_map(|found| &found.batches))?;
        let mut worker = TraceHops::new();
        for (id, new) in touched {
            let mut spans: Vec<Span<'_>> = in_files.spans(in_files.trace(*id));
            let known = self.traces.entry(*id).or_default();
            spans.extend(known.iter().filter_map(|place| batches.span(self.sources[place.0 as usize].0, place.1)));
            let mut hops: [Vec<Hop<'_>>; 2] = Default::default();
            let old = if spans.is_empty() { Summary::default() } else { worker.append(&id.0, &spans, &mut hops[0]) };
            known.extend(new);
            spans.extend(new.iter().filter_map(|place| batches.span(self.sources[place.0 as usize].0, place.1)));
            let whole = worker.append(&id.0, &spans, &mut hops[1]);
            self.builder.replace(id.0, (&hops[0], old), (&hops[1], whole));
        }
        Ok(())
    }

    fn finish(&mut self) -> Arc<Rollup> {
        self.finished.get_or_insert_with(|| Arc::new(self.builder.finish())).clone()
    }
}

/// The live rows, opened.
struct Batches<'b> {
    /// Of each source in the order of the rows.
    sources: HashMap<LiveSource, Vec<Batch<'b>>>,
}

struct Batch<'b> {
    /// How many rows of the source come before.
    first: u64,
    rows: u64,
    columns: SpanColumns<'b>,
    tenants: TextColumn<'b>,
    tenant: &'b str,
}

impl Batch<'_> {
    fn is_own(&self, row: usize) -> bool {
        self.tenants.get(row) == Some(self.tenant)
    }
}

impl<'b> Batches<'b> {
    fn open(snapshot: &'b Snapshot, tenant: &'b Tenant) -> Result<Batches<'b>> {
        let mut sources: HashMap<LiveSource, Vec<Batch<'b>>> = HashMap::new();
        for live in &snapshot.live {
            let (columns, tenants) = (SpanColumns::new(&live.batch)?, open(&live.batch, "tenant", TextColumn::new)?);
            let (first, rows) = (live.first_row, live.batch.num_rows() as u64);
            sources.entry(live.source).or_default().push(Batch { first, rows, columns, tenants, tenant: tenant.as_str() });
        }
        sources.values_mut().for_each(|batches| batches.sort_by_key(|batch| batch.first));
        Ok(Batches { sources })
    }

    fn span(&self, source: LiveSource, row: u32) -> Option<Span<'_>> {
        let batches = self.sources.get(&source)?;
        let place = batches.partition_point(|batch| batch.first <= u64::from(row)).checked_sub(1)?;
        let batch = &batches[place];
        Some(batch.columns.span((u64::from(row) - batch.first) as usize))
    }
}
