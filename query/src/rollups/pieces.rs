//! What the hops of a range are the sum of.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::{StreamExt, stream};
use meshlake_config::Tenant;
use meshlake_hops::rollup::{MINUTE, Part, Rollup, RollupBuilder};
use meshlake_hops::{Hop, Summary};
use meshlake_storage::{Snapshot, SpanFile, TRACE_MAX};

use super::correct::Places;
use super::piece::{Piece, Source};
use super::resident::{FileRollups, Opened};
use crate::lookup::Lookups;
use crate::spans::may_hold;
use crate::types::TimeRange;
use crate::view::View;

/// Rollups that are opened at once.
pub(super) const READS: usize = 16;
/// Microseconds of a minute.
const MICROS: i64 = (MINUTE / 1_000) as i64;

/// When a minute ends.
pub(super) fn micros(minute: u64) -> i64 {
    i64::try_from(minute).unwrap_or(i64::MAX).saturating_mul(MICROS)
}

/// The minutes that lie within a range.
fn whole_minutes(range: TimeRange) -> Option<RangeInclusive<u64>> {
    let first = (range.start.max(0) as u64).div_ceil(MICROS as u64) + 1;
    let last = range.end.max(0) as u64 / MICROS as u64;
    (first <= last).then_some(first..=last)
}

/// The pieces of a range.
pub(crate) async fn pieces(view: &View, range: TimeRange) -> Result<Vec<Piece>> {
    let Some(minutes) = whole_minutes(range) else {
        return on_the_fly(view, range, RollupBuilder::new()).await;
    };
    let (begin, end) = ((*minutes.start() as i64 - 1) * MICROS, *minutes.end() as i64 * MICROS);
    let mut pieces = view.summed.minutes(minutes).await?;
    for rest in [TimeRange { start: range.start, end: begin }, TimeRange { start: end, end: range.end }] {
        if rest.start < rest.end {
            pieces.extend(on_the_fly(view, rest, RollupBuilder::new()).await?);
        }
    }
    Ok(pieces)
}

/// The hops of a range from whole traces.
pub(crate) async fn on_the_fly(view: &View, range: TimeRange, mut builder: RollupBuilder) -> Result<Vec<Piece>> {
    let memory = MemoryConsumer::new("hops: sums").register(&view.lookups.runtime.memory_pool);
    view.each_trace(range, |id, hops, summary| {
        let within: Vec<Hop<'_>> = hops.iter().filter(|hop| range.holds(hop.time)).copied().collect();
        let summary = if range.holds(summary.start) { summary } else { Summary::default() };
        builder.add_trace(id.0, &within, summary);
        memory.try_resize(builder.bytes())
    })
    .await?;
    Ok(Piece::all(&Arc::new(builder.finish())).collect())
}

/// What sums of one tenant in one snapshot are made of (P8).
#[derive(Clone)]
pub(crate) struct Summed {
    pub(crate) tenant: Tenant,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) rollups: Arc<FileRollups>,
}

impl Summed {
    /// The pieces of some minutes.
    pub(crate) async fn minutes(&self, minutes: RangeInclusive<u64>) -> Result<Vec<Piece>> {
        let range = TimeRange { start: micros(minutes.start().saturating_sub(1)), end: micros(*minutes.end()) };
        let mut collector = Collector { summed: self, minutes, places: self.places(), pieces: Vec::new() };
        collector.files(range).await?;
        // The spans that are in no file yet.
        if !self.snapshot.live.is_empty() {
            collector.add(&self.rollups.live.rollup(self).await?);
        }
        Ok(collector.pieces)
    }

    pub(super) fn places(&self) -> Places {
        let Summed { tenant, lookups, snapshot, .. } = self;
        Places { lookups: lookups.clone(), tenant: tenant.clone(), promotions: snapshot.promotions.clone() }
    }

    /// What takes the place of a part of the rollup beside a file that can't be read.
    pub(super) async fn made_again(&self, file: &Arc<SpanFile>, number: usize, part: &Part) -> Result<Arc<Rollup>> {
        let near = self.snapshot.files.between(file.start_min.saturating_sub(TRACE_MAX), file.start_max.saturating_add(TRACE_MAX));
        let mut ordered: Vec<Arc<SpanFile>> = near.filter(|file| may_hold(file, &self.tenant)).cloned().collect();
        ordered.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        let (places, before) = (self.places(), before(file, &ordered));
        if number > 0 {
            return self.rollups.of_part(&places, file, (number, &part.traces), &before).await;
        }
        let [alone, _] = self.rollups.of_file(&places, file, &before).await?;
        Ok(alone)
    }
}

