//! What lake files say of themselves, so that they need not be read to be counted.

use std::sync::Arc;

use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheValue};
use futures::StreamExt;
use meshlake_config::Tenant;
use meshlake_storage::{AttributeCount, AttributeCounts, OperationCount, Snapshot, SpanFile, Summary};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::types::TimeRange;

/// Summaries that are read at once.
const READS: usize = 16;

/// Something that is kept beside a lake file.
pub(crate) trait Beside: Send + Sync + Sized + 'static {
    /// Reads it; none where there is none.
    fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> impl Future<Output = Option<Self>> + Send;

    /// Bytes of memory.
    fn size(&self) -> usize;
}

impl Beside for Summary {
    async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Self> {
        Summary::read(store, file).await
    }

    fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let size = |one: &OperationCount| {
            let texts = text(&one.service) + text(&one.namespace) + text(&one.cluster) + one.name.len() + one.kind.len();
            size_of::<OperationCount>() + texts
        };
        self.operations.iter().map(size).sum()
    }
}

impl Beside for AttributeCounts {
    async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Self> {
        AttributeCounts::read(store, file).await
    }

    fn size(&self) -> usize {
        let value = |(value, _): &(String, u64)| size_of::<(String, u64)>() + value.len();
        let size = |one: &AttributeCount| size_of::<AttributeCount>() + one.key.len() + one.values.iter().map(value).sum::<usize>();
        self.attributes.iter().map(size).sum()
    }
}

/// What was read, by the path of its file; the least recently used go first.
pub(crate) struct FileSummaries<T: Beside> {
    store: Arc<dyn ObjectStore>,
    cache: DefaultCache<Path, Cached<T>>,
}

/// A summary, or that there is none.
struct Cached<T>(Option<Arc<T>>);

impl<T> Clone for Cached<T> {
    fn clone(&self) -> Self {
        Cached(self.0.clone())
    }
}

impl<T: Beside> CacheValue for Cached<T> {
    fn size(&self) -> usize {
        size_of::<Self>() + self.0.as_ref().map_or(0, |summary| summary.size())
    }
}

impl<T: Beside> FileSummaries<T> {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, limit: usize) -> Self {
        FileSummaries { store, cache: DefaultCache::new(limit) }
    }

    /// The summaries of the tenant's files that begin and end within the range, and what else of the snapshot may be of the range.
    pub(crate) async fn split(&self, snapshot: &Snapshot, tenant: &Tenant, range: TimeRange) -> (Vec<Arc<T>>, Snapshot) {
        let is_whole = |file: &SpanFile| {
            let within = range.start <= file.start_min && file.start_max < range.end;
            within && file.is_in_lake() && file.tenants == [tenant.as_str()]
        };
        let reads = futures::stream::iter(snapshot.files.between(range.start, range.end).cloned()).map(|file| async move {
            let summary = if is_whole(&file) { self.get(&file).await } else { None };
            (file, summary)
        });
        let (mut summaries, mut rest) = (Vec::new(), Vec::new());
        for (file, summary) in reads.buffered(READS).collect::<Vec<_>>().await {
            match summary {
                Some(summary) => summaries.push(summary),
                None => rest.push(file),
            }
        }
        (summaries, Snapshot { files: Arc::new(rest.into_iter().collect()), ..snapshot.clone() })
    }

    /// What is kept beside a file; none where there is none.
    pub(crate) async fn get(&self, file: &SpanFile) -> Option<Arc<T>> {
        let path = Path::from(file.path.as_str());
        if let Some(cached) = self.cache.get(&path) {
            return cached.0;
        }
        let summary = T::read(&self.store, file).await.map(Arc::new);
        self.cache.put(&path, Cached(summary.clone()));
        summary
    }
}
