//! Which traces a file may hold: a binary fuse filter (Graf and Lemire, 2022) over the hashes of its trace ids.
//!
//! Of the files that do not hold a trace, one in 65,536 is looked into in vain. A filter has 18 bits a key, up to 29 where there
//! are few, and keys are padded by 4 % on average (see [`class`]): so filters of about as many traces have one [`Shape`] and can be
//! [`Interleaved`]. Kept in memory for every file of the lake, and under `lake/_index/` so that a start reads no span.
//!
//! The file: `MLTF`, version (u32), seed (u64), length of a segment, length of all segments but the last two (u32 each), the
//! fingerprints (u16 each), xxh3 of all before it (u64); numbers are little-endian. The trace with the key k has the hash
//! h = murmur3's finalizer of k + seed and the fingerprint (h xor h >> 32) mod 2^16, and may be there if that is the xor of the
//! fingerprints at its three places (see [`Shape::places`]).

use std::sync::Arc;

use arrow::array::AsArray;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::RwLock;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use xorf::BinaryFuse16;
use xxhash_rust::xxh3::xxh3_64;

use super::LakeError;
use super::interleaved::Interleaved;
use crate::reader::FileReader;
use crate::snapshot::SpanFile;

const MAGIC: &[u8; 4] = b"MLTF";
/// 1 had fingerprints of 8 bits.
const VERSION: u32 = 2;
const HEADER: usize = 24;
const CHECKSUM: usize = 8;
/// The smallest class.
const KEYS_MIN: u64 = 256;

/// Where a filter has the fingerprints of a key: the same places in every filter of its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    seed: u64,
    /// Length of a segment, a power of two.
    segment: u32,
    /// The first of a key's places is below this, a multiple of `segment` and not 0.
    starts: u32,
}

impl Shape {
    /// None if places would be out of the filter.
    fn new(seed: u64, segment: u32, starts: u32) -> Option<Shape> {
        let fits = starts.checked_add(segment.checked_mul(2)?).is_some();
        let whole = segment.is_power_of_two() && starts >= segment && starts.is_multiple_of(segment);
        (whole && fits).then_some(Shape { seed, segment, starts })
    }

    /// How many fingerprints a filter has.
    pub(crate) fn len(&self) -> usize {
        self.starts as usize + 2 * self.segment as usize
    }

    /// Shapes of the same one have the same [`Shape::hash`].
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The hash of a [`key`]. Places ascend with hashes, but for their order within a segment.
    pub(crate) fn hash(&self, key: u64) -> u64 {
        let mut hash = key.wrapping_add(self.seed);
        hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    }

    /// The places of a hash, in three segments next to each other, each less than [`Shape::len`].
    pub(crate) fn places(&self, hash: u64) -> [usize; 3] {
        let first = ((u128::from(hash) * u128::from(self.starts)) >> 64) as u32;
        let within = |bits: u64| bits as u32 & (self.segment - 1);
        let second = (first + self.segment) ^ within(hash >> 18);
        let third = (first + 2 * self.segment) ^ within(hash);
        [first, second, third].map(|place| place as usize)
    }
}

/// What the fingerprints at the places of a hash must be together.
pub(crate) fn fingerprint(hash: u64) -> u16 {
    (hash ^ hash >> 32) as u16
}

/// The traces of one file.
pub struct TraceFilter {
    shape: Shape,
    fingerprints: RwLock<Fingerprints>,
}

/// They never change, but where they are does, so that all who have the file keep them once.
enum Fingerprints {
    Own(Arc<[u16]>),
    /// A column of those of many files.
    Column(Interleaved, usize),
}

impl Fingerprints {
    fn get(&self) -> Arc<[u16]> {
        match self {
            Fingerprints::Own(own) => own.clone(),
            Fingerprints::Column(all, column) => all.column(*column),
        }
    }

    fn hold(&self, shape: Shape, hash: u64) -> bool {
        let places = shape.places(hash);
        let [first, second, third] = match self {
            Fingerprints::Own(own) => places.map(|place| own[place]),
            Fingerprints::Column(all, column) => places.map(|place| all.at(place, *column)),
        };
        first ^ second ^ third == fingerprint(hash)
    }
}

