//! The hops of a lake file, summed when it is written: `_index/<name>.rollup`.
//!
//! What is in it is the business of whoever implements [`Rollups`]; here it is kept: `MLRU`, version (u32), lengths of head and minutes (u64
//! each), xxh3 of head and minutes (u64 each), then both, compressed with zstd; numbers are little-endian. A file without one, or with one
//! that can't be read, is read itself.

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
const VERSION: u32 = 1;
const HEADER: usize = 40;
const COMPRESSION: i32 = 3;
/// More than either half is, whatever it claims.
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

/// A rollup in its two halves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRollup {
    /// What is asked for most.
    pub head: Vec<u8>,
    /// Minute by minute.
    pub minutes: Vec<u8>,
    /// The first and the last minute since the epoch that it says anything about.
    pub bounds: [u64; 2],
}

/// Where the rollup of a file is.
pub(crate) fn rollup_path(file: &str) -> Path {
    index_path(file, "rollup")
}

impl StoredRollup {
    /// Puts the rollup of a file that is about to be committed.
    ///
    /// # Errors
    /// If the object store fails.
    pub async fn put(&self, store: &dyn ObjectStore, file: &str) -> Result<(), RollupError> {
        let halves = [zstd::encode_all(&self.head[..], COMPRESSION)?, zstd::encode_all(&self.minutes[..], COMPRESSION)?];
        let mut bytes = Vec::with_capacity(HEADER + halves.iter().map(Vec::len).sum::<usize>());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        halves.iter().for_each(|half| bytes.extend_from_slice(&(half.len() as u64).to_le_bytes()));
        halves.iter().for_each(|half| bytes.extend_from_slice(&xxh3_64(half).to_le_bytes()));
        halves.iter().for_each(|half| bytes.extend_from_slice(half));
        store.put_opts(&rollup_path(file), bytes.into(), PutMode::Overwrite.into()).await?;
        Ok(())
    }

    /// Reads the head of a file's rollup; none where it has none, or none that this program understands.
    pub async fn read_head(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Vec<u8>> {
        let path = rollup_path(&file.path);
        let [head, _] = Half::find(store, &path).await?;
        head.read(store, &path).await
    }

    /// Reads its minutes.
    pub async fn read_minutes(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Vec<u8>> {
        let path = rollup_path(&file.path);
        let [_, minutes] = Half::find(store, &path).await?;
        minutes.read(store, &path).await
    }
}

/// Where a half is, and its checksum.
struct Half {
    range: Range<u64>,
    checksum: u64,
}

impl Half {
    async fn find(store: &Arc<dyn ObjectStore>, path: &Path) -> Option<[Half; 2]> {
        let header = store.get_range(path, 0..HEADER as u64).await.ok()?;
        let number = |at: usize| Some(u64::from_le_bytes(header.get(at..at + 8)?.try_into().ok()?));
        if !header.starts_with(MAGIC) || header.get(4..8)? != VERSION.to_le_bytes() {
            return None;
        }
        let (head, minutes) = (number(8)?, number(16)?);
        let middle = (HEADER as u64).checked_add(head)?;
        let [first, second] = [HEADER as u64..middle, middle..middle.checked_add(minutes)?];
        Some([Half { range: first, checksum: number(24)? }, Half { range: second, checksum: number(32)? }])
    }

    async fn read(self, store: &Arc<dyn ObjectStore>, path: &Path) -> Option<Vec<u8>> {
        let bytes = store.get_range(path, self.range.clone()).await.ok()?;
        if bytes.len() as u64 != self.range.end - self.range.start || xxh3_64(&bytes) != self.checksum {
            return None;
        }
        let mut half = Vec::new();
        zstd::Decoder::new(&bytes[..]).ok()?.take(LENGTH_MAX).read_to_end(&mut half).ok()?;
        Some(half)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    /// Scenario: a rollup is put and read; then each byte of it is changed, and it is cut anywhere. Guarantee: both halves as they were; of what is damaged none
    /// is read.
    #[tokio::test]
    async fn damage_is_seen() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let file = SpanFile { path: "lake/data/2026-01-01/w-1.parquet".to_owned(), ..SpanFile::default() };
        let rollup = StoredRollup { head: vec![7; 300], minutes: vec![9; 500], bounds: [3, 4] };
        rollup.put(store.as_ref(), &file.path).await.unwrap();
        let read = async || (StoredRollup::read_head(&store, &file).await, StoredRollup::read_minutes(&store, &file).await);
        assert_eq!(read().await, (Some(rollup.head.clone()), Some(rollup.minutes.clone())));
        let path = rollup_path(&file.path);
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            for bytes in [damaged, bytes[..at].to_vec()] {
                store.put(&path, bytes.into()).await.unwrap();
                let (head, minutes) = read().await;
                assert!(head.is_none() || minutes.is_none(), "{at}");
                assert!(head.is_none_or(|head| head == rollup.head) && minutes.is_none_or(|minutes| minutes == rollup.minutes));
            }
        }
        store.delete(&path).await.unwrap();
        assert_eq!(read().await, (None, None));
    }
}
