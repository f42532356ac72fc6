//! The lake: what is merged, by whom, and what goes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::blocks::{Blocks, SPREAD, assert_stored, request_of, spans, stored, tenant};
use common::objects::Unsteady;
use common::{append, append_blocks, close, compacting, config, eager, local, memory, objects, open, wait_until};
use meshlake_config::{ByteSize, Config, Tenant, TenantRetention};
use meshlake_storage::{DeletionError, LoneCompactor, Metrics, Receipt, Selection, Store, open_object_store};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use prometheus_client::registry::Registry;
use tempfile::TempDir;

/// Waits until every span is in the lake, and nothing that was replaced is left.
async fn settled(store: &Store, files: Arc<dyn ObjectStore>) {
    wait_until("all is in the lake", || {
        let snapshot = store.snapshot().unwrap();
        snapshot.live.is_empty() && snapshot.files.iter().all(|file| file.path.starts_with("lake/"))
    })
    .await;
    for _ in 0..2_000 {
        if objects(files.as_ref(), "fresh").await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("fresh files are left: {:?}", objects(files.as_ref(), "fresh").await);
}

async fn open_in(config: &Config, files: &Arc<dyn ObjectStore>) -> Arc<Store> {
    open(config, local(), files.clone()).await.unwrap()
}

/// Scenario: many flushes of several tenants and windows, merged. Guarantee: each span is there once and as it was, each file
/// is of one tenant and window, is sorted and knows its traces; fresh files and their records are gone but for the last; the
/// next start finds the same.
#[tokio::test(flavor = "multi_thread")]
async fn fresh_files_become_lake_files() {
    let folder = TempDir::new().unwrap();
    let files = memory();
    let config = compacting(folder.path(), Duration::ZERO);
    let store = open_in(&config, &files).await;
    let blocks: Vec<u64> = (0..60).chain(SPREAD..SPREAD + 3).collect();
    for block in &blocks {
        append_blocks(&store, [*block]).await;
    }
    settled(&store, files.clone()).await;
    assert_eq!(stored(&store).await, blocks);
    let snapshot = store.snapshot().unwrap();
    for file in snapshot.files.iter() {
        assert_eq!(file.tenants.len(), 1);
        assert!(file.window.is_none_or(|window| window <= file.start_min && file.start_max < window + 3_600_000_000));
        let (_, rows) = common::blocks::read_file(files.as_ref(), &file.path).await;
        let traces = rows.column_by_name("trace_id").unwrap();
        let traces: Vec<[u8; 16]> =
            arrow::array::AsArray::as_fixed_size_binary(traces.as_ref()).iter().map(|id| id.unwrap().try_into().unwrap()).collect();
        assert!(traces.is_sorted(), "{}", file.path);
        let filter = file.traces.as_ref().unwrap();
        assert!(traces.iter().all(|trace| filter.may_hold(trace)), "{}", file.path);
    }
    close(store).await;
    let store = open_in(&config, &files).await;
    assert_eq!(stored(&store).await, blocks);
    assert!(store.snapshot().unwrap().files.iter().all(|file| file.traces.is_some()));
    wait_until("records go", || futures::executor::block_on(objects(files.as_ref(), "commits")).len() <= 2).await;
    close(store).await;
}

/// Scenario: many spans of two tenants, most of whose attributes are those of few keys, more spans after the first are merged, and
/// the store opened again. Guarantee: frequent attributes get columns, in files to come, as many as are allowed; a column that is
/// there stays; each tenant is shown those it has values of; every row reads back as it was, and `check` finds nothing wrong.
#[tokio::test(flavor = "multi_thread")]
async fn frequent_attributes_get_columns() {
    let folder = TempDir::new().unwrap();
    let files = memory();
    let mut settings = compacting(folder.path(), Duration::ZERO);
    settings.compaction.promoted_max = 4;
    settings.compaction.file_size = ByteSize::mib(8);
    let numbers: Vec<u64> = (0..60_000).collect();
    let columns = |store: &Store, tenant: &str| -> Vec<String> {
        store.snapshot().unwrap().promotions.of(tenant).map(|promoted| promoted.column()).collect()
    };
    let mut first = Vec::new();
    for (round, part) in numbers.chunks(30_000).enumerate() {
        // Merged together, not one by one as they come.
        settings.compaction.enabled = false;
        let store = open_in(&settings, &files).await;
        for spans in part.chunks(3_000) {
            append(&store, request_of("team-a", spans)).await.unwrap();
        }
        close(store).await;
        settings.compaction.enabled = true;
        let store = open_in(&settings, &files).await;
        settled(&store, files.clone()).await;
        assert_stored(&store, "team-a", &numbers[..(round + 1) * 30_000]).await;
        let promoted: Vec<String> = store.snapshot().unwrap().promotions.list.iter().map(|promoted| promoted.column()).collect();
        assert!(promoted.len() == 4 && promoted.starts_with(&first), "{promoted:?} after {first:?}");
        assert!(promoted.contains(&"resource.host".to_owned()), "{promoted:?}");
        first = promoted;
        close(store).await;
    }
    settings.compaction.enabled = false;
    let store = open_in(&settings, &files).await;
    append(&store, request_of("team-b", &[1])).await.unwrap();
    assert_eq!((columns(&store, "team-a"), columns(&store, "team-b")), (first, vec![]));
    close(store).await;
    let report = meshlake_storage::check(&settings, local(), files).await.unwrap();
    assert_eq!(report.problems, []);
}

/// Scenario: the same spans reach two collectors. Guarantee: they count twice until they are merged, then once (P2).
#[tokio::test(flavor = "multi_thread")]
async fn duplicates_go() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let files = memory();
    for folder in &folders {
        let store = open_in(&eager(folder.path()), &files).await;
        append_blocks(&store, 0..10).await;
        close(store).await;
    }
    let third = TempDir::new().unwrap();
    let rows = |store: &Store| store.snapshot().unwrap().files.iter().map(|file| file.rows).sum::<u64>();
    let store = open_in(&config(third.path()), &files).await;
    let twice = rows(&store);
    close(store).await;
    let mut merging = compacting(third.path(), Duration::ZERO);
    // All of a window at once: what is merged apart is not compared.
    merging.compaction.file_size = ByteSize::mib(8);
    let store = open_in(&merging, &files).await;
    settled(&store, files).await;
    assert_eq!(rows(&store) * 2, twice);
    assert_eq!(stored(&store).await, (0..10).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: two collectors with one object store both merge all they find, while both take spans in. Guarantee: each window
/// is merged by one of them: no span is lost or there twice, and no file is left that nobody names.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_compactors_share_a_lake() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let files = memory();
    let mut stores = Vec::new();
    for folder in &folders {
        stores.push(open_in(&compacting(folder.path(), Duration::from_secs(5)), &files).await);
    }
    for block in 0..40u64 {
        append_blocks(&stores[block as usize % 2], [block]).await;
    }
    // Each sees the other one's spans when they are in the lake, window by window, and none of them twice.
    let total: u64 = (0..40).map(|block| spans(block).len() as u64).sum();
    for store in &stores {
        wait_until("all is seen by both", || {
            let snapshot = store.snapshot().unwrap();
            let live: usize = snapshot.live.iter().map(|live| live.batch.num_rows()).sum();
            let rows = snapshot.files.iter().map(|file| file.rows).sum::<u64>() + live as u64;
            assert!(rows <= total, "{rows} of {total} rows");
            rows == total
        })
        .await;
        assert_eq!(stored(store).await, (0..40).collect::<Vec<_>>());
    }
    for store in stores {
        close(store).await;
    }
    // What the first of them flushed last, the other may not have seen.
    let store = open_in(&compacting(folders[0].path(), Duration::ZERO), &files).await;
    settled(&store, files.clone()).await;
    assert_eq!(stored(&store).await, (0..40).collect::<Vec<_>>());
    wait_until("what was replaced goes", || {
        let named: Vec<String> = store.snapshot().unwrap().files.iter().map(|file| file.path.clone()).collect();
        let mut named = named;
        named.sort();
        named == futures::executor::block_on(objects(files.as_ref(), "lake/data"))
    })
    .await;
    close(store).await;
}

/// Scenario: a commit gets through, but its answer is lost; before the flush is tried again another process merges its files, and
/// the first one follows. Guarantee: the spans, which it has in memory and in the lake, count once at any time (P2).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_merged_before_it_left_memory_counts_once() {
    let folder = TempDir::new().unwrap();
    let files = memory();
    let unsteady = Unsteady::new(files.clone());
    let mut server = compacting(folder.path(), Duration::ZERO);
    server.compaction.enabled = false;
    let store = open(&server, local(), unsteady.clone()).await.unwrap();
    append_blocks(&store, [0]).await;
    wait_until("it is flushed", || store.snapshot().unwrap().live.is_empty()).await;
    // The next commit gets through, and waits from its second attempt on.
    unsteady.lost_answers.store(1, Ordering::SeqCst);
    unsteady.hold();
    unsteady.permits.add_permits(1);
    append_blocks(&store, [1]).await;
    wait_until("an answer is lost", || unsteady.lost_answers.load(Ordering::SeqCst) == 0).await;
    let metrics = Metrics::new(&mut Registry::default());
    let config = compacting(folder.path(), Duration::ZERO);
    let (compactor, _stop) =
        LoneCompactor::open(&config, files.clone(), Arc::new(Blocks), Arc::new(Blocks), metrics).await.unwrap();
    tokio::task::spawn_blocking(|| compactor.run_once()).await.unwrap().unwrap();
    let rows = || {
        let snapshot = store.snapshot().unwrap();
        let live: usize = snapshot.live.iter().map(|live| live.batch.num_rows()).sum();
        snapshot.files.iter().map(|file| file.rows).sum::<u64>() as usize + live
    };
    let expected = spans(0).len() + spans(1).len();
    for _ in 0..100 {
        assert_eq!(rows(), expected);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!store.snapshot().unwrap().live.is_empty());
    unsteady.permits.add_permits(1_000);
    wait_until("all is in the lake", || {
        assert_eq!(rows(), expected);
        let snapshot = store.snapshot().unwrap();
        snapshot.live.is_empty() && snapshot.files.iter().all(|file| file.is_in_lake())
    })
    .await;
    assert_eq!(stored(&store).await, [0, 1]);
    close(store).await;
}

