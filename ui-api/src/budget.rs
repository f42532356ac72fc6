//! A bound on the bytes of answers in memory (P6).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::problem::{Kind, Problem};

/// The bytes that answers may take together, from the moment they are written until they are sent.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Budget {
        Budget { limit, used: AtomicU64::new(0) }
    }
}

/// The share of one answer; dropping it gives the bytes back.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Share {
    /// An empty share.
    pub(crate) fn of(budget: &Arc<Budget>) -> Share {
        Share { budget: budget.clone(), bytes: 0 }
    }

    /// The bytes taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more.
    ///
    /// # Errors
    /// 503 where all answers together would pass the limit; then nothing is taken.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let bytes = bytes as u64;
        let limit = self.budget.limit;
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|_| {
            Problem::new(
                Kind::OutOfMemory,
                format!("the answers being sent would take more than {limit} bytes, the limit of query.memory_limit; ask for less"),
            )
        })?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: two answers share a limit. Guarantee: their sum never passes it, and a refused or finished one leaves nothing behind.
    #[test]
    fn shares_never_pass_the_limit() {
        let budget = Arc::new(Budget::new(10));
        let mut first = Share::of(&budget);
        let mut second = Share::of(&budget);
        first.grow(6).unwrap();
        assert!(second.grow(5).is_err());
        second.grow(4).unwrap();
        assert!(first.grow(1).is_err());
        drop(first);
        second.grow(6).unwrap();
        drop(second);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
