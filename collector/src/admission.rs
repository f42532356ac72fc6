//! How many bytes of requests may be in memory at once (P6): `ingest.memory_limit`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// For how much of an announced request room is taken before it comes.
const ANNOUNCED_MAX: usize = 1 << 20;

/// The bytes that may still come in.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Admission {
        Admission { used: Arc::default(), limit }
    }

    /// A place for a request of which no byte has come yet.
    pub(crate) fn enter(&self) -> Admitted {
        Admitted { admission: self.clone(), taken: 0, arrived: 0 }
    }

    /// Takes room, of the first `limit` bytes.
    fn take(&self, bytes: usize, limit: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = used <= limit;
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// The bytes of one request that are in memory; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Admission,
    /// The room that it has.
    taken: usize,
    /// What is in it.
    arrived: usize,
}

impl Admitted {
    /// Takes room for a request whose size is announced; false if there is not so much.
    ///
    /// So nearly all requests are refused before they are read, not when half of them is. A sender who announces much and
    /// sends nothing takes no more than [`ANNOUNCED_MAX`] from the others. No request waits for room: its first bytes would
    /// hold the window of the connection meanwhile, in which those that have room could not arrive.
    ///
    /// Half of the memory lets requests in; the other half is for those within, which may have announced less than they are. More that waits
    /// would not be answered sooner, only fall out of the processor's caches before it is decoded.
    pub(crate) fn announce(&mut self, bytes: usize) -> bool {
        let limit = self.admission.limit;
        self.reach(bytes.min(ANNOUNCED_MAX), (limit / 2).max(ANNOUNCED_MAX.min(limit)))
    }

    /// Takes room for so many bytes that arrived; false if there is not so much.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        self.arrived += bytes;
        self.reach(self.arrived, self.admission.limit)
    }

    fn reach(&mut self, bytes: usize, limit: usize) -> bool {
        let more = bytes.saturating_sub(self.taken);
        let fits = self.admission.take(more, limit);
        if fits {
            self.taken += more;
        }
        fits
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: two requests, of which the second does not fit. Guarantee: it is refused until the first is done.
    #[test]
    fn room_comes_back() {
        let admission = Admission::new(10);
        let mut first = admission.enter();
        assert!(first.grow(4) && first.grow(4));
        let mut second = admission.enter();
        assert!(!second.grow(3));
        drop((first, second));
        let mut third = admission.enter();
        assert!(third.grow(10) && !third.grow(1));
    }

    /// Scenario: a request is announced and then arrives. Guarantee: its room is taken once, and one too many is refused at once.
    #[test]
    fn announced_room_is_filled() {
        let admission = Admission::new(10);
        let mut first = admission.enter();
        assert!(first.announce(6) && first.grow(4) && first.grow(2));
        let mut second = admission.enter();
        assert!(!second.announce(5) && second.announce(4) && second.grow(4) && !second.grow(1));
    }
}