/// Scenario: so many commits that the log has checkpoints. Guarantee: a start from a checkpoint knows the same files.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_checkpoints() {
    let folder = TempDir::new().unwrap();
    let files = memory();
    let config = compacting(folder.path(), Duration::ZERO);
    let store = open_in(&config, &files).await;
    let checkpoints = || futures::executor::block_on(objects(files.as_ref(), "lake/_delta_log"));
    let mut block = 0;
    while !checkpoints().iter().any(|path| path.ends_with(".checkpoint.parquet")) {
        append_blocks(&store, [block]).await;
        settled(&store, files.clone()).await;
        block += 1;
        assert!(block < 200, "no checkpoint");
    }
    close(store).await;
    let store = open_in(&config, &files).await;
    assert_eq!(stored(&store).await, (0..block).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: spans older than retention keeps them, in the lake. Guarantee: they go, with their files and filters; those whose
/// clocks can't be trusted are kept by the time at which they came.
#[tokio::test(flavor = "multi_thread")]
async fn retention_takes_old_files() {
    let folder = TempDir::new().unwrap();
    let files = memory();
    let mut config = compacting(folder.path(), Duration::ZERO);
    let store = open_in(&config, &files).await;
    append_blocks(&store, 0..20).await;
    settled(&store, files.clone()).await;
    assert!(store.snapshot().unwrap().files.iter().any(|file| file.window.is_some()));
    close(store).await;
    config.retention.age = Duration::from_secs(3_600);
    let store = open_in(&config, &files).await;
    let kept = || store.snapshot().unwrap().files.iter().map(|file| (file.path.clone(), file.window)).collect::<Vec<_>>();
    wait_until("files go", || kept().iter().all(|(_, window)| window.is_none())).await;
    // A filter, a summary, the attributes, the rollup and the summaries of traces beside each.
    for (folder, each) in [("lake/data", 1), ("lake/_index", 5)] {
        wait_until("objects go", || futures::executor::block_on(objects(files.as_ref(), folder)).len() == each * kept().len())
            .await;
    }
    let left = kept();
    assert!(!left.is_empty());
    close(store).await;
    let store = open_in(&config, &files).await;
    let again = store.snapshot().unwrap().files.iter().map(|file| (file.path.clone(), file.window)).collect::<Vec<_>>();
    assert_eq!(again, left);
    close(store).await;
}

/// Scenario: spans older than retention keeps them, of three tenants, of which one's are kept for longer, and then no more bytes of them
/// than there are. Guarantee: first those of the others go, and then the oldest of that one's.
#[tokio::test(flavor = "multi_thread")]
async fn retention_of_a_tenant_is_its_own() {
    let folder = TempDir::new().unwrap();
    let files = memory();
    let mut config = compacting(folder.path(), Duration::ZERO);
    let store = open_in(&config, &files).await;
    append_blocks(&store, 0..30).await;
    settled(&store, files.clone()).await;
    let of = |store: &Store, tenant: &str| -> Vec<(i64, u64)> {
        let files = store.snapshot().unwrap().files;
        let own = files.iter().filter(|file| file.window.is_some() && file.tenants == [tenant]);
        let mut own: Vec<(i64, u64)> = own.map(|file| (file.start_max, file.size)).collect();
        own.sort_unstable();
        own
    };
    let before = of(&store, "team-a");
    assert!(before.len() > 1 && !of(&store, "team-b").is_empty());
    close(store).await;

    let longer = TenantRetention { age: Some(config.retention.age), size: None };
    config.retention.age = Duration::from_secs(3_600);
    config.retention.tenants.insert("team-a".to_owned(), longer);
    let store = open_in(&config, &files).await;
    wait_until("files of others go", || of(&store, "team-b").is_empty() && of(&store, "default").is_empty()).await;
    close(store).await;
    let store = open_in(&config, &files).await;
    assert_eq!(of(&store, "team-a"), before);
    let files_now = store.snapshot().unwrap().files;
    let unplaced = files_now.iter().filter(|file| file.window.is_none() && file.tenants == ["team-a"]).map(|file| file.size);
    let unplaced: u64 = unplaced.sum();
    close(store).await;

    // Files without a window are younger, for they count by the time they came.
    let most = before[1..].iter().map(|(_, size)| size).sum::<u64>() + unplaced;
    config.retention.tenants.get_mut("team-a").unwrap().size = Some(ByteSize::bytes(most));
    let store = open_in(&config, &files).await;
    wait_until("the oldest goes", || of(&store, "team-a").len() < before.len()).await;
    close(store).await;
    let store = open_in(&config, &files).await;
    assert_eq!(of(&store, "team-a"), before[1..]);
    close(store).await;
}

/// Scenario: beside lake files there is what is beside none, some of it old; what is beside a file of the table is old, too. Guarantee:
/// what is old and beside none goes, the rest stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_beside_no_file_goes() {
    let folder = TempDir::new().unwrap();
    let config = compacting(folder.path(), Duration::ZERO);
    let files = open_object_store(&config, local()).unwrap();
    let store = open_in(&config, &files).await;
    append_blocks(&store, 0..10).await;
    settled(&store, files.clone()).await;
    close(store).await;
    let before = objects(files.as_ref(), "lake/_index").await;
    assert!(!before.is_empty());
    let kinds = ["traces", "summary", "attributes", "rollup", "trace-summaries"];
    let index = config.data_dir.join("store/lake/_index");
    for kind in kinds {
        std::fs::write(index.join(format!("old.{kind}")), "x").unwrap();
    }
    for entry in index.read_dir().unwrap() {
        let file = std::fs::File::options().append(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_hours(25)).unwrap();
    }
    std::fs::write(index.join("young.traces"), "x").unwrap();
    let store = open_in(&config, &files).await;
    wait_until("it goes", || !kinds.iter().any(|kind| index.join(format!("old.{kind}")).exists())).await;
    close(store).await;
    let mut after = objects(files.as_ref(), "lake/_index").await;
    after.retain(|path| path != "lake/_index/young.traces");
    assert_eq!(after, before);
    assert!(index.join("young.traces").exists());
    let report = meshlake_storage::check(&config, local(), files).await.unwrap();
    assert_eq!(report.problems, []);
}

