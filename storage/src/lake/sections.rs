//! What is kept beside a lake file in sections, each of which can be read alone: `_index/<name>.<extension>`.
//!
//! Four letters that tell the kind, its version (u32), number of sections (u32), xxh3 of the table (u64); the table, which has for
//! each section its length (u32) and xxh3 (u64); then the sections, each compressed with zstd. Numbers are little-endian.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use tracing::warn;
use xxhash_rust::xxh3::xxh3_64;

use super::log::index_path;
use super::rollup::RollupError;
use crate::snapshot::SpanFile;

const HEADER: usize = 20;
/// What the table has of a section.
const ENTRY: usize = 12;
const COMPRESSION: i32 = 3;
/// Read at first: in most files the table and the first section.
const FRONT: u64 = 64 << 10;
/// More sections, and bytes of one, than there are, whatever is claimed.
const SECTIONS_MAX: usize = 1 << 20;
const LENGTH_MAX: u64 = 1 << 30;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionsKind {
    /// Sums of hops and spans.
    Rollup,
    /// Summaries of traces.
    TraceSummaries,
}

impl SectionsKind {
    fn magic(self) -> (&'static [u8; 4], u32) {
        match self {
            SectionsKind::Rollup => (b"MLRU", 2),
            SectionsKind::TraceSummaries => (b"MLTS", 1),
        }
    }

    /// Where header and table end, as the header says; none of other bytes.
    fn sections_begin(self, bytes: &[u8]) -> Option<usize> {
        let (magic, version) = self.magic();
        let count = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize;
        let known = bytes.starts_with(magic) && bytes.get(4..8)? == version.to_le_bytes() && count <= SECTIONS_MAX;
        known.then_some(HEADER + count * ENTRY)
    }

    /// Where it is kept of a file.
    pub(super) fn path(self, file: &str) -> Path {
        match self {
            SectionsKind::Rollup => index_path(file, "rollup"),
            SectionsKind::TraceSummaries => index_path(file, "trace-summaries"),
        }
    }
}

/// Where sections are, and their checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sections {
    path: Path,
    sections: Vec<(Range<u64>, u64)>,
}

impl Sections {
    /// Puts sections of a file that is about to be committed.
    ///
    /// # Errors
    /// If the object store fails, and for more sections than there may be.
    pub(super) async fn put(
        kind: SectionsKind,
        store: &dyn ObjectStore,
        file: &str,
        sections: &[Vec<u8>],
    ) -> Result<(), RollupError> {
        let mut compressor = zstd::bulk::Compressor::new(COMPRESSION)?;
        let sections: Vec<Vec<u8>> = sections.iter().map(|section| compressor.compress(section)).collect::<Result<_, _>>()?;
        if sections.len() > SECTIONS_MAX {
            return Err(format!("{} sections are too many, {SECTIONS_MAX} are allowed", sections.len()).into());
        }
        let mut table = Vec::with_capacity(sections.len() * ENTRY);
        for section in &sections {
            table.extend_from_slice(&u32::try_from(section.len())?.to_le_bytes());
            table.extend_from_slice(&xxh3_64(section).to_le_bytes());
        }
        let (magic, version) = kind.magic();
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&(sections.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&table).to_le_bytes());
        bytes.extend_from_slice(&table);
        sections.iter().for_each(|section| bytes.extend_from_slice(section));
        store.put_opts(&kind.path(file), bytes.into(), PutMode::Overwrite.into()).await?;
        Ok(())
    }

    /// Finds the sections that are kept of a file, and reads the first; none where there are none, or none that this program
    /// understands.
    pub async fn open(kind: SectionsKind, store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<(Sections, Vec<u8>)> {
        let path = kind.path(&file.path);
        let mut front = store.get_range(&path, 0..FRONT).await.ok()?;
        let begin = kind.sections_begin(&front)?;
        if front.len() < begin {
            front = store.get_range(&path, 0..begin as u64).await.ok()?;
        }
        let opened = Sections::parse(path, front.get(..begin)?)?;
        let (first, _) = opened.sections.first()?;
        let first = match front.get(first.start as usize..first.end as usize) {
            Some(first) => opened.inflate(first, 0)?,
            None => opened.read(store, 0).await?,
        };
        Some((opened, first))
    }

    /// Whether these bytes are sections, all of which can be read.
    pub(super) fn are_whole(kind: SectionsKind, bytes: &[u8]) -> bool {
        let front = kind.sections_begin(bytes).and_then(|begin| bytes.get(..begin));
        let Some(opened) = front.and_then(|front| Sections::parse(Path::default(), front)) else { return false };
        let is_whole = |(range, checksum): &(Range<u64>, u64)| {
            let section = bytes.get(range.start as usize..range.end as usize);
            section.and_then(|section| inflate(section, *checksum)).is_some()
        };
        !opened.sections.is_empty() && opened.sections.iter().all(is_whole)
    }

    /// Reads header and table.
    fn parse(path: Path, front: &[u8]) -> Option<Sections> {
        let (header, table) = front.split_at_checked(HEADER)?;
        if xxh3_64(table) != u64::from_le_bytes(header.get(12..)?.try_into().ok()?) {
            warn!(%path, "what is kept beside a file is damaged; the file is read instead");
            return None;
        }
        let (mut sections, mut end) = (Vec::with_capacity(table.len() / ENTRY), front.len() as u64);
        for entry in table.as_chunks::<ENTRY>().0 {
            let (length, checksum) = entry.split_first_chunk::<4>()?;
            let begin = end;
            end += u64::from(u32::from_le_bytes(*length));
            sections.push((begin..end, u64::from_le_bytes(checksum.try_into().ok()?)));
        }
        Some(Sections { path, sections })
    }

    /// Reads a section; none where there is no such, or it is damaged.
    pub async fn read(&self, store: &Arc<dyn ObjectStore>, number: usize) -> Option<Vec<u8>> {
        let (range, _) = self.sections.get(number)?;
        let bytes = store.get_range(&self.path, range.clone()).await.ok()?;
        self.inflate(&bytes, number)
    }

    fn inflate(&self, bytes: &[u8], number: usize) -> Option<Vec<u8>> {
        let (_, checksum) = self.sections.get(number)?;
        let section = inflate(bytes, *checksum);
        if section.is_none() {
            warn!(path = %self.path, number, "a section that is kept beside a file is damaged; the file is read instead");
        }
        section
    }

    /// The path of what they are in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.sections.len() * size_of::<(Range<u64>, u64)>()
    }
}

