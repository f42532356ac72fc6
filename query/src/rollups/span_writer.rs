//! Sums the rows of `spans` as spans.

use arrow::array::AsArray;
use arrow::datatypes::{Int16Type, Int64Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_hops::span_rollup::{SpanKey, SpanRollupBuilder};

use crate::otlp::nanoseconds;
use crate::values::{TextColumn, open};

/// The columns of `spans` that are read.
pub(super) const COLUMNS: &[&str] = &["start_time", "start_nanos", "duration", "name", "kind", "status", "service_name"];

/// Adds rows with [`COLUMNS`] at least.
pub(super) fn add(builder: &mut SpanRollupBuilder, rows: &RecordBatch) -> Result<()> {
    let text = |name| open(rows, name, TextColumn::new);
    let [service, name, kind, status] = [text("service_name")?, text("name")?, text("kind")?, text("status")?];
    let start = open(rows, "start_time", |column| column.as_primitive_opt::<TimestampMicrosecondType>())?;
    let nanos = open(rows, "start_nanos", |column| column.as_primitive_opt::<Int16Type>())?;
    let duration = open(rows, "duration", |column| column.as_primitive_opt::<Int64Type>())?;
    // Few different ones, each of many rows.
    let mut numbers = hashbrown::HashMap::<u128, u32>::new();
    for row in 0..rows.num_rows() {
        // A place is below 2^31, and 0 is that of none.
        let places = [service, name, kind, status].map(|column| column.key(row).map_or(0, |place| place as u128 + 1));
        let places = places.into_iter().fold(0, |places, place| places << 32 | place);
        let number = *numbers.entry(places).or_insert_with(|| {
            let [service, name, kind, status] = [service, name, kind, status].map(|column| column.get(row));
            let [name, kind, status] = [name, kind, status].map(Option::unwrap_or_default);
            builder.number(&SpanKey { service, name, kind, status })
        });
        builder.add(number, nanoseconds(start.value(row), nanos.value(row)), duration.value(row));
    }
    Ok(())
}
