//! The commit records of other writers, as they come and go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::commit::{Commit, CommitError, READS, list_others};

/// What is known of the records of all writers but one.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Their writer, and up to which generation all of that writer were committed when the record was put.
    known: HashMap<Path, (Arc<str>, u64)>,
}

/// What came since the last time.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Records, each with the time at which it was put (microseconds).
    pub commits: Vec<(Commit, i64)>,
    /// For each writer, a generation up to which all are committed and known here.
    pub settled: Vec<(Arc<str>, u64)>,
}

impl Records {
    /// Looks for records of writers other than `own`.
    ///
    /// # Errors
    /// If the object store fails or a record is unreadable; nothing is taken for known then.
    pub(crate) async fn news(&mut self, store: &dyn ObjectStore, own: Option<&str>) -> Result<News, CommitError> {
        // Twice: records may be put behind a listing that has passed their place. What a record of the first listing says of
        // those before it can be trusted, for the second began after it; what is only in the second, next time.
        let first = list_others(store, own).await?;
        let mut found = list_others(store, own).await?;
        found.extend(first.iter().map(|(path, since)| (path.clone(), *since)));
        self.known.retain(|path, _| found.contains_key(path));
        let new: BTreeMap<Path, i64> = found.into_iter().filter(|(path, _)| !self.known.contains_key(path)).collect();
        let reads = futures::stream::iter(new).map(|(path, since)| async move {
            match Commit::read(store, &path).await {
                // Its writer has deleted it: the lake has its files.
                Err(CommitError::Store(object_store::Error::NotFound { .. })) => Ok(None),
                read => read.map(|commit| Some((path, commit, since))),
            }
        });
        let read: Vec<Option<(Path, Commit, i64)>> = reads.buffered(READS).try_collect().await?;
        let mut news = News::default();
        for (path, commit, since) in read.into_iter().flatten() {
            self.known.insert(path, (commit.writer.as_str().into(), commit.settled()));
            news.commits.push((commit, since));
        }
        news.settled = first.keys().filter_map(|path| self.known.get(path).cloned()).collect();
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::record_path;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    fn settled(news: &News, writer: &str) -> Option<u64> {
        news.settled.iter().filter(|(of, _)| **of == *writer).map(|(_, settled)| *settled).max()
    }

    /// Scenario: two writers commit, one of them in another order than that of its generations, and delete old records.
    /// Guarantee: each record is news once, those of the own writer never, and a generation that is missing holds back what is
    /// settled until it comes.
    #[tokio::test]
    async fn each_record_is_news_once() {
        let store = InMemory::new();
        let mut records = Records::default();
        let commit = |writer: &str, generation, settled| {
            let commit = Commit::new(writer, generation, 0, vec![]);
            Commit { settled: Some(settled), ..commit }
        };
        for commit in [commit("own", 1, 1), commit("w", 1, 1), commit("w", 3, 1)] {
            commit.create(&store).await.unwrap();
        }
        let news = records.news(&store, Some("own")).await.unwrap();
        let generations: Vec<u64> = news.commits.iter().map(|(commit, _)| commit.generation).collect();
        assert_eq!((generations, settled(&news, "w"), settled(&news, "own")), (vec![1, 3], Some(1), None));
        commit("w", 2, 2).create(&store).await.unwrap();
        store.delete(&record_path("w", 1)).await.unwrap();
        let news = records.news(&store, Some("own")).await.unwrap();
        let generations: Vec<u64> = news.commits.iter().map(|(commit, _)| commit.generation).collect();
        assert_eq!((generations, settled(&news, "w")), (vec![2], Some(2)));
        assert!(records.news(&store, Some("own")).await.unwrap().commits.is_empty());
    }
}
