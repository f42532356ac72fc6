//! P1 and P2 across kills and power losses: what was acknowledged is there exactly once, what was not is there whole or not
//! at all, whenever and however often the machine dies.
//!
//! `MESHLAKE_POWER_LOSS_ROUNDS` sets the number of machines that live and die, `MESHLAKE_POWER_LOSS_SEED` the first seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use common::blocks::{request, spans, stored_beside, tenant};
use common::lossy::LossyDisk;
use common::{Rng, blocks::Blocks, close, compacting, config, eager, try_append};
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use meshlake_config::Tenant;
use meshlake_storage::{Accepted, Answer, FolderStore, Metrics, Receipt, Refused, Selection, Store};
use prometheus_client::registry::Registry;

const ROUNDS: u64 = 25;
/// Failed flushes pause, so rounds overlap.
const ROUNDS_AT_ONCE: usize = 6;
const LIVES: u64 = 5;

/// What the clients know.
#[derive(Debug, Default)]
struct Ledger {
    sent: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    /// Blocks that were asked to be deleted: they may be there, whole or in part, or not.
    doomed: BTreeSet<u64>,
    next: u64,
}

impl Ledger {
    fn pick(&self, rng: &mut Rng) -> Option<u64> {
        let sent: Vec<u64> = self.sent.difference(&self.doomed).copied().collect();
        (!sent.is_empty()).then(|| sent[rng.below(sent.len() as u64) as usize])
    }

    /// Sends blocks at once; some may be retries of others that were sent at any earlier time.
    async fn send(&mut self, store: &Store, disk: &LossyDisk, blocks: Vec<u64>) {
        self.sent.extend(&blocks);
        let answers = join_all(blocks.iter().map(|&block| answer(store, disk, block))).await;
        for (block, answer) in blocks.into_iter().zip(answers) {
            match answer {
                Some(Ok(accepted)) => {
                    assert_eq!(accepted, Accepted { spans: spans(block).len() as u64, ..Accepted::default() });
                    self.acknowledged.insert(block);
                }
                Some(Err(Refused::Unavailable(_))) | None => {}
                Some(Err(other)) => panic!("block {block}: {other}"),
            }
        }
    }

    /// Asks for a block to be deleted.
    async fn delete(&mut self, store: &Store, block: u64) {
        self.doomed.insert(block);
        let selection = Selection::Where { condition: block.to_string(), start: None, end: None };
        let deletions = store.deletions().clone();
        // Of one that fails, or dies with the machine, it is not known whether it was taken.
        let _ = tokio::spawn(async move { deletions.request(&tenant_of(block), selection).await.map(drop) }).await;
    }