struct Collector<'s> {
    summed: &'s Summed,
    minutes: RangeInclusive<u64>,
    places: Places,
    pieces: Vec<Piece>,
}

/// Where a file stands among those of its tenant.
fn order(file: &SpanFile) -> (u64, &str) {
    (file.version.unwrap_or(u64::MAX), &file.path)
}

impl Collector<'_> {
    async fn files(&mut self, range: TimeRange) -> Result<()> {
        let Summed { snapshot, tenant, rollups, .. } = self.summed;
        // Hops of a range are of spans in it, or corrected by spans that are no further from it than a trace is long.
        let near = |distance: i64| {
            let found = snapshot.files.between(range.start.saturating_sub(distance), range.end.saturating_add(distance));
            found.filter(|file| may_hold(file, tenant))
        };
        let is_stored = |file: &&Arc<SpanFile>| file.rollup.is_some();
        let concerns = |file: &&Arc<SpanFile>| {
            file.rollup.is_some_and(|[first, last]| first <= *self.minutes.end() && last >= *self.minutes.start() && last > 0)
        };
        let stored: Vec<Arc<SpanFile>> = near(TRACE_MAX).filter(is_stored).filter(concerns).cloned().collect();
        let opened = stream::iter(stored).map(async |file| (rollups.opened.get(&file).await, file));
        let opened: Vec<_> = opened.buffered(READS).collect().await;
        let mut ordered: Vec<Arc<SpanFile>> = near(2 * TRACE_MAX).cloned().collect();
        ordered.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        let paths = rollups.paths(&snapshot.files);
        rollups.forget(&paths);
        let mut without: HashSet<String> =
            near(TRACE_MAX).filter(|file| file.rollup.is_none()).map(|file| file.path.clone()).collect();
        for (opened, file) in opened {
            match opened {
                Some(opened) => self.stored(&file, opened, &paths, &ordered).await?,
                None => _ = without.insert(file.path.clone()),
            }
        }
        for file in ordered.iter().filter(|file| without.contains(&file.path)) {
            for rollup in rollups.of_file(&self.places, file, &before(file, &ordered)).await? {
                self.add(&rollup);
            }
        }
        Ok(())
    }

    /// The rollup that is kept beside a file.
    async fn stored(
        &mut self,
        file: &Arc<SpanFile>,
        opened: Arc<Opened>,
        paths: &HashSet<String>,
        ordered: &[Arc<SpanFile>],
    ) -> Result<()> {
        for (number, part) in opened.outline.parts.iter().enumerate() {
            if part.before.iter().any(|path| !paths.contains(path.as_ref())) {
                let before = before(file, ordered);
                let made = self.summed.rollups.of_part(&self.places, file, (number, &part.traces), &before).await?;
                self.add(&made);
            } else if self.concerns(part) {
                let source = Source::Stored { file: file.clone(), opened: opened.clone() };
                self.pieces.push(Piece::of(source, number, &self.minutes));
            }
        }
        Ok(())
    }

    /// Whether a part says anything about the minutes.
    fn concerns(&self, part: &Part) -> bool {
        part.first <= *self.minutes.end() && part.last >= *self.minutes.start()
    }

    fn add(&mut self, rollup: &Arc<Rollup>) {
        let parts = rollup.outline.parts.iter().enumerate().filter(|(_, part)| self.concerns(part));
        let pieces: Vec<Piece> = parts.map(|(number, _)| Piece::of(Source::Made(rollup.clone()), number, &self.minutes)).collect();
        self.pieces.extend(pieces);
    }
}

/// The files before one, as far as they may have spans of the same traces.
fn before(file: &SpanFile, ordered: &[Arc<SpanFile>]) -> Vec<Arc<SpanFile>> {
    let end = ordered.partition_point(|other| order(other) < order(file));
    let near = |other: &&Arc<SpanFile>| {
        other.start_min <= file.start_max.saturating_add(TRACE_MAX) && other.start_max >= file.start_min.saturating_sub(TRACE_MAX)
    };
    ordered[..end].iter().filter(near).cloned().collect()
}
