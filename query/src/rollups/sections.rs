//! The sections beside files that were read, while they may be asked for again.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheKey, CacheValue};
use meshlake_hops::rollup::Keys;
use meshlake_hops::span_rollup::{KeyParts, SpanCounts, SpanKeys, SpanOutline};
use meshlake_storage::Sections as Stored;
use object_store::ObjectStore;
use object_store::path::Path;

use super::resident::Opened;

/// The section that has the keys, of hops; and of spans, behind those of hops.
const KEYS: usize = 1;

/// What is kept beside a file, and what of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id(Path, What);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    /// A section.
    Section(usize),
    /// The counts of spans of a rollup by these parts of their keys.
    SpanCounts(KeyParts),
}

impl CacheKey for Id {
    fn size(&self) -> usize {
        size_of::<Id>() + self.0.as_ref().len()
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
    Bytes(Arc<Vec<u8>>),
    Unreadable,
}

impl CacheValue for Section {
    fn size(&self) -> usize {
        match self {
            Section::Keys(keys) => keys.bytes(),
            Section::SpanKeys(keys) => keys.bytes(),
            Section::SpanOutline(outline) => outline.bytes(),
            Section::SpanCounts(counts) => counts.bytes(),
            Section::Bytes(bytes) => bytes.len(),
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
    pub(crate) async fn keys(&self, opened: &Opened) -> Option<Arc<Keys>> {
        let decode = |bytes: Vec<u8>| Keys::decode(&bytes).map_or(Section::Unreadable, |keys| Section::Keys(Arc::new(keys)));
        match self.get(&opened.sections, KEYS, decode).await {
            Section::Keys(keys) => Some(keys),
            _ => None,
        }
    }

    /// The sections of its spans; none if that can't be read. They are numbered from [`meshlake_hops::rollup::Outline::sections`]
    /// on.
    pub(crate) async fn span_outline(&self, opened: &Opened) -> Option<Arc<SpanOutline>> {
        let decode = |bytes: Vec<u8>| {
            let outline = SpanOutline::decode(&bytes);
            outline.map_or(Section::Unreadable, |outline| Section::SpanOutline(Arc::new(outline)))
        };
        match self.get(&opened.sections, opened.outline.sections(), decode).await {
            Section::SpanOutline(outline) => Some(outline),
            _ => None,
        }
    }

    /// What it has sums of spans of, alike.
    pub(crate) async fn span_keys(&self, opened: &Opened) -> Option<Arc<SpanKeys>> {
        let decode =
            |bytes: Vec<u8>| SpanKeys::decode(&bytes).map_or(Section::Unreadable, |keys| Section::SpanKeys(Arc::new(keys)));
        match self.get(&opened.sections, opened.outline.sections() + KEYS, decode).await {
            Section::SpanKeys(keys) => Some(keys),
            _ => None,
        }
    }

    /// Its counts of spans, by these parts of their keys alone; none if they can't be read.
    pub(crate) async fn span_counts(&self, opened: &Opened, outline: &SpanOutline, parts: KeyParts) -> Option<Arc<SpanCounts>> {
        let id = Id(opened.sections.path().clone(), What::SpanCounts(parts));
        if let Some(Section::SpanCounts(counts)) = self.cache.get(&id) {
            return Some(counts);
        }
        let keys = self.span_keys(opened).await?;
        let mut sections = Vec::new();
        for number in outline.counts_of(None) {
            sections.push(self.bytes(&opened.sections, opened.outline.sections() + number).await?);
        }
        let counts = Arc::new(SpanCounts::of(&keys, &sections, parts).ok()?);
        self.cache.put(&id, Section::SpanCounts(counts.clone()));
        Some(counts)
    }

    /// A section as it is, of sums or of traces; none if it can't be read.
    pub(crate) async fn bytes(&self, stored: &Stored, number: usize) -> Option<Arc<Vec<u8>>> {
        match self.get(stored, number, |bytes| Section::Bytes(Arc::new(bytes))).await {
            Section::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    async fn get(&self, stored: &Stored, number: usize, decode: impl Fn(Vec<u8>) -> Section) -> Section {
        let id = Id(stored.path().clone(), What::Section(number));
        if let Some(section) = self.cache.get(&id) {
            return section;
        }
        let section = stored.read(&self.store, number).await.map_or(Section::Unreadable, decode);
        self.cache.put(&id, section.clone());
        section
    }
}
