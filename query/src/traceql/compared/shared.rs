use std::mem;

use datafusion::error::Result;
use meshlake_traceql::{ComparedCount, Value};
use parking_lot::Mutex;

use super::super::metrics::Sums;

/// Series that several tasks count into. They seldom meet: each counts by numbers for long before it takes values in.
pub(in super::super) struct SharedSums(Mutex<Sums>);

impl SharedSums {
    pub(in super::super) fn new(sums: Sums) -> SharedSums {
        SharedSums(Mutex::new(sums))
    }

    /// Of nothing, to ask about spans.
    pub(super) fn apart(&self) -> Sums {
        self.0.lock().apart()
    }

    /// Takes in how often an attribute has these values.
    pub(super) fn add_counts(&self, attribute: &str, values: &[Value<'_>], counts: &[ComparedCount]) {
        self.0.lock().accumulator.add_counts(attribute, values, counts);
    }

    /// Reserves what the series take.
    pub(super) fn reserve(&self) -> Result<()> {
        self.0.lock().reserve()
    }

    /// The series; others are left in their place.
    pub(in super::super) fn replace(&self, others: Sums) -> Sums {
        mem::replace(&mut self.0.lock(), others)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
    use meshlake_traceql::{Accumulator, Body, Grid, MetricsLimits, Query};

    use super::*;

    /// Series of ten intervals, of nothing, for as much as there may be.
    pub(in super::super) fn of_ten_intervals() -> SharedSums {
        let query: Query = "{} | compare({ status = error }, 1000)".parse().unwrap();
        let Body::Metrics(series) = &query.body else { panic!("{query}") };
        let (grid, limits) = (Grid::range(10, 20, Some(1)).unwrap(), MetricsLimits { series: 1, exemplars: 0 });
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let memory = MemoryConsumer::new("test").register(&pool);
        SharedSums::new(Sums { accumulator: Accumulator::new(series, grid, limits), memory })
    }
}
