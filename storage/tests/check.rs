//! `check` finds what is broken, `repair` drops exactly that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use common::blocks::{Blocks, read_file, request_of};
use common::objects::Unsteady;
use common::{append, append_blocks, close, compacting, config, eager, local, memory, objects, open, wait_until};
use futures::TryStreamExt;
use meshlake_config::Config;
use meshlake_storage::{OpenError, Problem, Report, check, open_object_store, repair};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

async fn checked(config: &Config, objects: &Arc<dyn ObjectStore>) -> Report {
    check(config, local(), objects.clone()).await.unwrap()
}

async fn repaired(config: &Config, objects: &Arc<dyn ObjectStore>) -> Result<Vec<Problem>, OpenError> {
    repair(config, local(), objects.clone(), Arc::new(Blocks)).await
}

/// A closed folder of which some blocks are in the lake, and as many fresh files as asked for in the object store.
async fn filled(folder: &FilePath, objects: &Arc<dyn ObjectStore>, blocks: u64, fresh: u64) -> Config {
    let config = config(folder);
    let store = open(&compacting(folder, Duration::ZERO), local(), objects.clone()).await.unwrap();
    append_blocks(&store, 0..blocks).await;
    wait_until("in the lake", || {
        let snapshot = store.snapshot().unwrap();
        snapshot.live.is_empty() && snapshot.files.iter().any(|file| file.is_in_lake())
    })
    .await;
    close(store).await;
    for block in blocks..blocks + fresh {
        let store = open(&config, local(), objects.clone()).await.unwrap();
        append_blocks(&store, [block]).await;
        close(store).await;
    }
    config
}

/// The paths of the fresh files that hold spans.
async fn fresh_files(config: &Config, objects: &Arc<dyn ObjectStore>) -> Vec<String> {
    let store = open(config, local(), objects.clone()).await.unwrap();
    let files = store.snapshot().unwrap().files;
    close(store).await;
    files.iter().filter(|file| !file.is_in_lake()).map(|file| file.path.clone()).collect()
}

async fn read(objects: &dyn ObjectStore, path: &str) -> Option<Bytes> {
    Some(objects.get(&path.into()).await.ok()?.bytes().await.unwrap())
}

async fn put(objects: &dyn ObjectStore, path: &str, content: impl Into<object_store::PutPayload>) {
    objects.put(&path.into(), content.into()).await.unwrap();
}

/// Cuts an object short.
async fn cut(objects: &dyn ObjectStore, path: &str) {
    let bytes = read(objects, path).await.unwrap();
    put(objects, path, bytes.slice(..100)).await;
}

/// Where repair keeps a file.
fn kept(path: &str) -> String {
    format!("broken/{path}")
}

/// Scenario: a lake file and a fresh file are cut short, another fresh file is gone, a trace filter is garbage, and so is a journal
/// segment; then the store runs again, merges, and deletes what nobody reads. Guarantee: `check` names each and nothing else; `repair`
/// drops the files and the segment, makes the filter again, and what it left is whole and readable; what was cut is kept, and `check`
/// says nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_is_found_and_dropped() {
    let folder = TempDir::new().unwrap();
    let objects = open_object_store(&config(folder.path()), local()).unwrap();
    let config = filled(folder.path(), &objects, 20, 10).await;
    let fresh = fresh_files(&config, &objects).await;
    let sound = checked(&config, &objects).await;
    assert!(sound.problems.is_empty(), "{sound}");

    let in_lake = common::objects(objects.as_ref(), "lake/data").await;
    let dropped = [in_lake[0].as_str(), fresh[0].as_str()];
    for path in dropped {
        cut(objects.as_ref(), path).await;
    }
    let gone = fresh[1].as_str();
    objects.delete(&gone.into()).await.unwrap();
    let filter = format!("{}.traces", in_lake.last().unwrap().rsplit('/').next().unwrap().trim_end_matches(".parquet"));
    put(objects.as_ref(), &format!("lake/_index/{filter}"), "x").await;
    let segment = config.data_dir.join("journal/0000000077.journal");
    fs::write(&segment, "not a journal, and longer than its header").unwrap();

    let report = checked(&config, &objects).await;
    let said: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    for expected in [dropped[0], dropped[1], gone, &filter, "segment 77"] {
        assert!(said.iter().any(|line| line.contains(expected)), "{expected}: {said:?}");
    }
    assert_eq!(said.len(), 5, "{said:?}");
    assert_eq!(checked(&config, &objects).await, report, "check changes nothing");

    let repaired = repaired(&config, &objects).await.unwrap();
    assert_eq!(repaired, report.problems);
    let lost: u64 = repaired.iter().filter_map(Problem::spans).sum();
    let after = checked(&config, &objects).await;
    assert!(after.problems.is_empty(), "{after}");
    assert_eq!((after.spans, after.leftovers), (sound.spans - lost, sound.leftovers));
    let store = open(&compacting(folder.path(), Duration::ZERO), local(), objects.clone()).await.unwrap();
    let rows = || store.snapshot().unwrap().files.iter().map(|file| file.rows).sum::<u64>();
    assert_eq!(rows(), after.spans);
    wait_until("fresh files are merged and go", || {
        futures::executor::block_on(common::objects(objects.as_ref(), "fresh")).is_empty()
    })
    .await;
    assert_eq!(rows(), after.spans);
    close(store).await;
    for path in dropped {
        assert_eq!(read(objects.as_ref(), &kept(path)).await.unwrap().len(), 100);
        assert!(read(objects.as_ref(), path).await.is_none(), "{path}");
    }
    assert_eq!(common::objects(objects.as_ref(), "broken").await.len(), 2);
    assert!(segment.with_extension("broken").exists());
}

