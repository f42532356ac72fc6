//! What goes: files that retention does not keep, files that nobody reads any more, and what a crash left behind.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tracing::info;

use super::compact::Compactor;
use super::log::{Change, list};
use super::state::LakeFile;
use super::{LakeError, beside, delta};
use crate::ingest::now;

/// For how long the log is kept behind its newest checkpoint: no process is so far behind.
const LOG_AGE: Duration = Duration::from_hours(7 * 24);
/// What nobody named for so long was left behind by a crash: a merge takes no day.
const ORPHAN_AGE: Duration = Duration::from_hours(24);

impl Compactor {
    /// Takes out the files that retention does not keep.
    pub(super) async fn retain(&mut self) -> Result<(), LakeError> {
        let now = now();
        let old = self.shared.lake.read(|state| {
            let mut files: Vec<&LakeFile> = state.files.values().collect();
            // Where clocks can't be trusted, the time of writing counts.
            let age = |file: &LakeFile| now - if file.file.window.is_some() { file.file.start_max } else { file.written };
            files.sort_by_key(|file| age(file));
            let mut kept = HashMap::<&str, u64>::new();
            let gone = files.into_iter().filter(|file| {
                let tenant = file.file.tenants.first().map_or("", String::as_str);
                let (age_max, size_max) = self.retention.of(tenant);
                let bytes = kept.entry(tenant).or_default();
                *bytes += file.file.size;
                let too_much = size_max.as_u64() > 0 && *bytes > size_max.as_u64();
                too_much || u128::try_from(age(file)).is_ok_and(|age| age > age_max.as_micros())
            });
            gone.cloned().collect::<Vec<_>>()
        });
        if old.is_empty() {
            return Ok(());
        }
        let (files, spans) = (old.len(), old.iter().map(|file| file.file.rows).sum());
        match self.shared.lake.commit(&Change { remove: old, deletes: true, ..Change::default() }).await {
            // Somebody else took some of them out.
            Err(LakeError::Conflict) => return self.follow().await,
            committed => committed?,
        }
        self.follower.show();
        self.shared.metrics.retired_spans.inc_by(spans);
        info!(files, spans, "retention: took out old files");
        Ok(())
    }

    /// Deletes what no query can read any more.
    pub(super) async fn delete(&mut self) -> Result<(), LakeError> {
        self.follower.delete(true).await;
        let now = now();
        let removed: Vec<String> = self.shared.lake.read(|state| {
            let due = state.removed.iter().filter(|(_, at)| **at + self.settings.delete_delay <= now);
            due.map(|(path, _)| path.clone()).collect()
        });
        for path in removed {
            if self.delete_file(&path).await {
                self.shared.lake.forget(&path);
            }
        }
        Ok(())
    }

    /// Deletes lake files that a crash left behind before their commit, what is beside no file, and what is old in the log.
    pub(super) async fn sweep(&self) -> Result<(), LakeError> {
        self.shared.lake.trim(now() - LOG_AGE.as_micros() as i64).await?;
        let oldest = now() - ORPHAN_AGE.as_micros() as i64;
        let objects = self.shared.objects.as_ref();
        let old = async |folder: &str| -> Result<Vec<String>, LakeError> {
            let found = list(objects, &format!("{}/{folder}", delta::ROOT)).await?.into_iter();
            let old = found.filter(|object| object.last_modified.timestamp_micros() < oldest);
            Ok(old.map(|object| object.location.to_string()).collect())
        };
        for path in old("data").await? {
            let known = self.shared.lake.read(|state| state.files.contains_key(&path) || state.removed.contains_key(&path));
            if !known {
                info!(path, "removing a lake file that was never committed");
                self.delete_file(&path).await;
            }
        }
        let beside_none = old("_index").await?;
        let files: Vec<String> = self.shared.lake.read(|state| state.files.keys().chain(state.removed.keys()).cloned().collect());
        let known: HashSet<String> = files.iter().flat_map(|path| beside::paths(path)).map(String::from).collect();
        for path in beside_none.into_iter().filter(|path| !known.contains(path)) {
            info!(path, "removing what is beside no lake file");
            self.delete_object(&path).await;
        }
        Ok(())
    }
}
