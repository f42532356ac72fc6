//! Which files are merged next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::backlog::Fresh;
use super::compact::{Compactor, Settings};
use super::deletion::Doomed;
use super::state::LakeFile;
use crate::ingest::now;
use crate::snapshot::SpanFile;

/// Fresh files that are merged at once: a watermark is moved for each of their writers.
const FRESH_MAX: usize = 32;
/// How often a span is rewritten at most.
pub(super) const REWRITES_MAX: u32 = 3;
/// Files of carried traces that a merge writes, and that the next takes, at most.
const CARRIED_FILES: usize = 8;

/// What is merged into what.
#[derive(Debug)]
pub(super) struct Plan {
    pub window: Option<i64>,
    pub fresh: Vec<Fresh>,
    /// Files of the lake.
    pub lake: Vec<LakeFile>,
    /// The fresh files of the window that wait for the next merge.
    pub ahead: Vec<Fresh>,
    /// Files of carried traces that it writes at most: as many as the next merge takes.
    pub carried: usize,
    /// Whether it has waited for `compaction.max_age`.
    pub overdue: bool,
}

impl Plan {
    /// One file of the lake is written anew.
    pub(super) fn of_file(file: LakeFile) -> Plan {
        Plan { window: file.file.window, fresh: Vec::new(), lake: vec![file], ahead: Vec::new(), carried: 0, overdue: false }
    }
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
        let (now, doomed) = (now(), self.shared.deletions.doomed());
        windows.into_iter().find_map(|(window, files)| {
            let due = Due::of(&self.settings, files, &doomed, now)?;
            Some(self.first(window, due, now))
        })
    }

    /// The merge of the first of the files that are due: as many as make a lake file, and fit.
    fn first(&self, window: Option<i64>, due: Due, now: i64) -> Plan {
        let Settings { file_size, memory, max_age, .. } = self.settings;
        let mut fresh = in_order(due.files);
        let mut bytes = 0;
        let most = fresh.iter().take(FRESH_MAX).take_while(|fresh| {
            bytes += fresh.file.size;
            bytes <= file_size + file_size / 4
        });
        let most = most.count().max(1);
        let (mut lake, mut small) = self.unfinished(window);
        lake.truncate(CARRIED_FILES);
        let carried = CARRIED_FILES.min(memory.fit(files(&lake, &fresh[..most])) / 2);
        lake.truncate(carried);
        let fit = memory.fit(files(&lake, &fresh[..most]).chain(files(&small, &[])));
        let most = fit.saturating_sub(lake.len()).clamp(1, most);
        small.truncate(fit.saturating_sub(lake.len() + most));
        lake.extend(small);
        let mut ahead = fresh.split_off(most);
        ahead.extend(in_order(due.waits));
        // What the next merge does not take is not waited for.
        ahead.truncate(most);
        let overdue = fresh.iter().any(|fresh| now - fresh.since >= max_age);
        Plan { window, fresh, lake, ahead, carried, overdue }
    }

    /// The files of the window in the lake that can be merged again: those of carried traces, and small ones.
    fn unfinished(&self, window: Option<i64>) -> (Vec<LakeFile>, Vec<LakeFile>) {
        let is_unfinished = |file: &&LakeFile| {
            let small = file.file.size < self.settings.file_size / 4;
            // Carried traces are merged once more, also where a late part of one of them, or an erasure, was written before.
            let most = if file.carried { REWRITES_MAX } else { REWRITES_MAX - 1 };
            file.file.window == window && (file.carried || small) && file.rewrites < most
        };
        self.shared.lake.read(|state| state.files.values().filter(is_unfinished).cloned().partition(|file| file.carried))
    }
}

fn files<'a>(lake: &'a [LakeFile], fresh: &'a [Fresh]) -> impl Iterator<Item = &'a SpanFile> {
    lake.iter().map(|file| &*file.file).chain(fresh.iter().map(|fresh| &*fresh.file))
}

/// The fresh files of a window that is merged.
struct Due {
    files: Vec<Fresh>,
    /// Those that are not taken yet, but tell which traces go on.
    waits: Vec<Fresh>,
}

