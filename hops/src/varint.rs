//! Unsigned LEB128.

pub(crate) fn write(bytes: &mut Vec<u8>, value: u128) {
    match u64::try_from(value) {
        Ok(value) => write_small(bytes, value),
        Err(_) => write_large(bytes, value),
    }
}

/// The same of at most 64 bits, faster.
#[inline]
pub(crate) fn write_small(bytes: &mut Vec<u8>, value: u64) {
    // As most are.
    if value < 0x80 { bytes.push(value as u8) } else { write_long(bytes, value) }
}

/// Two numbers of at most 64 bits, fast if both are small.
#[inline]
pub(crate) fn write_pair(bytes: &mut Vec<u8>, pair: [u64; 2]) {
    if pair[0] | pair[1] < 0x80 {
        bytes.extend_from_slice(&pair.map(|value| value as u8));
    } else {
        pair.iter().for_each(|value| write_small(bytes, *value));
    }
}

fn write_long(bytes: &mut Vec<u8>, mut value: u64) {
    let (mut written, mut length) = ([0; 10], 0);
    while value >= 0x80 {
        written[length] = value as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    written[length] = value as u8;
    // All ten, for so many are copied at once, and a number of them is not.
    let end = bytes.len() + length + 1;
    bytes.extend_from_slice(&written);
    bytes.truncate(end);
}

fn write_large(bytes: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Takes a number from the front; none if the bytes end early or the number has more than 128 bits.
pub(crate) fn read(bytes: &mut &[u8]) -> Option<u128> {
    let mut value = 0u128;
    for shift in (0..128).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u128::from(byte & 0x7f);
        if low.leading_zeros() < shift {
            return None;
        }
        value |= low << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes a number of at most 64 bits from the front, faster.
#[inline]
pub(crate) fn read_small(bytes: &mut &[u8]) -> Option<u64> {
    match bytes.split_first() {
        // As most are.
        Some((byte, rest)) if *byte < 0x80 => {
            *bytes = rest;
            Some((*byte).into())
        }
        _ => read_long(bytes),
    }
}

fn read_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let low = u64::from(byte & 0x7f);
        if index == 9 && low > 1 {
            return None;
        }
        value |= low << (7 * index);
        if *byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Signed numbers as unsigned ones, small as small.
pub(crate) fn zigzag(value: i128) -> u128 {
    ((value << 1) ^ (value >> 127)) as u128
}

/// The same of 64 bits.
pub(crate) fn zigzag_small(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u128) -> i128 {
    (value >> 1) as i128 ^ -((value & 1) as i128)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: numbers of each length. Guarantee: they read back, and bytes cut off or too many do not.
    #[test]
    fn round_trip() {
        for value in [0, 1, 127, 128, 300, u128::from(u64::MAX), u128::MAX] {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            assert_eq!(read(&mut &bytes[..]), Some(value));
            assert_eq!(read(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(read(&mut &[0xff; 19][..]), None);
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            let mut bytes = Vec::new();
            write(&mut bytes, value.into());
            assert_eq!(read_small(&mut &bytes[..]), Some(value));
            assert_eq!(read_small(&mut &bytes[..bytes.len() - 1]), None);
        }
        for pair in [[0, 127], [127, 128], [128, 0], [u64::MAX, 300]] {
            let mut bytes = Vec::new();
            write_pair(&mut bytes, pair);
            let mut rest = &bytes[..];
            assert_eq!((pair.map(|_| read_small(&mut rest)), rest.len()), (pair.map(Some), 0));
        }
        for value in [0, -1, 1, 64, -65, i64::MAX, i64::MIN] {
            assert_eq!(u128::from(zigzag_small(value)), zigzag(value.into()));
        }
        let mut large = Vec::new();
        write(&mut large, u128::from(u64::MAX) + 1);
        assert_eq!(read_small(&mut &large[..]), None);
        for value in [0, -1, 1, i128::MAX, i128::MIN] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
