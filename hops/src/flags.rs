//! What is to be known of a hop besides its numbers.

use std::ops::{BitOr, BitOrAssign};

/// A set of flags. Their bits are part of file formats: append only.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(u32);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// One end may still be named by a span that has not come: the caller is missing, or a service was called that answers
    /// with no span. One request can be two such hops.
    pub const UNRESOLVED: Flags = Flags(1);
    /// Nothing but the parent link, or one of several proxies, says who it is.
    pub const ASSUMED: Flags = Flags(1 << 1);
    /// A copy of a request, which nobody waits for.
    pub const MIRROR: Flags = Flags(1 << 2);
    /// A request to a host that the mesh does not know.
    pub const PASSTHROUGH: Flags = Flags(1 << 3);
    /// A request that the mesh let nowhere.
    pub const BLACKHOLE: Flags = Flags(1 << 4);
    /// A request that the mesh has no route for.
    pub const NO_ROUTE: Flags = Flags(1 << 5);
    /// A request in a tunnel of the mesh, whose cluster names no service.
    pub const TUNNEL: Flags = Flags(1 << 6);
    /// The times of its spans contradict each other.
    pub const CLOCK_SKEW: Flags = Flags(1 << 7);
    /// A service without spans, seen by what it called.
    pub const IMPLIED: Flags = Flags(1 << 8);
    /// Not the first attempt of its call.
    pub const RETRY: Flags = Flags(1 << 9);

    const NAMES: [&str; 10] =
        ["unresolved", "assumed", "mirror", "passthrough", "blackhole", "no_route", "tunnel", "clock_skew", "implied", "retry"];

    /// The set as an integer.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The set of these bits; bits without a name are dropped.
    pub fn from_bits(bits: u32) -> Flags {
        Flags(bits & ((1 << Flags::NAMES.len()) - 1))
    }

    /// Whether all of `flags` are in it.
    pub fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The names of its flags, in the order of their bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| name)
    }

    pub(crate) fn when(self, condition: bool) -> Flags {
        if condition { self } else { Flags::NONE }
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: flags to bits, names and back. Guarantee: the bits are those of the file format.
    #[test]
    fn bits_and_names() {
        let flags = Flags::UNRESOLVED | Flags::RETRY;
        assert_eq!(flags.bits(), 0b10_0000_0001);
        assert_eq!(flags.names().collect::<Vec<_>>(), ["unresolved", "retry"]);
        assert_eq!(Flags::from_bits(u32::MAX).names().count(), Flags::NAMES.len());
        assert!(flags.contains(Flags::RETRY) && !flags.contains(Flags::MIRROR));
    }
}
