use super::shared::SharedSums;

/// How often spans have the values of an attribute, which are not taken in yet.
pub(super) trait Tally {
    /// Takes them in; then there are none any more.
    fn close(&mut self, into: &SharedSums);

    /// Whether there are so many values that counting is slower than to take them in.
    fn is_full(&self) -> bool;

    /// Bytes of memory, about.
    fn bytes(&self) -> usize;
}
