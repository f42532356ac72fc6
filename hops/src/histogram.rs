//! Latencies, counted in OpenTelemetry's exponential buckets at scale 5, never downscaled.
//!
//! Bucket `i` holds the values in `(2^(i/32), 2^((i+1)/32)]`. Over integer nanoseconds that is a range of integers, computed in
//! integers: the same on every machine, and in every order of recording and merging (P4). A value that is answered from a
//! bucket is wrong by 1.1 % at most, and by what it takes to round it to a whole nanosecond.

mod grid;

use crate::varint;

pub use grid::Grid;

/// Buckets of an octave.
const STEPS: u16 = 32;
/// The number of the bucket of 1: `i = -1`; number 0 is of the value 0.
const ONE: u16 = 1;
/// The most that a bucket's number can be: that of 2^64 - 1.
const NUMBER_MAX: u16 = ONE + 64 * STEPS;
/// The first byte of the encoding.
const VERSION: u8 = 1;

/// `floor(2^(step/32) * 2^63)`.
const POWERS: [u64; STEPS as usize] = [
    0x8000_0000_0000_0000,
    0x82cd_8698_ac2b_a1d7,
    0x85aa_c367_cc48_7b14,
    0x8898_0e80_92da_8527,
    0x8b95_c1e3_ea8b_d6e6,
    0x8ea4_398b_45cd_53c0,
    0x91c3_d373_ab11_c336,
    0x94f4_efa8_fef7_0961,
    0x9837_f051_8db8_a96f,
    0x9b8d_39b9_d54e_5538,
    0x9ef5_3260_91a1_11ad,
    0xa270_4303_0c49_6818,
    0xa5fe_d6a9_b151_38ea,
    0xa9a1_5ab4_ea7c_0ef8,
    0xad58_3eea_42a1_4ac6,
    0xb123_f581_d2ac_258f,
    0xb504_f333_f9de_6484,
    0xb8fb_af47_62fb_9ee9,
    0xbd08_a39f_580c_36be,
    0xc12c_4cca_6670_9456,
    0xc567_2a11_5506_dadd,
    0xc9b9_bd86_6e2f_27a2,
    0xce24_8c15_1f84_80e3,
    0xd2a8_1d91_f12a_e45a,
    0xd744_fcca_d69d_6af4,
    0xdbfb_b797_daf2_3755,
    0xe0cc_deec_2a94_e111,
    0xe5b9_06e7_7c83_48a8,
    0xeac0_c6e7_dd24_392e,
    0xefe4_b99b_dcda_f5cb,
    0xf525_7d15_2486_cc2c,
    0xfa83_b2db_722a_033a,
];

/// What [`POWERS`] has below each 64th of an octave. They are further apart than that, so of each one at most is left to compare.
const BELOW: [u8; 64] = {
    let (mut below, mut part) = ([0; 64], 0);
    while part < below.len() {
        while (below[part] as usize) < POWERS.len() && POWERS[below[part] as usize] < 1 << 63 | (part as u64) << PART_BITS {
            below[part] += 1;
        }
        part += 1;
    }
    below
};
/// Bits of a place within a 64th of an octave.
const PART_BITS: u32 = 63 - 6;

/// The number of the bucket of a value.
pub(crate) fn number(value: u64) -> u16 {
    let Some(octave) = value.checked_ilog2() else { return 0 };
    let mantissa = value << (63 - octave);
    // Powers between those of 2 are irrational: no integer equals one, so the floor compares as the power does.
    let below = BELOW[(mantissa >> PART_BITS) as usize % BELOW.len()];
    let step = u16::from(below) + u16::from(POWERS.get(usize::from(below)).is_some_and(|power| *power < mantissa));
    ONE + octave as u16 * STEPS + step
}

/// The greatest value of a bucket.
fn high(number: u16) -> u64 {
    let Some(above) = number.checked_sub(ONE) else { return 0 };
    match (above / STEPS, above % STEPS) {
        (64.., _) => u64::MAX,
        (octave, step) => POWERS[usize::from(step)] >> (63 - octave),
    }
}

/// The least value of a bucket. Buckets below 2^5 may be empty ranges, which no value is in.
fn low(number: u16) -> u64 {
    number.checked_sub(1).map_or(0, |below| high(below).saturating_add(1))
}

/// A bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The least value that it may hold, nanoseconds.
    pub low: u64,
    /// The greatest, nanoseconds.
    pub high: u64,
    /// How many values.
    pub count: u64,
}

