//! Coarser buckets, for people to look at: 2^k neighbours of scale 5 taken together, as OpenTelemetry does when it lowers a scale. So no bucket is
//! split, and a coarse count is exact.

use super::{Histogram, NUMBER_MAX, ONE, high, low};

/// The most halvings of a scale: then what is above 1 ns is one bucket.
const SHIFT_MAX: u32 = 11;
/// OpenTelemetry's scale of the histogram.
const SCALE: i32 = 5;

/// Buckets next to each other that hold every value of a histogram, and the 0 beside them. Made of the sum of several histograms, it
/// counts each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    shift: u32,
    /// Ascending; see [`coarse`].
    places: Vec<i32>,
    bounds: Vec<(u64, u64)>,
}

impl Grid {
    /// The finest grid of at most `buckets` buckets that holds every value of `histogram`; three can always be needed.
    pub fn over(histogram: &Histogram, buckets: usize) -> Grid {
        let grids = (0..=SHIFT_MAX).map(|shift| Grid::of_shift(histogram, shift, buckets));
        grids.into_iter().flatten().next().unwrap_or_default()
    }

    fn of_shift(histogram: &Histogram, shift: u32, buckets: usize) -> Option<Grid> {
        let mut grid = Grid { shift, ..Grid::default() };
        let zero = histogram.buckets.first().filter(|(number, _)| *number == 0).map(|_| coarse(0, shift));
        let first = histogram.buckets.iter().find(|(number, _)| *number > 0).map(|(number, _)| coarse(*number, shift));
        let last = histogram.buckets.last().map(|(number, _)| coarse(*number, shift));
        let between = first.zip(last).map(|(first, last)| first..=last);
        for place in zero.into_iter().chain(between.into_iter().flatten()) {
            let (low, high) = bounds(place, shift);
            // Between small powers of 2^(1/32) lies no whole nanosecond.
            if low <= high {
                grid.places.push(place);
                grid.bounds.push((low, high));
            }
            if grid.places.len() > buckets && shift < SHIFT_MAX {
                return None;
            }
        }
        Some(grid)
    }

    /// OpenTelemetry's scale of the buckets: their bounds are powers of 2^(2^-scale).
    pub fn scale(&self) -> i32 {
        SCALE - self.shift as i32
    }

    /// The least and the greatest value of each bucket, nanoseconds, ascending.
    pub fn bounds(&self) -> &[(u64, u64)] {
        &self.bounds
    }

    /// How many values of `histogram` are in each bucket. It is one of those that the grid was made of: what is out of the grid is not counted.
    pub fn counts(&self, histogram: &Histogram) -> Vec<u64> {
        let mut counts = vec![0u64; self.places.len()];
        for &(number, count) in &histogram.buckets {
            if let Ok(place) = self.places.binary_search(&coarse(number, self.shift)) {
                counts[place] = counts[place].saturating_add(count);
            }
        }
        counts
    }
}

/// The coarse bucket of a bucket: OpenTelemetry's index, and for 0 one before all of them.
fn coarse(number: u16, shift: u32) -> i32 {
    if number == 0 { i32::MIN } else { (i32::from(number) - i32::from(ONE) - 1) >> shift }
}

/// The least and the greatest value of a coarse bucket.
fn bounds(place: i32, shift: u32) -> (u64, u64) {
    if place == i32::MIN {
        return (0, 0);
    }
    let number = |index: i32| (index + i32::from(ONE) + 1).clamp(i32::from(ONE), i32::from(NUMBER_MAX)) as u16;
    (low(number(place << shift)), high(number(((place + 1) << shift) - 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    /// Scenario: latencies from 1 to 100 ms in a few buckets; nothing; 0 and 1 beside the greatest value in three. Guarantee: bounds are powers
    /// of two of the scale that fits, buckets stand next to each other, and 0 has one of its own.
    #[test]
    fn scales_fit() {
        let grid = Grid::over(&of(&[1_000_000, 30_000_000, 100_000_000]), 8);
        assert_eq!((grid.scale(), grid.bounds().len()), (0, 8));
        assert_eq!((grid.bounds()[0], grid.bounds()[7]), ((524_289, 1_048_576), (67_108_865, 134_217_728)));
        assert!(grid.bounds().windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{grid:?}");
        assert_eq!(grid.counts(&of(&[30_000_000, 1_000_000, 30_000_000])), [1, 0, 0, 0, 0, 2, 0, 0]);

        let exact = Grid::over(&of(&[5_000_000]), 8);
        assert_eq!((exact.scale(), exact.bounds().len()), (5, 1));
        assert!(Grid::over(&Histogram::new(), 8).bounds().is_empty());

        let all = Grid::over(&of(&[0, 1, u64::MAX]), 3);
        assert_eq!((all.scale(), all.bounds()), (-6, &[(0, 0), (1, 1), (2, u64::MAX)][..]));
    }

    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![0..5_000u64, (0..64u32, any::<u64>()).prop_map(|(shift, value)| value >> shift)]
    }

    proptest! {
        /// Scenario: any values, grids of any size. Guarantee: no more buckets than asked for, each count that of the values within its bounds,
        /// none left out, no bucket of scale 5 split; and twice as fine a grid would have been too large.
        #[test]
        fn counts_are_exact(values in prop::collection::vec(value(), 0..100), buckets in 3..64usize) {
            let histogram = of(&values);
            let grid = Grid::over(&histogram, buckets);
            prop_assert!(grid.bounds().len() <= buckets);
            let expected: Vec<u64> = grid
                .bounds()
                .iter()
                .map(|(low, high)| values.iter().filter(|value| (low..=high).contains(value)).count() as u64)
                .collect();
            prop_assert_eq!(grid.counts(&histogram), expected);
            prop_assert_eq!(grid.counts(&histogram).iter().sum::<u64>(), values.len() as u64);
            for bucket in histogram.buckets() {
                prop_assert!(grid.bounds().iter().any(|(low, high)| *low <= bucket.low && bucket.high <= *high));
            }
            let finer = grid.shift.checked_sub(1).and_then(|shift| Grid::of_shift(&histogram, shift, buckets));
            prop_assert_eq!(finer, None);
        }
    }
}
