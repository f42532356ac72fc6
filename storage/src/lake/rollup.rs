//! The hops of a lake file, summed when it is written: `_index/<name>.rollup`.
//!
//! What is in it is the business of whoever implements [`Rollups`]; here its sections are kept so that each can be read alone: `MLRU`, version
//! (u32), number of sections (u32), xxh3 of the table (u64); the table, which has for each section its length (u32) and xxh3 (u64); then the sections, each
//! compressed with zstd. Numbers are little-endian. A file without one, or with one that can't be read, is read itself.

use std::fmt::Debug;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use xxhash_rust::xxh3::xxh3_64;

use super::log::index_path;
use crate::promoted::Promoted;
use crate::snapshot::SpanFile;

const MAGIC: &[u8; 4] = b"MLRU";
const VERSION: u32 = 2;
const HEADER: usize = 20;
/// What the table has of a section.
const ENTRY: usize = 12;
const COMPRESSION: i32 = 3;
/// Read at first: in most rollups the table and the first section.
const FRONT: u64 = 64 << 10;
/// More sections, and bytes of one, than there are, whatever is claimed.
const SECTIONS_MAX: usize = 1 << 20;
const LENGTH_MAX: u64 = 1 << 30;

/// Why a rollup could not be made.
pub type RollupError = Box<dyn std::error::Error + Send + Sync>;

/// Makes rollups.
pub trait Rollups: Debug + Send + Sync {
    /// Of a file that begins, of a lake with these promoted attributes.
    fn begin(&self, promoted: &Arc<Vec<Promoted>>) -> Box<dyn FileRollup>;
}

/// The rollup of a file that is being written.
#[async_trait]
pub trait FileRollup: Send {
    /// Adds rows of [`crate::spans_schema`], in the order of the file.
    ///
    /// # Errors
    /// If the rows are none of spans.
    fn add(&mut self, rows: &RecordBatch) -> Result<(), RollupError>;

    /// Ends it. The file can be read; of the lake's files, `before` are those that may hold spans of the same traces.
    ///
    /// # Errors
    /// If these can't be read.
    async fn finish(self: Box<Self>, file: &Arc<SpanFile>, before: Vec<Arc<SpanFile>>) -> Result<StoredRollup, RollupError>;
}

/// A rollup that is to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRollup {
    /// What it consists of.
    pub sections: Vec<Vec<u8>>,
    /// The first and the last minute since the epoch that it says anything about.
    pub bounds: [u64; 2],
}

/// Where the sections of a rollup are, and their checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupSections {
    path: Path,
    sections: Vec<(Range<u64>, u64)>,
}

/// Where the rollup of a file is.
pub(crate) fn rollup_path(file: &str) -> Path {
    index_path(file, "rollup")
}

impl StoredRollup {
    /// Puts the rollup of a file that is about to be committed.
    ///
    /// # Errors
    /// If the object store fails, and for more sections than there may be.
    pub async fn put(&self, store: &dyn ObjectStore, file: &str) -> Result<(), RollupError> {
        let sections = self.sections.iter().map(|section| zstd::encode_all(&section[..], COMPRESSION));
        let sections: Vec<Vec<u8>> = sections.collect::<Result<_, _>>()?;
        if sections.len() > SECTIONS_MAX {
            return Err(format!("a rollup has {} sections, {SECTIONS_MAX} are allowed", sections.len()).into());
        }
        let mut table = Vec::with_capacity(sections.len() * ENTRY);
        for section in &sections {
            table.extend_from_slice(&u32::try_from(section.len())?.to_le_bytes());
            table.extend_from_slice(&xxh3_64(section).to_le_bytes());
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(sections.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&table).to_le_bytes());
        bytes.extend_from_slice(&table);
        sections.iter().for_each(|section| bytes.extend_from_slice(section));
        store.put_opts(&rollup_path(file), bytes.into(), PutMode::Overwrite.into()).await?;
        Ok(())
    }
}

