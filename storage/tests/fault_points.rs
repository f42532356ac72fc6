//! P2 between each pair of steps of the hand-over: a process that ingests, flushes, merges, deletes and retires is killed with
//! SIGKILL before each thing that it changes on the disk, and half-way through each write.
//!
//! `MESHLAKE_FAULT_POINTS=all` kills at every one of them; a number, at so many, others each time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::blocks::{BASE_NS, request, spans, stored_beside, stored_numbers, tenant};
use common::killing::{KillingDisk, KillingStore, Steps};
use common::ledger::Ledger;
use common::{append, child, close, compacting, config, eager, local, objects, open, wait_until};
use futures::{StreamExt, TryStreamExt, stream};
use meshlake_config::{ByteSize, Config, Tenant};
use meshlake_storage::{Disk, FolderStore, Selection, Store, check, open_object_store};
use object_store::ObjectStore;
use tempfile::TempDir;

const POINTS: u64 = 10;
const AT_ONCE: usize = 2;
const FOLDER: &str = "MESHLAKE_FAULT_FOLDER";
const LAST: &str = "MESHLAKE_FAULT_LAST";

/// Blocks whose spans retention takes, but for those whose clocks can't be trusted: they are of the first hour.
fn is_old(block: u64) -> bool {
    block.is_multiple_of(3)
}

fn doomed(ledger: &Ledger) -> BTreeSet<u64> {
    ledger.numbers("asks")
}

/// Merges at once, with what is in the lake, deletes soon, and keeps nothing of the first hour.
fn busy(folder: &Path) -> Config {
    let mut config = compacting(folder, Duration::from_millis(20));
    let cut = Duration::from_nanos(BASE_NS) + Duration::from_secs(2_700);
    config.retention.age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - cut;
    config.compaction.file_size = ByteSize::mib(1);
    // Two files at once: of the third, what goes on in it is carried.
    config.compaction.memory_limit = ByteSize::bytes(1);
    config
}

fn idle(mut config: Config) -> Config {
    config.compaction.enabled = false;
    config
}

async fn open_in(config: &Config) -> Arc<Store> {
    // All points together take longer than it is by default, and each tries again what the first process sent.
    let mut config = config.clone();
    config.ingest.dedupe_window = Duration::from_secs(24 * 3_600);
    open(&config, local(), open_object_store(&config, local()).unwrap()).await.unwrap()
}

fn is_merged(store: &Store) -> bool {
    let snapshot = store.snapshot().unwrap();
    snapshot.live.is_empty() && snapshot.files.iter().all(|file| file.is_in_lake())
}

async fn send(store: &Store, ledger: &Ledger, block: u64) {
    ledger.write("sends", &block.to_string());
    if append(store, request(block)).await.is_ok() {
        ledger.write("sent", &block.to_string());
    }
}

async fn delete(store: &Store, ledger: &Ledger, block: u64) {
    ledger.write("asks", &block.to_string());
    let selection = Selection::Where { condition: block.to_string(), start: None, end: None };
    let deletions = store.deletions();
    if deletions.request(&Tenant::parse(tenant(block)).unwrap(), selection).await.is_ok() {
        ledger.write("asked", &block.to_string());
    }
}

async fn are_finished(store: &Store) -> bool {
    let tenants = ["team-a", "team-b", "default"].map(|name| Tenant::parse(name).unwrap());
    for tenant in &tenants {
        let receipts = store.deletions().receipts(tenant).await.unwrap();
        if receipts.iter().any(|receipt| receipt.finished.is_none()) {
            return false;
        }
    }
    true
}

/// Waits until nothing is left to do.
async fn settle(store: &Store) {
    wait_until("all is merged", || is_merged(store)).await;
    for _ in 0..6_000 {
        let files = store.object_store().as_ref();
        if are_finished(store).await && objects(files, "fresh").await.is_empty() && objects(files, "commits").await.len() <= 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not settled: {:?}", objects(store.object_store().as_ref(), "fresh").await);
}

/// What the process does that is killed: it recovers, and goes on with all that the hand-over has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let ledger = Ledger::in_folder(folder);
    let steps = Steps::new(std::env::var(LAST).unwrap().parse().unwrap(), ledger.clone());
    let disk: Arc<dyn Disk> = Arc::new(KillingDisk(steps.clone()));
    let mut config = busy(folder);
    config.ingest.dedupe_window = Duration::from_secs(24 * 3_600);
    let inner = Arc::new(FolderStore::open(&config.data_dir.join("store"), disk.clone()).unwrap());
    let files: Arc<dyn ObjectStore> = Arc::new(KillingStore { inner, steps: steps.clone() });
    let store = open(&config, disk, files).await.unwrap();
    settle(&store).await;
    send(&store, &ledger, 100).await;
    send(&store, &ledger, 102).await;
    delete(&store, &ledger, 100).await;
    settle(&store).await;
    delete(&store, &ledger, 1).await;
    send(&store, &ledger, 103).await;
    send(&store, &ledger, 101).await;
    settle(&store).await;
    close(store).await;
    ledger.write("steps", &steps.taken().to_string());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let (from, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
            File::options().append(true).open(&to).unwrap().set_modified(from.metadata().unwrap().modified().unwrap()).unwrap();
        }
    }
}

