//! The committed files of a snapshot, by day and by their traces, so that a query leaves out most of them without a look at each.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::lake::key;
use crate::snapshot::SpanFile;
use crate::trace_index::TraceIndex;

const DAY: i64 = 24 * 3_600_000_000;

/// Files by the day of their window, and by their traces. A change copies the day that it is of, and shares the others with earlier
/// snapshots.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Those without a window under none.
    days: BTreeMap<Option<i64>, Arc<Day>>,
    /// The same files.
    traces: TraceIndex,
}

/// The files of a day.
#[derive(Clone, Debug)]
pub struct Day {
    /// Earliest start of a span, microseconds.
    pub start_min: i64,
    /// Latest start of a span, microseconds.
    pub start_max: i64,
    files: Vec<Arc<SpanFile>>,
}

impl Day {
    fn new(files: Vec<Arc<SpanFile>>) -> Day {
        Day {
            start_min: files.iter().map(|file| file.start_min).min().unwrap_or(i64::MAX),
            start_max: files.iter().map(|file| file.start_max).max().unwrap_or(i64::MIN),
            files,
        }
    }

    /// Its files.
    pub fn files(&self) -> &[Arc<SpanFile>] {
        &self.files
    }
}

impl Files {
    /// Those of each day, in no particular order.
    pub fn days(&self) -> impl Iterator<Item = &Day> {
        self.days.values().map(Arc::as_ref)
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SpanFile>> {
        self.days().flat_map(Day::files)
    }

    /// Those that may hold spans that start from `start` until before `end`; microseconds.
    pub fn between(&self, start: i64, end: i64) -> impl Iterator<Item = &Arc<SpanFile>> {
        let days = self.days().filter(move |day| day.start_min < end && day.start_max >= start);
        days.flat_map(Day::files).filter(move |file| file.start_min < end && file.start_max >= start)
    }

    /// Those that may hold one of the traces, by their filters, each with the positions in `ids` of those traces, ascending.
    pub fn of_traces(&self, ids: &[[u8; 16]]) -> Vec<(Arc<SpanFile>, Vec<usize>)> {
        let keys: Vec<u64> = ids.iter().map(|id| key(id)).collect();
        let mut found = Vec::new();
        self.traces.matches(&keys, i64::MIN..i64::MAX, |file, positions| found.push((file.clone(), positions.to_vec())));
        found
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.days().map(|day| day.files.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    fn day(file: &SpanFile) -> Option<i64> {
        file.window.map(|window| window.div_euclid(DAY))
    }

    /// The files of a file's day, to be changed: from `days` if they were already.
    fn files_of<'a>(&self, file: &SpanFile, days: &'a mut BTreeMap<Option<i64>, Vec<Arc<SpanFile>>>) -> &'a mut Vec<Arc<SpanFile>> {
        let day = Files::day(file);
        days.entry(day).or_insert_with(|| self.days.get(&day).map(|day| day.files.clone()).unwrap_or_default())
    }

    /// Adds files that are not there yet, and takes others out.
    pub(crate) fn change<'a>(
        &mut self,
        add: impl IntoIterator<Item = Arc<SpanFile>>,
        remove: impl IntoIterator<Item = &'a SpanFile>,
    ) {
        let mut days = BTreeMap::new();
        let (mut come, mut gone) = (Vec::new(), Vec::new());
        for file in remove {
            gone.extend(self.files_of(file, &mut days).extract_if(.., |known| known.path == file.path));
        }
        for file in add {
            let files = self.files_of(&file, &mut days);
            if files.iter().all(|known| known.path != file.path) {
                come.push(file.clone());
                files.push(file);
            }
        }
        self.traces.change(come, &gone);
        for (day, files) in days {
            if files.is_empty() {
                self.days.remove(&day);
            } else {
                self.days.insert(day, Arc::new(Day::new(files)));
            }
        }
    }
}

