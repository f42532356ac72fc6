//! Parquet's RLE / bit-packing hybrid (Parquet format, Encodings, "RLE/Bit-Packing Hybrid"): numbers of a few bits, as runs of
//! one number and as packed groups of eight.

use std::ops::Range;

/// Numbers that are packed together.
const GROUP: usize = 8;
/// Groups of one packed run: the most whose header is one byte.
const GROUPS_MAX: usize = 63;

/// Bits of numbers below `count`.
pub(super) fn width(count: usize) -> u8 {
    (usize::BITS - count.saturating_sub(1).leading_zeros()) as u8
}

/// Appends `numbers`, of which each has at most `width` bits. Width is at most 32.
pub(super) fn encode(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    let (mut packed, mut at) = (0, 0);
    while at < numbers.len() {
        let run = run_at(&numbers[at..]);
        // A run begins where a group does, or packed groups before it would end with numbers of it.
        if run >= GROUP || at + run == numbers.len() {
            pack(&numbers[packed..at], width, out);
            repeat(numbers[at], run, width, out);
            at += run;
            packed = at;
        } else {
            at = numbers.len().min(at + GROUP);
        }
    }
    pack(&numbers[packed..], width, out);
}

/// Appends the first `count` bits of `bits`, the lowest of a byte first, as [`encode`] does numbers of one bit.
pub(super) fn encode_bits(bits: &[u8], count: usize, out: &mut Vec<u8>) {
    let (mut packed, mut at) = (0, 0);
    while at < count {
        let run = run_of_bits(bits, at).min(count - at);
        if run >= GROUP || at + run == count {
            pack_bits(bits, packed..at, out);
            repeat((bits_at(bits, at) & 1) as u32, run, 1, out);
            at += run;
            packed = at;
        } else {
            at = count.min(at + GROUP);
        }
    }
    pack_bits(bits, packed..count, out);
}

/// Bits that [`bits_at`] gives at least.
const BITS: u32 = u64::BITS - 7;

/// Bits from one on. Past the end they are 0.
fn bits_at(bits: &[u8], at: usize) -> u64 {
    let bytes = &bits[at / 8..];
    let word = bytes.first_chunk().copied().unwrap_or_else(|| std::array::from_fn(|byte| bytes.get(byte).copied().unwrap_or(0)));
    u64::from_le_bytes(word) >> (at % 8)
}

/// How often the bit at a place stands from there on; past the end is not looked.
fn run_of_bits(bits: &[u8], from: usize) -> usize {
    let is_set = bits_at(bits, from) & 1 == 1;
    let mut at = from;
    while at / 8 < bits.len() {
        let word = bits_at(bits, at);
        let run = if is_set { word.trailing_ones() } else { word.trailing_zeros() };
        at += run.min(BITS) as usize;
        if run < BITS {
            break;
        }
    }
    at - from
}

fn pack_bits(bits: &[u8], range: Range<usize>, out: &mut Vec<u8>) {
    for from in range.clone().step_by(GROUP * GROUPS_MAX) {
        let until = range.end.min(from + GROUP * GROUPS_MAX);
        out.push(((until - from).div_ceil(GROUP) << 1 | 1) as u8);
        for group in (from..until).step_by(GROUP) {
            let mask = 0xFF >> (GROUP - GROUP.min(until - group));
            out.push(bits_at(bits, group) as u8 & mask);
        }
    }
}

/// How often the first number stands at the beginning; less than a group is told only of the last group.
fn run_at(numbers: &[u32]) -> usize {
    let first = numbers[0];
    let same = |number: &&u32| **number == first;
    let group = numbers.iter().take(GROUP).take_while(same).count();
    if group < GROUP { group } else { GROUP + numbers[GROUP..].iter().take_while(same).count() }
}

/// One number, `count` times.
pub(super) fn repeat(number: u32, count: usize, width: u8, out: &mut Vec<u8>) {
    varint((count as u64) << 1, out);
    out.extend_from_slice(&number.to_le_bytes()[..usize::from(width.div_ceil(8))]);
}

fn pack(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    for run in numbers.chunks(GROUP * GROUPS_MAX) {
        out.push((run.len().div_ceil(GROUP) << 1 | 1) as u8);
        for group in run.chunks(GROUP) {
            pack_group(group, width.into(), out);
        }
    }
}