fn make_old(path: &Path) {
    let days = Duration::from_secs(9 * 24 * 3_600);
    File::options().append(true).open(path).unwrap().set_modified(SystemTime::now() - days).unwrap();
}

/// A folder as a kill leaves it: spans in the lake, with a log that is about to get its next checkpoint and has old versions, in
/// fresh files and in the journal; an orphan.
async fn filled(folder: &Path) -> Ledger {
    let ledger = Ledger::in_folder(folder);
    let mut settings = compacting(folder, Duration::ZERO);
    settings.compaction.file_size = ByteSize::mib(1);
    let store = open_in(&settings).await;
    let log = folder.join("data/store/lake/_delta_log");
    let versions = || log.read_dir().map_or(0, |log| log.filter(|entry| is_version(&entry.as_ref().unwrap().path())).count());
    let mut block = 0;
    while versions() < 94 {
        send(&store, &ledger, block).await;
        wait_until("all is merged", || is_merged(&store)).await;
        block += 1;
    }
    close(store).await;
    assert!(versions() < 100 && block < 100);
    for version in 44..48 {
        make_old(&log.join(format!("{version:020}.json")));
    }
    let orphan = folder.join("data/store/lake/data/unplaced/orphan.parquet");
    fs::write(&orphan, "x").unwrap();
    make_old(&orphan);
    let store = open_in(&idle(eager(folder))).await;
    for block in [110, 111, 112, 113, 116] {
        send(&store, &ledger, block).await;
        wait_until("it is flushed", || store.snapshot().unwrap().live.is_empty()).await;
    }
    close(store).await;
    let store = open_in(&idle(config(folder))).await;
    send(&store, &ledger, 120).await;
    send(&store, &ledger, 121).await;
    // Killed, as far as the copy of the folder goes.
    let killed = TempDir::new().unwrap();
    copy(folder, killed.path());
    close(store).await;
    fs::remove_dir_all(folder.join("data")).unwrap();
    copy(&killed.path().join("data"), &folder.join("data"));
    ledger
}