impl std::fmt::Debug for TraceFilter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "TraceFilter({} fingerprints)", self.shape.len())
    }
}

/// What filters know of a trace id.
pub fn trace_key(trace_id: &[u8; 16]) -> u64 {
    key(trace_id)
}

/// The same, of the bytes of a column.
pub(crate) fn key(trace_id: &[u8]) -> u64 {
    xxh3_64(trace_id)
}

/// How many keys a filter of so many is made of: the next number of four significant bits, which is an eighth more at most.
fn class(keys: usize) -> u64 {
    let keys = KEYS_MIN.max(keys as u64);
    keys.next_multiple_of(1 << (keys.ilog2() - 3))
}

impl TraceFilter {
    /// The filter of the keys of some traces, see [`trace_key`]; none if there can be no filter of them, which has not been seen.
    pub fn new(mut keys: Vec<u64>) -> Option<TraceFilter> {
        keys.sort_unstable();
        keys.dedup();
        let missing = class(keys.len()) as usize - keys.len();
        // Small numbers, which no trace's key is but by a rare chance.
        let padding: Vec<u64> = (0..).filter(|key| keys.binary_search(key).is_err()).take(missing).collect();
        keys.extend(padding);
        let BinaryFuse16 { descriptor, fingerprints } = BinaryFuse16::try_from(&keys).ok()?;
        let shape = Shape::new(descriptor.seed, descriptor.segment_length, descriptor.segment_count_length)?;
        TraceFilter::of(shape, fingerprints.into())
    }

