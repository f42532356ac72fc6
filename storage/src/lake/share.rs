//! What a compaction may take of the machine: of a core, of the disk or network, of memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use meshlake_config::Config;
use parking_lot::Mutex;

use super::compaction::Compaction;
use crate::layout::{FRESH_ROWS, LAKE_ROWS};
use crate::snapshot::SpanFile;
use crate::store::Status;

/// How often one that rests looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// The share of one compaction thread.
#[derive(Debug)]
pub(super) struct Share {
    cpu_percent: u32,
    /// Bytes a second; 0: no limit.
    io_limit: u64,
    status: Arc<Status>,
    compaction: Arc<Compaction>,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    /// Since when it works.
    since: Instant,
    /// How long of that it rested.
    rested: Duration,
    /// When what was read and written so far is paid for.
    paid: Instant,
}

impl Share {
    pub(super) fn new(config: &Config, status: Arc<Status>, compaction: Arc<Compaction>) -> Share {
        let now = Instant::now();
        let spent = Mutex::new(Spent { since: now, rested: Duration::ZERO, paid: now });
        let io_limit = config.compaction.io_limit.as_u64();
        Share { cpu_percent: config.compaction.cpu_percent, io_limit, status, compaction, spent }
    }

    /// Whether the work is to end: the process does, or somebody paused it.
    pub(super) fn is_revoked(&self) -> bool {
        self.status.closing.load(Ordering::Acquire) || !self.compaction.may_run()
    }

    /// Work begins, after a time that counts for nothing.
    pub(super) fn begin(&self) {
        let mut spent = self.spent.lock();
        (spent.since, spent.rested) = (Instant::now(), Duration::ZERO);
    }

    /// Rests for what was worked since the last time. By the clock: waiting for the disk counts as work, so that the share of
    /// the processors is never more than it should be, whichever thread does the reading.
    pub(super) async fn rest(&self) {
        let worked = {
            let spent = self.spent.lock();
            spent.since.elapsed().saturating_sub(spent.rested)
        };
        self.wait_until(Instant::now() + worked * (100 - self.cpu_percent) / self.cpu_percent).await;
        self.begin();
    }

    /// Waits until earlier transfers are paid for, and takes so many bytes.
    pub(super) async fn transfer(&self, bytes: u64) {
        if self.io_limit == 0 {
            return;
        }
        let began = Instant::now();
        let paid = {
            let mut spent = self.spent.lock();
            let paid = spent.paid.max(began);
            spent.paid = paid + Duration::from_secs_f64(bytes as f64 / self.io_limit as f64);
            paid
        };
        self.wait_until(paid).await;
        self.spent.lock().rested += began.elapsed();
    }

    /// Does nothing for a moment, which counts for nothing.
    pub(super) async fn idle(&self) {
        let began = Instant::now();
        tokio::time::sleep(TICK).await;
        self.spent.lock().rested += began.elapsed();
    }

    async fn wait_until(&self, end: Instant) {
        while !self.is_revoked() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(TICK)).await;
        }
    }
}

/// Memory of a merge besides the files it reads: the two row groups that are being written, of traces that are whole and of those
/// that are carried, and the parts that are being put.
const WRITING: u64 = 104 << 20;
/// Of each file that is read: decompressors and dictionaries of a hundred columns.
const OPEN_FILE: u64 = 4 << 20;
/// Rows of a file that are held decoded at most, and how much larger they are then.
const DECODED: (u64, u64) = (3_072, 16);
/// Files that are merged at once, whatever the memory.
const RUNS_MAX: usize = 40;
/// Bytes that are put at once, and held till then: S3 takes no smaller parts, and larger ones serve nobody.
const PARTS: (u64, u64) = (5 << 20, 8 << 20);

/// How much memory a merge may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    limit: u64,
}

impl Memory {
    pub(super) fn new(config: &Config) -> Memory {
        Memory { limit: config.compaction.memory_limit.as_u64() }
    }

    /// Bytes that are put at once.
    pub(super) fn part(self) -> usize {
        (self.limit / 32).clamp(PARTS.0, PARTS.1) as usize
    }

