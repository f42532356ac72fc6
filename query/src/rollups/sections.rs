//! The sections of rollups that were read, while they may be asked for again.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheKey, CacheValue};
use meshlake_hops::rollup::Keys;
use meshlake_hops::span_rollup::{KeyParts, SpanCounts, SpanKeys, SpanOutline};
use meshlake_storage::SpanFile;
use object_store::ObjectStore;

use super::resident::Opened;

/// The section that has the keys, of hops; and of spans, behind those of hops.
const KEYS: usize = 1;

/// A file, and what of its rollup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id(Arc<str>, What);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    /// A section.
    Section(usize),
    /// Its counts of spans by these parts of their keys.
    SpanCounts(KeyParts),
}

impl CacheKey for Id {
    fn size(&self) -> usize {
        size_of::<Id>() + self.0.len()
    }

    fn table_ref(&self) -> Option<&TableReference> {
        None
    }
}

/// What a section has; nothing if it can't be read.
#[derive(Clone)]
enum Section {
    Keys(Arc<Keys>),
    SpanKeys(Arc<SpanKeys>),
    SpanOutline(Arc<SpanOutline>),
    SpanCounts(Arc<SpanCounts>),
    Sums(Arc<Vec<u8>>),
    Unreadable,
}

impl CacheValue for Section {
    fn size(&self) -> usize {
        match self {
            Section::Keys(keys) => keys.bytes(),
            Section::SpanKeys(keys) => keys.bytes(),
            Section::SpanOutline(outline) => outline.bytes(),
            Section::SpanCounts(counts) => counts.bytes(),
            Section::Sums(bytes) => bytes.len(),
            Section::Unreadable => 0,
        }
    }
}

/// Sections; the least recently used go first.
pub(crate) struct Sections {
    store: Arc<dyn ObjectStore>,
    cache: DefaultCache<Id, Section>,
}

impl Sections {
    /// At most so many bytes.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, limit: usize) -> Sections {
        Sections { store, cache: DefaultCache::new(limit) }
    }

    /// What a file's rollup has sums of; none if it can't be read.
    pub(crate) async fn keys(&self, file: &SpanFile, opened: &Opened) -> Option<Arc<Keys>> {
        let decode = |bytes: Vec<u8>| Keys::decode(&bytes).map_or(Section::Unreadable, |keys| Section::Keys(Arc::new(keys)));
        match self.get(file, opened, KEYS, decode).await {
            Section::Keys(keys) => Some(keys),
            _ => None,
        }
    }

    /// The sections of its spans; none if that can't be read. They are numbered from [`meshlake_hops::rollup::Outline::sections`] on.
    pub(crate) async fn span_outline(&self, file: &SpanFile, opened: &Opened) -> Option<Arc<SpanOutline>> {
        let decode = |bytes: Vec<u8>| {
            let outline = SpanOutline::decode(&bytes);
            outline.map_or(Section::Unreadable, |outline| Section::SpanOutline(Arc::new(outline)))
        };
        match self.get(file, opened, opened.outline.sections(), decode).await {
            Section::SpanOutline(outline) => Some(outline),
            _ => None,
        }
    }

    /// What it has sums of spans of, alike.
    pub(crate) async fn span_keys(&self, file: &SpanFile, opened: &Opened) -> Option<Arc<SpanKeys>> {
        let decode =
            |bytes: Vec<u8>| SpanKeys::decode(&bytes).map_or(Section::Unreadable, |keys| Section::SpanKeys(Arc::new(keys)));
        match self.get(file, opened, opened.outline.sections() + KEYS, decode).await {
            Section::SpanKeys(keys) => Some(keys),
            _ => None,
        }
    }

    /// Its counts of spans, by these parts of their keys alone; none if they can't be read.
    pub(crate) async fn span_counts(
        &self,
        file: &SpanFile,
        opened: &Opened,
        outline: &SpanOutline,
        parts: KeyParts,
    ) -> Option<Arc<SpanCounts>> {
        let id = Id(file.path.as_str().into(), What::SpanCounts(parts));
        if let Some(Section::SpanCounts(counts)) = self.cache.get(&id) {
            return Some(counts);
        }
        let keys = self.span_keys(file, opened).await?;
        let mut sections = Vec::new();
        for number in outline.counts_of(None) {
            sections.push(self.sums(file, opened, opened.outline.sections() + number).await?);
        }
        let counts = Arc::new(SpanCounts::of(&keys, &sections, parts).ok()?);
        self.cache.put(&id, Section::SpanCounts(counts.clone()));
        Some(counts)
    }

    /// A section with sums; none if it can't be read.
    pub(crate) async fn sums(&self, file: &SpanFile, opened: &Opened, number: usize) -> Option<Arc<Vec<u8>>> {
        match self.get(file, opened, number, |bytes| Section::Sums(Arc::new(bytes))).await {
            Section::Sums(bytes) => Some(bytes),
            _ => None,
        }
    }

    async fn get(&self, file: &SpanFile, opened: &Opened, number: usize, decode: impl Fn(Vec<u8>) -> Section) -> Section {
        let id = Id(file.path.as_str().into(), What::Section(number));
        if let Some(section) = self.cache.get(&id) {
            return section;
        }
        let section = opened.sections.read(&self.store, number).await.map_or(Section::Unreadable, decode);
        self.cache.put(&id, section.clone());
        section
    }
}
