//! What the spans of some minutes are the sum of.

use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::error::Result;
use futures::{StreamExt, stream};
use meshlake_hops::rollup::{Latencies, read_rows};
use meshlake_hops::span_rollup::{KeyParts, SpanCounts, SpanKeys, SpanOutline, SpanRollup, SpanRollupBuilder, read_counts};
use meshlake_storage::SpanFile;

use super::piece::damaged;
use super::pieces::{READS, Summed, micros};
use super::resident::Opened;
use super::span_writer::{self, COLUMNS};
use crate::lookup::Lookups;
use crate::spans::may_hold;

/// The spans of a file, or those of none.
pub(crate) struct SpanPiece {
    source: Source,
    minutes: RangeInclusive<u64>,
}

enum Source {
    Stored { file: Arc<SpanFile>, opened: Arc<Opened>, outline: Arc<SpanOutline> },
    Made(Arc<SpanRollup>),
}

/// Which sums are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Counts,
    Durations,
}

/// A piece with its sums.
pub(crate) struct OpenSpans {
    /// What they are of.
    pub(crate) keys: Arc<SpanKeys>,
    wanted: Option<Vec<bool>>,
    sections: Vec<Arc<Vec<u8>>>,
    minutes: RangeInclusive<u64>,
}

impl Summed {
    /// The pieces of some minutes: each span that starts in them is in one.
    pub(crate) async fn spans(&self, minutes: RangeInclusive<u64>) -> Result<Vec<SpanPiece>> {
        let (begin, end) = (micros(minutes.start().saturating_sub(1)), micros(*minutes.end()));
        let mut pieces = Vec::new();
        let files = self.snapshot.files.between(begin, end.saturating_add(1)).filter(|file| may_hold(file, &self.tenant));
        let files: Vec<Arc<SpanFile>> = files.cloned().collect();
        self.rollups.forget(&self.rollups.paths(&self.snapshot.files));
        let stored = stream::iter(files).map(async |file| (self.stored_spans(&file).await, file));
        for (stored, file) in stored.buffered(READS).collect::<Vec<_>>().await {
            let source = match stored {
                Some((opened, outline)) => Source::Stored { file, opened, outline },
                None => Source::Made(self.spans_of(&file).await?),
            };
            pieces.push(SpanPiece { source, minutes: minutes.clone() });
        }
        let mut live = SpanRollupBuilder::new();
        for rows in Lookups::live(&self.snapshot, &self.tenant, COLUMNS)? {
            span_writer::add(&mut live, &rows)?;
        }
        pieces.push(SpanPiece { source: Source::Made(Arc::new(live.finish())), minutes });
        Ok(pieces)
    }

    async fn stored_spans(&self, file: &SpanFile) -> Option<(Arc<Opened>, Arc<SpanOutline>)> {
        file.rollup?;
        let opened = self.rollups.opened.get(file).await?;
        let outline = self.rollups.sections.span_outline(&opened).await?;
        Some((opened, outline))
    }

    /// The sums of a file that has none beside it, or none that can be read.
    async fn spans_of(&self, file: &Arc<SpanFile>) -> Result<Arc<SpanRollup>> {
        let make = async {
            let mut builder = SpanRollupBuilder::new();
            let add = |rows| span_writer::add(&mut builder, &rows);
            self.lookups.scan(file, &self.tenant, &self.snapshot.promotions, COLUMNS, add).await?;
            Ok(Arc::new(builder.finish()))
        };
        self.rollups.spans_of(&self.tenant, file, make).await
    }
}

impl SpanPiece {
    /// Its counts by these parts of keys alone, where they are kept: names are most of what tells keys apart, without them there
    /// are few.
    pub(crate) async fn fewer(&self, summed: &Summed, parts: KeyParts) -> Option<Arc<SpanCounts>> {
        match &self.source {
            Source::Stored { opened, outline, .. } if !parts.name => {
                summed.rollups.sections.span_counts(opened, outline, parts).await
            }
            _ => None,
        }
    }

    /// Its counts from [`SpanPiece::fewer`], of the keys that `wanted` takes.
    pub(crate) fn of_fewer(&self, counts: &SpanCounts, wanted: impl FnOnce(&SpanKeys) -> Option<Vec<bool>>) -> OpenSpans {
        let (keys, sections, minutes) = (counts.keys.clone(), counts.sections.clone(), self.minutes.clone());
        OpenSpans { wanted: wanted(&keys), keys, sections, minutes }
    }

    /// Its sums, of the keys that `wanted` takes; of all without.
    pub(crate) async fn open(
        &self,
        summed: &Summed,
        asked: Asked,
        mut wanted: impl FnMut(&SpanKeys) -> Option<Vec<bool>>,
    ) -> Result<OpenSpans> {
        let minutes = self.minutes.clone();
        let numbers = |outline: &SpanOutline, wanted: Option<&[bool]>| match asked {
            Asked::Counts => outline.counts_of(wanted),
            Asked::Durations => outline.durations_of(wanted),
        };
        if let Source::Stored { opened, outline, .. } = &self.source
            && let Some(keys) = summed.rollups.sections.span_keys(opened).await
        {
            let wanted = wanted(&keys);
            let numbers = numbers(outline, wanted.as_deref());
            let mut sections = Vec::with_capacity(numbers.len());
            for number in &numbers {
                sections.extend(summed.rollups.sections.bytes(&opened.sections, opened.outline.sections() + number).await);
            }
            if sections.len() == numbers.len() {
                return Ok(OpenSpans { keys, wanted, sections, minutes });
            }
        }
        let rollup = match &self.source {
            Source::Stored { file, .. } => summed.spans_of(file).await?,
            Source::Made(rollup) => rollup.clone(),
        };
        let wanted = wanted(&rollup.keys);
        let numbers = numbers(&rollup.outline, wanted.as_deref());
        let sections = numbers.into_iter().filter_map(|number| rollup.section(number).cloned()).collect();
        Ok(OpenSpans { keys: rollup.keys.clone(), wanted, sections, minutes })
    }
}

impl OpenSpans {
    fn is_wanted(&self, key: u32) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted[key as usize])
    }

    /// Gives `each` the minutes, keys and counts.
    pub(crate) fn counts(&self, mut each: impl FnMut(u64, u32, u64)) -> Result<()> {
        let mut sections = self.sections.iter();
        let mut read =
            |section: &Arc<Vec<u8>>| read_counts(section, self.keys.len(), &self.minutes, |key| self.is_wanted(key), &mut each);
        sections.try_for_each(&mut read).map_err(damaged)
    }

    /// Gives `each` the minutes, keys and durations.
    pub(crate) fn durations(&self, mut each: impl FnMut(u64, u32, &Latencies)) -> Result<()> {
        let (mut sections, mut scratch) = (self.sections.iter(), Latencies::default());
        let mut read = |section: &Arc<Vec<u8>>| {
            let asked = (&self.minutes, |key| self.is_wanted(key));
            read_rows(section, self.keys.len(), asked, &mut scratch, &mut each)
        };
        sections.try_for_each(&mut read).map_err(damaged)
    }
}