    /// How many of these files can be merged at once, at least two: else nothing would ever be merged.
    pub(super) fn fit<'a>(self, files: impl Iterator<Item = &'a SpanFile>) -> usize {
        let mut left = self.limit.saturating_sub(WRITING);
        let fits = files.take(RUNS_MAX).take_while(|file| {
            let bytes_a_row = file.size / file.rows.max(1) + 1;
            let row_group = if file.is_in_lake() { LAKE_ROWS } else { FRESH_ROWS };
            let (decoded, larger) = DECODED;
            let rows = file.rows.min(row_group as u64) + file.rows.min(decoded) * larger;
            let memory = OPEN_FILE + bytes_a_row * rows;
            left.checked_sub(memory).inspect(|rest| left = *rest).is_some()
        });
        fits.count().max(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshlake_config::ByteSize;

    fn share(change: impl FnOnce(&mut Config)) -> Share {
        let mut config = Config::default();
        change(&mut config);
        Share::new(&config, Arc::default(), Arc::new(Compaction::new(true)))
    }

    /// Scenario: transfers of a tenth of a second each. Guarantee: the first begins at once, each other one when those before it
    /// are paid for, and their waiting is not work to rest for.
    #[tokio::test]
    async fn transfers_take_their_time() {
        let share = share(|config| {
            config.compaction.io_limit = ByteSize::bytes(1_000_000);
            config.compaction.cpu_percent = 1;
        });
        let began = Instant::now();
        share.begin();
        for _ in 0..4 {
            share.transfer(100_000).await;
        }
        share.rest().await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(20), "{took:?}");
    }

    /// Scenario: work of 20 ms at a fifth of a core. Guarantee: four times as long is rested.
    #[tokio::test]
    async fn work_is_rested_for() {
        let share = share(|config| config.compaction.cpu_percent = 20);
        share.begin();
        std::thread::sleep(Duration::from_millis(20));
        let began = Instant::now();
        share.rest().await;
        assert!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
    }

    /// Scenario: one that may work a hundredth of the time is idle. Guarantee: that is not work to rest for.
    #[tokio::test]
    async fn to_be_idle_is_no_work() {
        let share = share(|config| config.compaction.cpu_percent = 1);
        share.begin();
        let began = Instant::now();
        for _ in 0..4 {
            share.idle().await;
        }
        share.rest().await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    /// Scenario: one rests for a long time, and is paused. Guarantee: it stops resting.
    #[tokio::test]
    async fn who_is_paused_rests_no_more() {
        let share = Arc::new(share(|config| config.compaction.io_limit = ByteSize::bytes(1)));
        share.transfer(1_000_000).await;
        let resting = tokio::spawn({
            let share = share.clone();
            async move { share.transfer(1).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!resting.is_finished());
        share.compaction.pause();
        tokio::time::timeout(Duration::from_secs(20), resting).await.unwrap().unwrap();
    }

    /// Scenario: files of the usual size, of very large spans, and of few spans, and limits. Guarantee: more memory merges more
    /// files, larger spans fewer, and two are always merged; what a file's footer takes is none of its spans.
    #[test]
    fn memory_decides_how_many_files() {
        let file = |size| SpanFile { size, rows: 200_000, ..SpanFile::default() };
        let fit = |limit: u64, size| Memory { limit: limit << 20 }.fit(std::iter::repeat_n(&file(size), 100));
        let usual = [128, 256, 384, 4_096].map(|limit| fit(limit, 8_000_000));
        assert!(usual.is_sorted() && usual[0] < usual[1] && usual[3] == RUNS_MAX, "{usual:?}");
        assert!(fit(384, 2_000_000_000) < usual[2]);
        assert_eq!(fit(128, 20_000_000_000), 2);
        let few = SpanFile { size: 40_000, rows: 10, ..SpanFile::default() };
        assert_eq!(Memory { limit: 384 << 20 }.fit(std::iter::repeat_n(&few, 100)), RUNS_MAX);
    }
}
