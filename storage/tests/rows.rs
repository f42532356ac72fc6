//! Rows keep what was put into them: in a batch, when others are taken back, and in files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use common::blocks::{assert_same, expected, numbers, push, read_file, request_of};
use common::{append, close, config, local, memory, open};
use meshlake_storage::{CLOCK_FLAG, SpanBuilder};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use tempfile::TempDir;

const TENANTS: [&str; 4] = ["b", "a", "default", "team-a"];
/// `live.window`.
const WINDOW: i64 = 3_600_000_000;

/// A span of a tenant, whether it is taken back, and by how much more.
fn steps() -> impl Strategy<Value = Vec<(usize, u64, bool, usize)>> {
    prop::collection::vec((0..4usize, 0..5_000u64, prop::bool::weighted(0.3), 0..4usize), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Scenario: rows are closed, and some of them taken back, alone or with rows before them. Guarantee: the batch is the one
    /// that never had them.
    #[test]
    fn truncate_leaves_no_trace(steps in steps()) {
        let mut rows = SpanBuilder::default();
        let mut kept = Vec::new();
        for (tenant, number, taken_back, more) in steps {
            push(&mut rows, TENANTS[tenant], number);
            kept.push((TENANTS[tenant], number));
            if taken_back {
                kept.truncate(kept.len().saturating_sub(more).min(kept.len() - 1));
                rows.truncate(kept.len());
            }
            prop_assert_eq!(rows.rows(), kept.len());
        }
        match rows.finish().unwrap() {
            Some(live) => {
                assert_same(&live.batch, &expected(kept));
                let starts = live.batch["start_time"].as_primitive::<TimestampMicrosecondType>().values();
                prop_assert_eq!(Some(&live.start_min), starts.iter().min());
                prop_assert_eq!(Some(&live.start_max), starts.iter().max());
            }
            None => prop_assert!(kept.is_empty()),
        }
    }
}

fn texts<'a>(batch: &'a RecordBatch, column: &str) -> Vec<Option<&'a str>> {
    let column = batch[column].as_dictionary::<arrow::datatypes::Int32Type>();
    let values = column.values().as_string::<i32>();
    column.keys().iter().map(|key| key.map(|key| values.value(key as usize))).collect()
}

/// (tenant, trace id, start) of each row.
fn order(batch: &RecordBatch) -> Vec<(String, Vec<u8>, i64)> {
    let traces = batch["trace_id"].as_fixed_size_binary();
    let starts = batch["start_time"].as_primitive::<TimestampMicrosecondType>();
    let tenants = texts(batch, "tenant").into_iter().enumerate();
    tenants.map(|(row, tenant)| (tenant.unwrap().to_owned(), traces.value(row).to_vec(), starts.value(row))).collect()
}

/// Requests of spans, each of some tenant.
fn requests() -> impl Strategy<Value = Vec<(usize, Range<u64>)>> {
    let spans = (0..100_000u64, 0..400u64).prop_map(|(first, count)| first..first + count);
    prop::collection::vec((0..4usize, spans), 1..12)
}

/// Flushes requests, and checks the files that come of it.
async fn flush(requests: Vec<(usize, Range<u64>)>) {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let store = open(&config(folder.path()), local(), objects.clone()).await.unwrap();
    let mut sent = BTreeMap::<(&str, u64), usize>::new();
    for (index, (tenant, spans)) in requests.into_iter().enumerate() {
        // A span of its own, so that no two requests are byte-identical.
        let spans: Vec<u64> = spans.chain([1_000_000 + index as u64]).collect();
        spans.iter().for_each(|span| *sent.entry((TENANTS[tenant], *span)).or_default() += 1);
        append(&store, request_of(TENANTS[tenant], &spans)).await.unwrap();
        if index % 3 == 0 {
            store.snapshot().unwrap();
        }
    }
    close(store.clone()).await;
    let snapshot = store.snapshot().unwrap();
    assert!(snapshot.live.is_empty());

    let mut found = BTreeMap::<(&str, u64), usize>::new();
    let mut windows = Vec::new();
    for file in snapshot.files.iter() {
        let (bytes, batch) = read_file(objects.as_ref(), &file.path).await;
        let order = order(&batch);
        assert!(order.is_sorted());
        let numbers = numbers(&batch);
        for ((tenant, _, _), number) in order.iter().zip(&numbers) {
            let tenant = TENANTS.iter().find(|name| *name == tenant).unwrap();
            *found.entry((tenant, *number)).or_default() += 1;
        }
        let same = expected(order.iter().zip(&numbers).map(|((tenant, _, _), number)| (tenant.as_str(), *number)));
        assert_same(&batch, &same);

        let starts = batch["start_time"].as_primitive::<TimestampMicrosecondType>().values();
        let durations = batch["duration"].as_primitive::<Int64Type>().values();
        let nanos = batch["start_nanos"].as_primitive::<arrow::datatypes::Int16Type>().values();
        let ends = (0..starts.len()).map(|row| starts[row] * 1_000 + i64::from(nanos[row]) + durations[row].max(0));
        assert_eq!((Some(&file.start_min), Some(&file.start_max)), (starts.iter().min(), starts.iter().max()));
        let end_max = ends.max().unwrap();
        assert!(file.end_max * 1_000 >= end_max && file.end_max * 1_000 < end_max + 1_000, "{} for {end_max}", file.end_max);
        let mut tenants: Vec<String> = order.iter().map(|(tenant, _, _)| tenant.clone()).collect();
        tenants.dedup();
        assert_eq!(file.tenants, tenants);
        assert_eq!((file.size, file.rows), (bytes.len() as u64, batch.num_rows() as u64));

        let clock: Vec<bool> = texts(&batch, "flagged").iter().map(|flag| *flag == Some(CLOCK_FLAG)).collect();
        assert!(clock.iter().all(|flagged| *flagged == clock[0]), "bad clocks have a file of their own");
        windows.push((!clock[0]).then(|| (file.start_min.div_euclid(WINDOW), file.start_max.div_euclid(WINDOW))));
        let metadata = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().metadata().clone();
        let sorting = metadata.row_group(0).sorting_columns().unwrap();
        assert_eq!(sorting.iter().map(|column| column.column_idx).collect::<Vec<_>>(), [0, 1, 4]);
    }
    assert_eq!(found, sent);
    assert!(windows.iter().flatten().all(|(first, last)| first == last), "one window a file");
    let files = windows.len();
    windows.sort_unstable();
    windows.dedup();
    assert_eq!(windows.len(), files, "one file a window");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Scenario: requests of several tenants and hours are flushed, with snapshots in between. Guarantee: the files hold the
    /// rows that came in, each file those of one window, sorted by (tenant, trace id, start), and say rightly what they hold.
    #[test]
    fn files_hold_what_came_in(requests in requests()) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(flush(requests));
    }
}

/// Scenario: rows of a batch in any order, built anew in that order. Guarantee: the comparison that these tests rest on sees
/// equal batches as equal, and others as different.
#[test]
fn the_comparison_compares() {
    let spans: Vec<_> = (0..200).map(|number| ("a", number)).collect();
    let batch = expected(spans.clone());
    let reversed = take_record_batch(&batch, &UInt32Array::from_iter_values((0..200).rev())).unwrap();
    assert_same(&reversed, &expected(spans.iter().rev().copied()));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| assert_same(&reversed, &batch))).is_err());
}
