//! Comparison of the texts of spans.

/// Whether two texts are equal. Most are short: for them a call of `memcmp` takes longer than to compare.
#[inline]
pub fn same_text(one: &[u8], other: &[u8]) -> bool {
    fn ends<const N: usize>(text: &[u8]) -> Option<([u8; N], [u8; N])> {
        Some((*text.first_chunk()?, *text.last_chunk()?))
    }
    one.len() == other.len()
        && match one.len() {
            0 => true,
            1..=3 => one[0] == other[0] && one[one.len() / 2] == other[one.len() / 2] && one[one.len() - 1] == other[one.len() - 1],
            4..=7 => ends::<4>(one) == ends::<4>(other),
            8..=15 => ends::<8>(one) == ends::<8>(other),
            16..=32 => ends::<16>(one) == ends::<16>(other),
            33..=64 => ends::<32>(one) == ends::<32>(other),
            _ => one == other,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Scenario: two texts that differ in one byte or not at all, of any length. Guarantee: as slices compare.
        #[test]
        fn as_slices_compare(text in proptest::collection::vec(0..3u8, 0..140), at in any::<proptest::sample::Index>(), byte in 0..3u8) {
            let mut other = text.clone();
            if !other.is_empty() {
                *at.get_mut(&mut other) = byte;
            }
            prop_assert_eq!(same_text(&text, &other), text == other);
            prop_assert!(!same_text(&text, &[&text[..], b"a"].concat()));
        }
    }
}
