//! What lake files say of themselves, so that they need not be read to be counted.

use std::sync::Arc;

use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::cache::{Cache, CacheValue};
use futures::StreamExt;
use meshlake_config::Tenant;
use meshlake_storage::{OperationCount, Snapshot, SpanFile, Summary};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::types::TimeRange;

/// Summaries that are read at once.
const READS: usize = 16;

/// Summaries by the path of their file, the least recently used go first.
pub(crate) struct FileSummaries {
    store: Arc<dyn ObjectStore>,
    cache: DefaultCache<Path, Cached>,
}

/// A summary, or that there is none.
#[derive(Clone)]
struct Cached(Option<Arc<Summary>>);

impl CacheValue for Cached {
    fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let size = |one: &OperationCount| {
            let texts = text(&one.service) + text(&one.namespace) + text(&one.cluster) + one.name.len() + one.kind.len();
            size_of::<OperationCount>() + texts
        };
        size_of::<Cached>() + self.0.iter().flat_map(|summary| &summary.operations).map(size).sum::<usize>()
    }
}

impl FileSummaries {
    /// A cache of at most `limit` bytes.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, limit: usize) -> Self {
        FileSummaries { store, cache: DefaultCache::new(limit) }
    }

    /// The summaries of the tenant's files that begin and end within the range, and the snapshot without these.
    pub(crate) async fn split(&self, snapshot: &Snapshot, tenant: &Tenant, range: TimeRange) -> (Vec<Arc<Summary>>, Snapshot) {
        let is_whole = |file: &SpanFile| {
            let within = range.start <= file.start_min && file.start_max < range.end;
            within && file.is_in_lake() && file.tenants == [tenant.as_str()]
        };
        let reads = futures::stream::iter(snapshot.files.iter().cloned()).map(|file| async move {
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
        (summaries, Snapshot { live: snapshot.live.clone(), files: Arc::new(rest) })
    }

    async fn get(&self, file: &SpanFile) -> Option<Arc<Summary>> {
        let path = Path::from(file.path.as_str());
        if let Some(cached) = self.cache.get(&path) {
            return cached.0;
        }
        let summary = Summary::read(&self.store, file).await.map(Arc::new);
        self.cache.put(&path, Cached(summary.clone()));
        summary
    }
}
