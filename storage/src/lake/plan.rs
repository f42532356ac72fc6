//! Which files are merged next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backlog::Fresh;
use super::compact::Compactor;
use super::state::LakeFile;
use crate::ingest::now;

/// Fresh files that are merged at once: a watermark is moved for each of their writers.
const FRESH_MAX: usize = 32;
/// How often a span is rewritten at most.
const REWRITES_MAX: u32 = 3;

/// What is merged into what.
#[derive(Debug)]
pub(super) struct Plan {
    pub window: Option<i64>,
    pub fresh: Vec<Fresh>,
    /// Files of the lake.
    pub lake: Vec<LakeFile>,
    /// Whether it has waited for `compaction.max_age`.
    pub overdue: bool,
}

impl Compactor {
    /// A window to merge, the oldest first.
    pub(super) fn plan(&self) -> Option<Plan> {
        let mut settled = self.shared.backlog.settled();
        // What queries do not read yet as files of the lake may be there already.
        self.shared.lake.read(|state| settled.retain(|fresh| !fresh.is_in(state)));
        let mut windows = BTreeMap::<Option<i64>, Vec<Fresh>>::new();
        for fresh in settled {
            windows.entry(fresh.file.window).or_default().push(fresh);
        }
        let now = now();
        let (window, fresh) = windows.into_iter().find(|(_, files)| self.is_due(files, now))?;
        let settings = &self.settings;
        let mut fresh = in_order(fresh);
        let mut bytes = 0;
        let fit = fresh.iter().take(FRESH_MAX).take_while(|fresh| {
            bytes += fresh.file.size;
            bytes <= settings.file_size + settings.file_size / 4
        });
        let fit = fit.count().max(1);
        fresh.truncate(fit.min(settings.memory.fit(fresh.iter().map(|fresh| &*fresh.file))));
        let mut lake: Vec<LakeFile> = self.shared.lake.read(|state| {
            let small = |file: &&LakeFile| {
                file.file.window == window && file.file.size < settings.file_size / 4 && file.rewrites + 1 < REWRITES_MAX
            };
            state.files.values().filter(small).cloned().collect()
        });
        let files = fresh.iter().map(|fresh| &*fresh.file).chain(lake.iter().map(|file| &*file.file));
        lake.truncate(settings.memory.fit(files) - fresh.len());
        let overdue = fresh.iter().any(|fresh| now - fresh.since >= settings.max_age);
        Some(Plan { window, fresh, lake, overdue })
    }

    fn is_due(&self, files: &[Fresh], now: i64) -> bool {
        let doomed = self.shared.deletions.doomed();
        let newest = files.iter().map(|fresh| fresh.since).max().unwrap_or(now);
        let oldest = files.iter().map(|fresh| fresh.since).min().unwrap_or(now);
        let bytes: u64 = files.iter().map(|fresh| fresh.file.size).sum();
        // Files enough for a lake file need not wait: they are not written again.
        let settled = now - newest >= self.settings.settle || now - oldest >= self.settings.max_age;
        settled
            || bytes >= self.settings.file_size
            || files.iter().any(|fresh| doomed.iter().any(|doomed| fresh.is_covered(doomed)))
    }
}

/// Each writer's files by generation, the writers by turns: then any beginning of the list is a beginning of each writer's.
fn in_order(mut fresh: Vec<Fresh>) -> Vec<Fresh> {
    fresh.sort_by(|a, b| (&a.writer, a.generation).cmp(&(&b.writer, b.generation)));
    let mut turn = 0;
    let mut last: Option<Arc<str>> = None;
    let mut turns: Vec<(usize, Fresh)> = Vec::with_capacity(fresh.len());
    for one in fresh {
        turn = if last.as_ref() == Some(&one.writer) { turn + 1 } else { 0 };
        last = Some(one.writer.clone());
        turns.push((turn, one));
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, fresh)| fresh).collect()
}
