//! The journal: what makes an acknowledgement true (P1).
//!
//! A folder of segments, one a generation of live spans, and of what is left of a segment once its spans are committed to
//! the object store: the hashes of its requests, so that a late retry of one of them is still known.
//!
//! ```text
//! NNNNNNNNNN.journal   a segment: module `frame`
//! NNNNNNNNNN.seen      magic 8 "MESHSEEN", version 4, reserved 4, newest 8 (microseconds), count 8,
//!                      count hashes of 16, then XXH3-64 of everything before
//! ```

use std::fs::File;
use std::io::{self, BufReader, IoSlice, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use crate::disk::{Disk, DiskFile, create_dir_all};
use crate::frame::{BLOCK, FRAME_HEADER, Frame, FrameError, RequestHash, SEGMENT_HEADER, parse_segment_header, segment_header};

/// What follows header and groups.
const PADDING: [u8; BLOCK] = [0; BLOCK];
const SEEN_MAGIC: &[u8; 8] = b"MESHSEEN";
const SEEN_HEADER: usize = 32;

/// The requests of one committed segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When the last of them came: microseconds since the epoch.
    pub newest: i64,
    pub hashes: Vec<RequestHash>,
}

impl Seen {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEEN_HEADER + self.hashes.len() * 16 + 8);
        bytes.extend_from_slice(SEEN_MAGIC);
        bytes.extend_from_slice(&1u64.to_le_bytes());
        bytes.extend_from_slice(&self.newest.to_le_bytes());
        bytes.extend_from_slice(&(self.hashes.len() as u64).to_le_bytes());
        self.hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
        let check = xxh3_64(&bytes);
        bytes.extend_from_slice(&check.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Seen> {
        let (content, check) = bytes.split_last_chunk::<8>()?;
        let header = content.get(..SEEN_HEADER)?;
        let hashes = content.get(SEEN_HEADER..)?.chunks_exact(16);
        let whole = header.starts_with(SEEN_MAGIC) && header[8] == 1 && xxh3_64(content) == u64::from_le_bytes(*check);
        whole.then_some(Seen {
            newest: i64::from_le_bytes(header[16..24].try_into().ok()?),
            hashes: hashes.filter_map(|hash| hash.try_into().ok()).map(u128::from_le_bytes).collect(),
        })
    }
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    seed: u64,
}

impl Journal {
    /// Opens the journal in `folder`, which is created if needed. New segments hash with `seed`.
    pub(crate) fn open(folder: PathBuf, disk: Arc<dyn Disk>, seed: u64) -> io::Result<Journal> {
        create_dir_all(disk.as_ref(), &folder)?;
        // What is found is built on; whoever named it may have been killed before the names were durable.
        disk.sync_dir(&folder)?;
        Ok(Journal { folder, disk, seed })
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.folder.join(format!("{number:010}.{extension}"))
    }

