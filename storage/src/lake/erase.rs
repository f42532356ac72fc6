//! The compaction thread's part in deletions: files without the spans take the place of files with them.

use std::collections::HashSet;

use super::LakeError;
use super::compact::Compactor;
use super::deletion::{Doomed, Receipt};
use super::log::Change;
use super::merge::{Dropped, Input, Merge};
use super::plan::Plan;
use super::state::LakeFile;
use crate::ingest::now;

impl Compactor {
    /// Takes up deletions that were asked for, here or elsewhere, and puts into the log which files each of them covers. From that
    /// version on, a merge that knew nothing of it is in conflict, in whatever process.
    pub(super) async fn begin_deletions(&mut self) -> Result<(), LakeError> {
        self.shared.deletions.load().await?;
        for doomed in self.shared.deletions.doomed() {
            while self.shared.lake.read(|state| state.deletion(&doomed.id).is_none()) {
                let last = now().max(self.shared.lake.read(|state| state.last_written()));
                let change = Change { begins: Some((doomed.id.clone(), last)), ..Change::default() };
                match self.shared.lake.commit(&change).await {
                    Err(LakeError::Conflict) => {}
                    committed => committed?,
                }
            }
        }
        self.follower.show();
        Ok(())
    }

    /// Whether a deletion covers a lake file and some of its spans may be there.
    pub(super) fn covers_lake(&self, doomed: &Doomed, file: &LakeFile) -> bool {
        let last = self.shared.lake.read(|state| state.deletion(&doomed.id));
        last.is_some_and(|last| file.written <= last) && doomed.may_be_in(&file.file)
    }

    /// Rewrites the lake files that hold spans to be deleted. Those in fresh files went when these were merged.
    pub(super) async fn erase(&mut self) -> Result<(), LakeError> {
        for doomed in self.shared.deletions.doomed() {
            while let Some(file) = self.next_covered(&doomed)
                && !self.share.is_revoked()
                && !self.is_pressed()
            {
                if self.holds(&file, &doomed).await? {
                    self.try_merge(Plan::of_file(file)).await?;
                } else {
                    self.clean.insert((doomed.id.clone(), file.file.path.clone()));
                }
            }
            if self.is_erased(&doomed) {
                let hidden = now();
                let replaced = |receipt: &mut Receipt| {
                    receipt.hidden = Some(hidden);
                    // Somebody else, or a process that died, took them out.
                    for file in &mut receipt.files {
                        file.replaced.get_or_insert(hidden);
                    }
                };
                self.shared.deletions.update(&doomed.id, replaced).await?;
                self.clean.retain(|(deletion, _)| *deletion != doomed.id);
            }
        }
        Ok(())
    }

    fn next_covered(&self, doomed: &Doomed) -> Option<LakeFile> {
        self.shared.lake.read(|state| {
            let last = state.deletion(&doomed.id)?;
            let covered = |file: &&LakeFile| {
                file.written <= last
                    && doomed.may_be_in(&file.file)
                    && !self.clean.contains(&(doomed.id.clone(), file.file.path.clone()))
            };
            state.files.values().find(covered).cloned()
        })
    }

    /// Whether one of the spans is in the file.
    async fn holds(&self, file: &LakeFile, doomed: &std::sync::Arc<Doomed>) -> Result<bool, LakeError> {
        let input = Input { file: file.file.clone(), rewrites: file.rewrites + 1, doomed: vec![doomed.clone()] };
        self.share.begin();
        let promoted = self.shared.lake.read(|state| state.promotions.list.clone());
        let mut merge = Merge::open(&self.files, vec![input], &promoted).await?;
        while merge.dropped().is_empty() {
            if self.share.is_revoked() {
                return Err(LakeError::Stopped);
            }
            if merge.next().await?.is_none() {
                return Ok(!merge.dropped().is_empty());
            }
            self.share.rest().await;
        }
        Ok(true)
    }

    /// Whether none of the spans is in a file that queries read, or in memory.
    fn is_erased(&self, doomed: &Doomed) -> bool {
        let settled = self.shared.backlog.settled_generations();
        let flushed = doomed.generations.iter().all(|(writer, last)| settled.get(writer.as_str()).is_some_and(|done| done >= last));
        let waits = |fresh: &super::Fresh| doomed.covers_fresh(&fresh.writer, fresh.generation, &fresh.file);
        let begun = self.shared.lake.read(|state| state.deletion(&doomed.id).is_some());
        let waits = self.shared.backlog.all().iter().any(waits);
        begun && flushed && !waits && self.next_covered(doomed).is_none() && self.follower.is_shown()
    }

    /// Notes in the receipts which files are being replaced, or were (microseconds).
    pub(super) async fn note_dropped(&self, dropped: &[Dropped], replaced: Option<i64>) -> Result<(), LakeError> {
        for one in dropped {
            let note = |receipt: &mut Receipt| {
                receipt.files.retain(|file| file.file != one.file);
                receipt.files.push(super::Rewritten { file: one.file.clone(), spans: one.spans, replaced, deleted: None });
            };
            self.shared.deletions.update(&one.deletion, note).await?;
        }
        Ok(())
    }

    /// Notes in the receipts which files are gone.
    pub(super) async fn finish_deletions(&self) -> Result<(), LakeError> {
        for receipt in self.shared.deletions.hidden() {
            let waiting: HashSet<String> = self.shared.lake.read(|state| state.removed.keys().cloned().collect());
            let is_there = |path: &str| waiting.contains(path) || self.follower.is_covered(path);
            let gone = receipt.files.iter().filter(|file| file.deleted.is_none() && !is_there(&file.file)).count();
            let left = receipt.files.iter().filter(|file| file.deleted.is_none()).count();
            if gone == 0 && left > 0 {
                continue;
            }
            let note = |receipt: &mut Receipt| {
                let now = now();
                for file in receipt.files.iter_mut().filter(|file| !is_there(&file.file)) {
                    file.deleted.get_or_insert(now);
                }
                receipt.finished = receipt.files.iter().all(|file| file.deleted.is_some()).then_some(now);
            };
            self.shared.deletions.update(&receipt.id, note).await?;
        }
        Ok(())
    }
}