/// The same objects in another store.
async fn copy_of(objects: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let copy = memory();
    let found: Vec<Path> = objects.list(None).map_ok(|object| object.location).try_collect().await.unwrap();
    for path in found {
        let content = objects.get(&path).await.unwrap().bytes().await.unwrap();
        copy.put(&path, content.into()).await.unwrap();
    }
    copy
}

/// Scenario: files are broken, and the object store goes away after each number of writes of a repair, which is done again. Guarantee:
/// in between nothing is lost of what was broken, and in the end it is dropped and kept, and the rest is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_was_cut_off_is_done_again() {
    let folder = TempDir::new().unwrap();
    let damaged = memory();
    let config = filled(folder.path(), &damaged, 6, 2).await;
    let sound = checked(&config, &damaged).await;
    let in_lake = objects(damaged.as_ref(), "lake/data").await;
    let fresh = fresh_files(&config, &damaged).await;
    let dropped: Vec<&String> = in_lake.iter().take(2).chain(&fresh).collect();
    for path in &dropped {
        cut(damaged.as_ref(), path).await;
    }
    let lost: u64 = checked(&config, &damaged).await.problems.iter().filter_map(Problem::spans).sum();
    for writes in 0.. {
        let objects = copy_of(&damaged).await;
        let unsteady = Unsteady::new(objects.clone());
        unsteady.writes.fail(writes..u64::MAX);
        let unsteady_objects: Arc<dyn ObjectStore> = unsteady.clone();
        let _ = repaired(&config, &unsteady_objects).await;
        for path in &dropped {
            let (there, copied) = (read(objects.as_ref(), path).await, read(objects.as_ref(), &kept(path)).await);
            assert!(there.or(copied).is_some_and(|bytes| bytes.len() == 100), "{path} after {writes} writes");
        }
        repaired(&config, &objects).await.unwrap();
        let after = checked(&config, &objects).await;
        assert_eq!((after.spans, after.problems), (sound.spans - lost, vec![]), "after {writes} writes");
        for path in &dropped {
            assert_eq!(read(objects.as_ref(), &kept(path)).await.unwrap().len(), 100, "{path} after {writes} writes");
        }
        if unsteady.writes.count() <= writes {
            assert!(writes > 5, "{writes} writes");
            return;
        }
    }
}

/// Scenario: nothing is broken, and any one read of the object store fails. Guarantee: `check` says what it says without, or fails;
/// `repair` then drops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_proves_nothing() {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let config = filled(folder.path(), &objects, 2, 1).await;
    let sound = checked(&config, &objects).await;
    assert!(sound.problems.is_empty(), "{sound}");
    let unsteady = Unsteady::new(objects.clone());
    let unsteady_objects: Arc<dyn ObjectStore> = unsteady.clone();
    let mut failures = 0;
    for number in 0.. {
        unsteady.reads.fail(number..number + 1);
        match check(&config, local(), unsteady_objects.clone()).await {
            Ok(report) => assert_eq!(report, sound, "read {number}"),
            Err(error) => {
                assert!(error.to_string().contains("as the test wants it"), "{error}");
                failures += 1;
            }
        }
        if unsteady.reads.count() <= number {
            break;
        }
        unsteady.reads.fail(number..number + 1);
        assert_eq!(repaired(&config, &unsteady_objects).await.unwrap_or_default(), []);
    }
    assert!(failures > 20, "{failures} failures");
    assert_eq!(checked(&config, &objects).await, sound);
}

/// Scenario: bytes all over a file are changed, its footer among them, which says where the rest is. Guarantee: `check` ends, and if it
/// says anything, then of that file.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_no_failure_of_the_store() {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let config = filled(folder.path(), &objects, 1, 1).await;
    let path = fresh_files(&config, &objects).await.remove(0);
    let whole = read(objects.as_ref(), &path).await.unwrap();
    let mut found = 0;
    for at in (0..whole.len()).rev().step_by((whole.len() / 200).max(1)) {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x55;
        put(objects.as_ref(), &path, damaged).await;
        let problems = checked(&config, &objects).await.problems;
        assert!(problems.iter().all(|problem| problem.to_string().starts_with(&path)), "{at}: {problems:?}");
        found += problems.len();
    }
    assert!(found > 50, "{found} of 200");
}