    /// The filter of a file's traces, which are read. None as in [`TraceFilter::new`].
    pub(crate) async fn of_file(objects: &Arc<dyn ObjectStore>, file: &SpanFile) -> Result<Option<TraceFilter>, LakeError> {
        let path = Path::parse(&file.path).map_err(object_store::Error::from)?;
        let builder = ParquetRecordBatchStreamBuilder::new(FileReader::new(objects.clone(), path, file.size)).await?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), ["trace_id"]);
        let mut batches = builder.with_projection(mask).build()?;
        let mut keys = Vec::new();
        while let Some(batch) = batches.try_next().await? {
            let traces = batch.columns().first().and_then(|column| column.as_fixed_size_binary_opt());
            keys.extend(traces.into_iter().flatten().flatten().map(key));
        }
        Ok(TraceFilter::new(keys))
    }

    fn of(shape: Shape, own: Arc<[u16]>) -> Option<TraceFilter> {
        (own.len() == shape.len()).then(|| TraceFilter { shape, fingerprints: RwLock::new(Fingerprints::Own(own)) })
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the file may hold the trace.
    pub fn may_hold(&self, trace_id: &[u8; 16]) -> bool {
        self.fingerprints.read().hold(self.shape, self.shape.hash(key(trace_id)))
    }

    /// Gives `each` the numbers of those hashes ([`Shape::hash`]) whose traces the file may hold.
    pub(crate) fn select(&self, hashes: &[(u64, usize)], mut each: impl FnMut(usize)) {
        let fingerprints = self.fingerprints.read();
        hashes.iter().filter(|(hash, _)| fingerprints.hold(self.shape, *hash)).for_each(|(_, number)| each(*number));
    }

    /// Gives `each` the positions of those keys (see [`trace_key`]) whose traces the file may hold.
    pub fn select_keys(&self, keys: &[u64], mut each: impl FnMut(usize)) {
        let fingerprints = self.fingerprints.read();
        let held = keys.iter().enumerate().filter(|(_, key)| fingerprints.hold(self.shape, self.shape.hash(**key)));
        held.for_each(|(position, _)| each(position));
    }

    /// Puts the fingerprints of filters of one shape together.
    pub(crate) fn interleave(shape: Shape, filters: &[&TraceFilter]) -> Interleaved {
        let columns: Vec<Arc<[u16]>> = filters.iter().map(|filter| filter.fingerprints.read().get()).collect();
        let all = Interleaved::new(shape, &columns);
        for (column, filter) in filters.iter().enumerate() {
            *filter.fingerprints.write() = Fingerprints::Column(all.clone(), column);
        }
        all
    }

    /// Takes the fingerprints out of those of many files, if that is where they are.
    pub(crate) fn separate(&self, all: &Interleaved) {
        let mut fingerprints = self.fingerprints.write();
        if matches!(&*fingerprints, Fingerprints::Column(of, _) if of.is(all)) {
            *fingerprints = Fingerprints::Own(fingerprints.get());
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let fingerprints = self.fingerprints.read().get();
        let mut bytes = Vec::with_capacity(HEADER + 2 * fingerprints.len() + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.shape.seed.to_le_bytes());
        bytes.extend_from_slice(&self.shape.segment.to_le_bytes());
        bytes.extend_from_slice(&self.shape.starts.to_le_bytes());
        bytes.extend(fingerprints.iter().flat_map(|fingerprint| fingerprint.to_le_bytes()));
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a filter back; none if the bytes are no filter of this version.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<TraceFilter> {
        let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
        let (header, fingerprints) = content.split_at_checked(HEADER)?;
        let u32_at = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
        let whole = header.starts_with(MAGIC) && u32_at(4)? == VERSION && checksum == xxh3_64(content).to_le_bytes();
        let seed = u64::from_le_bytes(header.get(8..16)?.try_into().ok()?);
        let shape = Shape::new(seed, u32_at(16)?, u32_at(20)?)?;
        let (fingerprints, rest) = fingerprints.as_chunks();
        let own = fingerprints.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
        (whole && rest.is_empty()).then(|| TraceFilter::of(shape, own))?
    }
}

#[cfg(test)]
mod tests {
    use xorf::Filter;

    use super::*;

    fn ids(from: u64, count: u64) -> Vec<[u8; 16]> {
        (from..from + count).map(|id| u128::from(id).to_be_bytes()).collect()
    }

    fn keys(from: u64, count: u64) -> Vec<u64> {
        ids(from, count).iter().map(|id| key(id)).collect()
    }

    /// Scenario: filters of few and many traces, written and read back. Guarantee: each holds its traces, and less than one in
    /// 30,000 of others; where there are many, it has less than 20 bits a trace.
    #[test]
    fn holds_its_traces() {
        for count in [0, 1, 2, 10, 1_000, 200_000] {
            let twice = [keys(0, count), keys(0, count)].concat();
            let bytes = TraceFilter::new(twice).unwrap().to_bytes();
            let filter = TraceFilter::from_bytes(&bytes).unwrap();
            assert!(ids(0, count).iter().all(|id| filter.may_hold(id)), "{count}");
            let others = ids(1 << 40, 300_000).iter().filter(|id| filter.may_hold(id)).count();
            assert!(others < 10, "{count}: {others}");
            assert!(count < 200_000 || bytes.len() as u64 * 8 < count * 20, "{count}: {}", bytes.len());
        }
    }

    /// Scenario: filters of numbers of traces that differ by little, of the least numbers, and of keys that padding would take.
    /// Guarantee: those of a class are of one shape, classes are an eighth apart at most, and the filter holds its traces.
    #[test]
    fn classes_have_a_shape() {
        let shape = |count| TraceFilter::new(keys(7, count)).unwrap().shape();
        assert_eq!(shape(0), shape(256));
        assert_eq!(shape(9_217), shape(10_240));
        assert_ne!(shape(10_240), shape(10_241));
        for count in 0..10_000 {
            let class = class(count) as usize;
            assert!(class >= count.max(256) && class <= (count + count / 8).max(256), "{count}: {class}");
        }
        let small = TraceFilter::new((0..300).step_by(3).collect()).unwrap();
        let held = small.fingerprints.read();
        assert!((0..300).step_by(3).all(|key| held.hold(small.shape, small.shape.hash(key))));
    }

    /// Scenario: keys that a filter was made of and others are asked for. Guarantee: the answers are those of the crate that made
    /// it.
    #[test]
    fn answers_are_those_of_the_crate() {
        let own: Vec<u64> = keys(0, 50_000);
        let theirs = BinaryFuse16::try_from(&own).unwrap();
        let descriptor = &theirs.descriptor;
        let shape = Shape::new(descriptor.seed, descriptor.segment_length, descriptor.segment_count_length).unwrap();
        let ours = TraceFilter::of(shape, theirs.fingerprints.clone().into()).unwrap();
        let held = ours.fingerprints.read();
        for key in own.into_iter().chain(keys(1 << 40, 300_000)) {
            assert_eq!(held.hold(shape, shape.hash(key)), theirs.contains(&key));
        }
    }

    /// Scenario: a filter's file with each of its bytes changed, cut anywhere, with something added, and of the version before.
    /// Guarantee: it is no filter.
    #[test]
    fn damage_is_seen() {
        let bytes = TraceFilter::new(keys(0, 50)).unwrap().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(TraceFilter::from_bytes(&damaged).is_none() && TraceFilter::from_bytes(&bytes[..at]).is_none(), "{at}");
        }
        let content = &bytes[..bytes.len() - CHECKSUM];
        let with_checksum = |content: &[u8]| [content, &xxh3_64(content).to_le_bytes()].concat();
        assert!(TraceFilter::from_bytes(&with_checksum(content)).is_some());
        assert!(TraceFilter::from_bytes(&with_checksum(&[content, &[0, 0]].concat())).is_none());
        assert!(TraceFilter::from_bytes(&with_checksum(&[content, &[0]].concat())).is_none());
        assert!(TraceFilter::from_bytes(&with_checksum(&[&content[..4], &[1], &content[5..]].concat())).is_none());
    }

    /// Scenario: shapes that no filter has, and the smallest ones. Guarantee: of the first there are none; of the others no place
    /// is behind the end, whatever the hash.
    #[test]
    fn places_are_within() {
        let wrong = [(0, 0), (0, 64), (3, 9), (64, 0), (64, 32), (64, 96), (1 << 31, 1 << 31), (1 << 30, 1 << 31)];
        assert!(wrong.iter().all(|(segment, starts)| Shape::new(0, *segment, *starts).is_none()));
        for (segment, starts) in [(1, 1), (4, 4), (4, 12), (64, 64), (1 << 29, 1 << 31)] {
            let shape = Shape::new(0, segment, starts).unwrap();
            for hash in (0..100_000).map(|number| shape.hash(number)).chain([0, u64::MAX]) {
                assert!(shape.places(hash).into_iter().all(|place| place < shape.len()), "{shape:?}: {hash}");
            }
        }
    }

    /// Scenario: a filter is interleaved. Guarantee: the fingerprints that were its own are given back.
    #[test]
    fn interleaved_filters_own_nothing() {
        let filter = TraceFilter::new(keys(0, 3)).unwrap();
        let weak = Arc::downgrade(&filter.fingerprints.read().get());
        let _all = TraceFilter::interleave(filter.shape(), &[&filter]);
        assert!(weak.upgrade().is_none());
    }

    /// Scenario: the file of a filter of three traces, made by hand from the description above. Guarantee: it is read as such, and
    /// written as it was.
    #[test]
    fn version_2_is_fixed() {
        // Places 2, 6, 8 and 7, 11, 14 and 2, 4, 8; fingerprints 3a02, 5e0f, 2aa3.
        let fingerprints: [u16; 16] = [0, 0, 0x1111, 0, 0x3bb2, 0, 0x2b13, 0, 0, 0, 0, 0x5e0f, 0, 0, 0, 0];
        let mut bytes = [b"MLTF".as_slice(), &[2, 0, 0, 0], &[7, 0, 0, 0, 0, 0, 0, 0], &[4, 0, 0, 0], &[8, 0, 0, 0]].concat();
        bytes.extend(fingerprints.iter().flat_map(|fingerprint| [*fingerprint as u8, (fingerprint >> 8) as u8]));
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        let filter = TraceFilter::from_bytes(&bytes).unwrap();
        assert_eq!([1, 2, 3, 4, 5].map(|id| filter.may_hold(&[id; 16])), [true, true, true, false, false]);
        assert_eq!(filter.to_bytes(), bytes);
    }
}
