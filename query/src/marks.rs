//! What tells most numbers that are not in a set, in less memory than caches have.

/// Bits that say which numbers there may be, 1 << `LOG` of them.
pub(crate) struct Marks<const LOG: u32>(Vec<u64>);

impl<const LOG: u32> Marks<LOG> {
    /// Bytes of memory.
    pub(crate) const BYTES: usize = (1 << LOG) / 8;

    pub(crate) fn new(numbers: impl IntoIterator<Item = u64>) -> Marks<LOG> {
        let mut bits = vec![0; (1 << LOG) / 64];
        for mark in numbers.into_iter().map(Self::mark) {
            bits[mark / 64] |= 1 << (mark % 64);
        }
        Marks(bits)
    }

    /// Whether a number may be in the set; each that is may be.
    #[inline]
    pub(crate) fn may_hold(&self, number: u64) -> bool {
        let mark = Self::mark(number);
        self.0[mark / 64] >> (mark % 64) & 1 == 1
    }

    /// Less than there are bits. Numbers that are near each other, or alike in some of their bits, have others.
    #[inline]
    fn mark(number: u64) -> usize {
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - LOG)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: numbers that differ in their lowest bits, in their highest, or in all, every seventh of them in the set.
    /// Guarantee: these may be there, and most others may not.
    #[test]
    fn numbers_of_the_set_may_be_there() {
        let spread = |at: u64| [at, at << 40, at.wrapping_mul(0xf39c_c060_5ced_c835)];
        let numbers: Vec<(u64, bool)> = (1..4_000).flat_map(|at| spread(at).map(|number| (number, at % 7 == 0))).collect();
        let marks = Marks::<16>::new(numbers.iter().filter(|(_, is_in)| *is_in).map(|(number, _)| *number));
        assert!(numbers.iter().all(|(number, is_in)| !is_in || marks.may_hold(*number)));
        let others: Vec<u64> = numbers.iter().filter(|(_, is_in)| !is_in).map(|(number, _)| *number).collect();
        let passed = others.iter().filter(|number| marks.may_hold(**number)).count();
        assert!(8 * passed < others.len(), "{passed} of {}", others.len());
        assert!(!Marks::<16>::new([]).may_hold(0));
        assert_eq!(Marks::<16>::BYTES, size_of_val(marks.0.as_slice()));
    }
}
