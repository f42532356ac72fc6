//! From a request to durable, queryable spans.
//!
//! ```text
//! append -> journal thread: group, write, one fsync -> decode threads: rows into the generation -> answer
//!                                                                        complete generation -> flush thread
//! ```
//!
//! The order is what makes failures simple: nothing is decoded that is not durable, so a failed write leaves no row behind,
//! and nothing is acknowledged that is not decoded.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use meshlake_config::Config;
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::builder::SpanBuilder;
use crate::dedupe::Dedupe;
use crate::frame::{Encoding, Frame, RequestHash};
use crate::journal::{Journal, Segment};
use crate::live::{Generation, Live, Writing};
use crate::metrics::Metrics;

/// Requests that share one fsync at most.
const GROUP_REQUESTS_MAX: usize = 1_024;
/// Bytes of them, decompressed: few enough that the decoder finds them in the processor's caches.
const GROUP_BYTES_MAX: u64 = 4 << 20;
/// Bytes, decompressed, that may be durable and not decoded yet when more are written: whether there is room for live spans is
/// looked at before a request is durable, so what it will take must be known nearly.
const PENDING_BYTES_MAX: u64 = 8 << 20;
/// What a compressed request is expected to be once decompressed, as a multiple of its bytes: more than most are.
const COMPRESSION: u64 = 16;
/// And at least, in bytes: small ones may hold the most.
const COMPRESSED_MIN: u64 = 32 << 10;
/// From one fsync to the next while requests come singly: each costs the processor as much as half a megabyte written (decision 0017). A
/// request after a pause of this length does not wait.
const SYNC_PAUSE: Duration = Duration::from_millis(5);
/// How long the journal thread sleeps at most before it looks at the age of the generation.
const TICK: Duration = Duration::from_millis(200);

/// Turns requests into rows. Implemented by the collector, so that replay takes the same way as the first reception.
pub trait Decode: Send + Sync + 'static {
    /// Appends the spans of a request to `rows`. Must give the same result whenever it is given the same frame.
    ///
    /// # Errors
    /// If the request can't be decoded: what is wrong, for its sender. Rows it appended by then are taken back by the caller.
    fn decode(&self, frame: &Frame, rows: &mut SpanBuilder) -> Answer;

    /// As [`Decode::decode`], for a frame from the journal: limits that are settings may have been higher when it was
    /// acknowledged, so they must not refuse it now (P1).
    ///
    /// # Errors
    /// As above.
    fn replay(&self, frame: &Frame, rows: &mut SpanBuilder) -> Answer {
        self.decode(frame, rows)
    }
}

/// What became of a request that was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Spans that are kept.
    pub spans: u64,
    /// Spans that can't be kept.
    pub rejected: u64,
    /// Why they can't, for their sender.
    pub reason: Option<String>,
}

/// Why a request was not stored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// It will never be accepted: it can't be decoded.
    #[error("{0}")]
    Invalid(String),
    /// It will never be accepted: it is too large once decompressed.
    #[error("{0}")]
    TooLarge(String),
    /// It may be accepted later.
    #[error("{0}")]
    Unavailable(String),
    /// It will never be accepted, and that is no fault of its sender.
    #[error("{0}")]
    Defect(String),
}

/// What comes back for a request.
pub type Answer = Result<Accepted, Refused>;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub frame: Frame,
    pub answer: oneshot::Sender<Answer>,
}

/// A durable request on its way to a decoder.
#[derive(Debug)]
struct Durable {
    request: Request,
    origin: Origin,
}

/// Where a durable request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    New,
    /// It is stored already: it is decoded only to give the same answer again.
    Duplicate,
    /// From the journal, at the start.
    Replay,
}

/// Durable requests of one generation.
#[derive(Debug)]
pub(crate) struct Group {
    requests: Vec<Durable>,
    weight: u64,
    writing: Arc<Writing>,
}

impl Group {
    fn new(requests: Vec<Durable>, writing: Arc<Writing>) -> Group {
        let weight = requests.iter().map(|durable| weight_of(&durable.request.frame)).sum();
        Group { requests, weight, writing }
    }
}

/// Bytes that a request is expected to have decompressed.
fn weight_of(frame: &Frame) -> u64 {
    let bytes = frame.stored_len() as u64;
    match frame.encoding {
        Encoding::Identity => bytes,
        Encoding::Gzip | Encoding::Zstd => (bytes * COMPRESSION).max(COMPRESSED_MIN),
    }
}

/// Microseconds since the epoch.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// How long requests wait for room in memory before they are refused: a flush usually makes room sooner, and proxies do not
/// try again.
const ROOM_WAIT: Duration = Duration::from_secs(2);
/// How often the journal thread looks whether there is room.
const ROOM_TICK: Duration = Duration::from_millis(2);

