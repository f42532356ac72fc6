//! The least and the greatest value of a column chunk, and of its pages.

use arrow::buffer::NullBuffer;
use parquet::basic::{BoundaryOrder, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnIndexBuilder, LevelHistogram};
use parquet::file::properties::EnabledStatistics;

use super::chunk::Told;
use super::fixed::Fixed;

/// What is known of the values of a chunk so far.
pub(super) struct Bounds<T> {
    chunk: Option<(T, T)>,
    nulls: u64,
    /// Rows without a value, and with one; none of a column that may not be null.
    levels: Option<LevelHistogram>,
    /// Of the page that is filled.
    page: Option<(T, T)>,
    index: Option<PageIndex<T>>,
}

/// The bounds of the pages that have ended.
struct PageIndex<T> {
    pages: ColumnIndexBuilder,
    /// Of the last page that has a value.
    last: Option<(T, T)>,
    /// Whether no page's bounds are below those of the page before, and none's above.
    ascending: bool,
    descending: bool,
}

fn span<T: Ord + Copy>(one: Option<(T, T)>, other: Option<(T, T)>) -> Option<(T, T)> {
    match (one, other) {
        (Some((min, max)), Some((low, high))) => Some((min.min(low), max.max(high))),
        (one, other) => one.or(other),
    }
}

impl<T: Fixed> Bounds<T> {
    /// None yet, of a column of that type whose greatest definition level is `level`, 0 or 1; nothing where none are asked for.
    pub(super) fn new(column: Type, level: i16, statistics: EnabledStatistics) -> Option<Bounds<T>> {
        let index = || PageIndex { pages: ColumnIndexBuilder::new(column), last: None, ascending: true, descending: true };
        (statistics != EnabledStatistics::None).then(|| Bounds {
            chunk: None,
            nulls: 0,
            levels: LevelHistogram::try_new(level),
            page: None,
            index: (statistics == EnabledStatistics::Page).then(index),
        })
    }

    /// Adds rows of the page that is filled.
    pub(super) fn add(&mut self, values: &[T], nulls: Option<&NullBuffer>) {
        let of = |values: &[T]| Some((*values.iter().min()?, *values.iter().max()?));
        let rows = match nulls {
            None => of(values),
            Some(nulls) => {
                nulls.slice(0, values.len()).valid_slices().map(|(from, until)| of(&values[from..until])).fold(None, span)
            }
        };
        self.page = span(self.page, rows);
    }

    /// Ends the page that is filled.
    pub(super) fn end_page(&mut self, rows: usize, nulls: usize) {
        let page = self.page.take();
        self.chunk = span(self.chunk, page);
        self.nulls += nulls as u64;
        let mut levels = self.levels.as_ref().and_then(|_| LevelHistogram::try_new(1));
        if let (Some(levels), Some(all)) = (&mut levels, &mut self.levels) {
            levels.increment_by(0, nulls as i64);
            levels.increment_by(1, (rows - nulls) as i64);
            all.add(levels);
        }
        if let Some(index) = &mut self.index {
            index.push(page, nulls);
            index.pages.append_histograms(&None, &levels);
        }
    }

    /// What is told of the chunk.
    pub(super) fn close(self) -> Result<Told, ParquetError> {
        Ok(Told {
            statistics: T::statistics(self.chunk, self.nulls),
            levels: self.levels,
            index: self.index.map(|index| index.close().build()).transpose()?,
        })
    }
}

impl<T: Fixed> PageIndex<T> {
    fn push(&mut self, page: Option<(T, T)>, nulls: usize) {
        let (min, max) = page.map(|(min, max)| (min.plain().as_ref().to_vec(), max.plain().as_ref().to_vec())).unwrap_or_default();
        self.pages.append(page.is_none(), min, max, nulls as i64);
        if let (Some((min, max)), Some((last_min, last_max))) = (page, self.last) {
            self.ascending &= last_min <= min && last_max <= max;
            self.descending &= last_min >= min && last_max >= max;
        }
        self.last = page.or(self.last);
    }

    fn close(mut self) -> ColumnIndexBuilder {
        self.pages.set_boundary_order(match (self.ascending, self.descending) {
            (true, _) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (false, false) => BoundaryOrder::UNORDERED,
        });
        self.pages
    }
}
