//! Parquet's DELTA_BINARY_PACKED (Parquet format, Encodings, "Delta Encoding") of numbers of 64 bits.

use super::hybrid::varint;

/// Deltas that share a least one.
const BLOCK: usize = MINIBLOCKS * MINIBLOCK;
/// Parts of a block, each packed with as many bits as it needs.
const MINIBLOCKS: usize = 4;
const MINIBLOCK: usize = 64;

/// Appends numbers, which come in the PLAIN encoding.
pub(super) fn encode(plain: &[u8], out: &mut Vec<u8>) {
    let numbers = || plain.as_chunks().0.iter().map(|number| i64::from_le_bytes(*number));
    let count = numbers().len();
    [BLOCK, MINIBLOCKS, count].into_iter().for_each(|number| varint(number as u64, out));
    zigzag(numbers().next().unwrap_or_default(), out);
    let deltas: Vec<i64> = numbers().skip(1).zip(numbers()).map(|(number, before)| number.wrapping_sub(before)).collect();
    deltas.chunks(BLOCK).for_each(|block| encode_block(block, out));
}

fn encode_block(deltas: &[i64], out: &mut Vec<u8>) {
    let least = deltas.iter().copied().min().unwrap_or_default();
    zigzag(least, out);
    let widths = out.len();
    // Of parts without a delta there is only this.
    out.extend_from_slice(&[0; MINIBLOCKS]);
    for (part, deltas) in deltas.chunks(MINIBLOCK).enumerate() {
        let mut above = [0; MINIBLOCK];
        above.iter_mut().zip(deltas).for_each(|(above, delta)| *above = delta.wrapping_sub(least) as u64);
        let width = u64::BITS - above.iter().fold(0, |bits, number| bits | number).leading_zeros();
        out[widths + part] = width as u8;
        pack(&above, width, out);
    }
}

/// Appends numbers of `width` bits, the lowest first.
fn pack(numbers: &[u64; MINIBLOCK], width: u32, out: &mut Vec<u8>) {
    let (mut bits, mut filled) = (0u128, 0);
    for number in numbers {
        bits |= u128::from(*number) << filled;
        filled += width;
        if filled >= u64::BITS {
            out.extend_from_slice(&(bits as u64).to_le_bytes());
            bits >>= u64::BITS;
            filled -= u64::BITS;
        }
    }
}

/// Appends a signed number, of which those near zero are short.
fn zigzag(number: i64, out: &mut Vec<u8>) {
    varint((number << 1 ^ number >> 63) as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads numbers, straight from the specification: a bit after the other.
    fn decode(mut bytes: &[u8]) -> Vec<i64> {
        fn unsigned(bytes: &mut &[u8]) -> u64 {
            let length = 1 + bytes.iter().take_while(|byte| **byte >= 0x80).count();
            let (number, rest) = bytes.split_at(length);
            *bytes = rest;
            number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F))
        }
        let signed = |bytes: &mut &[u8]| {
            let number = unsigned(bytes);
            (number >> 1) as i64 ^ -((number & 1) as i64)
        };
        let (block, parts) = (unsigned(&mut bytes) as usize, unsigned(&mut bytes) as usize);
        assert!(block % 128 == 0 && block / parts % 32 == 0);
        let count = unsigned(&mut bytes) as usize;
        let mut numbers = vec![signed(&mut bytes)];
        while numbers.len() < count {
            let least = signed(&mut bytes);
            let (widths, mut rest) = bytes.split_at(parts);
            for width in widths.iter().map(|width| usize::from(*width)) {
                if numbers.len() >= count {
                    assert_eq!(width, 0);
                }
                let (packed, after) = rest.split_at(width * (block / parts) / 8);
                rest = after;
                for index in 0..block / parts {
                    let bit = |at: usize| u64::from(packed[at / 8] >> (at % 8) & 1);
                    let above = (0..width).fold(0, |number, at| number | bit(index * width + at) << at);
                    numbers.push(numbers[numbers.len() - 1].wrapping_add(least).wrapping_add(above as i64));
                }
            }
            bytes = rest;
        }
        assert!(bytes.is_empty());
        numbers.truncate(count);
        numbers
    }

    /// Scenario: numbers that are 4,997 to 5,005 apart. Guarantee: each takes four bits, but for the headers of four blocks.
    #[test]
    fn near_deltas_take_few_bits() {
        let plain: Vec<u8> = (0..1_025_i64).flat_map(|number| (5_000 * number + number * 5 % 8).to_le_bytes()).collect();
        let mut bytes = Vec::new();
        encode(&plain, &mut bytes);
        assert!(bytes.len() < 1_024 * 4 / 8 + 4 * 8 + 8, "{}", bytes.len());
    }

    proptest! {
        /// Scenario: numbers that are near each other or anywhere. Guarantee: they read back, by a decoder made of the specification.
        #[test]
        fn reads_back(numbers in proptest::collection::vec(any::<i64>(), 0..600), shift in 0..64u32) {
            let numbers: Vec<i64> = numbers.iter().map(|number| number >> shift).collect();
            let mut bytes = Vec::new();
            encode(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>(), &mut bytes);
            prop_assert_eq!(decode(&bytes), numbers);
        }
    }
}
