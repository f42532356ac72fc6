//! The store as its callers see it: what is acknowledged, what a snapshot holds, and what failures do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::blocks::{INVALID, PANIC, SPREAD, blocks_of, request, request_of, spans, stored, tenant};
use common::faulty::{FaultyDisk, Operation};
use common::lossy::LossyDisk;
use common::objects::Unsteady;
use common::{append, append_blocks, close, config, eager, is_unavailable, local, memory, open, wait_until};
use futures::future::join_all;
use meshlake_config::ByteSize;
use meshlake_storage::{Disk, FolderStore, OpenError, Refused, Store};
use object_store::ObjectStore;
use tempfile::TempDir;

fn is_flushed(store: &Store) -> bool {
    store.snapshot().unwrap().live.is_empty()
}

fn names(folder: &Path, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.ends_with(extension)).collect();
    names.sort();
    names
}

/// Scenario: requests of several tenants, one after the other. Guarantee: each is in the first snapshot after its answer (P1).
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_rows_are_in_the_next_snapshot() {
    let folder = TempDir::new().unwrap();
    let store = open(&config(folder.path()), local(), memory()).await.unwrap();
    for block in 0..40 {
        append_blocks(&store, [block]).await;
        assert_eq!(stored(&store).await, (0..=block).collect::<Vec<_>>());
    }
    close(store).await;
}