impl FromIterator<Arc<SpanFile>> for Files {
    fn from_iter<T: IntoIterator<Item = Arc<SpanFile>>>(files: T) -> Files {
        let mut files: Vec<Arc<SpanFile>> = files.into_iter().collect();
        // So that filters that are asked together are of files of about one time.
        files.sort_by_key(|file| file.start_min);
        let mut days = BTreeMap::<Option<i64>, Vec<Arc<SpanFile>>>::new();
        for file in &files {
            days.entry(Files::day(file)).or_default().push(file.clone());
        }
        let mut traces = TraceIndex::default();
        traces.change(files, &[]);
        Files { days: days.into_iter().map(|(day, files)| (day, Arc::new(Day::new(files)))).collect(), traces }
    }
}

impl Extend<Arc<SpanFile>> for Files {
    fn extend<T: IntoIterator<Item = Arc<SpanFile>>>(&mut self, files: T) {
        self.change(files, []);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::lake::TraceFilter;

    /// A file of one trace, with or without a filter.
    fn file(number: u8, start: i64, window: Option<i64>, filtered: bool) -> Arc<SpanFile> {
        let traces = filtered.then(|| TraceFilter::new(vec![key(&[number; 16])]).map(Arc::new)).flatten();
        let (start_min, start_max) = (start, start + i64::from(number) * DAY / 50);
        Arc::new(SpanFile { path: number.to_string(), start_min, start_max, window, traces, ..SpanFile::default() })
    }

    fn paths<'a>(files: impl Iterator<Item = &'a Arc<SpanFile>>) -> Vec<String> {
        let mut paths: Vec<String> = files.map(|file| file.path.clone()).collect();
        paths.sort();
        paths
    }

    proptest! {
        /// Scenario: files of many days and of none come, again, and go. Guarantee: all, those between two times and those of some traces
        /// are what a look at each finds; no file is there twice, and an earlier snapshot stays as it was.
        #[test]
        fn days_are_a_list(
            steps in vec((vec((0..30u8, -3..9i64, any::<bool>(), any::<bool>()), 0..6), vec(0..30u8, 0..4)), 0..12),
            start in -4..10i64,
            length in 0..5i64,
            wanted in vec(0..30u8, 0..3),
        ) {
            let (mut files, mut list) = (Files::default(), Vec::<Arc<SpanFile>>::new());
            for (add, remove) in steps {
                let (before, list_before) = (files.clone(), list.clone());
                let gone: Vec<Arc<SpanFile>> = list.extract_if(.., |file| remove.contains(&file.path.parse().unwrap())).collect();
                let add = add.into_iter().map(|(number, day, placed, filtered)| {
                    let known = list_before.iter().find(|file| file.path == number.to_string()).cloned();
                    known.unwrap_or_else(|| file(number, day * DAY + 7, placed.then_some(day * DAY), filtered))
                });
                let mut new: Vec<Arc<SpanFile>> = add.collect();
                new.sort_by_key(|file| file.path.clone());
                new.dedup_by_key(|file| file.path.clone());
                files.change(new.clone(), gone.iter().map(Arc::as_ref));
                for file in new {
                    if list.iter().all(|known| known.path != file.path) {
                        list.push(file);
                    }
                }
                prop_assert_eq!(paths(before.iter()), paths(list_before.iter()));
                prop_assert_eq!(paths(files.iter()), paths(list.iter()));
            }
            prop_assert_eq!((files.len(), files.is_empty()), (list.len(), list.is_empty()));
            prop_assert_eq!(paths(list.iter().cloned().collect::<Files>().iter()), paths(list.iter()));
            let (start, end) = (start * DAY, (start + length) * DAY);
            let between = list.iter().filter(|file| file.start_min < end && file.start_max >= start);
            prop_assert_eq!(paths(files.between(start, end)), paths(between));
            let ids: Vec<[u8; 16]> = wanted.iter().map(|number| [*number; 16]).collect();
            let may_hold = |file: &SpanFile, id| file.traces.as_ref().is_none_or(|traces| traces.may_hold(id));
            let of_traces = list.iter().filter(|file| ids.iter().any(|id| may_hold(file, id)));
            prop_assert_eq!(paths(files.of_traces(&ids).iter().map(|(file, _)| file)), paths(of_traces));
        }
    }
}
