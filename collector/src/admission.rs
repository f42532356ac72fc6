//! How many bytes of requests may be in memory at once (P6): `ingest.memory_limit`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
        Admitted { admission: self.clone(), bytes: 0 }
    }
}

/// The bytes of one request that are in memory; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Admission,
    bytes: usize,
}

impl Admitted {
    /// Takes room for so many more bytes; false if there is not so much.
    ///
    /// Room is taken as bytes arrive, not when they are announced: a sender that announces much and sends nothing takes
    /// nothing from the others.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let used = self.admission.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.admission.limit {
            self.admission.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.used.fetch_sub(self.bytes, Ordering::Relaxed);
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
        assert!(!second.grow(3) && second.grow(2));
        drop(first);
        assert!(second.grow(8) && !second.grow(1));
    }
}