    fn numbers(&self, extension: &str) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in self.folder.read_dir()? {
            let path = entry?.path();
            let named = path.extension().is_some_and(|found| found == extension);
            let number: Option<u64> = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            numbers.extend(number.filter(|_| named));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The numbers of the segments that are there, in order.
    pub(crate) fn segments(&self) -> io::Result<Vec<u64>> {
        self.numbers("journal")
    }

    /// The numbers of the segments of which only the hashes are left, in order.
    pub(crate) fn retired(&self) -> io::Result<Vec<u64>> {
        self.numbers("seen")
    }

    /// Begins a segment. When this returns, the empty segment survives power loss.
    pub(crate) fn create(&self, number: u64) -> io::Result<Segment> {
        let path = self.path(number, "journal");
        let file = self.begin(&path).inspect_err(|_| {
            // On a full disk this is tried again and again, under the next number.
            let _ = self.disk.remove(&path);
        })?;
        Ok(Segment { path, file, len: SEGMENT_HEADER as u64, seed: self.seed, disk: self.disk.clone() })
    }

    /// Nobody reads a segment but after a crash: the page cache would be in the way (decision 0017).
    fn begin(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut file = self.disk.create_direct(path)?;
        file.append(&mut [IoSlice::new(&segment_header(self.seed)), IoSlice::new(padding(SEGMENT_HEADER as u64))])?;
        file.sync()?;
        self.disk.sync_dir(&self.folder)?;
        Ok(file)
    }

    /// Makes a segment that was found survive power loss: whoever wrote it may have been killed before its last sync.
    ///
    /// # Errors
    /// Also if this program can't read it.
    pub(crate) fn settle(&self, number: u64) -> io::Result<()> {
        let found = self.read(number)?;
        self.disk.open_at(&self.path(number, "journal"), found.len)?.sync()
    }

    /// Renames a segment that can't be read, so that the next start does without it.
    pub(crate) fn set_aside(&self, number: u64) -> io::Result<()> {
        self.disk.rename(&self.path(number, "journal"), &self.path(number, "broken"))?;
        self.disk.sync_dir(&self.folder)
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Reads a segment from its beginning.
    pub(crate) fn read(&self, number: u64) -> io::Result<SegmentReader> {
        SegmentReader::open(&self.path(number, "journal"))
    }

    /// The hashes of the requests in the first `end` bytes of a segment.
    pub(crate) fn hashes(&self, number: u64, end: u64) -> io::Result<Seen> {
        let (mut reader, mut seen) = (self.read(number)?, Seen::default());
        while reader.at < end
            && let Some((frame, hash)) = reader.next()?
        {
            seen.newest = seen.newest.max(frame.received);
            seen.hashes.push(hash);
        }
        Ok(seen)
    }

    /// Puts the hashes of a committed segment in its place. When this returns, the hashes survive power loss.
    pub(crate) fn retire(&self, number: u64, seen: &Seen) -> io::Result<()> {
        let (part, path) = (self.path(number, "part"), self.path(number, "seen"));
        if part.exists() {
            self.disk.remove(&part)?;
        }
        let mut file = self.disk.create(&part)?;
        file.append(&mut [IoSlice::new(&seen.encode())])?;
        file.sync()?;
        self.disk.rename(&part, &path)?;
        self.disk.sync_dir(&self.folder)?;
        self.disk.remove(&self.path(number, "journal"))
    }

    /// What was retired under this number; none, with a warning, if it can't be read: then retries of its requests are
    /// not known any more, and nothing else is lost.
    pub(crate) fn seen(&self, number: u64) -> Option<Seen> {
        let path = self.path(number, "seen");
        let seen = std::fs::read(&path).ok().and_then(|bytes| Seen::decode(&bytes));
        if seen.is_none() {
            warn!(path = %path.display(), "can't read the hashes of earlier requests: a retry of one of them would count twice");
        }
        seen
    }

    /// Forgets the hashes of a segment. False if it is not retired yet: then they will only come.
    pub(crate) fn forget(&self, number: u64) -> io::Result<bool> {
        // Looked at first: hashes come before their segment goes.
        let retired = !self.path(number, "journal").exists();
        match self.disk.remove(&self.path(number, "seen")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(retired),
            removed => removed.map(|()| true),
        }
    }
}

/// Zeros from `at` to the next block.
fn padding(at: u64) -> &'static [u8] {
    &PADDING[..(at.next_multiple_of(BLOCK as u64) - at) as usize]
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Where the last frame that survives power loss ends; zeros follow it.
    len: u64,
    seed: u64,
    disk: Arc<dyn Disk>,
}

impl Segment {
    /// Where its last frame ends.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends frames. When this returns, all of them survive power loss; after an error none of them is in the segment,
    /// and the segment must not be appended to.
    pub(crate) fn append(&mut self, frames: &[(&Frame, RequestHash)]) -> io::Result<()> {
        let len = self.blocks() + frames.iter().map(|(frame, _)| frame.stored_len() as u64).sum::<u64>();
        let headers: Vec<_> = frames.iter().map(|(frame, hash)| frame.header(*hash, self.seed)).collect();
        let mut slices = Vec::with_capacity(frames.len() * 3 + 1);
        for ((frame, _), header) in frames.iter().zip(&headers) {
            slices.extend([header.as_slice(), frame.tenant.as_str().as_bytes(), &frame.body].map(IoSlice::new));
        }
        slices.push(IoSlice::new(padding(len)));
        let written = self.file.append(&mut slices).and_then(|()| self.file.sync());
        if let Err(error) = written {
            self.cut();
            return Err(error);
        }
        self.len = len;
        Ok(())
    }

    /// Bytes of the file.
    fn blocks(&self) -> u64 {
        self.len.next_multiple_of(BLOCK as u64)
    }

