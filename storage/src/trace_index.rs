//! Which files may hold which traces, without a look at each file.
//!
//! Filters of one shape are interleaved by 64 as soon as there are so many, and asked in one go; what is left, at most 63 files of a
//! shape, is asked one by one. Memory holds each filter once (decision 0013).

use std::array::from_fn;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::lake::{COLUMNS, Interleaved, Shape, TraceFilter};
use crate::snapshot::SpanFile;

/// The fewest files of a group: the columns of the others are memory for nothing, to interleave anew is work.
const GROUP_MIN: usize = COLUMNS / 8 * 7;

/// Files by the shape of their filters. A change copies the shapes that it is of, and shares the others, and all groups that stay as
/// they are, with earlier snapshots.
#[derive(Clone, Debug, Default)]
pub(crate) struct TraceIndex {
    /// Those without a filter under none.
    shapes: BTreeMap<Option<Shape>, Arc<Alike>>,
}

/// Files whose filters have one shape.
#[derive(Clone, Debug, Default)]
struct Alike {
    groups: Vec<Arc<Group>>,
    single: Vec<Arc<SpanFile>>,
}

/// Files whose filters are interleaved.
#[derive(Clone, Debug)]
struct Group {
    filters: Interleaved,
    /// By column; none where one has gone.
    files: [Option<Arc<SpanFile>>; COLUMNS],
    /// Earliest and latest start of a span, microseconds.
    starts: (i64, i64),
}

/// Files of a shape that come and go.
#[derive(Default)]
struct Change {
    come: Vec<Arc<SpanFile>>,
    gone: Vec<*const SpanFile>,
}

fn shape(file: &SpanFile) -> Option<Shape> {
    file.traces.as_ref().map(|filter| filter.shape())
}

fn overlap((start_min, start_max): (i64, i64), times: &Range<i64>) -> bool {
    start_min < times.end && start_max >= times.start
}

impl TraceIndex {
    /// Adds files, and takes out others, which are there.
    pub(crate) fn change(&mut self, add: Vec<Arc<SpanFile>>, remove: &[Arc<SpanFile>]) {
        let mut changes = BTreeMap::<Option<Shape>, Change>::new();
        for file in remove {
            changes.entry(shape(file)).or_default().gone.push(Arc::as_ptr(file));
        }
        for file in add {
            changes.entry(shape(&file)).or_default().come.push(file);
        }
        for (shape, change) in changes {
            let mut alike = self.shapes.remove(&shape).unwrap_or_default();
            let changed = Arc::make_mut(&mut alike);
            changed.take_out(change.gone);
            changed.single.extend(change.come);
            if let Some(shape) = shape {
                changed.group(shape);
            }
            if !changed.groups.is_empty() || !changed.single.is_empty() {
                self.shapes.insert(shape, alike);
            }
        }
    }

    /// Gives `each` the files with starts of spans in `times` (microseconds) that may hold one of the traces with these keys, each
    /// once in no particular order, with the positions of those keys, ascending.
    pub(crate) fn matches<'a>(&'a self, keys: &[u64], times: Range<i64>, mut each: impl FnMut(&'a Arc<SpanFile>, &[usize])) {
        let overlaps = |file: &SpanFile| overlap((file.start_min, file.start_max), &times);
        let mut of_seed = None;
        let mut hashes = Vec::<(u64, usize)>::new();
        let mut found = Found { columns: from_fn(|_| Vec::new()), any: 0 };
        for (shape, alike) in &self.shapes {
            if let Some(shape) = shape
                && of_seed != Some(shape.seed())
            {
                of_seed = Some(shape.seed());
                hashes = keys.iter().enumerate().map(|(position, key)| (shape.hash(*key), position)).collect();
                // Places ascend with hashes: what is read of a large group next is in the cache.
                hashes.sort_unstable();
            }
            for group in alike.groups.iter().filter(|group| overlap(group.starts, &times)) {
                for (hash, position) in &hashes {
                    found.note(group.filters.may_hold(*hash), *position);
                }
                found.give(|column| group.files[column].as_ref().filter(|file| overlaps(file)), &mut each);
            }
            for file in alike.single.iter().filter(|file| overlaps(file)) {
                match &file.traces {
                    Some(filter) => filter.select(&hashes, |position| found.note(1, position)),
                    None => (0..keys.len()).for_each(|position| found.note(1, position)),
                }
                found.give(|_| Some(file), &mut each);
            }
        }
    }
}

/// Positions of keys by the column whose filter may hold them.
struct Found {
    columns: [Vec<usize>; COLUMNS],
    /// A bit for each column that has some.
    any: u64,
}

