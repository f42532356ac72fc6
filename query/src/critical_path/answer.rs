//! What is answered of critical paths. Times are nanoseconds.

use meshlake_hops::{Class, CriticalPath, Span};

use crate::node::{NodeName, text};
use crate::sample::TraceSample;

/// The critical path of one trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TracePath {
    /// When it begins, since the epoch.
    pub start: u64,
    /// When it ends.
    pub end: u64,
    /// By time and without gaps, from `start` to `end`.
    pub segments: Vec<PathSegment>,
    /// What they sum to, class by class.
    pub classes: ClassTimes,
    /// See [`CriticalPath::tops`].
    pub tops: usize,
    /// See [`CriticalPath::detached`].
    pub detached: usize,
    /// See [`CriticalPath::moved`].
    pub moved: usize,
    /// See [`CriticalPath::left_out`].
    pub left_out: usize,
}

/// A stretch of a critical path; see [`meshlake_hops::Segment`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSegment {
    /// When it begins, since the epoch.
    pub from: u64,
    /// When it ends.
    pub to: u64,
    /// What the time was spent on.
    pub class: Class,
    /// The span that it is within.
    pub span_id: Option<[u8; 8]>,
    /// The span's name.
    pub operation: Option<String>,
    /// Whose time it is.
    pub node: NodeName,
}

/// Time by what it was spent on. The sum is the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassTimes {
    /// See [`Class::Application`].
    pub application: u128,
    /// See [`Class::Proxy`].
    pub proxy: u128,
    /// See [`Class::Network`].
    pub network: u128,
    /// See [`Class::Unknown`].
    pub unknown: u128,
}

/// Critical paths of a range, summed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CriticalPaths {
    /// The most time first, of the range and then of the baseline.
    pub rows: Vec<PathRow>,
    /// Whether there are rows that the limit left out.
    pub truncated: bool,
    /// All paths of the range.
    pub range: PathTotals,
    /// All paths of the baseline.
    pub baseline: Option<PathTotals>,
}

/// Paths together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathTotals {
    /// Paths.
    pub paths: u64,
    /// The end-to-end times of all.
    pub time: u128,
    /// What they sum to, class by class.
    pub classes: ClassTimes,
    /// Requests that were moved; see [`CriticalPath::moved`].
    pub moved: u64,
    /// Spans on which nothing of the paths hangs; see [`CriticalPath::detached`].
    pub detached: u64,
    /// The traces that they are of.
    pub sample: TraceSample,
}

/// The time that paths spent on one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct PathRow {
    /// Whose time it is.
    pub node: NodeName,
    /// The name of the spans.
    pub operation: Option<String>,
    /// What the time was spent on.
    pub class: Class,
    /// In the range.
    pub range: PathPart,
    /// In the baseline.
    pub baseline: Option<PathPart>,
    /// What is different in the range from the baseline; none where one of them has no paths.
    pub change: Option<PathChange>,
}

/// What the paths of one range spent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PathPart {
    /// All together.
    pub time: u128,
    /// Paths that spent anything.
    pub paths: u64,
    /// The part of the end-to-end times of all paths, 0 to 1; 0 where these took no time.
    pub share: f64,
    /// For each path, one that spent nothing or not; 0 where there are none.
    pub mean: f64,
}

/// What is different from the baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathChange {
    /// Of the share.
    pub share: f64,
    /// Of the mean time for each path.
    pub mean: f64,
}

impl ClassTimes {
    pub(crate) fn add(&mut self, path: &CriticalPath<'_>) {
        for segment in &path.segments {
            *self.of(segment.class) += u128::from(segment.to - segment.from);
        }
    }

    fn of(&mut self, class: Class) -> &mut u128 {
        match class {
            Class::Application => &mut self.application,
            Class::Proxy => &mut self.proxy,
            Class::Network => &mut self.network,
            Class::Unknown => &mut self.unknown,
        }
    }
}

impl PathTotals {
    pub(crate) fn add(&mut self, path: &CriticalPath<'_>) {
        self.paths += 1;
        self.time += u128::from(path.end - path.start);
        self.classes.add(path);
        self.moved += path.moved as u64;
        self.detached += path.detached as u64;
        self.sample.left_out += path.left_out as u64;
    }
}

impl PathPart {
    /// The part of the paths of `totals`.
    pub(crate) fn new(time: u128, paths: u64, totals: &PathTotals) -> PathPart {
        let part = |of: f64| if of > 0.0 { time as f64 / of } else { 0.0 };
        PathPart { time, paths, share: part(totals.time as f64), mean: part(totals.paths as f64) }
    }
}

impl TracePath {
    pub(crate) fn of(path: &CriticalPath<'_>, spans: &[Span<'_>]) -> TracePath {
        let mut classes = ClassTimes::default();
        classes.add(path);
        let segments = path.segments.iter().map(|segment| {
            let span = segment.span.and_then(|span| spans.get(span as usize));
            PathSegment {
                from: segment.from,
                to: segment.to,
                class: segment.class,
                span_id: span.map(|span| span.span_id),
                operation: span.and_then(|span| text(span.name)),
                node: NodeName::of(&segment.node),
            }
        });
        let CriticalPath { start, end, tops, detached, moved, left_out, .. } = *path;
        TracePath { start, end, segments: segments.collect(), classes, tops, detached, moved, left_out }
    }
}
