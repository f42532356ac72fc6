//! Summarises the traces of the rows of `spans`.

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use meshlake_hops::trace_summary::{TraceSpan, TraceSummaryBuilder};

use crate::summary::SummaryColumns;
use crate::values::TextColumn;

/// Adds rows with [`crate::summary::SUMMARY_COLUMNS`] at least, in the order of a file.
pub(super) fn add(builder: &mut TraceSummaryBuilder, rows: &RecordBatch) -> Result<()> {
    let columns = SummaryColumns::new(rows)?;
    let (mut services, mut names) = (Numbers::new(columns.services), Numbers::new(columns.names));
    let orphans = columns.parents.nulls();
    for row in 0..rows.num_rows() {
        let (trace_id, span_id) = (columns.trace_ids.value(row), columns.span_ids.value(row));
        let (Ok(trace_id), Ok(span_id)) = (trace_id.try_into(), span_id.try_into()) else { continue };
        let service = services.number(row, builder);
        // A span without a name has an empty one.
        let is_root = orphans.is_some_and(|orphans| orphans.is_null(row));
        let root = is_root.then(|| names.number(row, builder).unwrap_or_else(|| builder.text("")));
        builder.add(&TraceSpan {
            trace_id,
            span_id,
            start: columns.start(row),
            duration: columns.durations.value(row),
            error: columns.errors.value(row),
            service,
            root,
        });
    }
    Ok(())
}

/// The numbers of a column's texts, each looked up once.
struct Numbers<'a> {
    column: TextColumn<'a>,
    numbers: Vec<Option<u32>>,
}

impl<'a> Numbers<'a> {
    fn new(column: TextColumn<'a>) -> Numbers<'a> {
        Numbers { numbers: vec![None; column.texts()], column }
    }

    /// Of a row's text; none where it has none.
    fn number(&mut self, row: usize, builder: &mut TraceSummaryBuilder) -> Option<u32> {
        let number = &mut self.numbers[self.column.key(row)?];
        if number.is_none() {
            *number = self.column.get(row).map(|text| builder.text(text));
        }
        *number
    }
}
