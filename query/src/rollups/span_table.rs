//! Sums of spans as rows of the tables `spans_*`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BinaryBuilder, Int64Builder, StringDictionaryBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use meshlake_hops::span_rollup::{SpanKey, SpanNumbers, SpanStepSums, SpanSums};
use meshlake_storage::{text_type, time_type};
use tokio::sync::mpsc::Sender;

use super::span_pieces::Asked;
use super::table::{BATCH_ROWS, MINUTE_MICROS, RollupScan};

const TEXTS: [&str; 4] = ["service_name", "name", "kind", "status"];
/// The column of durations, which is read only if it is looked at.
const DURATION: &str = "duration";

pub(super) fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = vec![Field::new("time", time_type(), false)];
        fields.extend(TEXTS.map(|name| Field::new(name, text_type(), name == TEXTS[0])));
        fields.push(Field::new("spans", DataType::Int64, false));
        fields.push(Field::new(DURATION, DataType::Binary, false));
        Arc::new(Schema::new(fields))
    });
    SCHEMA.clone()
}

/// Sends the rows, until all are sent or nobody takes them any more.
pub(super) async fn run(scan: RollupScan, memory: MemoryReservation, out: Sender<Result<RecordBatch>>) -> Result<()> {
    let RollupScan { schema, summed, step, minutes, columns, .. } = scan;
    let has_durations = schema.index_of(DURATION).is_ok_and(|column| columns.contains(&column));
    let asked = if has_durations { Asked::Durations } else { Asked::Counts };
    let mut sums = SpanStepSums::new();
    for piece in summed.spans(minutes).await? {
        let (open, mut numbers) = (piece.open(&summed, asked, |_| None).await?, SpanNumbers::default());
        match asked {
            Asked::Counts => open.counts(|minute, key, count| {
                sums.row(minute.div_ceil(step), (&open.keys, &mut numbers), key).count += count;
            })?,
            Asked::Durations => open.durations(|minute, key, durations| {
                let row = sums.row(minute.div_ceil(step), (&open.keys, &mut numbers), key);
                row.count += durations.count() as u64;
                row.durations.merge(durations);
            })?,
        }
        memory.try_resize(sums.bytes())?;
        tokio::task::yield_now().await;
    }
    for rows in sums.rows().chunks(BATCH_ROWS) {
        if out.send(batch(&schema, step, rows)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn batch(schema: &SchemaRef, step: u64, rows: &[(u64, SpanKey<'_>, &SpanSums)]) -> Result<RecordBatch> {
    let mut time = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let mut texts: [StringDictionaryBuilder<Int32Type>; TEXTS.len()] = std::array::from_fn(|_| StringDictionaryBuilder::new());
    let (mut spans, mut durations, mut bytes) = (Int64Builder::new(), BinaryBuilder::new(), Vec::new());
    for (number, SpanKey { service, name, kind, status }, sums) in rows {
        time.append_value((number * step) as i64 * MINUTE_MICROS);
        let values = [*service, Some(*name), Some(*kind), Some(*status)];
        texts.iter_mut().zip(values).for_each(|(column, text)| column.append_option(text));
        spans.append_value(sums.count as i64);
        bytes.clear();
        sums.durations.histogram().encode(&mut bytes);
        durations.append_value(&bytes);
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(time.finish())];
    columns.extend(texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
    columns.push(Arc::new(spans.finish()));
    columns.push(Arc::new(durations.finish()));
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