    /// Cuts off what may have been written without being acknowledged.
    fn cut(&mut self) {
        let cut = self.disk.open_at(&self.path, self.blocks()).and_then(|mut file| file.sync());
        if let Err(error) = cut {
            // Should the process die now, the requests come back at the next start although they were refused.
            warn!(path = %self.path.display(), %error, "can't cut the journal back after a failed write");
        }
    }
}

/// Reads the frames of a segment, up to the first that is not whole.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: BufReader<File>,
    len: u64,
    /// Where the last whole frame ends.
    at: u64,
    /// Where the next one begins, if there is one.
    next: u64,
    seed: u64,
}

impl SegmentReader {
    fn open(path: &Path) -> io::Result<SegmentReader> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut header = Vec::new();
        file.by_ref().take(SEGMENT_HEADER as u64).read_to_end(&mut header)?;
        let unwritten = len <= BLOCK as u64 && header.iter().take(8).all(|byte| *byte == 0);
        let (seed, at) = match parse_segment_header(&header) {
            // Power was lost before the first request: there is nothing to read, perhaps not even a header.
            _ if len <= SEGMENT_HEADER as u64 || unwritten => (0, len),
            Ok(seed) => (seed, SEGMENT_HEADER as u64),
            Err(error) => {
                // A later program's is not broken.
                let kind =
                    if matches!(error, FrameError::Version(_)) { io::ErrorKind::Unsupported } else { io::ErrorKind::InvalidData };
                return Err(io::Error::new(kind, format!("{}: {error}", path.display())));
            }
        };
        Ok(SegmentReader { file, len, at, next: at, seed })
    }

    /// The next frame with its hash; none at the end, or where the rest is torn.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Frame, RequestHash)>> {
        // Looked for here first: a header may begin with zeros.
        match self.frame()? {
            None if self.skip_padding()? => self.frame(),
            frame => Ok(frame),
        }
    }

    fn frame(&mut self) -> io::Result<Option<(Frame, RequestHash)>> {
        let left = self.len - self.next;
        if left < FRAME_HEADER as u64 {
            return Ok(None);
        }
        let mut header = [0; FRAME_HEADER];
        self.read(self.next, &mut header)?;
        // What is no header says nothing of how much memory to take.
        let Ok(rest) = Frame::rest_len(&header, self.seed) else { return Ok(None) };
        if rest as u64 > left - FRAME_HEADER as u64 {
            return Ok(None);
        }
        let mut bytes = header.to_vec();
        bytes.resize(FRAME_HEADER + rest, 0);
        self.read(self.next + FRAME_HEADER as u64, &mut bytes[FRAME_HEADER..])?;
        let frame = Frame::parse(&Bytes::from(bytes), 0, self.seed).ok();
        if let Some((frame, _)) = &frame {
            self.next += frame.stored_len() as u64;
            self.at = self.next;
        }
        Ok(frame)
    }

    /// Goes on with the next block if there are zeros up to it; false if not.
    fn skip_padding(&mut self) -> io::Result<bool> {
        let padding = padding(self.next);
        let end = self.next + padding.len() as u64;
        if padding.is_empty() || end > self.len {
            return Ok(false);
        }
        let mut found = vec![0; padding.len()];
        self.read(self.next, &mut found)?;
        let padded = found == padding;
        if padded {
            self.next = end;
        }
        Ok(padded)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let from = self.file.stream_position()?;
        self.file.seek_relative(at as i64 - from as i64)?;
        self.file.read_exact(bytes)
    }

    /// Where the last whole frame ends.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Bytes behind the last whole frame and what it is padded with: a write that was never acknowledged.
    pub(crate) fn torn(&self) -> u64 {
        self.len - self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::LocalDisk;
    use crate::frame::{Content, Encoding};
    use meshlake_config::Tenant;

    fn frame(body: &'static str) -> Frame {
        let tenant = Tenant::parse("default").unwrap();
        Frame {
            tenant,
            content: Content::Protobuf,
            encoding: Encoding::Identity,
            received: 5,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn journal(folder: &Path) -> Journal {
        Journal::open(folder.join("journal"), Arc::new(LocalDisk), 9).unwrap()
    }

    fn bodies(journal: &Journal, number: u64) -> (Vec<Bytes>, u64) {
        let mut reader = journal.read(number).unwrap();
        let mut bodies = Vec::new();
        while let Some((frame, _)) = reader.next().unwrap() {
            bodies.push(frame.body);
        }
        (bodies, reader.torn())
    }

    /// Scenario: a segment is cut at every possible length, as by a crash while it was written. Guarantee: the frames before
    /// the cut are read, the torn one is not, and its bytes are counted.
    #[test]
    fn torn_tail_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let (first, second) = (frame("first"), frame("second"));
        let mut segment = journal.create(1).unwrap();
        segment.append(&[(&first, first.hash(9))]).unwrap();
        let whole = segment.blocks();
        segment.append(&[(&second, second.hash(9))]).unwrap();
        assert_eq!(bodies(&journal, 1), (vec!["first".into(), "second".into()], 0));
        for len in (whole..segment.len()).rev() {
            LocalDisk.open_at(&journal.path(1, "journal"), len).unwrap();
            assert_eq!(bodies(&journal, 1), (vec!["first".into()], len - whole));
        }
    }

    /// Scenario: groups of frames of any length, some of which end close to a block, or fill it, or have a header that begins with zeros.
    /// Guarantee: all are read, each end is where the segment said, and a read up to an end has the frames before it and no more.
    #[test]
    fn groups_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let mut segment = journal.create(1).unwrap();
        let (mut written, mut ends) = (Vec::new(), Vec::new());
        let overhead = frame("").stored_len();
        for len in (0..60).map(|less| BLOCK - less).chain([0, 1, 70_000, 256, 65_536, 2 * BLOCK - overhead, 3]) {
            // The body of the second has so many bytes that its length, which begins its header, begins with two zeros.
            let group = [len, 1 << 16, 5].map(|len| Frame { body: vec![len as u8; len].into(), ..frame("") });
            segment.append(&group.each_ref().map(|frame| (frame, frame.hash(9)))).unwrap();
            written.extend(group.map(|frame| frame.body));
            ends.push((segment.len(), written.len()));
        }
        assert_eq!(bodies(&journal, 1), (written, 0));
        for (end, frames) in ends {
            assert_eq!(journal.hashes(1, end).unwrap().hashes.len(), frames, "up to {end}");
        }
    }

    /// Scenario: a segment that version 1 wrote, without padding, with a torn frame behind it. Guarantee: its frame is read.
    #[test]
    fn version_1_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let hex = include_str!("../tests/golden/journal-v1.hex").trim();
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let golden: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        std::fs::write(journal.path(1, "journal"), [golden.as_slice(), &[1, 0, 0]].concat()).unwrap();
        assert_eq!(bodies(&journal, 1), (vec!["{}".into()], 3));
    }

    /// Scenario: power is lost while a segment begins: its file is of any length up to a block, with and without what was to be in it.
    /// Guarantee: it is a segment without requests.
    #[test]
    fn unwritten_segments_are_empty() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        let header = segment_header(9);
        for len in (0..100).chain([511, 512, BLOCK - 1, BLOCK]) {
            let mut begun = [0; BLOCK];
            std::fs::write(journal.path(1, "journal"), &begun[..len]).unwrap();
            assert_eq!(bodies(&journal, 1), (vec![], 0), "{len} zeros");
            begun[..SEGMENT_HEADER].copy_from_slice(&header);
            std::fs::write(journal.path(1, "journal"), &begun[..len]).unwrap();
            assert_eq!(bodies(&journal, 1).0, [""; 0], "{len} bytes");
        }
    }

    /// Scenario: a segment is retired. Guarantee: its hashes are all that is left, and they read back.
    #[test]
    fn retired_segments_leave_their_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(folder.path());
        journal.create(3).unwrap();
        let seen = Seen { newest: 77, hashes: vec![1, u128::MAX] };
        journal.retire(3, &seen).unwrap();
        assert_eq!((journal.segments().unwrap(), journal.retired().unwrap()), (vec![], vec![3]));
        assert_eq!(journal.seen(3), Some(seen));
    }

    /// Scenario: the hashes of retired requests as this version writes them. Guarantee: they stay readable.
    #[test]
    fn golden_seen() {
        let hex: String =
            Seen { newest: 77, hashes: vec![1, u128::MAX] }.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/seen-v1.hex").trim());
    }
}