/// When a generation is closed, and when there is no room for more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    /// All live spans.
    pub memory_limit: u64,
    pub live_bytes: u64,
    pub journal_bytes: u64,
    pub age: Duration,
}

impl Rotation {
    pub(crate) fn new(config: &Config) -> Rotation {
        Rotation {
            memory_limit: config.live.memory_limit.as_u64(),
            live_bytes: config.live.flush_size.as_u64(),
            journal_bytes: config.journal.segment_size.as_u64(),
            age: config.live.flush_age,
        }
    }
}

/// The segment and the generation that are being written.
#[derive(Debug)]
struct Open {
    segment: Segment,
    writing: Arc<Writing>,
    since: Instant,
}

/// The journal thread.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    pub journal: Arc<Journal>,
    pub live: Arc<Live>,
    pub dedupe: Dedupe,
    pub rotation: Rotation,
    pub metrics: Metrics,
    pub next_number: u64,
    /// Segments whose requests are not remembered any more, but not retired yet.
    pub forgotten: BTreeSet<u64>,
    pub groups: Sender<Group>,
    pub complete: Sender<Arc<Generation>>,
}

impl JournalWriter {
    /// Replays what the journal holds, calls `ready` with what it could not read, then serves requests until there are no more
    /// senders of them.
    pub(crate) fn run(mut self, segments: &[u64], ready: impl FnOnce(Vec<String>), requests: &Receiver<Request>) {
        let mut unreadable = Vec::new();
        for &number in segments {
            match self.replay(number, requests) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => unreadable.push(format!("can't read journal segment {number}: {error}")),
            }
        }
        ready(unreadable);
        let (mut open, mut synced) = (None, Instant::now());
        loop {
            match requests.recv_timeout(TICK) {
                Ok(first) => {
                    if requests.is_empty() {
                        std::thread::sleep(SYNC_PAUSE.saturating_sub(synced.elapsed()));
                    }
                    synced = Instant::now();
                    self.group(first, requests, &mut open);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if open.as_ref().is_some_and(|open| self.is_full(open)) {
                open = None;
            }
            self.forget_old_requests();
        }
    }

    fn forget_old_requests(&mut self) {
        self.forgotten.extend(self.dedupe.expire(now()));
        let journal = &self.journal;
        self.forgotten.retain(|&number| match journal.forget(number) {
            Ok(forgotten) => !forgotten,
            Err(error) => {
                warn!(number, %error, "can't remove the hashes of old requests");
                false
            }
        });
    }

    fn has_room(&self) -> bool {
        let pending = self.live.pending();
        pending <= PENDING_BYTES_MAX && self.live.bytes() + pending <= self.rotation.memory_limit
    }

    /// Waits until there is room for more live spans; false if a flush takes too long to make it.
    fn wait_for_room(&self) -> bool {
        let began = Instant::now();
        while !self.has_room() {
            if began.elapsed() > ROOM_WAIT {
                return false;
            }
            std::thread::sleep(ROOM_TICK);
        }
        true
    }

    fn is_full(&self, open: &Open) -> bool {
        let generation = open.writing.generation();
        self.metrics.live_bytes.set(self.live.bytes() as i64);
        generation.bytes() >= self.rotation.live_bytes
            || open.segment.len() >= self.rotation.journal_bytes
            || open.since.elapsed() >= self.rotation.age
            || self.live.is_flush_asked()
    }

    /// Waits until the generations before `writing` leave room for more of it; false if the store is closed meanwhile.
    fn wait_for_replay(&self, writing: &Writing, requests: &Receiver<Request>) -> bool {
        // One generation is as large as it was before the restart; it can't be flushed before it is complete.
        while !self.has_room() && self.live.bytes() > writing.generation().bytes() {
            // There are no requests before `ready`, but the store may be closed.
            if matches!(requests.recv_timeout(TICK), Err(RecvTimeoutError::Disconnected)) {
                return false;
            }
        }
        true
    }

    /// Decodes the requests of a segment that no commit covers; false if the store is closed meanwhile.
    fn replay(&mut self, number: u64, requests: &Receiver<Request>) -> io::Result<bool> {
        let writing = self.live.begin(number, self.complete.clone());
        let (mut replayed, mut refused) = (0u64, 0u64);
        let result = self.journal.read(number).and_then(|mut reader| {
            while let Some((frame, hash)) = reader.next()? {
                if !self.wait_for_replay(&writing, requests) {
                    return Ok(None);
                }
                writing.generation().remember(reader.position(), [(frame.received, hash)]);
                if let Err(refusal) = self.replay_frame(frame, hash, number, &writing) {
                    if refused == 0 {
                        warn!(segment = number, %refusal, "refused a request on replay, as when it came if nothing has changed");
                    }
                    refused += 1;
                }
                replayed += 1;
            }
            Ok(Some(reader.torn()))
        });
        self.metrics.replayed.inc_by(replayed);
        self.metrics.replay_refused.inc_by(refused);
        match result {
            Ok(None) => {
                writing.withhold();
                return Ok(false);
            }
            Ok(Some(0)) => info!(segment = number, requests = replayed, refused, "replayed"),
            Ok(Some(torn)) => {
                self.metrics.torn_bytes.inc_by(torn);
                warn!(
                    segment = number,
                    requests = replayed,
                    refused,
                    torn_bytes = torn,
                    "replayed; cut off a write that was never acknowledged"
                );
            }
            Err(error) => {
                writing.withhold();
                error!(segment = number, requests = replayed, %error, "can't read the rest of a journal segment; it stays");
                return Err(error);
            }
        }
        Ok(true)
    }

    fn replay_frame(&mut self, frame: Frame, hash: RequestHash, number: u64, writing: &Arc<Writing>) -> Answer {
        if !self.dedupe.insert(number, frame.received, hash) {
            // Refused, as the write failed, but not cut off; the retry of it is in another segment.
            return Ok(Accepted::default());
        }
        let (answer, answered) = oneshot::channel();
        let requests = vec![Durable { request: Request { frame, answer }, origin: Origin::Replay }];
        self.send(Group::new(requests, writing.clone()));
        answered.blocking_recv().unwrap_or_else(|_| Err(Refused::Unavailable("it was not decoded".to_owned())))
    }

    fn send(&self, group: Group) {
        self.live.begin_pending(group.weight);
        // Decoders live as long as this thread.
        drop(self.groups.send(group));
    }

    /// Writes all waiting requests with one fsync and hands them to a decoder.
    fn group(&mut self, first: Request, waiting: &Receiver<Request>, open: &mut Option<Open>) {
        let mut weight = weight_of(&first.frame);
        let mut requests = vec![first];
        while requests.len() < GROUP_REQUESTS_MAX && weight < GROUP_BYTES_MAX {
            let Ok(next) = waiting.try_recv() else { break };
            weight += weight_of(&next.frame);
            requests.push(next);
        }
        if !self.wait_for_room() {
            refuse(requests, "live spans take more than live.memory_limit: flushing does not keep up");
            return;
        }
        let written = match self.open(open) {
            Ok(open) => self.write(requests, open),
            Err(error) => Err((requests, error)),
        };
        match written {
            Ok(group) => self.send(group),
            Err((requests, error)) => {
                // Nothing more goes to a segment that a write to has failed.
                *open = None;
                self.metrics.journal_failures.inc();
                error!(%error, "can't write to the journal: refusing requests");
                refuse(requests, &format!("can't write to the journal: {error}"));
            }
        }
    }

    /// The segment and generation to write to; begun if there is none.
    fn open<'a>(&mut self, open: &'a mut Option<Open>) -> io::Result<&'a mut Open> {
        if open.is_none() {
            let number = self.next_number;
            self.next_number += 1;
            let segment = self.journal.create(number)?;
            *open = Some(Open { segment, writing: self.live.begin(number, self.complete.clone()), since: Instant::now() });
        }
        open.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes the requests that were not received before durable.
    fn write(&mut self, requests: Vec<Request>, open: &mut Open) -> Result<Group, (Vec<Request>, io::Error)> {
        let began = Instant::now();
        let number = open.writing.generation().number;
        let hashes: Vec<RequestHash> = requests.iter().map(|request| request.frame.hash(self.journal.seed())).collect();
        let fresh: Vec<bool> =
            requests.iter().zip(&hashes).map(|(request, hash)| self.dedupe.insert(number, request.frame.received, *hash)).collect();
        let frames: Vec<(&Frame, RequestHash)> = requests
            .iter()
            .zip(&hashes)
            .zip(&fresh)
            .filter(|(_, fresh)| **fresh)
            .map(|((request, hash), _)| (&request.frame, *hash))
            .collect();
        let written = if frames.is_empty() { Ok(()) } else { open.segment.append(&frames) };
        let count = frames.len();
        if let Err(error) = written {
            self.dedupe.take_back(count);
            return Err((requests, error));
        }
        open.writing.generation().remember(open.segment.len(), frames.iter().map(|(frame, hash)| (frame.received, *hash)));
        self.metrics.journal_bytes.inc_by(frames.iter().map(|(frame, _)| frame.stored_len() as u64).sum());
        self.metrics.journal_sync.observe(began.elapsed().as_secs_f64());
        self.metrics.journal_group.observe(count as f64);
        self.metrics.duplicates.inc_by((requests.len() - count) as u64);
        let origin = |fresh| if fresh { Origin::New } else { Origin::Duplicate };
        let durable = requests.into_iter().zip(fresh).map(|(request, fresh)| Durable { request, origin: origin(fresh) });
        Ok(Group::new(durable.collect(), open.writing.clone()))
    }
}

