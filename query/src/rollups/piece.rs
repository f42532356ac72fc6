//! Sums of hops that count for a range.

use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use meshlake_hops::rollup::{FormatError, Grain, Keys, LeftOut, Measures, Outline, Part, Rollup, read_rows, read_totals};
use meshlake_storage::SpanFile;

use super::pieces::Summed;
use super::resident::Opened;

/// Where a rollup is.
#[derive(Clone)]
pub(crate) enum Source {
    /// Beside a lake file.
    Stored { file: Arc<SpanFile>, opened: Arc<Opened> },
    /// In memory.
    Made(Arc<Rollup>),
}

/// A part of a rollup, or some minutes of it.
#[derive(Clone)]
pub(crate) struct Piece {
    source: Source,
    part: usize,
    /// Only these minutes of it; all of them without.
    minutes: Option<RangeInclusive<u64>>,
}

/// What tells a piece from all others: its file or the number of its rollup, its part, and minutes.
pub(crate) type PieceId = (Option<String>, u64, usize, Option<RangeInclusive<u64>>);

impl Piece {
    /// All parts of a rollup, whole.
    pub(super) fn all(rollup: &Arc<Rollup>) -> impl Iterator<Item = Piece> {
        (0..rollup.outline.parts.len()).map(|part| Piece { source: Source::Made(rollup.clone()), part, minutes: None })
    }

    /// A part, cut down to some minutes.
    pub(super) fn of(source: Source, part: usize, minutes: &RangeInclusive<u64>) -> Piece {
        let piece = Piece { source, part, minutes: None };
        let Part { first, last, .. } = piece.part();
        let is_whole = minutes.contains(first) && minutes.contains(last);
        Piece { minutes: (!is_whole).then(|| minutes.clone()), ..piece }
    }

    fn part(&self) -> &Part {
        let outline: &Outline = match &self.source {
            Source::Stored { opened, .. } => &opened.outline,
            Source::Made(rollup) => &rollup.outline,
        };
        &outline.parts[self.part]
    }

    /// Whether it is of a lake file, and so will be asked for again for a long time.
    pub(crate) fn lasts(&self) -> bool {
        matches!(self.source, Source::Stored { .. })
    }

    /// Whether it is a whole part.
    pub(crate) fn is_whole(&self) -> bool {
        self.minutes.is_none()
    }

    pub(crate) fn id(&self) -> PieceId {
        match &self.source {
            Source::Stored { file, .. } => (Some(file.path.clone()), 0, self.part, self.minutes.clone()),
            Source::Made(rollup) => (None, rollup.serial(), self.part, self.minutes.clone()),
        }
    }

    /// What H left out.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.part().left_out(self.minutes.as_ref().unwrap_or(&(0..=u64::MAX)))
    }

    /// Its sums by key.
    pub(crate) async fn totals(&self, summed: &Summed) -> Result<OpenPiece> {
        let rows = self.minutes.is_some().then_some(Grain::Keys);
        self.open(summed, rows, |_| None).await
    }

    /// Its sums by minute and grain, of the keys that `wanted` takes; of all without.
    pub(crate) async fn rows(
        &self,
        summed: &Summed,
        grain: Grain,
        wanted: impl Fn(&Keys) -> Option<Vec<bool>>,
    ) -> Result<OpenPiece> {
        self.open(summed, Some(grain), wanted).await
    }

    async fn open(&self, summed: &Summed, rows: Option<Grain>, wanted: impl Fn(&Keys) -> Option<Vec<bool>>) -> Result<OpenPiece> {
        let minutes = self.minutes.clone().unwrap_or(0..=u64::MAX);
        if let Source::Stored { opened, .. } = &self.source
            && let Some(keys) = summed.rollups.sections.keys(opened).await
        {
            let wanted = wanted(&keys);
            let numbers = numbers(self.part(), rows, wanted.as_deref());
            let mut sections = Vec::with_capacity(numbers.len());
            for number in &numbers {
                sections.extend(summed.rollups.sections.bytes(&opened.sections, *number).await);
            }
            if sections.len() == numbers.len() {
                return Ok(OpenPiece { keys, wanted, sections, has_rows: rows.is_some(), minutes });
            }
        }
        let (rollup, part) = match &self.source {
            Source::Stored { file, .. } => (&summed.made_again(file, self.part, self.part()).await?, None),
            Source::Made(rollup) => (rollup, Some(self.part)),
        };
        let (keys, wanted) = (rollup.keys.clone(), wanted(&rollup.keys));
        // What was made again is of this part alone.
        let parts = rollup.outline.parts.iter().enumerate().filter(|(number, _)| part.is_none_or(|part| part == *number));
        let numbers = parts.flat_map(|(_, part)| numbers(part, rows, wanted.as_deref()));
        let sections = numbers.filter_map(|number| rollup.section(number).cloned()).collect();
        Ok(OpenPiece { keys, wanted, sections, has_rows: rows.is_some(), minutes })
    }
}

/// The sections of a part that are read: rows of a grain, or totals.
fn numbers(part: &Part, rows: Option<Grain>, wanted: Option<&[bool]>) -> Vec<usize> {
    rows.map_or_else(|| vec![part.totals], |grain| part.rows_of(grain, wanted))
}

/// A piece with its sums.
pub(crate) struct OpenPiece {
    /// What they are of.
    pub(crate) keys: Arc<Keys>,
    wanted: Option<Vec<bool>>,
    sections: Vec<Arc<Vec<u8>>>,
    /// Whether the sections are of rows, else of totals.
    has_rows: bool,
    minutes: RangeInclusive<u64>,
}

impl OpenPiece {
    /// Gives `each` the sums of every key, once or several times.
    pub(crate) fn sums(&self, scratch: &mut Measures, mut each: impl FnMut(u32, &Measures)) -> Result<()> {
        if self.has_rows {
            return self.minutes(scratch, |_, key, measures| each(key, measures));
        }
        let mut sections = self.sections.iter();
        sections.try_for_each(|section| read_totals(section, self.keys.len(), scratch, &mut each)).map_err(damaged)
    }

    /// Gives `each` the sums of every minute and key, by key.
    pub(crate) fn minutes(&self, scratch: &mut Measures, mut each: impl FnMut(u64, u32, &Measures)) -> Result<()> {
        let is_wanted = |key: u32| self.wanted.as_ref().is_none_or(|wanted| wanted[key as usize]);
        for section in &self.sections {
            read_rows(section, self.keys.len(), (&self.minutes, is_wanted), scratch, &mut each).map_err(damaged)?;
        }
        Ok(())
    }
}

/// Its checksum is right, so a program of another version wrote it.
pub(super) fn damaged(error: FormatError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