/// Packs eight numbers, or fewer and zeros.
fn pack_group(group: &[u32], width: usize, out: &mut Vec<u8>) {
    if width <= 16 {
        let (low, high) = group.split_at(group.len().min(GROUP / 2));
        let half = |numbers: &[u32]| numbers.iter().rev().fold(0u64, |bits, number| bits << width | u64::from(*number));
        let bits = u128::from(half(low)) | u128::from(half(high)) << (GROUP / 2 * width);
        let from = out.len();
        out.extend_from_slice(&bits.to_le_bytes());
        out.truncate(from + width);
        return;
    }
    let (mut bits, mut filled) = (0u64, 0);
    for index in 0..GROUP {
        bits |= u64::from(group.get(index).copied().unwrap_or_default()) << filled;
        filled += width;
        while filled >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            filled -= 8;
        }
    }
}

/// Appends an unsigned LEB128 number.
pub(super) fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::buffer::BooleanBuffer;
    use proptest::prelude::*;

    /// Reads `count` numbers, straight from the specification: a bit after the other.
    fn decode(mut bytes: &[u8], width: u8, count: usize) -> Vec<u32> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let mut header = 0u64;
            for shift in 0.. {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= u64::from(byte & 0x7F) << (7 * shift);
                if byte < 0x80 {
                    break;
                }
            }
            if header & 1 == 0 {
                let (value, rest) = bytes.split_at(usize::from(width).div_ceil(8));
                bytes = rest;
                let value = value.iter().rev().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
                numbers.extend(std::iter::repeat_n(value, (header >> 1) as usize));
            } else {
                let values = (header >> 1) as usize * 8;
                let bit = |at: usize| u32::from(bytes[at / 8] >> (at % 8) & 1);
                let number =
                    |index: usize| (0..usize::from(width)).map(|at| bit(index * usize::from(width) + at) << at).sum::<u32>();
                numbers.extend((0..values).map(number));
                bytes = &bytes[values * usize::from(width) / 8..];
            }
        }
        assert!(bytes.is_empty());
        numbers.truncate(count);
        numbers
    }

    proptest! {
        /// Scenario: runs and random numbers of any width. Guarantee: they read back, by a decoder made of the specification.
        #[test]
        fn reads_back(width in 0..=32u8, runs in proptest::collection::vec((any::<u32>(), 1..40usize, any::<bool>()), 0..60)) {
            let mask = if width == 32 { u32::MAX } else { (1 << width) - 1 };
            let numbers: Vec<u32> = runs
                .iter()
                .flat_map(|(number, count, same)| (0..*count as u32).map(move |index| if *same { *number } else { number.wrapping_mul(index) }))
                .map(|number| number & mask)
                .collect();
            let mut bytes = Vec::new();
            encode(&numbers, width, &mut bytes);
            prop_assert_eq!(decode(&bytes, width, numbers.len()), numbers);
        }
    }

    proptest! {
        /// Scenario: short and long runs of bits, of which the last are left out. Guarantee: they are encoded as numbers are.
        #[test]
        fn bits_are_numbers(
            runs in proptest::collection::vec((any::<bool>(), prop_oneof![1..4usize, 1..200usize]), 0..400),
            left_out in 0..20usize,
        ) {
            let bits: Vec<bool> = runs.iter().flat_map(|(bit, count)| vec![*bit; *count]).collect();
            let count = bits.len().saturating_sub(left_out);
            let numbers: Vec<u32> = bits[..count].iter().map(|bit| u32::from(*bit)).collect();
            let packed = BooleanBuffer::from(bits);
            let (mut expected, mut encoded) = (Vec::new(), Vec::new());
            encode(&numbers, 1, &mut expected);
            encode_bits(packed.values(), count, &mut encoded);
            prop_assert_eq!(encoded, expected);
        }
    }

    /// Scenario: one number for a whole page. Guarantee: it takes a header and the number.
    #[test]
    fn a_run_is_short() {
        let mut bytes = Vec::new();
        encode(&[5; 4_096], 3, &mut bytes);
        assert_eq!(bytes, [0x80, 0x40, 5]);
    }
}