impl Found {
    fn note(&mut self, columns: u64, position: usize) {
        self.any |= columns;
        let mut left = columns;
        while left != 0 {
            self.columns[left.trailing_zeros() as usize].push(position);
            left &= left - 1;
        }
    }

    /// Gives `each` what was noted, with the file of its column where there is one, and forgets it.
    fn give<'a>(&mut self, file: impl Fn(usize) -> Option<&'a Arc<SpanFile>>, each: &mut impl FnMut(&'a Arc<SpanFile>, &[usize])) {
        while self.any != 0 {
            let column = self.any.trailing_zeros() as usize;
            self.any &= self.any - 1;
            let positions = &mut self.columns[column];
            if let Some(file) = file(column) {
                positions.sort_unstable();
                each(file, positions);
            }
            positions.clear();
        }
    }
}

impl Alike {
    fn take_out(&mut self, mut gone: Vec<*const SpanFile>) {
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        let stays = |file: &Arc<SpanFile>| gone.binary_search(&Arc::as_ptr(file)).is_err();
        self.single.retain(stays);
        for group in &mut self.groups {
            if !group.files().all(stays) {
                Arc::make_mut(group).files.iter_mut().for_each(|file| *file = file.take().filter(stays));
            }
        }
        for group in self.groups.extract_if(.., |group| group.files().count() < GROUP_MIN) {
            for file in group.files() {
                if let Some(filter) = &file.traces {
                    filter.separate(&group.filters);
                }
                self.single.push(file.clone());
            }
        }
    }

    /// Makes groups of files that are single.
    fn group(&mut self, shape: Shape) {
        let (whole, rest) = self.single.as_chunks();
        if !whole.is_empty() {
            self.groups.extend(whole.iter().map(|files| Arc::new(Group::new(shape, files))));
            self.single = rest.to_vec();
        }
    }
}

impl Group {
    fn new(shape: Shape, files: &[Arc<SpanFile>; COLUMNS]) -> Group {
        let filters: Vec<&TraceFilter> = files.iter().filter_map(|file| file.traces.as_deref()).collect();
        let start_min = files.iter().map(|file| file.start_min).min().unwrap_or(i64::MAX);
        let start_max = files.iter().map(|file| file.start_max).max().unwrap_or(i64::MIN);
        Group {
            filters: TraceFilter::interleave(shape, &filters),
            files: from_fn(|column| Some(files[column].clone())),
            starts: (start_min, start_max),
        }
    }

    fn files(&self) -> impl Iterator<Item = &Arc<SpanFile>> {
        self.files.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::lake::key;

    const FILES: u64 = 500;
    /// Of each file, two classes of them; every ninth file has none. A trace is in up to three.
    static FILTERS: LazyLock<Vec<Option<TraceFilter>>> = LazyLock::new(|| {
        let filter = |number| {
            let others = if number % 4 == 0 { 1..261 } else { 0..0 };
            let keys = (number..number + 3).chain(others.map(|other| other << 20 | number)).map(id);
            TraceFilter::new(keys.map(|id| key(&id)).collect()).unwrap()
        };
        (0..FILES).map(|number| (number % 9 != 8).then(|| filter(number))).collect()
    });

    fn id(number: u64) -> [u8; 16] {
        u128::from(number).to_le_bytes()
    }

    fn filter(number: u64) -> Option<&'static TraceFilter> {
        FILTERS[number as usize].as_ref()
    }

    fn file(number: u64) -> Arc<SpanFile> {
        let (start_min, start_max) = (number as i64 * 10, number as i64 * 10 + 15);
        let traces = filter(number).and_then(|filter| TraceFilter::from_bytes(&filter.to_bytes())).map(Arc::new);
        Arc::new(SpanFile { path: number.to_string(), start_min, start_max, traces, ..SpanFile::default() })
    }

    fn number(file: &SpanFile) -> u64 {
        file.path.parse().unwrap()
    }

    /// What the index answers, sorted.
    fn matches(index: &TraceIndex, keys: &[u64], times: Range<i64>) -> Vec<(u64, Vec<usize>)> {
        let mut found = Vec::new();
        index.matches(keys, times, |file, positions| found.push((number(file), positions.to_vec())));
        found.sort();
        found
    }

