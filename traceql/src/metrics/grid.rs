use thiserror::Error;

use crate::limits::INTERVALS_MAX;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
/// Steps that are not asked for are multiples of the largest of these that is not too large.
const UNITS: [u64; 6] = [60 * MINUTE, 5 * MINUTE, MINUTE, 15 * SECOND, 5 * SECOND, SECOND];
/// About how many intervals there are if no step is asked for.
const INTERVALS: u64 = 240;

/// The intervals of an answer: interval `i` holds the times after `start + i * step`, up to and including `start + (i + 1) * step`,
/// which it is stamped with. Nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    start: u64,
    step: u64,
    intervals: u32,
}

/// Why there are no such intervals.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GridError {
    /// The range is empty.
    #[error("the range ends at {end}, which is not after its start {start}")]
    Empty {
        /// Its start.
        start: u64,
        /// Its end.
        end: u64,
    },
    /// The step is zero.
    #[error("the step is 0")]
    Step,
    /// Too many intervals.
    #[error("the range has {intervals} intervals of the step, more than {INTERVALS_MAX}; a longer step has fewer")]
    Intervals {
        /// How many.
        intervals: u64,
    },
}

impl Grid {
    /// The intervals of a range. Both ends are moved out to multiples of the step, and one interval is put before, so that there is a
    /// sample at the start. A step as long as the range is an instant.
    ///
    /// # Errors
    /// See [`GridError`].
    pub fn range(start: u64, end: u64, step: Option<u64>) -> Result<Grid, GridError> {
        if end <= start {
            return Err(GridError::Empty { start, end });
        }
        let step = step.unwrap_or_else(|| Grid::step(start, end));
        if step == 0 {
            return Err(GridError::Step);
        }
        if step == end - start {
            return Grid::instant(start, end);
        }
        let first = start - start % step;
        let last = end.checked_next_multiple_of(step).unwrap_or(end);
        let first = if first >= step { first - step } else { first };
        let intervals = (last - first).div_ceil(step);
        if intervals > INTERVALS_MAX {
            return Err(GridError::Intervals { intervals });
        }
        Ok(Grid { start: first, step, intervals: intervals as u32 })
    }

    /// One interval, the whole range.
    ///
    /// # Errors
    /// An empty range.
    pub fn instant(start: u64, end: u64) -> Result<Grid, GridError> {
        if end <= start {
            return Err(GridError::Empty { start, end });
        }
        Ok(Grid { start, step: end - start, intervals: 1 })
    }

    /// The step of a range if none is asked for.
    fn step(start: u64, end: u64) -> u64 {
        let range = end - start;
        if range < MINUTE {
            return SECOND / 20;
        }
        let step = range / INTERVALS;
        UNITS.into_iter().find(|unit| *unit <= step).map_or(SECOND, |unit| step / unit * unit)
    }

    /// How many intervals.
    pub fn len(&self) -> usize {
        self.intervals as usize
    }

    /// Whether there are none: never.
    pub fn is_empty(&self) -> bool {
        self.intervals == 0
    }

    /// The step in seconds.
    pub fn step_seconds(&self) -> f64 {
        self.step as f64 / SECOND as f64
    }

    /// After which time the first interval begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The time of the last interval.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.step.saturating_mul(self.intervals.into()))
    }

    /// When the last interval ends that ends by a time; the start, if none does.
    pub fn ended_by(&self, time: u64) -> u64 {
        let after = time.saturating_sub(self.start);
        self.start.saturating_add(after - after % self.step)
    }

    /// The interval that holds a time.
    pub fn interval(&self, time: u64) -> Option<u32> {
        let after = time.checked_sub(self.start)?.checked_sub(1)?;
        u32::try_from(after / self.step).ok().filter(|interval| *interval < self.intervals)
    }

    /// The time that an interval is stamped with.
    pub fn time(&self, interval: u32) -> u64 {
        self.start.saturating_add(self.step.saturating_mul(u64::from(interval) + 1))
    }
}