impl Due {
    /// What is due of a window, which has such files; none if it is to wait.
    fn of(settings: &Settings, files: Vec<Fresh>, doomed: &[Arc<Doomed>], now: i64) -> Option<Due> {
        let settled = files.iter().all(|fresh| now - fresh.since >= settings.settle);
        let overdue = |fresh: &Fresh| now - fresh.since >= settings.max_age;
        let is_doomed = |fresh: &Fresh| doomed.iter().any(|doomed| fresh.is_covered(doomed));
        if settled || files.iter().any(|fresh| overdue(fresh) || is_doomed(fresh)) {
            return Some(Due { files, waits: Vec::new() });
        }
        let mut newest = HashMap::<Arc<str>, u64>::new();
        for fresh in &files {
            let last = newest.entry(fresh.writer.clone()).or_default();
            *last = fresh.generation.max(*last);
        }
        // A writer that still writes has spans of the same traces in the next file.
        let waits = |fresh: &Fresh| now - fresh.since < settings.settle && newest.get(&fresh.writer) == Some(&fresh.generation);
        let (waits, files): (Vec<Fresh>, Vec<Fresh>) = files.into_iter().partition(waits);
        // Files enough for a lake file need not wait: they are not written again.
        let bytes: u64 = files.iter().map(|fresh| fresh.file.size).sum();
        (bytes >= settings.file_size && !files.is_empty()).then_some(Due { files, waits })
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

#[cfg(test)]
mod tests {
    use meshlake_config::{ByteSize, Config};

    use super::*;

    const SECOND: i64 = 1_000_000;
    const NOW: i64 = 1_000 * SECOND;

    fn fresh(writer: &str, generation: u64, age: i64) -> Fresh {
        let file = SpanFile { size: 100, rows: 10, ..SpanFile::default() };
        Fresh { writer: writer.into(), generation, since: NOW - age * SECOND, file: Arc::new(file) }
    }

    /// The generations that are due and those that wait, of files of 100 bytes each.
    fn due(file_size: u64, files: &[(&str, u64, i64)]) -> Option<(Vec<u64>, Vec<u64>)> {
        let mut config = Config::default();
        config.compaction.file_size = ByteSize::bytes(file_size);
        config.compaction.settle = std::time::Duration::from_secs(60);
        config.compaction.max_age = std::time::Duration::from_secs(600);
        let files = files.iter().map(|(writer, generation, age)| fresh(writer, *generation, *age)).collect();
        let generations = |files: Vec<Fresh>| {
            let mut generations: Vec<u64> = files.into_iter().map(|fresh| fresh.generation).collect();
            generations.sort_unstable();
            generations
        };
        let due = Due::of(&Settings::new(&config), files, &[], NOW)?;
        Some((generations(due.files), generations(due.waits)))
    }

    /// Scenario: a window's files, of one writer and of several, that settle one after the other. Guarantee: while a writer still
    /// writes, its newest file waits and counts for nothing; what is left is merged as soon as it makes a lake file, and all of it
    /// when the window has settled or is overdue.
    #[test]
    fn the_newest_file_of_each_writer_waits() {
        let growing = [("a", 1, 30), ("a", 2, 20), ("a", 3, 10)];
        assert_eq!(due(300, &growing), None);
        assert_eq!(due(200, &growing), Some((vec![1, 2], vec![3])));
        assert_eq!(due(1, &growing[..1]), None);
        // The second writer has ended.
        assert_eq!(due(200, &[growing[0], growing[2], ("b", 7, 70)]), Some((vec![1, 7], vec![3])));
        assert_eq!(due(200, &[growing[0], growing[2], ("b", 7, 50)]), None);
        assert_eq!(due(100, &[growing[0], growing[2], ("b", 7, 50)]), Some((vec![1], vec![3, 7])));
        assert_eq!(due(1_000, &[("a", 1, 80), ("b", 7, 60)]), Some((vec![1, 7], vec![])));
        assert_eq!(due(1_000, &[("a", 1, 600), ("a", 2, 1)]), Some((vec![1, 2], vec![])));
    }
}