impl RollupSections {
    /// Finds the sections of a file's rollup, and reads the first; none where it has no rollup, or none that this program understands.
    pub async fn open(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<(RollupSections, Vec<u8>)> {
        let path = rollup_path(&file.path);
        let mut front = store.get_range(&path, 0..FRONT).await.ok()?;
        let count = u32::from_le_bytes(front.get(8..12)?.try_into().ok()?) as usize;
        if !front.starts_with(MAGIC) || front.get(4..8)? != VERSION.to_le_bytes() || count > SECTIONS_MAX {
            return None;
        }
        let begin = HEADER + count * ENTRY;
        if front.len() < begin {
            front = store.get_range(&path, 0..begin as u64).await.ok()?;
        }
        let table = front.get(HEADER..begin)?;
        if xxh3_64(table) != u64::from_le_bytes(front.get(12..HEADER)?.try_into().ok()?) {
            return None;
        }
        let (mut sections, mut end) = (Vec::with_capacity(count), begin as u64);
        for entry in table.as_chunks::<ENTRY>().0 {
            let (length, checksum) = entry.split_first_chunk::<4>()?;
            let begin = end;
            end += u64::from(u32::from_le_bytes(*length));
            sections.push((begin..end, u64::from_le_bytes(checksum.try_into().ok()?)));
        }
        let opened = RollupSections { path, sections };
        let (first, checksum) = opened.sections.first()?;
        let first = match front.get(first.start as usize..first.end as usize) {
            Some(first) => inflate(first, *checksum)?,
            None => opened.read(store, 0).await?,
        };
        Some((opened, first))
    }

    /// Reads a section; none where there is no such, or it is damaged.
    pub async fn read(&self, store: &Arc<dyn ObjectStore>, number: usize) -> Option<Vec<u8>> {
        let (range, checksum) = self.sections.get(number)?;
        let bytes = store.get_range(&self.path, range.clone()).await.ok()?;
        inflate(&bytes, *checksum)
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

    /// Scenario: a rollup is put and read; then each byte of it is changed, and it is cut anywhere. Guarantee: all sections as they were; of what is damaged
    /// none is read.
    #[tokio::test]
    async fn damage_is_seen() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let file = SpanFile { path: "lake/data/2026-01-01/w-1.parquet".to_owned(), ..SpanFile::default() };
        let rollup = StoredRollup { sections: vec![vec![7; 300], Vec::new(), vec![9; 500]], bounds: [3, 4] };
        rollup.put(store.as_ref(), &file.path).await.unwrap();
        let read = async || {
            let Some((sections, first)) = RollupSections::open(&store, &file).await else { return vec![None; 3] };
            assert_eq!(sections.read(&store, 3).await, None);
            vec![Some(first), sections.read(&store, 1).await, sections.read(&store, 2).await]
        };
        let whole: Vec<Option<Vec<u8>>> = rollup.sections.iter().cloned().map(Some).collect();
        assert_eq!(read().await, whole);
        let path = rollup_path(&file.path);
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            for bytes in [damaged, bytes[..at].to_vec()] {
                store.put(&path, bytes.into()).await.unwrap();
                let found = read().await;
                assert!(found.iter().any(Option::is_none), "{at}");
                assert!(found.iter().zip(&whole).all(|(found, whole)| found.is_none() || found == whole), "{at}");
            }
        }
        store.delete(&path).await.unwrap();
        assert_eq!(read().await, vec![None; 3]);
    }

    /// Scenario: more sections than the front of a rollup tells of, and a first section that is larger than it. Guarantee: each is read.
    #[tokio::test]
    async fn large_fronts_are_read() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let file = SpanFile { path: "lake/data/2026-01-01/w-2.parquet".to_owned(), ..SpanFile::default() };
        let noise =
            |seed: u64| (0..20_000u64).flat_map(|at| xxh3_64(&(seed + at).to_le_bytes()).to_le_bytes()).collect::<Vec<u8>>();
        let mut sections = vec![noise(1)];
        sections.extend((0..7_000u32).map(|number| number.to_le_bytes().to_vec()));
        StoredRollup { sections: sections.clone(), bounds: [3, 4] }.put(store.as_ref(), &file.path).await.unwrap();
        let (opened, first) = RollupSections::open(&store, &file).await.unwrap();
        assert_eq!(first, sections[0]);
        assert_eq!(opened.read(&store, 6_999).await.as_deref(), Some(&sections[6_999][..]));
    }
}
