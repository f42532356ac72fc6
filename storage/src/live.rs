//! Live spans: acknowledged, in memory, queryable, not in a file yet.
//!
//! A *generation* is the spans of one journal segment. It is open while the journal writes to its segment, then closed, then
//! flushed; the commit of its files takes it out and puts them in, in one step that no snapshot can see half of (P2).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use crossbeam_channel::Sender;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::builder::SpanBuilder;
use crate::files::Files;
use crate::frame::RequestHash;
use crate::journal::Seen;
use crate::promoted::Promotions;
use crate::schema::spans_schema;
use crate::snapshot::{LiveBatch, LiveSource, Snapshot, SpanFile};

/// An open batch becomes immutable when it has so many rows, so that its dictionaries stay in the processor's caches.
const BATCH_ROWS_MAX: usize = 32_768;
/// Or so many bytes.
const BATCH_BYTES_MAX: usize = 32 << 20;
/// Queries close open batches; those smaller than this are merged, so that frequent queries leave no trail of tiny ones.
const BATCH_ROWS_MERGED: usize = 4_096;

/// The spans of one decode thread in one generation.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub open: SpanBuilder,
    closed: Vec<LiveBatch>,
    closed_bytes: usize,
}

impl Shard {
    /// Makes an immutable batch of the open rows.
    fn close_batch(&mut self) -> Result<(), ArrowError> {
        let Some(batch) = std::mem::take(&mut self.open).finish()? else { return Ok(()) };
        let batch = match self.closed.pop() {
            Some(last) if last.batch.num_rows() < BATCH_ROWS_MERGED => {
                self.closed_bytes -= last.batch.get_array_memory_size();
                merge(&last, &batch)?
            }
            last => {
                self.closed.extend(last);
                batch
            }
        };
        self.closed_bytes += batch.batch.get_array_memory_size();
        self.closed.push(batch);
        Ok(())
    }
}

fn merge(first: &LiveBatch, second: &LiveBatch) -> Result<LiveBatch, ArrowError> {
    Ok(LiveBatch {
        batch: concat_batches(&spans_schema(), [&first.batch, &second.batch])?,
        start_min: first.start_min.min(second.start_min),
        start_max: first.start_max.max(second.start_max),
        ..*first
    })
}

/// The spans of one journal segment.
#[derive(Debug)]
pub(crate) struct Generation {
    pub number: u64,
    shards: Vec<Mutex<Shard>>,
    bytes: Vec<AtomicU64>,
    /// The requests that it holds.
    seen: Mutex<Seen>,
    journal_bytes: AtomicU64,
}

impl Generation {
    pub(crate) fn new(number: u64, shards: usize) -> Generation {
        Generation {
            number,
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            bytes: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            seen: Mutex::default(),
            journal_bytes: AtomicU64::new(0),
        }
    }

    /// Notes that requests, each received at a time, belong to this generation. The last of them ends at `end` in the segment.
    pub(crate) fn remember(&self, end: u64, requests: impl IntoIterator<Item = (i64, RequestHash)>) {
        self.journal_bytes.store(end, Ordering::Release);
        let mut seen = self.seen.lock();
        for (received, hash) in requests {
            seen.newest = seen.newest.max(received);
            seen.hashes.push(hash);
        }
    }

    /// The requests of this generation.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }

    /// How much of its segment belongs to this generation.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.journal_bytes.load(Ordering::Acquire)
    }

    /// Lets `write` add rows to a shard. The rows are in every snapshot that is taken after this returns.
    pub(crate) fn write<T>(&self, shard: usize, write: impl FnOnce(&mut SpanBuilder) -> T) -> Result<T, ArrowError> {
        let mut guard = self.shards[shard].lock();
        let result = write(&mut guard.open);
        let mut open_bytes = guard.open.memory();
        if guard.open.rows() >= BATCH_ROWS_MAX || open_bytes >= BATCH_BYTES_MAX {
            guard.close_batch()?;
            open_bytes = 0;
        }
        self.bytes[shard].store((guard.closed_bytes + open_bytes) as u64, Ordering::Relaxed);
        Ok(result)
    }

    /// All rows so far, as immutable batches.
    pub(crate) fn batches(&self) -> Result<Vec<LiveBatch>, ArrowError> {
        let mut batches = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let source = LiveSource { generation: self.number, shard: number };
            let mut shard = shard.lock();
            shard.close_batch()?;
            let mut first_row = 0;
            for batch in &shard.closed {
                batches.push(LiveBatch { source, first_row, ..batch.clone() });
                first_row += batch.batch.num_rows() as u64;
            }
        }
        Ok(batches)
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }
}

