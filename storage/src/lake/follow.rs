//! Following: what other processes flushed and merged comes into this one's snapshot, whether or not it merges itself.
//!
//! In this order, for a record that vanished between its listing and its reading names files of which the lake has the spans by
//! then: the commit records of other writers, then the lake's log, then both into the snapshot in one step (P2).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tracing::warn;

use super::LakeError;
use super::backlog::Fresh;
use super::compact::Shared;
use crate::commit::record_path;
use crate::ingest::now;
use crate::records::Records;

/// A fresh file of which the lake has the spans.
#[derive(Clone, Copy, Debug)]
struct Covered {
    /// When nobody reads it any more; microseconds.
    until: i64,
    /// Its generation, if it is of this process's writer.
    own: Option<u64>,
}

/// What this process knows of the others.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Shared,
    records: Records,
    delete_delay: i64,
    /// Whether it deletes other writers' files too.
    deletes_all: bool,
    /// The next version when the snapshot was last changed.
    shown: u64,
    /// Whether there are other writers' files that the snapshot has not got yet.
    has_news: bool,
    /// By path.
    covered: BTreeMap<String, Covered>,
}

impl Follower {
    /// Follows from what the snapshot and the lake have now.
    pub(super) fn new(shared: Shared, delete_delay: i64, deletes_all: bool) -> Follower {
        let shown = shared.lake.read(|state| state.next);
        let (records, covered) = (Records::default(), BTreeMap::new());
        Follower { shared, records, delete_delay, deletes_all, shown, has_news: false, covered }
    }

    /// Takes in what other processes flushed and merged.
    pub(super) async fn follow(&mut self) -> Result<(), LakeError> {
        let Shared { lake, backlog, objects, .. } = &self.shared;
        let news = self.records.news(objects.as_ref(), backlog.own().map(AsRef::as_ref)).await?;
        self.has_news |= !news.commits.is_empty();
        for (commit, since) in &news.commits {
            backlog.add(commit, *since);
        }
        for (writer, generation) in news.settled {
            backlog.settle(writer, generation);
        }
        lake.refresh().await?;
        self.show();
        self.shared.metrics.backlog_files.set(self.shared.backlog.size().0 as i64);
        Ok(())
    }

    /// The snapshot reads the files of the lake's version, and the fresh files that it covers no more. Whoever committed them:
    /// a commit of our own may have taken in others on its way.
    pub(super) fn show(&mut self) {
        let Shared { lake, live, backlog, metrics, .. } = &self.shared;
        let (version, last) = lake.read(|state| (state.next, backlog.own().and_then(|own| state.last_generation(own))));
        // Another process has merged what we committed a moment ago and still have in memory: both would count. The flush
        // takes it out of memory; until then the snapshot stays as it is. Looked at before the backlog, to which the flush adds
        // its files first.
        if live.oldest().is_some_and(|oldest| last.is_some_and(|last| oldest <= last)) {
            return;
        }
        let covered: Vec<Fresh> = lake.read(|state| backlog.all().into_iter().filter(|fresh| fresh.is_in(state)).collect());
        if self.shown == version && covered.is_empty() && !self.has_news {
            return;
        }
        let news = lake.take_news();
        metrics.lake_files.set(lake.read(|state| state.files.len() as i64));
        let paths: HashSet<&str> = covered.iter().map(|fresh| fresh.file.path.as_str()).collect();
        backlog.remove(&paths);
        // Our own come with the flush.
        let others = backlog.all().into_iter().filter(|fresh| !backlog.is_own(fresh)).map(|fresh| fresh.file);
        let gone = news.removed.iter().chain(covered.iter().map(|fresh| &fresh.file)).map(Arc::as_ref);
        live.swap(others.chain(news.added.into_values()), gone, lake.read(|state| state.promotions.clone()));
        (self.shown, self.has_news) = (version, false);
        self.cover(&covered);
    }

    /// Whether queries read the lake as it is known here.
    pub(super) fn is_shown(&self) -> bool {
        self.shared.lake.read(|state| state.next) == self.shown
    }

    /// Notes that the lake has the spans of fresh files.
    pub(super) fn cover(&mut self, covered: &[Fresh]) {
        let until = now() + self.delete_delay;
        for fresh in covered {
            let own = self.shared.backlog.is_own(fresh).then_some(fresh.generation);
            if own.is_some() || self.deletes_all {
                self.covered.insert(fresh.file.path.clone(), Covered { until, own });
            }
        }
    }

    /// Whether a fresh file was covered and is not deleted yet.
    pub(super) fn is_covered(&self, path: &str) -> bool {
        self.covered.contains_key(path)
    }

    /// Deletes fresh files that no query can read any more, then our own commit records that name none. Others' records stay: only
    /// their writer knows whether its journal still has the segment, which the next start would replay without the record.
    pub(super) async fn delete(&mut self, others: bool) {
        let now = now();
        let due = self.covered.iter().filter(|(_, covered)| covered.until <= now && (others || covered.own.is_some()));
        let due: Vec<_> = due.map(|(path, covered)| (path.clone(), covered.own)).collect();
        for (path, own) in due {
            if delete(self.shared.objects.as_ref(), &path).await {
                self.covered.remove(&path);
                if let Some(generation) = own {
                    self.shared.backlog.deleted(generation);
                }
            }
        }
        self.delete_records().await;
        if !self.deletes_all {
            self.shared.lake.forget_removed();
        }
    }

    async fn delete_records(&self) {
        let (Some(own), Some(journal)) = (self.shared.backlog.own(), &self.shared.journal) else { return };
        let records = self.shared.backlog.empty_records();
        if records.is_empty() {
            return;
        }
        // Not to know which segments are there is to know of none that it is gone.
        let Ok(segments) = journal.segments() else { return };
        for generation in records.into_iter().filter(|generation| !segments.contains(generation)) {
            if delete(self.shared.objects.as_ref(), record_path(own, generation).as_ref()).await {
                self.shared.backlog.forget(generation);
            }
        }
    }
}

/// Deletes an object that nobody reads. Whether it is gone.
pub(crate) async fn delete(store: &dyn ObjectStore, path: &str) -> bool {
    match store.delete(&Path::from(path)).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => true,
        Err(error) => {
            warn!(path, %error, "can't delete a file that nobody reads");
            false
        }
    }
}