fn refuse(requests: Vec<Request>, why: &str) {
    for request in requests {
        // Whoever does not wait for the answer any more needs none.
        let _ = request.answer.send(Err(Refused::Unavailable(why.to_owned())));
    }
}

/// A decode thread: turns the groups it gets into rows of `shard`, and answers.
pub(crate) fn decode_groups(decode: &dyn Decode, shard: usize, live: &Live, groups: &Receiver<Group>) {
    for Group { requests, weight, writing } in groups {
        // A request at a time: a query that wants a snapshot waits for no more than that.
        let decoded =
            requests.into_iter().map(|durable| writing.generation().write(shard, |rows| decode_request(decode, durable, rows)));
        let decoded: Vec<_> = decoded.collect();
        live.end_pending(weight);
        // All answers at once: the connections then write many with one system call.
        for answer in decoded {
            match answer {
                Ok((sender, answer)) => drop(sender.send(answer)),
                // The sender is gone with the answer, which tells who waits that there is none.
                Err(error) => error!(%error, "can't make a batch of live spans"),
            }
        }
    }
}

fn decode_request(decode: &dyn Decode, durable: Durable, rows: &mut SpanBuilder) -> (oneshot::Sender<Answer>, Answer) {
    let mark = rows.rows();
    let Durable { request, origin } = durable;
    // A request that makes the decoder panic would otherwise do so again at every start, from the journal.
    let decoded = catch_unwind(AssertUnwindSafe(|| match origin {
        Origin::Replay => decode.replay(&request.frame, rows),
        Origin::New | Origin::Duplicate => decode.decode(&request.frame, rows),
    }));
    let answer =
        decoded.unwrap_or_else(|_| Err(Refused::Defect("the request could not be decoded: a defect of meshlake".to_owned())));
    if origin == Origin::Duplicate || answer.is_err() {
        rows.truncate(mark);
    }
    (request.answer, answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Row;
    use crate::frame::Content;
    use bytes::Bytes;
    use meshlake_config::Tenant;

    /// Adds a row a byte, and fails or panics at some.
    struct Bytewise;

    impl Decode for Bytewise {
        fn decode(&self, frame: &Frame, rows: &mut SpanBuilder) -> Answer {
            let too_large = frame.body.len() > 4;
            if too_large { Err(Refused::TooLarge("over the limit".to_owned())) } else { self.replay(frame, rows) }
        }

        fn replay(&self, frame: &Frame, rows: &mut SpanBuilder) -> Answer {
            for byte in &frame.body {
                let row = rows.rows();
                rows.workload.push(row, b"begun");
                match byte {
                    b'!' => return Err(Refused::Invalid("bad".to_owned())),
                    b'?' => panic!("as the test wants it"),
                    _ => {}
                }
                rows.end_row(&Row { trace_id: [*byte; 16], span_id: [*byte; 8], ..Row::default() });
            }
            Ok(Accepted { spans: frame.body.len() as u64, ..Accepted::default() })
        }
    }

    /// Scenario: good, bad and panicking requests and duplicates, one after the other into the same rows. Guarantee: each has
    /// its own answer, and only the good ones that are no duplicates have rows.
    #[test]
    fn only_good_requests_have_rows() {
        let mut rows = SpanBuilder::default();
        let mut decode = |body: &'static [u8], origin| {
            let tenant = Tenant::default();
            let body = Bytes::from_static(body);
            let frame = Frame { tenant, content: Content::Protobuf, encoding: Encoding::Identity, received: 0, body };
            let request = Request { frame, answer: oneshot::channel().0 };
            let answer = decode_request(&Bytewise, Durable { request, origin }, &mut rows).1;
            (answer.map(|accepted| accepted.spans).map_err(|refused| matches!(refused, Refused::Defect(_))), rows.rows())
        };
        assert_eq!(decode(b"ab", Origin::New), (Ok(2), 2));
        assert_eq!(decode(b"ab", Origin::Duplicate), (Ok(2), 2));
        assert_eq!(decode(b"cd!", Origin::New), (Err(false), 2));
        assert_eq!(decode(b"?", Origin::Replay), (Err(true), 2));
        assert_eq!(decode(b"e", Origin::Replay), (Ok(1), 3));
        assert_eq!(decode(b"fghij", Origin::New), (Err(false), 3));
        assert_eq!(decode(b"fghij", Origin::Replay), (Ok(5), 8), "what was acknowledged is under no limit");
        assert_eq!(rows.finish().unwrap().unwrap().batch.num_rows(), 8);
    }
}