/// Scenario: each of what is kept beside a lake file is missing, or one byte of it is changed, or, of what tells of the spans, it is
/// another file's. Guarantee: `check` names it and nothing else, no span is dropped, and `repair` makes it again as it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_beside_a_file_is_made_again() {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let config = filled(folder.path(), &objects, 30, 0).await;
    let sound = checked(&config, &objects).await;
    assert_eq!(sound.problems, []);
    let names: Vec<String> = {
        let paths = common::objects(objects.as_ref(), "lake/data").await;
        paths.iter().map(|path| path.rsplit('/').next().unwrap().trim_end_matches(".parquet").to_owned()).collect()
    };
    let path = |name: &str, kind: &str| format!("lake/_index/{name}.{kind}");
    for kind in ["traces", "summary", "attributes", "rollup", "trace-summaries"] {
        let (of, other) = (path(&names[0], kind), path(&names[1], kind));
        let whole = read(objects.as_ref(), &of).await.unwrap();
        let mut flipped = whole.to_vec();
        flipped[whole.len() / 2] ^= 1;
        let mut damages = vec![None, Some(Bytes::new()), Some(Bytes::from(flipped))];
        if ["traces", "summary"].contains(&kind) {
            damages.push(read(objects.as_ref(), &other).await);
        }
        for damage in damages {
            match damage {
                Some(bytes) => put(objects.as_ref(), &of, bytes).await,
                None => objects.delete(&of.as_str().into()).await.unwrap(),
            }
            let problems = checked(&config, &objects).await.problems;
            assert!(problems.len() == 1 && problems[0].to_string().contains(&of), "{of}: {problems:?}");
            assert_eq!(problems[0].spans(), Some(0));
            assert_eq!(repaired(&config, &objects).await.unwrap(), problems);
            assert_eq!(read(objects.as_ref(), &of).await.as_ref(), Some(&whole), "{of}");
            assert_eq!(checked(&config, &objects).await, sound);
        }
    }
}

/// Scenario: a fresh file with the same rows in another order, also with the first break of it between two batches of the reader.
/// Guarantee: `check` says so; it says nothing of the rows in order.
#[tokio::test(flavor = "multi_thread")]
async fn rows_out_of_order_are_found() {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let config = eager(folder.path());
    let store = open(&config, local(), objects.clone()).await.unwrap();
    append(&store, request_of("team-a", &(0..10_000).collect::<Vec<_>>())).await.unwrap();
    close(store).await;
    let record = common::objects(objects.as_ref(), "commits").await.remove(0);
    let mut commit: serde_json::Value = serde_json::from_slice(&read(objects.as_ref(), &record).await.unwrap()).unwrap();
    let path = commit["files"][1]["path"].as_str().unwrap().to_owned();
    let (_, sorted) = read_file(objects.as_ref(), &path).await;
    // Twice what the reader reads at once.
    let sorted = sorted.slice(0, 2_048);
    let halves = |first: usize, second: usize| {
        let half = |from: usize| sorted.slice(from, 1_024);
        concat_batches(&sorted.schema(), &[half(first), half(second)]).unwrap()
    };
    let rotated = concat_batches(&sorted.schema(), &[sorted.slice(1, 2_047), sorted.slice(0, 1)]).unwrap();
    let orders: [(RecordBatch, bool); 3] = [(sorted.clone(), true), (halves(1_024, 0), false), (rotated, false)];
    for (rows, is_sorted) in orders {
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        let bytes = writer.into_inner().unwrap();
        commit["files"][1]["rows"] = 2_048.into();
        commit["files"][1]["size"] = bytes.len().into();
        put(objects.as_ref(), &path, bytes).await;
        put(objects.as_ref(), &record, commit.to_string()).await;
        let said: Vec<String> = checked(&config, &objects).await.problems.iter().map(ToString::to_string).collect();
        let expected = if is_sorted { vec![] } else { vec![format!("{path}: its spans are not in order")] };
        assert_eq!(said, expected);
    }
}

/// Scenario: the journal has a segment that a later program wrote. Guarantee: neither `check` nor `repair` takes it for broken; it stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_journal_is_not_broken() {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let config = filled(folder.path(), &objects, 1, 0).await;
    let segment = config.data_dir.join("journal/0000000077.journal");
    let content = [b"MESHJRNL".as_slice(), &99u32.to_le_bytes(), &[7; 100]].concat();
    fs::write(&segment, &content).unwrap();
    let refused = check(&config, local(), objects.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("journal version 99"), "{refused}");
    assert!(repaired(&config, &objects).await.is_err());
    assert_eq!(fs::read(&segment).unwrap(), content);
}