/// The right to write to a generation. When the last holder drops it, the generation is complete and goes to be flushed.
#[derive(Debug)]
pub(crate) struct Writing {
    generation: Arc<Generation>,
    complete: Sender<Arc<Generation>>,
    withheld: AtomicBool,
}

impl Writing {
    /// Keeps the generation live: it is not all that its segment holds, so no commit may say so.
    pub(crate) fn withhold(&self) {
        self.withheld.store(true, Ordering::Release);
    }

    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.withheld.load(Ordering::Acquire) {
            // The receiver lives until every sender is gone.
            let _ = self.complete.send(self.generation.clone());
        }
    }
}

#[derive(Debug)]
struct State {
    generations: Vec<Arc<Generation>>,
    /// Generations that are yet to be replayed.
    awaited: BTreeSet<u64>,
    /// The newest that is committed; 0: none.
    committed: u64,
    files: Arc<Files>,
    promotions: Arc<Promotions>,
}

/// All generations, and the files that earlier ones became.
#[derive(Debug)]
pub(crate) struct Live {
    state: RwLock<State>,
    /// Files are changed one change after the other, beside the state: to interleave the filters of large ones takes a while,
    /// for which nobody else waits.
    changing: Mutex<()>,
    shards: usize,
    /// Bytes of requests that are durable and not decoded yet.
    pending: AtomicU64,
    /// Somebody waits for what is live now to be in files.
    flush_soon: AtomicBool,
}

impl Live {
    pub(crate) fn new(files: impl IntoIterator<Item = Arc<SpanFile>>, promotions: Promotions, shards: usize) -> Live {
        Live {
            state: RwLock::new(State {
                generations: Vec::new(),
                awaited: BTreeSet::new(),
                committed: 0,
                files: Arc::new(files.into_iter().collect()),
                promotions: Arc::new(promotions),
            }),
            changing: Mutex::default(),
            shards,
            pending: AtomicU64::new(0),
            flush_soon: AtomicBool::new(false),
        }
    }

    /// Notes the newest generation that was committed before, and those that are to be replayed.
    pub(crate) fn resume(&self, committed: u64, awaited: impl IntoIterator<Item = u64>) {
        let mut state = self.state.write();
        state.committed = committed;
        state.awaited.extend(awaited);
    }

    /// Begins a generation. It goes to `complete` when nobody writes to it any more.
    pub(crate) fn begin(&self, number: u64, complete: Sender<Arc<Generation>>) -> Arc<Writing> {
        let generation = Arc::new(Generation::new(number, self.shards));
        let mut state = self.state.write();
        state.awaited.remove(&number);
        state.generations.push(generation.clone());
        drop(state);
        Arc::new(Writing { generation, complete, withheld: AtomicBool::new(false) })
    }

    /// Puts the committed files of a generation in its place.
    pub(crate) fn replace(&self, number: u64, files: impl IntoIterator<Item = SpanFile>) {
        self.change(files.into_iter().map(Arc::new), [], |state| {
            state.generations.retain(|generation| generation.number != number);
            state.committed = number.max(state.committed);
        });
    }

