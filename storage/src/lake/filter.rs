//! Which traces a lake file may hold: a binary fuse filter over the hashes of its trace ids.
//!
//! 9 bits a trace; of the files that do not hold a trace, one in 256 is looked into in vain. Kept in memory for every file of
//! the lake, and under `lake/_index/` so that a start reads no span.
//!
//! The file: `MLTF`, version (u32), seed (u64), segment length, its mask, length of all segments (u32 each), number of
//! fingerprints (u64), the fingerprints, xxh3 of all before it (u64); numbers are little-endian.

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 4] = b"MLTF";
const VERSION: u32 = 1;
const DESCRIPTOR: usize = BinaryFuse8::DESCRIPTOR_LEN;
const HEADER: usize = 8 + DESCRIPTOR + 8;
const CHECKSUM: usize = 8;

/// The traces of one file.
#[derive(Clone)]
pub struct TraceFilter {
    descriptor: [u8; DESCRIPTOR],
    fingerprints: Box<[u8]>,
}

impl std::fmt::Debug for TraceFilter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "TraceFilter({} bytes)", self.bytes())
    }
}

/// What the filter knows of a trace id.
pub(crate) fn key(trace_id: &[u8]) -> u64 {
    xxh3_64(trace_id)
}

impl TraceFilter {
    /// The filter of the keys of some traces; none if there can be no filter of them, which has not been seen.
    pub(crate) fn new(mut keys: Vec<u64>) -> Option<TraceFilter> {
        keys.sort_unstable();
        keys.dedup();
        let filter = BinaryFuse8::try_from(&keys).ok()?;
        let mut descriptor = [0; DESCRIPTOR];
        filter.dma_copy_descriptor_to(&mut descriptor);
        Some(TraceFilter { descriptor, fingerprints: filter.fingerprints })
    }

    /// Whether the file may hold the trace.
    pub fn may_hold(&self, trace_id: &[u8; 16]) -> bool {
        self.may_hold_key(key(trace_id))
    }

    /// Whether the file may hold the trace with this [`key`].
    pub(crate) fn may_hold_key(&self, key: u64) -> bool {
        BinaryFuse8Ref::from_dma(&self.descriptor, &self.fingerprints).contains(&key)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.fingerprints.len() + size_of::<TraceFilter>()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.fingerprints.len() + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.descriptor);
        bytes.extend_from_slice(&(self.fingerprints.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.fingerprints);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a filter back; none if the bytes are no filter.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<TraceFilter> {
        let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
        let (header, fingerprints) = content.split_at_checked(HEADER)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
        let [length, mask, all] = [u32_at(16)?, u32_at(20)?, u32_at(24)?];
        let whole = header.starts_with(MAGIC)
            && u32_at(4)? == VERSION
            && checksum == xxh3_64(content).to_le_bytes()
            && header.ends_with(&(fingerprints.len() as u64).to_le_bytes())
            && length.is_power_of_two()
            && mask == length - 1
            // What the filter reads at most, so that no file makes it read behind its end.
            && fingerprints.len() as u64 >= u64::from(all) + 2 * u64::from(length);
        let descriptor = header.get(8..8 + DESCRIPTOR)?.try_into().ok()?;
        whole.then(|| TraceFilter { descriptor, fingerprints: fingerprints.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(from: u64, count: u64) -> Vec<[u8; 16]> {
        (from..from + count).map(|id| u128::from(id).to_be_bytes()).collect()
    }

    /// Scenario: filters of few and many traces, written and read back. Guarantee: each holds its traces, and less than one in
    /// 200 of others.
    #[test]
    fn holds_its_traces() {
        for count in [0, 1, 2, 10, 1_000, 100_000] {
            let own = ids(0, count);
            let keys = own.iter().flat_map(|id| [key(id), key(id)]).collect();
            let filter = TraceFilter::from_bytes(&TraceFilter::new(keys).unwrap().to_bytes()).unwrap();
            assert!(own.iter().all(|id| filter.may_hold(id)), "{count}");
            let others = ids(1 << 40, 100_000).iter().filter(|id| filter.may_hold(id)).count();
            assert!(count == 0 || others < 500, "{count}: {others}");
        }
    }

    /// Scenario: a filter's file with each of its bytes changed, and cut anywhere. Guarantee: it is no filter.
    #[test]
    fn damage_is_seen() {
        let bytes = TraceFilter::new((0..50).map(|id: u64| key(&id.to_le_bytes())).collect()).unwrap().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(TraceFilter::from_bytes(&damaged).is_none() && TraceFilter::from_bytes(&bytes[..at]).is_none(), "{at}");
        }
    }
}