    /// What a look at the filter of each of the files answers.
    fn naive(files: &[Arc<SpanFile>], ids: &[[u8; 16]], times: &Range<i64>) -> Vec<(u64, Vec<usize>)> {
        let within = files.iter().filter(|file| file.start_min < times.end && file.start_max >= times.start);
        let mut found: Vec<(u64, Vec<usize>)> = Vec::new();
        for number in within.map(|file| number(file)) {
            let may_hold = |position: &usize| filter(number).is_none_or(|filter| filter.may_hold(&ids[*position]));
            found.push((number, (0..ids.len()).filter(may_hold).collect()));
        }
        found.retain(|(_, positions)| !positions.is_empty());
        found.sort();
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Scenario: files with filters of several shapes and with none come, go, and come again, many at once. Guarantee: for any
        /// keys and times the index answers what a look at each filter does, and so do those of earlier snapshots; few files are
        /// single, groups are full enough, and each filter is what it was.
        #[test]
        fn answers_are_those_of_each_filter(
            steps in vec((0..FILES, 0..250u64, vec(0..FILES, 0..80)), 1..9),
            ids in vec(0..FILES + 20, 0..40),
            start in -10..5_000i64,
            length in prop_oneof![0..1_000i64, Just(1 << 40)],
        ) {
            let ids: Vec<[u8; 16]> = ids.into_iter().map(id).collect();
            let keys: Vec<u64> = ids.iter().map(|id| key(id)).collect();
            let times = start..start + length;
            let (mut index, mut list) = (TraceIndex::default(), Vec::<Arc<SpanFile>>::new());
            let mut snapshots = Vec::new();
            for (first, count, remove) in steps {
                let gone: Vec<Arc<SpanFile>> = list.extract_if(.., |file| remove.contains(&number(file))).collect();
                let mut new: Vec<u64> = (first..first + count).map(|number| number % FILES).collect();
                new.retain(|new| list.iter().all(|file| number(file) != *new));
                // Some of those that go come again at once, the same or as they are read anew.
                let again = |new: &u64| gone.iter().find(|file| number(file) == *new && new.is_multiple_of(2)).cloned();
                let come: Vec<Arc<SpanFile>> = new.iter().map(|new| again(new).unwrap_or_else(|| file(*new))).collect();
                index.change(come.clone(), &gone);
                list.extend(come);
                for (shape, alike) in &index.shapes {
                    prop_assert!(shape.is_none() || alike.single.len() < COLUMNS);
                    prop_assert!(alike.groups.iter().all(|group| group.files().count() >= GROUP_MIN));
                }
                snapshots.push((index.clone(), list.clone()));
            }
            for (index, list) in &snapshots {
                prop_assert_eq!(matches(index, &keys, times.clone()), naive(list, &ids, &times));
                prop_assert_eq!(matches(index, &keys, i64::MIN..i64::MAX), naive(list, &ids, &(i64::MIN..i64::MAX)));
            }
            for file in &list {
                let bytes = file.traces.as_ref().map(|filter| filter.to_bytes());
                prop_assert_eq!(bytes, filter(number(file)).map(TraceFilter::to_bytes));
            }
            index.change(Vec::new(), &list);
            prop_assert!(index.shapes.is_empty());
        }
    }

    /// Scenario: many files of one shape come, and go one after the other. Guarantee: whole groups are made; one stays until fewer than
    /// its least number are left, which are then single, or of new groups; its memory is then only held by files that have gone.
    #[test]
    fn groups_are_made_and_taken_apart() {
        let mut files: Vec<Arc<SpanFile>> = (0..FILES).filter(|number| number % 4 != 0 && number % 9 != 8).map(file).collect();
        let most = shape(&files[0]);
        files.retain(|file| shape(file) == most);
        assert!(files.len() > 3 * COLUMNS);
        let mut index = TraceIndex::default();
        index.change(files.clone(), &[]);
        let sizes = |index: &TraceIndex| {
            let alike = &index.shapes[&most];
            (alike.groups.iter().map(|group| group.files().count()).collect::<Vec<_>>(), alike.single.len())
        };
        let single = files.len() % COLUMNS;
        let mut groups = vec![COLUMNS; files.len() / COLUMNS];
        assert_eq!(sizes(&index), (groups.clone(), single));
        let (first, rest) = files.split_at(COLUMNS - GROUP_MIN);
        first.iter().for_each(|file| index.change(Vec::new(), std::slice::from_ref(file)));
        groups[0] = GROUP_MIN;
        assert_eq!(sizes(&index), (groups.clone(), single));
        let filters = index.shapes[&most].groups[0].filters.clone();
        index.change(Vec::new(), &rest[..1]);
        assert_eq!(filters.holders(), 1 + first.len() + 1);
        let left = single + GROUP_MIN - 1;
        groups.remove(0);
        groups.extend(vec![COLUMNS; left / COLUMNS]);
        assert_eq!(sizes(&index), (groups, left % COLUMNS));
    }
}
