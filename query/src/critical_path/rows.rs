//! Adds path to path.

use std::cmp::Reverse;
use std::collections::HashMap;

use meshlake_hops::{Class, CriticalPath, Segment, Span};

use super::answer::{CriticalPaths, PathChange, PathPart, PathRow, PathTotals};
use crate::node::{NodeName, text};

/// What a row takes besides its texts, which are held twice.
const ROW_BYTES: usize = 512;

/// The rows of all ranges of a question.
#[derive(Default)]
pub(crate) struct Rows {
    numbers: HashMap<Vec<u8>, usize>,
    rows: Vec<Row>,
    key: Vec<u8>,
    /// Paths that were added.
    paths: u64,
    text_bytes: usize,
}

struct Row {
    node: NodeName,
    operation: Option<String>,
    class: Class,
    /// Of the range, and of the baseline.
    parts: [Part; 2],
}

#[derive(Clone, Copy, Default)]
struct Part {
    time: u128,
    paths: u64,
    /// The number of the path that was counted last.
    counted: u64,
}

impl Rows {
    /// About how much memory they take.
    pub(crate) fn bytes(&self) -> usize {
        self.rows.len() * ROW_BYTES + 2 * self.text_bytes
    }

    /// Adds the segments of a path to one part of the rows.
    pub(crate) fn add(&mut self, part: usize, path: &CriticalPath<'_>, spans: &[Span<'_>]) {
        self.paths += 1;
        for segment in &path.segments {
            let number = self.number(segment, spans);
            let part = &mut self.rows[number].parts[part];
            part.time += u128::from(segment.to - segment.from);
            part.paths += u64::from(part.counted != self.paths);
            part.counted = self.paths;
        }
    }

    /// The number of the row that a segment is of.
    fn number(&mut self, segment: &Segment<'_>, spans: &[Span<'_>]) -> usize {
        let operation = segment.span.and_then(|span| spans.get(span as usize)).map_or("", |span| span.name);
        let node = &segment.node;
        self.key.clear();
        for part in
            [segment.class.as_str(), node.kind.as_str(), node.cluster, node.namespace, node.workload, node.service, operation]
        {
            self.key.extend(part.len().to_le_bytes());
            self.key.extend(part.as_bytes());
        }
        if let Some(number) = self.numbers.get(&self.key) {
            return *number;
        }
        let number = self.rows.len();
        let row = Row { node: NodeName::of(node), operation: text(operation), class: segment.class, parts: [Part::default(); 2] };
        self.rows.push(row);
        self.text_bytes += self.key.len();
        self.numbers.insert(self.key.clone(), number);
        number
    }

    /// At most `limit` rows, those with most time.
    pub(crate) fn answer(mut self, range: PathTotals, baseline: Option<PathTotals>, limit: usize) -> CriticalPaths {
        self.rows.sort_by(|a, b| a.order().cmp(&b.order()));
        let truncated = self.rows.len() > limit;
        self.rows.truncate(limit);
        let rows = self.rows.into_iter().map(|row| row.answer(&range, baseline.as_ref())).collect();
        CriticalPaths { rows, truncated, range, baseline }
    }
}

impl Row {
    fn order(&self) -> impl Ord {
        let [range, baseline] = self.parts.map(|part| Reverse(part.time));
        (range, baseline, &self.node, &self.operation, self.class)
    }

    fn answer(self, range: &PathTotals, baseline: Option<&PathTotals>) -> PathRow {
        let [of_range, of_baseline] = self.parts;
        let part = |part: Part, totals: &PathTotals| PathPart::new(part.time, part.paths, totals);
        let now = part(of_range, range);
        let before = baseline.map(|baseline| part(of_baseline, baseline));
        let both = baseline.is_some_and(|baseline| baseline.paths > 0 && range.paths > 0);
        let change =
            before.filter(|_| both).map(|before| PathChange { share: now.share - before.share, mean: now.mean - before.mean });
        PathRow { node: self.node, operation: self.operation, class: self.class, range: now, baseline: before, change }
    }
}