    /// Adds files that are not there yet and takes others out, in one step.
    pub(crate) fn swap<'a>(
        &self,
        add: impl IntoIterator<Item = Arc<SpanFile>>,
        remove: impl IntoIterator<Item = &'a SpanFile>,
        promotions: Promotions,
    ) {
        self.change(add, remove, |state| state.promotions = Arc::new(promotions));
    }

    /// Changes the files and something else, in one step.
    fn change<'a>(
        &self,
        add: impl IntoIterator<Item = Arc<SpanFile>>,
        remove: impl IntoIterator<Item = &'a SpanFile>,
        other: impl FnOnce(&mut State),
    ) {
        let _alone = self.changing.lock();
        let before = self.state.read().files.clone();
        let mut files = Files::clone(&before);
        files.change(add, remove);
        let mut state = self.state.write();
        state.files = Arc::new(files);
        other(&mut state);
    }

    /// The oldest generation that is not committed.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.state.read().generations.iter().map(|generation| generation.number).min()
    }

    /// The newest generation there is, if not all are committed.
    pub(crate) fn newest(&self) -> Option<u64> {
        let state = self.state.read();
        let live = state.generations.iter().map(|generation| generation.number);
        live.chain(state.awaited.iter().copied()).max().map(|newest| newest.max(state.committed))
    }

    /// Asks for the open generation to be closed, whatever its size and age.
    pub(crate) fn flush_soon(&self) {
        self.flush_soon.store(true, Ordering::Release);
    }

    /// Whether that was asked since the last time this was.
    pub(crate) fn is_flush_asked(&self) -> bool {
        self.flush_soon.swap(false, Ordering::AcqRel)
    }

    /// The last generation up to which all are committed once `number` is. Newer ones may be committed already: of several decode
    /// threads one may be done with a generation before another is with the one before.
    pub(crate) fn settled_with(&self, number: u64) -> u64 {
        let state = self.state.read();
        let live = state.generations.iter().map(|generation| generation.number);
        let others = live.chain(state.awaited.iter().copied()).filter(|other| *other != number);
        others.min().map_or(number.max(state.committed), |oldest| oldest - 1)
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot, ArrowError> {
        let (generations, files, promotions) = {
            let state = self.state.read();
            (state.generations.clone(), state.files.clone(), state.promotions.clone())
        };
        let mut live = Vec::new();
        for generation in generations {
            live.extend(generation.batches()?);
        }
        Ok(Snapshot { live, files, promotions })
    }

    /// Notes that so many bytes of requests will be decoded.
    pub(crate) fn begin_pending(&self, bytes: u64) {
        self.pending.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that they were, and are in [`Live::bytes`] now.
    pub(crate) fn end_pending(&self, bytes: u64) {
        self.pending.fetch_sub(bytes, Ordering::Release);
    }

    /// Bytes of requests that are durable and not decoded yet.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Acquire)
    }

    /// Bytes of memory of all generations.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.read().generations.iter().map(|generation| generation.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Row;

    fn push(rows: &mut SpanBuilder, count: usize) {
        for number in 0..count {
            rows.end_row(&Row { start: number as u64 * 1_000, end: 0, ..Row::default() });
        }
    }

    fn sizes(generation: &Generation) -> Vec<usize> {
        generation.batches().unwrap().iter().map(|live| live.batch.num_rows()).collect()
    }

    /// Scenario: generations are committed in another order than they were begun, while others are open or yet to be replayed. Guarantee:
    /// the last of them says how far all are committed, which is never beyond one that is not.
    #[test]
    fn the_last_commit_settles_those_before() {
        let live = Live::new(Vec::new(), Promotions::default(), 1);
        let (complete, _completed) = crossbeam_channel::unbounded();
        live.resume(4, [2, 5]);
        let commit = |number| {
            let settled = live.settled_with(number);
            live.replace(number, []);
            settled
        };
        let _replayed = live.begin(2, complete.clone());
        assert_eq!(live.newest(), Some(5));
        assert_eq!(commit(2), 4, "5 is yet to be replayed");
        let _open: Vec<_> = [5, 6, 7].map(|number| live.begin(number, complete.clone())).into();
        assert_eq!(commit(6), 4);
        assert_eq!(commit(5), 6);
        assert_eq!(commit(7), 7);
        let _open: Vec<_> = [8, 9].map(|number| live.begin(number, complete.clone())).into();
        assert_eq!(commit(9), 7);
        assert_eq!(live.newest(), Some(9), "a deletion covers what is committed before an older one too");
        assert_eq!(commit(8), 9);
        assert_eq!(live.newest(), None);
    }

    /// Scenario: queries come between small writes, and then between large ones. Guarantee: small batches are merged, with
    /// their limits; large ones stay as they are.
    #[test]
    fn queries_leave_no_tiny_batches() {
        let generation = Generation::new(1, 1);
        for written in 1..=10 {
            generation.write(0, |rows| push(rows, 600)).unwrap();
            let batches = generation.batches().unwrap();
            let ends = batches.iter().map(|live| live.first_row as usize + live.batch.num_rows());
            assert!(batches.iter().skip(1).map(|live| live.first_row as usize).eq(ends.take(batches.len() - 1)));
            let sizes = sizes(&generation);
            assert_eq!(sizes.iter().sum::<usize>(), written * 600);
            assert!(sizes.len() <= 2, "{sizes:?}");
        }
        let first = &generation.batches().unwrap()[0];
        assert_eq!((first.start_min, first.start_max), (0, 599));
    }

    /// Scenario: more rows than an open batch may have. Guarantee: it is closed without a query, and counted once.
    #[test]
    fn open_batches_are_limited() {
        let generation = Generation::new(1, 2);
        generation.write(1, |rows| push(rows, BATCH_ROWS_MAX)).unwrap();
        assert_eq!(generation.shards[1].lock().open.rows(), 0);
        let bytes = generation.bytes();
        assert!(bytes > 0);
        generation.write(1, |rows| push(rows, 1)).unwrap();
        assert_eq!(sizes(&generation), [BATCH_ROWS_MAX, 1]);
        assert!(generation.bytes() < 2 * bytes);
    }

    /// Scenario: a generation is written, completed by its last writer, and replaced by a file. Guarantee: it is complete only
    /// then; a snapshot has its rows or its file, and one taken before keeps the rows.
    #[test]
    fn files_take_the_place_of_rows() {
        let live = Live::new(Vec::new(), Promotions::default(), 1);
        let (complete, completed) = crossbeam_channel::unbounded();
        let writing = live.begin(7, complete);
        let other = writing.clone();
        writing.generation().write(0, |rows| push(rows, 3)).unwrap();
        drop(writing);
        assert!(completed.try_recv().is_err(), "somebody still writes");
        drop(other);
        let number = completed.try_recv().unwrap().number;
        let before = live.snapshot().unwrap();
        live.replace(number, []);
        let after = live.snapshot().unwrap();
        assert_eq!((before.live.len(), after.live.len(), live.bytes()), (1, 0, 0));
    }

    /// Scenario: several threads add files at once. Guarantee: none is lost.
    #[test]
    fn changes_of_files_do_not_cross() {
        let live = Live::new(Vec::new(), Promotions::default(), 1);
        let file = |path: u64| SpanFile { path: path.to_string(), ..SpanFile::default() };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let live = &live;
                scope.spawn(move || (0..200).for_each(|number| live.replace(number, [file(thread * 1_000 + number)])));
            }
        });
        assert_eq!(live.snapshot().unwrap().files.len(), 800);
    }

    /// Scenario: a segment could not be read to its end. Guarantee: its spans are live, and are never flushed.
    #[test]
    fn withheld_generations_stay() {
        let live = Live::new(Vec::new(), Promotions::default(), 1);
        let (complete, completed) = crossbeam_channel::unbounded();
        let writing = live.begin(7, complete);
        writing.generation().write(0, |rows| push(rows, 3)).unwrap();
        writing.withhold();
        drop(writing);
        assert!(completed.try_recv().is_err());
        assert_eq!(live.snapshot().unwrap().live.len(), 1);
    }
}