/// Scenario: snapshots are taken all the time while many clients append and each group is flushed. Guarantee: each snapshot
/// holds all that was acknowledged before it, once, whether it is live or in files (P2).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_row_once_while_flushing() {
    let folder = TempDir::new().unwrap();
    let store = open(&eager(folder.path()), local(), memory()).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(parking_lot::Mutex::new(BTreeSet::new()));
    let mixed = Arc::new(AtomicUsize::new(0));
    let looking = tokio::spawn({
        let (store, done, acknowledged, mixed) = (store.clone(), done.clone(), acknowledged.clone(), mixed.clone());
        async move {
            while !done.load(Ordering::Acquire) {
                let before: BTreeSet<u64> = acknowledged.lock().clone();
                let snapshot = store.snapshot().unwrap();
                mixed.fetch_add(usize::from(!snapshot.live.is_empty() && !snapshot.files.is_empty()), Ordering::AcqRel);
                let found: BTreeSet<u64> = blocks_of(&snapshot, store.object_store().as_ref()).await.into_iter().collect();
                assert!(before.is_subset(&found), "missing: {:?}", before.difference(&found));
            }
        }
    });
    let clients = (0..4u64).map(|client| {
        let (store, acknowledged) = (store.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for block in client * 15..(client + 1) * 15 {
                append_blocks(&store, [block]).await;
                acknowledged.lock().insert(block);
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        })
    });
    join_all(clients).await.into_iter().for_each(Result::unwrap);
    let mut blocks = 60;
    // Whoever looks reads whole files meanwhile, and may have missed the flushes so far.
    while mixed.load(Ordering::Acquire) == 0 {
        assert!(blocks < 2_000, "no snapshot came in the middle of a flush");
        append_blocks(&store, [blocks]).await;
        acknowledged.lock().insert(blocks);
        blocks += 1;
    }
    wait_until("flushed", || is_flushed(&store)).await;
    done.store(true, Ordering::Release);
    looking.await.unwrap();
    assert_eq!(stored(&store).await, (0..blocks).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: a commit takes long. Guarantee: the spans stay live until it is through, then they are in files; ingest goes on.
#[tokio::test(flavor = "multi_thread")]
async fn live_until_committed() {
    let folder = TempDir::new().unwrap();
    let objects = Unsteady::new(memory());
    objects.hold();
    let store = open(&eager(folder.path()), local(), objects.clone()).await.unwrap();
    append_blocks(&store, 0..3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let snapshot = store.snapshot().unwrap();
    assert!(snapshot.files.is_empty() && !snapshot.live.is_empty());
    assert_eq!(stored(&store).await, [0, 1, 2]);
    objects.permits.add_permits(1_000);
    wait_until("flushed", || is_flushed(&store)).await;
    assert_eq!(stored(&store).await, [0, 1, 2]);
    assert_eq!(blocks_of(&snapshot, store.object_store().as_ref()).await, [0, 1, 2], "an old snapshot stays as it was");
    close(store).await;
}

/// Scenario: a byte-identical request comes again: at once, in the same group, after its segment was retired, after a kill,
/// after a start, and with the same bytes from another tenant. Guarantee: it is acknowledged, and stored once a tenant (P2).
#[tokio::test(flavor = "multi_thread")]
async fn retries_are_stored_once() {
    let disk = LossyDisk::new(1);
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let objects = memory();
    let store = open(&config(disk.root()), on, objects.clone()).await.unwrap();
    append_blocks(&store, 0..10).await;
    append_blocks(&store, 0..10).await;
    join_all((0..40).map(|index| append_blocks(&store, [10 + index % 4]))).await;
    assert_eq!(stored(&store).await, (0..14).collect::<Vec<_>>());

    let disk = disk.after_kill();
    close(store).await;
    // The first store has flushed to these objects while closing: as if it had been killed after the commit.
    let store = open(&eager(disk.root()), Arc::new(disk.clone()), objects.clone()).await.unwrap();
    assert_eq!(names(&disk.root().join("data/journal"), ".journal"), [""; 0], "a committed segment is not replayed");
    append_blocks(&store, 0..14).await;
    assert_eq!(stored(&store).await, (0..14).collect::<Vec<_>>());

    append_blocks(&store, 14..16).await;
    wait_until("flushed", || is_flushed(&store)).await;
    append_blocks(&store, 14..16).await;
    close(store).await;
    let store = open(&config(disk.root()), Arc::new(disk.clone()), objects).await.unwrap();
    append_blocks(&store, 0..16).await;
    assert_eq!(stored(&store).await, (0..16).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: a process is killed, and its spans are in the journal alone. Guarantee: they are replayed, and a retry is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing() {
    let disk = LossyDisk::new(2);
    let store = open(&config(disk.root()), Arc::new(disk.clone()), memory()).await.unwrap();
    append_blocks(&store, 0..30).await;
    let image = disk.after_kill();
    close(store).await;
    let store = open(&config(image.root()), Arc::new(image.clone()), memory()).await.unwrap();
    assert_eq!(store.snapshot().unwrap().files.len(), 0);
    assert_eq!(stored(&store).await, (0..30).collect::<Vec<_>>());
    append_blocks(&store, 0..31).await;
    assert_eq!(stored(&store).await, (0..31).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: the bytes of one tenant's request come from another. Guarantee: both are stored (P8).
#[tokio::test(flavor = "multi_thread")]
async fn tenants_have_their_own_requests() {
    let folder = TempDir::new().unwrap();
    let store = open(&config(folder.path()), local(), memory()).await.unwrap();
    for tenant in ["a", "b", "a"] {
        append(&store, request_of(tenant, &[1, 2])).await.unwrap();
    }
    let rows: usize = store.snapshot().unwrap().live.iter().map(|live| live.batch.num_rows()).sum();
    assert_eq!(rows, 4);
    close(store).await;
}

/// Scenario: the object store fails for a while. Guarantee: nothing is lost, health tells it, the flush is tried again, and
/// health recovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_object_store_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let objects = Unsteady::new(memory());
    let store = open(&eager(folder.path()), local(), objects.clone()).await.unwrap();
    objects.failing.store(u64::MAX, Ordering::SeqCst);
    append_blocks(&store, 0..5).await;
    wait_until("health tells it", || store.health().problems.iter().any(|problem| problem.contains("can't flush"))).await;
    assert!(store.health().ready);
    assert_eq!(stored(&store).await, (0..5).collect::<Vec<_>>());
    objects.failing.store(0, Ordering::SeqCst);
    wait_until("flushed", || is_flushed(&store)).await;
    assert_eq!(stored(&store).await, (0..5).collect::<Vec<_>>());
    assert_eq!(store.health().problems, [""; 0]);
    close(store).await;
}

/// Scenario: commits get through, and their answers are lost. Guarantee: the next attempt sees that they did.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let folder = TempDir::new().unwrap();
    let objects = Unsteady::new(memory());
    let store = open(&eager(folder.path()), local(), objects.clone()).await.unwrap();
    objects.lost_answers.store(1, Ordering::SeqCst);
    append_blocks(&store, 0..5).await;
    wait_until("flushed", || is_flushed(&store)).await;
    assert_eq!(stored(&store).await, (0..5).collect::<Vec<_>>());
    close(store).await;
    let store = open(&config(folder.path()), local(), objects).await.unwrap();
    assert_eq!(stored(&store).await, (0..5).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: the object store fails until after the store is closed. Guarantee: closing ends, and the next start has all.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_flushed_stays_in_the_journal() {
    let folder = TempDir::new().unwrap();
    let objects = Unsteady::new(memory());
    objects.failing.store(u64::MAX, Ordering::SeqCst);
    let store = open(&config(folder.path()), local(), objects.clone()).await.unwrap();
    append_blocks(&store, 0..5).await;
    close(store).await;
    objects.failing.store(0, Ordering::SeqCst);
    let store = open(&config(folder.path()), local(), objects).await.unwrap();
    assert_eq!(stored(&store).await, (0..5).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: creating, writing, syncing or cutting a segment fails, in turn with requests that work. Guarantee: the request
/// is refused as retryable and no snapshot has it; later requests and its retry work; after a kill only what was
/// acknowledged is there, and no segment is left over.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_refuses() {
    let folder = TempDir::new().unwrap();
    let disk = FaultyDisk::default();
    let objects = memory();
    let store = open(&config(folder.path()), Arc::new(disk.clone()), objects.clone()).await.unwrap();
    use Operation::{Append, Create, OpenAt, Sync, SyncDir};
    // Each line: what fails while a block is sent, again and again, until the next block gets through and opens a segment.
    let faults: [&[&[Operation]]; 5] = [
        &[&[Create], &[Append], &[Sync], &[SyncDir], &[Create]],
        &[&[Append], &[SyncDir]],
        &[&[Sync]],
        &[&[Append, OpenAt]],
        &[&[Sync, OpenAt], &[Append]],
    ];
    let journal = folder.path().join("data/journal");
    let mut acknowledged = Vec::new();
    for (block, attempts) in (0..).step_by(2).zip(faults) {
        for (attempt, operations) in attempts.iter().enumerate() {
            // The fault is for the block, not for the flush that retires the segment before.
            let open = usize::from(block > 0 && attempt == 0);
            wait_until("earlier segments are retired", || names(&journal, ".journal").len() == open).await;
            operations.iter().for_each(|operation| disk.fail(*operation, "journal"));
            let answer = append(&store, request(block)).await;
            assert!(is_unavailable(&answer), "{operations:?}: {answer:?}");
            assert_eq!(disk.left(), 0, "{operations:?}");
            assert_eq!(stored(&store).await, acknowledged, "{operations:?}");
        }
        append_blocks(&store, [block + 1]).await;
        acknowledged.push(block + 1);
        assert_eq!(stored(&store).await, acknowledged, "{attempts:?}");
    }
    append_blocks(&store, [4]).await;
    assert_eq!(stored(&store).await, [1, 3, 4, 5, 7, 9]);
    wait_until("only the open segment is left", || names(&journal, ".journal").len() == 1).await;
    close(store).await;
    let store = open(&config(folder.path()), Arc::new(disk), objects).await.unwrap();
    assert_eq!(stored(&store).await, [1, 3, 4, 5, 7, 9]);
    append_blocks(&store, 0..10).await;
    assert_eq!(stored(&store).await, (0..10).collect::<Vec<_>>());
    close(store).await;
    assert_eq!(names(&journal, ".journal"), [""; 0]);
}

/// Scenario: a write fails, cutting it off fails too, the retry is acknowledged, and the process is killed. Guarantee: the
/// request, now in two segments, counts once.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_two_segments_counts_once() {
    let folder = TempDir::new().unwrap();
    let disk = FaultyDisk::default();
    let failing = Unsteady::new(memory());
    failing.failing.store(u64::MAX, Ordering::SeqCst);
    let store = open(&config(folder.path()), Arc::new(disk.clone()), failing.clone()).await.unwrap();
    append_blocks(&store, [0]).await;
    disk.fail(Operation::Sync, "journal");
    disk.fail(Operation::OpenAt, "journal");
    assert!(is_unavailable(&append(&store, request(1)).await));
    append_blocks(&store, [1, 2]).await;
    assert_eq!(stored(&store).await, [0, 1, 2]);

    let (copy, objects) = (TempDir::new().unwrap(), memory());
    let journal = copy.path().join("data/journal");
    std::fs::create_dir_all(&journal).unwrap();
    for name in names(&folder.path().join("data/journal"), "") {
        std::fs::copy(folder.path().join("data/journal").join(&name), journal.join(&name)).unwrap();
    }
    assert_eq!(names(&journal, ".journal").len(), 2);
    failing.failing.store(0, Ordering::SeqCst);
    close(store).await;
    for _ in 0..2 {
        let store = open(&config(copy.path()), local(), objects.clone()).await.unwrap();
        assert_eq!(stored(&store).await, [0, 1, 2]);
        close(store).await;
    }
}

/// Scenario: a write fails, cutting it off fails too, its segment is committed, and the process is killed before the segment
/// goes. Guarantee: the refused request is not taken for stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_not_known_after_a_commit() {
    let faulty = FaultyDisk::default();
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let store = open(&config(folder.path()), Arc::new(faulty.clone()), objects.clone()).await.unwrap();
    append_blocks(&store, [0]).await;
    faulty.fail(Operation::Sync, ".journal");
    faulty.fail(Operation::OpenAt, ".journal");
    // The segment can't be retired: as if the process were killed after the commit.
    faulty.fail(Operation::Create, ".part");
    assert!(is_unavailable(&append(&store, request(1)).await));
    close(store).await;
    assert_eq!(faulty.left(), 0);
    assert_eq!(names(&folder.path().join("data/journal"), ".journal").len(), 1);
    let store = open(&config(folder.path()), local(), objects).await.unwrap();
    append_blocks(&store, [0, 1]).await;
    assert_eq!(stored(&store).await, [0, 1]);
    close(store).await;
}

/// Scenario: requests that can't be decoded, or make the decoder panic, among others. Guarantee: each is refused for good, also
/// when it is sent again and after a start; none of its rows stay; the others are stored.
#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_leave_no_rows() {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let bad = [request_of("default", &[5, 6, INVALID]), request_of("default", &[7, 8, PANIC]), request_of("x", &[PANIC])];
    for start in 0..3 {
        let store = open(&config(folder.path()), local(), objects.clone()).await.unwrap();
        for _ in 0..2 {
            for frame in &bad {
                let answer = append(&store, frame.clone()).await;
                assert!(matches!(answer, Err(Refused::Invalid(_) | Refused::Defect(_))), "{answer:?}");
            }
            append_blocks(&store, [start]).await;
        }
        assert_eq!(stored(&store).await, (0..=start).collect::<Vec<_>>());
        close(store).await;
    }
}

/// Scenario: a request without spans. Guarantee: it is acknowledged, and flushing nothing works.
#[tokio::test(flavor = "multi_thread")]
async fn empty_requests() {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let store = open(&config(folder.path()), local(), objects.clone()).await.unwrap();
    append(&store, request_of("default", &[])).await.unwrap();
    close(store).await;
    let store = open(&config(folder.path()), local(), objects).await.unwrap();
    assert_eq!(stored(&store).await, [0; 0]);
    close(store).await;
}

/// Scenario: a second store opens the folder of one that runs, and again after it was closed, and of one that was dropped
/// without closing. Guarantee: only one at a time has the folder.
#[tokio::test(flavor = "multi_thread")]
async fn one_store_a_folder() {
    let folder = TempDir::new().unwrap();
    let objects = Unsteady::new(memory());
    let config = config(folder.path());
    let store = open(&config, local(), objects.clone()).await.unwrap();
    append_blocks(&store, 0..3).await;
    let second = open(&config, local(), objects.clone()).await;
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    objects.hold();
    drop(store);
    let second = open(&config, local(), objects.clone()).await;
    assert!(matches!(second, Err(OpenError::InUse(_))), "its threads still flush");
    objects.permits.add_permits(1_000);
    let store = loop {
        match open(&config, local(), objects.clone()).await {
            Ok(store) => break store,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(stored(&store).await, [0, 1, 2]);
    close(store).await;
}

/// Scenario: live spans take more than `live.memory_limit` while no flush gets through. Guarantee: requests are refused as
/// retryable, the error names the setting, and they are taken again when flushing has caught up (P6).
#[tokio::test(flavor = "multi_thread")]
async fn live_memory_is_limited() {
    let folder = TempDir::new().unwrap();
    let objects = Unsteady::new(memory());
    objects.hold();
    let mut config = eager(folder.path());
    config.live.memory_limit = ByteSize::kib(256);
    let store = open(&config, local(), objects.clone()).await.unwrap();
    let mut block = 0;
    let refused = loop {
        match append(&store, request(block)).await {
            Ok(_) if block < 10_000 => block += 1,
            Ok(_) => panic!("there is no limit"),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(&refused, Refused::Unavailable(why) if why.contains("live.memory_limit")), "{refused}");
    assert_eq!(stored(&store).await, (0..block).collect::<Vec<_>>());
    objects.permits.add_permits(1_000);
    wait_until("flushed", || is_flushed(&store)).await;
    append_blocks(&store, [block]).await;
    close(store).await;
}

/// Scenario: a start finds more in the journal than live memory allows, and the object store does not work. Guarantee: the
/// store is not ready, closing ends, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_a_replay_that_waits() {
    let folder = TempDir::new().unwrap();
    let objects = Unsteady::new(memory());
    objects.failing.store(u64::MAX, Ordering::SeqCst);
    let mut config = eager(folder.path());
    let store = open(&config, local(), objects.clone()).await.unwrap();
    append_blocks(&store, 0..10).await;
    close(store).await;
    config.live.memory_limit = ByteSize::bytes(1);
    let registry = &mut prometheus_client::registry::Registry::default();
    let metrics = meshlake_storage::Metrics::new(registry);
    let store = Store::open(
        &config,
        local(),
        objects.clone(),
        Arc::new(common::blocks::Blocks),
        Arc::new(common::blocks::Blocks),
        Arc::new(common::blocks::Blocks),
        metrics,
    )
    .await
    .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!store.health().ready);
    assert!(store.append(request(11)).is_err());
    tokio::time::timeout(Duration::from_secs(30), close(store)).await.expect("closing ends");
    objects.failing.store(0, Ordering::SeqCst);
    let store = open(&config, local(), objects).await.unwrap();
    assert_eq!(stored(&store).await, (0..10).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: the spans of one flush start in more hours than a flush makes files. Guarantee: the number of files is limited,
/// each says what it holds, and all rows are there.
#[tokio::test(flavor = "multi_thread")]
async fn many_windows_share_files() {
    let folder = TempDir::new().unwrap();
    let objects = memory();
    let store = open(&config(folder.path()), local(), objects.clone()).await.unwrap();
    append_blocks(&store, SPREAD..SPREAD + 60).await;
    close(store).await;
    let store = open(&config(folder.path()), local(), objects).await.unwrap();
    assert_eq!(stored(&store).await, (SPREAD..SPREAD + 60).collect::<Vec<_>>());
    let files = store.snapshot().unwrap().files;
    assert_eq!(files.len(), 32);
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    assert_eq!(rows, (SPREAD..SPREAD + 60).map(|block| spans(block).len() as u64).sum::<u64>());
    assert!(files.iter().all(|file| !file.tenants.is_empty() && file.tenants.is_sorted()));
    assert!(files.iter().any(|file| file.tenants.contains(&tenant(SPREAD).to_owned())));
    close(store).await;
}

/// Scenario: a process died between its files and their commit, another one in the middle of a put. Guarantee: the next
/// start removes what they left, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_removed() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let objects: Arc<dyn ObjectStore> = Arc::new(FolderStore::open(&config.data_dir.join("store"), local()).unwrap());
    let store = open(&config, local(), objects.clone()).await.unwrap();
    append_blocks(&store, 0..3).await;
    close(store).await;
    let fresh = config.data_dir.join("store/fresh");
    let writer = fresh.join(&names(&fresh, "")[0]);
    let committed = names(&writer, "");
    assert!(!committed.is_empty());
    std::fs::write(writer.join("0000000009-a-00.parquet"), "orphan").unwrap();
    let half = writer.join("0000000009-a-01.parquet#3");
    std::fs::write(&half, "half").unwrap();
    let yesterday = std::time::SystemTime::now() - Duration::from_secs(86_400);
    std::fs::File::options().append(true).open(&half).unwrap().set_modified(yesterday).unwrap();
    std::fs::create_dir(fresh.join("another")).unwrap();
    std::fs::write(fresh.join("another/1.parquet"), "of another writer").unwrap();
    let objects = Arc::new(FolderStore::open(&config.data_dir.join("store"), local()).unwrap());
    let store = open(&config, local(), objects).await.unwrap();
    assert_eq!(names(&writer, ""), committed);
    assert_eq!(names(&fresh.join("another"), ""), ["1.parquet"]);
    assert_eq!(stored(&store).await, [0, 1, 2]);
    close(store).await;
}

/// Scenario: a segment of a later version of this program, and files of folders that can't be used. Guarantee: the start is
/// refused, the error says what to look at, and the segment is untouched.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_segments_stop_the_start() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let journal = config.data_dir.join("journal");
    std::fs::create_dir_all(&journal).unwrap();
    let segment = [b"MESHJRNL".as_slice(), &3u32.to_le_bytes(), &[0; 40]].concat();
    std::fs::write(journal.join("0000000001.journal"), &segment).unwrap();
    let error = open(&config, local(), memory()).await.unwrap_err().to_string();
    assert!(error.contains("0000000001.journal") && error.contains("version 3"), "{error}");
    assert_eq!(std::fs::read(journal.join("0000000001.journal")).unwrap(), segment);
}

/// Scenario: requests come rarely, and hashes are remembered for a shorter time than spans stay live. Guarantee: what is left
/// of a segment goes when it is not needed any more.
#[tokio::test(flavor = "multi_thread")]
async fn old_hashes_are_forgotten() {
    let folder = TempDir::new().unwrap();
    let mut config = eager(folder.path());
    config.ingest.dedupe_window = Duration::from_millis(300);
    let store = open(&config, local(), memory()).await.unwrap();
    append_blocks(&store, 0..3).await;
    let journal = config.data_dir.join("journal");
    wait_until("flushed", || is_flushed(&store)).await;
    wait_until("forgotten", || names(&journal, "").is_empty()).await;
    config.live.flush_size = ByteSize::mib(1);
    close(store).await;

    config.ingest.dedupe_window = Duration::ZERO;
    config.live.flush_age = Duration::from_millis(500);
    let store = open(&config, local(), memory()).await.unwrap();
    append_blocks(&store, 0..3).await;
    wait_until("flushed", || is_flushed(&store)).await;
    wait_until("forgotten before it was retired", || names(&journal, "").is_empty()).await;
    close(store).await;
}