    /// Waits until every deletion is finished: then nothing of them is left.
    async fn finish(&self, store: Arc<Store>) {
        let tenants = ["team-a", "team-b", "default"].map(|name| Tenant::parse(name).unwrap());
        let receipts = async || join_all(tenants.iter().map(|tenant| store.deletions().receipts(tenant))).await;
        let mut waited = 0;
        while receipts().await.into_iter().flat_map(Result::unwrap).any(|receipt| receipt.finished.is_none()) {
            waited += 1;
            assert!(waited < 6_000, "{:?}", receipts().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        close(store).await;
    }

    async fn check(&self, store: &Store) {
        let began = common::now();
        let (stored, left) = stored_beside(store, &self.doomed).await;
        for block in &left {
            let receipts = receipts(store, tenant_of(*block)).await;
            let is_of = |receipt: &&Receipt| matches!(&receipt.selection, Selection::Where { condition, .. } if *condition == block.to_string());
            // A receipt that says so after the snapshot was taken proves nothing.
            assert!(
                receipts.iter().find(is_of).is_none_or(|receipt| receipt.hidden.is_none_or(|at| at > began)),
                "{block} is hidden"
            );
        }
        let stored: BTreeSet<u64> = stored.into_iter().collect();
        let lost: Vec<_> = self.acknowledged.difference(&stored).filter(|block| !self.doomed.contains(block)).collect();
        assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
        let strange: Vec<_> = stored.difference(&self.sent).collect();
        assert!(strange.is_empty(), "never sent: {strange:?}");
    }
}

fn tenant_of(block: u64) -> Tenant {
    Tenant::parse(tenant(block)).unwrap()
}

/// A tenant's receipts: none on a machine without power.
async fn receipts(store: &Store, tenant: Tenant) -> Vec<Receipt> {
    let deletions = store.deletions().clone();
    let reading = tokio::spawn(async move { deletions.receipts(&tenant).await.unwrap_or_default() });
    reading.await.unwrap_or_default()
}

/// Sends a block, and waits for its answer for as long as there is power.
async fn answer(store: &Store, disk: &LossyDisk, block: u64) -> Option<Answer> {
    let mut answer = pin!(try_append(store, request(block)));
    loop {
        match tokio::time::timeout(Duration::from_millis(20), &mut answer).await {
            Ok(answer) => return answer,
            Err(_) if disk.is_dead() => return None,
            Err(_) => {}
        }
    }
}

/// How a store is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It flushes only when it closes.
    Collect,
    Flush,
    /// Files that were merged stay for those that read them.
    Compact,
    /// They go at once.
    Delete,
}

/// Opens a store on a disk that may die meanwhile: then there is none.
async fn boot(disk: &LossyDisk, way: Way) -> Option<Arc<Store>> {
    let config = match way {
        Way::Collect => config(disk.root()),
        Way::Flush => eager(disk.root()),
        Way::Compact => compacting(disk.root(), Duration::from_secs(5)),
        Way::Delete => compacting(disk.root(), Duration::ZERO),
    };
    let on: Arc<LossyDisk> = Arc::new(disk.clone());
    let opening = tokio::spawn(async move {
        let objects = FolderStore::open(&config.data_dir.join("store"), on.clone()).map_err(|error| error.to_string())?;
        let metrics = Metrics::new(&mut Registry::default());
        Store::open(&config, on, Arc::new(objects), Arc::new(Blocks), Arc::new(Blocks), Arc::new(Blocks), metrics)
            .await
            .map_err(|error| error.to_string())
    });
    match opening.await {
        Ok(Ok(store)) => {
            while !store.health().ready && !disk.is_dead() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Some(store)
        }
        Ok(Err(error)) => {
            assert!(disk.is_flaky(), "{error}");
            None
        }
        Err(died) => {
            assert!(disk.is_dead(), "{died}");
            None
        }
    }
}

/// One life of a machine: from its start to the loss of its power, or of its process.
async fn live(disk: &LossyDisk, rng: &mut Rng, ledger: &mut Ledger) {
    // The first operations are those of the start, so some lives end in the middle of a recovery.
    let operations = if rng.one_in(3) { 30 } else { 400 };
    disk.die_after(rng.below(operations));
    if rng.one_in(3) {
        disk.make_flaky();
    }
    let way = [Way::Collect, Way::Flush, Way::Compact, Way::Delete][rng.below(4) as usize];
    let Some(store) = boot(disk, way).await else { return };
    // What is deleted at once can't be read by those that began before.
    let can_read = |store: &Store| {
        let health = store.health();
        health.ready && health.alive && way != Way::Delete
    };
    if can_read(&store) {
        ledger.check(&store).await;
    }
    for _ in 0..rng.below(20) {
        match rng.below(9) {
            0 => tokio::time::sleep(Duration::from_millis(rng.below(8))).await,
            1 if can_read(&store) => ledger.check(&store).await,
            2 => {
                if let Some(block) = ledger.pick(rng) {
                    ledger.delete(&store, block).await;
                }
            }
            3 | 4 => {
                let retry = ledger.pick(rng).into_iter().collect();
                ledger.send(&store, disk, retry).await;
            }
            _ => {
                let mut blocks: Vec<u64> = (ledger.next..ledger.next + 1 + rng.below(6)).collect();
                ledger.next += blocks.len() as u64;
                blocks.extend(ledger.pick(rng));
                ledger.send(&store, disk, blocks).await;
            }
        }
    }
    if rng.one_in(2) {
        disk.die();
    }
    close(store).await;
    disk.die();
}

/// The end of a round: on a sound disk everything that was acknowledged is there, and all retries are known.
async fn settle(disk: &LossyDisk, ledger: &mut Ledger) {
    let store = boot(disk, Way::Collect).await.unwrap();
    ledger.check(&store).await;
    let kept: Vec<u64> = ledger.sent.difference(&ledger.doomed).copied().collect();
    ledger.send(&store, disk, kept.clone()).await;
    assert!(kept.iter().all(|block| ledger.acknowledged.contains(block)), "a sound disk refuses nothing");
    ledger.check(&store).await;
    close(store).await;
    let store = boot(&disk.after_power_loss(), Way::Collect).await.unwrap();
    let snapshot = store.snapshot().unwrap();
    assert!(snapshot.live.is_empty(), "closing flushes");
    ledger.check(&store).await;
    close(store).await;
    ledger.finish(boot(disk, Way::Delete).await.unwrap()).await;
    // What is deleted at once can't be read by who began before.
    let store = boot(disk, Way::Collect).await.unwrap();
    ledger.check(&store).await;
    close(store).await;
}

async fn round(seed: u64) {
    let mut rng = Rng(seed);
    let mut ledger = Ledger::default();
    let mut disk = LossyDisk::new(rng.next());
    for _ in 0..1 + rng.below(LIVES) {
        live(&disk, &mut rng, &mut ledger).await;
        disk = if rng.one_in(3) { disk.after_kill() } else { disk.after_power_loss() };
    }
    settle(&disk, &mut ledger).await;
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Scenario: machines that append, retry and flush at random lose their power or their process at random operations, also
/// while they recover from the last time, some on disks that fail now and then. Guarantee: P1, P2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_requests_survive() {
    let first = setting("MESHLAKE_POWER_LOSS_SEED", 1);
    let seeds = first..first + setting("MESHLAKE_POWER_LOSS_ROUNDS", ROUNDS);
    let rounds = stream::iter(seeds).map(|seed| async move { tokio::spawn(round(seed)).await.map_err(|failure| (seed, failure)) });
    let done: Result<Vec<()>, _> = rounds.buffer_unordered(ROUNDS_AT_ONCE).try_collect().await;
    done.unwrap();
}

/// Scenario: the process is killed at each operation of its first start and first requests; the next one goes on where it
/// stopped, and the power goes. Guarantee: P1, P2, also for what only the first one had named and written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_start_is_no_foundation() {
    for operations in 0..32 {
        for seed in 0..2 {
            let mut ledger = Ledger::default();
            let disk = LossyDisk::new(operations * 2 + seed);
            disk.die_after(operations);
            if let Some(store) = boot(&disk, Way::Flush).await {
                ledger.send(&store, &disk, vec![0]).await;
                disk.die();
                close(store).await;
            }
            let disk = disk.after_kill();
            let store = boot(&disk, Way::Collect).await.unwrap();
            ledger.send(&store, &disk, vec![0, 1]).await;
            disk.die();
            close(store).await;
            settle(&disk.after_power_loss(), &mut ledger).await;
        }
    }
}