fn is_version(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// Every span is there once, of every block that was acknowledged all are, and of what is deleted or retired none that the store
/// says is gone.
async fn verify(store: &Store, ledger: &Ledger) {
    let (sends, sent): (BTreeSet<u64>, BTreeSet<u64>) = (ledger.numbers("sends"), ledger.numbers("sent"));
    let doomed = doomed(ledger);
    let mut going = doomed.clone();
    going.extend(sends.iter().filter(|block| is_old(**block)));
    let (stored, left) = stored_beside(store, &going).await;
    let stored: BTreeSet<u64> = stored.into_iter().collect();
    let lost: Vec<_> = sent.difference(&stored).filter(|block| !going.contains(block)).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
    assert!(stored.is_subset(&sends) && left.is_subset(&sends));
    for block in left.intersection(&doomed) {
        let receipts = store.deletions().receipts(&Tenant::parse(tenant(*block)).unwrap()).await.unwrap();
        let is_of =
            |selection: &Selection| matches!(selection, Selection::Where { condition, .. } if *condition == block.to_string());
        assert!(receipts.iter().all(|receipt| !is_of(&receipt.selection) || receipt.hidden.is_none()), "{block} is hidden");
    }
}

async fn assert_sound(config: &Config) {
    let report = check(config, local(), open_object_store(config, local()).unwrap()).await.unwrap();
    assert!(report.problems.is_empty(), "{report}");
    // Files of a merge that was never committed go after a day.
    assert!(report.leftovers.iter().all(|left| left.contains("lake/") && left.ends_with("nothing names it")), "{report}");
}

/// The start after the kill: everything is as it should be, goes on, and comes to its end.
async fn recovers(folder: &Path, ledger: &Ledger) {
    let config = idle(config(folder));
    let store = open_in(&config).await;
    verify(&store, ledger).await;
    close(store).await;
    let report = check(&config, local(), open_object_store(&config, local()).unwrap()).await.unwrap();
    assert!(report.problems.is_empty(), "{report}");
    let busy = busy(folder);
    let store = open_in(&busy).await;
    let doomed = doomed(ledger);
    let sends: BTreeSet<u64> = ledger.numbers("sends");
    // Clients try again what was not answered, and some of what was.
    for block in sends.iter().filter(|block| **block >= 100 && !doomed.contains(block)) {
        send(&store, ledger, *block).await;
    }
    settle(&store).await;
    verify(&store, ledger).await;
    let asked: BTreeSet<u64> = ledger.numbers("asked");
    let going: BTreeSet<u64> = asked.iter().copied().chain(sends.iter().copied().filter(|block| is_old(*block))).collect();
    // Retention keeps those whose clocks can't be trusted.
    let trusted = |number: &u64| !number.is_multiple_of(97);
    wait_until("retention is through", || {
        store
            .snapshot()
            .unwrap()
            .files
            .iter()
            .all(|file| file.window.is_none_or(|window| window >= (BASE_NS / 1_000) as i64 + 1_800_000_000))
    })
    .await;
    let numbers = stored_numbers(&store).await;
    let gone = going.iter().flat_map(|block| spans(*block)).filter(trusted).collect::<BTreeSet<_>>();
    let left: Vec<_> = numbers.iter().filter(|number| gone.contains(number)).collect();
    assert!(left.is_empty(), "deleted or retired, and still there: {left:?}");
    let of_asked: Vec<_> = asked.iter().flat_map(|block| spans(*block)).filter(|number| numbers.contains(number)).collect();
    assert!(of_asked.is_empty(), "deleted, and still there: {of_asked:?}");
    close(store).await;
    assert_sound(&config).await;
}

/// Kills a process before one step. What that step was, none if it had come to its end before, and whether all was well afterwards.
async fn point(base: &Path, last: u64) -> (Option<String>, bool) {
    let folder = TempDir::new().unwrap();
    copy(base, folder.path());
    let ledger = Ledger::in_folder(folder.path());
    let mut life = child("life");
    life.env(FOLDER, folder.path()).env(LAST, last.to_string());
    let status = tokio::task::spawn_blocking(move || life.status().unwrap()).await.unwrap();
    let died = ledger.read("died").pop();
    let lived = status.success() == died.is_none();
    let killed = TempDir::new().unwrap();
    copy(folder.path(), killed.path());
    let path = folder.path().to_owned();
    let recovered = lived && tokio::spawn(async move { recovers(&path, &ledger).await }).await.is_ok();
    if !recovered {
        println!(
            "killed before step {last}, {died:?}, {status}: see {} and what became of it, {}",
            killed.keep().display(),
            folder.keep().display()
        );
    }
    (died, recovered)
}

/// Scenario: see above. Guarantee: after each kill, every acknowledged span is there exactly once; what was to be deleted or
/// retired goes, and everything else comes to its end; `check` finds nothing wrong before and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_may_be_the_last() {
    let base = TempDir::new().unwrap();
    filled(base.path()).await;
    // Runs differ by some steps: threads take turns as they like.
    let whole = TempDir::new().unwrap();
    copy(base.path(), whole.path());
    assert!(child("life").env(FOLDER, whole.path()).env(LAST, u64::MAX.to_string()).status().unwrap().success());
    let steps = Ledger::in_folder(whole.path()).numbers::<Vec<u64>>("steps")[0];
    recovers(whole.path(), &Ledger::in_folder(whole.path())).await;
    let mut log = whole.path().join("data/store/lake/_delta_log").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let carries = |path: &Path| is_version(path) && fs::read_to_string(path).unwrap().contains("meshlake.carried");
    assert!(log.any(|path| carries(&path)), "nothing was carried");
    let asked = std::env::var("MESHLAKE_FAULT_POINTS").unwrap_or_else(|_| POINTS.to_string());
    let points: u64 = if asked == "all" { steps } else { asked.parse().unwrap() };
    let stride = (steps / points).max(1);
    let offset = (common::now() as u64 / 1_000) % stride;
    let lasts = (0..points).map(|point| point * stride + offset);
    let base = base.path();
    let died = stream::iter(lasts).map(|last| async move { Ok::<_, String>((last, point(base, last).await)) });
    let died: BTreeMap<u64, (Option<String>, bool)> = died.buffer_unordered(AT_ONCE).try_collect().await.unwrap();
    let mut kinds = BTreeMap::<&str, u64>::new();
    for (kind, _) in died.values() {
        *kinds.entry(kind.as_deref().unwrap_or("its end")).or_default() += 1;
    }
    println!("{points} of {steps} steps, by kind: {kinds:#?}");
    assert!(died.values().all(|(_, recovered)| *recovered), "see above");
    if asked == "all" {
        for kind in
            ["link commits json", "link lake _delta_log json", "append lake _delta_log checkpoint.parquet", "delete fresh parquet"]
        {
            assert!(kinds.contains_key(kind), "{kind} did not come up");
        }
    }
}