fn inflate(bytes: &[u8], checksum: u64) -> Option<Vec<u8>> {
    if xxh3_64(bytes) != checksum {
        return None;
    }
    let mut section = Vec::new();
    zstd::Decoder::new(bytes).ok()?.take(LENGTH_MAX).read_to_end(&mut section).ok()?;
    Some(section)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    /// Scenario: sections are put and read; then each byte of it is changed, and it is cut anywhere. Guarantee: all sections as
    /// they were; of what is damaged none is read.
    #[tokio::test]
    async fn damage_is_seen() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let file = SpanFile { path: "lake/data/2026-01-01/w-1.parquet".to_owned(), ..SpanFile::default() };
        let kind = SectionsKind::Rollup;
        let whole = vec![vec![7; 300], Vec::new(), vec![9; 500]];
        Sections::put(kind, store.as_ref(), &file.path, &whole).await.unwrap();
        let read = async || {
            let Some((sections, first)) = Sections::open(kind, &store, &file).await else { return vec![None; 3] };
            assert_eq!(sections.read(&store, 3).await, None);
            vec![Some(first), sections.read(&store, 1).await, sections.read(&store, 2).await]
        };
        let whole: Vec<Option<Vec<u8>>> = whole.into_iter().map(Some).collect();
        assert_eq!(read().await, whole);
        let path = kind.path(&file.path);
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        assert!(Sections::are_whole(kind, &bytes) && !Sections::are_whole(SectionsKind::TraceSummaries, &bytes));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            for bytes in [damaged, bytes[..at].to_vec()] {
                store.put(&path, bytes.into()).await.unwrap();
                assert!(!Sections::are_whole(kind, &store.get(&path).await.unwrap().bytes().await.unwrap()), "{at}");
                let found = read().await;
                assert!(found.iter().any(Option::is_none), "{at}");
                assert!(found.iter().zip(&whole).all(|(found, whole)| found.is_none() || found == whole), "{at}");
            }
        }
        store.delete(&path).await.unwrap();
        assert_eq!(read().await, vec![None; 3]);
    }

    /// Scenario: more sections than the front tells of, and a first section that is larger than it. Guarantee: each is read.
    #[tokio::test]
    async fn large_fronts_are_read() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let file = SpanFile { path: "lake/data/2026-01-01/w-2.parquet".to_owned(), ..SpanFile::default() };
        let noise =
            |seed: u64| (0..20_000u64).flat_map(|at| xxh3_64(&(seed + at).to_le_bytes()).to_le_bytes()).collect::<Vec<u8>>();
        let mut sections = vec![noise(1)];
        sections.extend((0..7_000u32).map(|number| number.to_le_bytes().to_vec()));
        let kind = SectionsKind::TraceSummaries;
        Sections::put(kind, store.as_ref(), &file.path, &sections).await.unwrap();
        assert!(Sections::open(SectionsKind::Rollup, &store, &file).await.is_none());
        let (opened, first) = Sections::open(kind, &store, &file).await.unwrap();
        assert_eq!(first, sections[0]);
        assert_eq!(opened.read(&store, 6_999).await.as_deref(), Some(&sections[6_999][..]));
    }
}