/// Waits until a deletion is finished; its receipt.
async fn finished(store: &Store, tenant: &Tenant, id: &str) -> Receipt {
    for _ in 0..6_000 {
        let receipt = store.deletions().receipt(tenant, id).await.unwrap().unwrap();
        if receipt.finished.is_some() {
            return receipt;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not finished: {:?}", store.deletions().receipt(tenant, id).await);
}

/// Scenario: a trace is deleted while it is in the lake, another while it is live, and a block whose spans come again afterwards;
/// the store is opened again in between. Guarantee: exactly what was there when it was asked for goes, of that tenant alone; the
/// receipt names the files, which are gone, and how many spans they lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_goes() {
    let folder = TempDir::new().unwrap();
    let files = memory();
    let mut settings = compacting(folder.path(), Duration::ZERO);
    let store = open_in(&settings, &files).await;
    append_blocks(&store, 0..30).await;
    settled(&store, files.clone()).await;
    close(store).await;
    // From here on spans stay live until somebody asks for them.
    settings.live = config(folder.path()).live;
    let store = open_in(&settings, &files).await;
    append_blocks(&store, 30..40).await;
    let tenants = [4, 32].map(|block| Tenant::parse(tenant(block)).unwrap());
    let block = |block: u64| Selection::Where { condition: block.to_string(), start: None, end: None };
    let deletions = store.deletions();
    assert!(matches!(deletions.request(&tenants[0], Selection::Trace("x".into())).await, Err(DeletionError::Condition(_))));
    let in_lake = deletions.request(&tenants[0], block(4)).await.unwrap();
    let in_memory = deletions.request(&tenants[1], block(32)).await.unwrap();
    let of_another = deletions.request(&tenants[0], block(32)).await.unwrap();
    assert_eq!(deletions.receipt(&tenants[1], &in_lake.id).await.unwrap(), None, "another tenant's");
    close(store).await;
    let store = open_in(&settings, &files).await;
    let of_lake = finished(&store, &tenants[0], &in_lake.id).await;
    let of_memory = finished(&store, &tenants[1], &in_memory.id).await;
    assert_eq!((of_lake.spans(), of_memory.spans()), (spans(4).len() as u64, spans(32).len() as u64));
    assert_eq!(finished(&store, &tenants[0], &of_another.id).await.files, []);
    assert!(of_lake.files.iter().all(|file| file.file.starts_with("lake/")));
    assert!(of_memory.files.iter().all(|file| file.file.starts_with("fresh/")));
    for file in of_lake.files.iter().chain(&of_memory.files) {
        assert!(file.replaced.unwrap() <= file.deleted.unwrap());
        assert!(files.head(&Path::from(file.file.as_str())).await.is_err(), "{file:?}");
    }
    assert_eq!(stored(&store).await, (0..40).filter(|block| ![4, 32].contains(block)).collect::<Vec<_>>());
    // The retry is known, so the same spans come with other bytes.
    let mut again = spans(4);
    again.reverse();
    common::try_append(&store, common::blocks::request_of(tenant(4), &again)).await.unwrap().unwrap();
    assert_eq!(stored(&store).await, (0..40).filter(|block| *block != 32).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: requests are refused for want of room while fresh files are due, and then no more. Guarantee: nothing is merged
/// meanwhile, for the requests need the machine, and everything afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn merges_wait_while_requests_are_refused() {
    let folder = TempDir::new().unwrap();
    let files = memory();
    let store = open_in(&compacting(folder.path(), Duration::ZERO), &files).await;
    for block in 0..20 {
        store.note_refusal();
        append_blocks(&store, [block]).await;
    }
    for _ in 0..10 {
        store.note_refusal();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let lake = |file: &std::sync::Arc<meshlake_storage::SpanFile>| file.is_in_lake();
    assert!(!store.snapshot().unwrap().files.iter().any(lake));
    settled(&store, files.clone()).await;
    assert!(store.snapshot().unwrap().files.iter().all(lake));
    assert_eq!(stored(&store).await, (0..20).collect::<Vec<_>>());
    close(store).await;
}

/// Scenario: requests are refused for want of room while a merge runs, and then no more. Guarantee: the merge waits, and then goes
/// on where it was: each number that was given to a merge stands in the name of a file.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_goes_on_after_requests_were_refused() {
    let folder = TempDir::new().unwrap();
    let slow = Unsteady::new(memory());
    let files: Arc<dyn ObjectStore> = slow.clone();
    let store = open_in(&compacting(folder.path(), Duration::ZERO), &files).await;
    // All is there when the merge begins, so that what is merged is not merged again.
    store.compaction().pause();
    append_blocks(&store, 0..20).await;
    wait_until("all is flushed", || store.snapshot().unwrap().live.is_empty()).await;
    // The merge has read nothing yet when the requests are refused.
    let unread = slow.fresh.write().await;
    store.compaction().resume();
    wait_until("a merge runs", || store.compaction().status().merging).await;
    store.note_refusal();
    drop(unread);
    for _ in 0..10 {
        store.note_refusal();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(store.compaction().status().merging);
    settled(&store, files.clone()).await;
    let merge = |path: &str| path.rsplit('-').nth(1).unwrap().parse::<usize>().unwrap();
    let merges: BTreeSet<usize> = store.snapshot().unwrap().files.iter().map(|file| merge(&file.path)).collect();
    assert_eq!(merges, (1..=merges.len()).collect());
    assert_eq!(stored(&store).await, (0..20).collect::<Vec<_>>());
    close(store).await;
}