/// How many latencies there were of each size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Number and count of each bucket that is not empty, ascending.
    buckets: Vec<(u16, u64)>,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Histogram {
        Histogram::default()
    }

    /// Of these buckets, ascending; the least and the greatest value are not known better than they tell.
    pub(crate) fn of_buckets(buckets: Vec<(u16, u64)>, sum: u128) -> Histogram {
        let count = buckets.iter().fold(0u64, |count, bucket| count.saturating_add(bucket.1));
        let min = buckets.first().map_or(0, |bucket| low(bucket.0));
        let max = buckets.last().map_or(0, |bucket| high(bucket.0));
        Histogram { buckets, count, sum, min, max }
    }

    /// Counts a latency, in nanoseconds.
    pub fn record(&mut self, value: u64) {
        self.note(1, value.into(), value, value);
        let number = number(value);
        match self.buckets.binary_search_by_key(&number, |bucket| bucket.0) {
            Ok(index) => self.buckets[index].1 += 1,
            Err(index) => self.buckets.insert(index, (number, 1)),
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Histogram) {
        if other.count == 0 {
            return;
        }
        self.note(other.count, other.sum, other.min, other.max);
        let held = self.buckets.len();
        let mut index = 0;
        for &(number, count) in &other.buckets {
            while index < held && self.buckets[index].0 < number {
                index += 1;
            }
            if index < held && self.buckets[index].0 == number {
                self.buckets[index].1 = self.buckets[index].1.saturating_add(count);
            } else {
                self.buckets.push((number, count));
            }
        }
        if self.buckets.len() > held {
            self.buckets.sort_unstable();
        }
    }

    fn note(&mut self, count: u64, sum: u128, min: u64, max: u64) {
        self.min = if self.count == 0 { min } else { self.min.min(min) };
        self.max = self.max.max(max);
        self.count = self.count.saturating_add(count);
        self.sum = self.sum.saturating_add(sum);
    }

    /// Bytes that it takes besides itself.
    pub fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(u16, u64)>()
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of the values, nanoseconds.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The least value, nanoseconds; none if empty.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The greatest value, nanoseconds; none if empty.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The buckets that are not empty, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        self.buckets.iter().map(|&(number, count)| Bucket { low: low(number), high: high(number), count })
    }

    /// The nearest-rank quantile, nanoseconds: the least value that at least the share `q` of all values do not exceed, within
    /// 1.1 % and rounded. None if empty, or if `q` is not between 0 and 1.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let Bucket { low, high, .. } = self.at_rank(self.rank(q))?;
        Some(middle(low, high))
    }

    /// The bucket of the value of this rank, from 1; none past the last.
    pub(crate) fn at_rank(&self, rank: u64) -> Option<Bucket> {
        let mut below = 0u64;
        self.buckets().find(|bucket| {
            below = below.saturating_add(bucket.count);
            below >= rank
        })
    }

    /// The least rank, from 1, whose share of the count is at least `q`.
    fn rank(&self, q: f64) -> u64 {
        let count = self.count as f64;
        let rank = ((q * count).ceil() as u64).clamp(1, self.count);
        // The product may be rounded up past a whole number.
        if rank > 1 && (rank - 1) as f64 / count >= q { rank - 1 } else { rank }
    }

    /// The share of the values that `threshold` nanoseconds are not exceeded by; in the bucket that holds the threshold, values
    /// are taken to lie evenly. None if empty.
    pub fn share_below(&self, threshold: u64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let mut below = 0.0;
        for Bucket { low, high, count } in self.buckets() {
            let count = count as f64;
            if high <= threshold {
                below += count;
            } else if low <= threshold {
                below += count * ((threshold - low) as f64 + 1.0) / ((high - low) as f64 + 1.0);
            }
        }
        Some(below / self.count as f64)
    }

    /// Appends the encoding: version (1), then unsigned LEB128: sum, minimum, maximum, number of buckets; for each bucket its
    /// number less that of the one before, and its count. An empty histogram is the version alone.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(VERSION);
        if self.count == 0 {
            return;
        }
        varint::write(bytes, self.sum);
        varint::write(bytes, self.min.into());
        varint::write(bytes, self.max.into());
        varint::write(bytes, self.buckets.len() as u128);
        let mut before = 0;
        for &(number, count) in &self.buckets {
            varint::write(bytes, u128::from(number - before));
            varint::write(bytes, count.into());
            before = number;
        }
    }

    /// Reads an encoding back.
    ///
    /// # Errors
    /// Bytes that no version 1 writes.
    pub fn decode(bytes: &[u8]) -> Result<Histogram, DecodeError> {
        let (version, mut rest) = bytes.split_first().ok_or(DecodeError::Short)?;
        if *version != VERSION {
            return Err(DecodeError::Version(*version));
        }
        if rest.is_empty() {
            return Ok(Histogram::new());
        }
        let sum = varint::read(&mut rest).ok_or(DecodeError::Short)?;
        let mut next = || varint::read(&mut rest).and_then(|value| u64::try_from(value).ok()).ok_or(DecodeError::Short);
        let (min, max, buckets) = (next()?, next()?, next()?);
        if buckets == 0 || buckets > u64::from(NUMBER_MAX) + 1 || min > max {
            return Err(DecodeError::Buckets);
        }
        let mut histogram = Histogram { buckets: Vec::with_capacity(buckets as usize), count: 0, sum, min, max };
        let mut number = 0u64;
        for index in 0..buckets {
            let (step, count) = (next()?, next()?);
            number = number.saturating_add(step);
            if number > NUMBER_MAX.into() || count == 0 || (index > 0 && step == 0) {
                return Err(DecodeError::Buckets);
            }
            histogram.buckets.push((number as u16, count));
            histogram.count = histogram.count.saturating_add(count);
        }
        if rest.is_empty() { Ok(histogram) } else { Err(DecodeError::Buckets) }
    }
}

/// The value whose relative distance to either end is least, so that the greater of them is half the bucket's width.
fn middle(low: u64, high: u64) -> u64 {
    let (low, width) = (u128::from(low), u128::from(high.saturating_sub(low)));
    let sum = (2 * low + width).max(1);
    (low + (low * width + sum / 2) / sum) as u64
}

/// Why bytes are no histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end early, or hold a number that is too large.
    Short,
    /// A version that is not known.
    Version(u8),
    /// Buckets out of order, empty, or beyond the last one.
    Buckets,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Short => out.write_str("histogram ends early"),
            DecodeError::Version(version) => write!(out, "histogram has version {version}, not {VERSION}"),
            DecodeError::Buckets => out.write_str("histogram has buckets out of order, empty or out of range"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests;
