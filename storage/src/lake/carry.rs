//! What a merge writes: files of whole traces, and files of those that it carries on.
//!
//! A window of more than one lake file is merged while it still grows, so a merge takes only a beginning of its fresh files. The
//! traces of which those that wait have spans too are written apart, into small files that the next merge of the window takes: so a
//! trace that lies on both sides of the cut is in one file after it.

use std::ops::Range;
use std::sync::Arc;

use object_store::ObjectStore;
use tracing::warn;

use super::LakeError;
use super::filter::{TraceFilter, key};
use super::output::{Finished, Output, Target};
use super::plan::{Plan, REWRITES_MAX};
use crate::snapshot::SpanFile;
use crate::sorted::SortedRows;

/// Of so many spans of fresh files one is carried at most: that is what is written twice.
const SHARE: u64 = 8;

/// Which traces of a merge are carried.
pub(super) struct Carry {
    /// The traces of the fresh files that wait.
    ahead: Vec<Arc<TraceFilter>>,
    /// Rows that may be carried still.
    left: u64,
    /// The last tenant of which something is carried, how many there were, and how many there may be: each has files of its own.
    tenant: String,
    tenants: usize,
    most: usize,
    /// The last trace of the slice before, its tenant, and whether it is carried: it may go on in the next slice.
    last: Option<(String, [u8; 16], bool)>,
}

impl Carry {
    /// Looks into the fresh files that wait, as far as it is not known here which traces they have.
    pub(super) async fn open(store: &Arc<dyn ObjectStore>, plan: &Plan) -> Carry {
        let mut ahead = Vec::with_capacity(plan.ahead.len());
        for fresh in &plan.ahead {
            ahead.extend(match &fresh.file.traces {
                Some(filter) => Some(filter.clone()),
                None => traces(store, &fresh.file).await,
            });
        }
        let rows: u64 = plan.fresh.iter().map(|fresh| fresh.file.rows).sum();
        Carry { ahead, left: rows / SHARE, tenant: String::new(), tenants: 0, most: plan.carried, last: None }
    }

    /// For each row whether it is carried. Of a trace all are or none.
    fn select(&mut self, rows: &SortedRows<'_>, rewrites: &[u32]) -> Vec<bool> {
        let mut carried = vec![false; rows.len()];
        if self.ahead.is_empty() {
            return carried;
        }
        let traces: Vec<Range<usize>> = rows.by_trace().collect();
        let keys: Vec<u64> = traces.iter().map(|trace| key(&rows.trace(trace.start))).collect();
        let mut goes_on = vec![false; keys.len()];
        for filter in &self.ahead {
            filter.select_keys(&keys, |position| goes_on[position] = true);
        }
        let before = self.last.take();
        let mut last = before.as_ref().map(|(tenant, trace, carried)| (tenant.as_str(), *trace, *carried));
        for (range, goes_on) in traces.into_iter().zip(goes_on) {
            let (tenant, trace) = (rows.tenant(range.start), rows.trace(range.start));
            // It may be written twice more: with what it waits for, and once again with what comes late.
            let may_wait = || range.clone().all(|row| rewrites[rows.batch(row)] + 2 < REWRITES_MAX);
            let is_carried = match last {
                Some((of, last, carried)) if (of, last) == (tenant, trace) => carried,
                _ => goes_on && may_wait() && self.has_room(tenant, range.len() as u64),
            };
            if is_carried {
                self.left = self.left.saturating_sub(range.len() as u64);
                carried[range].fill(true);
            }
            last = Some((tenant, trace, is_carried));
        }
        self.last = last.map(|(tenant, trace, carried)| (tenant.to_owned(), trace, carried));
        carried
    }

    fn has_room(&mut self, tenant: &str, rows: u64) -> bool {
        let is_next = self.tenants == 0 || self.tenant != tenant;
        if rows > self.left || (is_next && self.tenants == self.most) {
            return false;
        }
        if is_next {
            tenant.clone_into(&mut self.tenant);
            self.tenants += 1;
        }
        true
    }
}

/// The traces of a file; none if they can't be told: it is asked for them in the hope that they join others, and no more.
async fn traces(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Arc<TraceFilter>> {
    match TraceFilter::of_file(store, file).await {
        Ok(filter) => filter.map(Arc::new),
        Err(error) => {
            warn!(path = file.path, %error, "can't tell which traces of a fresh file go on; they are not merged with what came before");
            None
        }
    }
}

/// The files of one merge.
pub(super) struct Outputs<'a> {
    whole: Output<'a>,
    carried: Output<'a>,
    carry: Carry,
}

impl<'a> Outputs<'a> {
    pub(super) fn new(target: &'a Target<'a>, plan: &Plan, carry: Carry) -> Outputs<'a> {
        // What is written anew without some spans is what it was.
        let whole = Output::new(target, plan.fresh.is_empty() && plan.lake.iter().all(|file| file.carried));
        Outputs { whole, carried: Output::new(target, true), carry }
    }

    /// Writes sorted rows; see [`Output::write`].
    pub(super) async fn write(&mut self, rows: SortedRows<'_>, rewrites: &[u32]) -> Result<(), LakeError> {
        let carried = self.carry.select(&rows, rewrites);
        if !carried.contains(&true) {
            return self.whole.write(&rows, rewrites).await;
        }
        let (whole, carried) = rows.split(&carried);
        self.whole.write(&whole, rewrites).await?;
        self.carried.write(&carried, rewrites).await
    }

    /// Ends the open files; see [`Output::finish`].
    pub(super) async fn finish(&mut self) -> Result<(), LakeError> {
        self.whole.finish().await?;
        self.carried.finish().await
    }

    /// Gives the open files up.
    pub(super) async fn abort(&mut self) {
        self.whole.abort().await;
        self.carried.abort().await;
    }

    /// The files that are in the object store.
    pub(super) fn into_done(self) -> Vec<Finished> {
        self.whole.done.into_iter().chain(self.carried.done).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;

    use super::*;
    use crate::builder::{Row, SpanBuilder};

    const MOST: usize = 8;

    /// Spans of (tenant, trace).
    fn batch(spans: &[(&str, u8)]) -> RecordBatch {
        let mut builder = SpanBuilder::default();
        for (number, (tenant, trace)) in (1..).zip(spans) {
            builder.end_row(&Row { tenant, trace_id: [*trace; 16], start: number * 1_000, end: number * 1_000, ..Row::default() });
        }
        builder.finish().unwrap().unwrap().batch
    }

    fn carry(ahead: &[u8], left: u64) -> Carry {
        let filter = TraceFilter::new(ahead.iter().map(|trace| key(&[*trace; 16])).collect()).unwrap();
        Carry { ahead: vec![Arc::new(filter)], left, tenant: String::new(), tenants: 0, most: MOST, last: None }
    }

    /// The traces of a slice that are carried, and those that are not, a number a span. Each batch has its number of rewrites.
    fn split(carry: &mut Carry, slice: &[(u32, &[(&str, u8)])]) -> (Vec<u8>, Vec<u8>) {
        let batches: Vec<RecordBatch> = slice.iter().map(|(_, spans)| batch(spans)).collect();
        let rewrites: Vec<u32> = slice.iter().map(|(rewrites, _)| *rewrites).collect();
        let rows = SortedRows::merged(&batches).unwrap();
        let carried = carry.select(&rows, &rewrites);
        let (whole, carried) = rows.split(&carried);
        let traces = |rows: &SortedRows<'_>| (0..rows.len()).map(|row| rows.trace(row)[0]).collect();
        (traces(&carried), traces(&whole))
    }

    /// Scenario: slices with traces that go on and others, cut within a trace, with spans that were written before. Guarantee: what
    /// goes on and was not written before is carried, a trace as it began; no more than there is room for.
    #[test]
    fn a_trace_is_carried_or_not() {
        let mut some = carry(&[2, 3, 4, 5, 6], 7);
        let first = split(&mut some, &[(0, &[("a", 1), ("a", 2), ("a", 4)]), (1, &[("a", 3)]), (0, &[("a", 2), ("a", 3)])]);
        assert_eq!(first, (vec![2, 2, 4], vec![1, 3, 3]));
        // What comes of the last trace goes where it began, though it was written before.
        let second = split(&mut some, &[(1, &[("a", 4)]), (0, &[("a", 5), ("a", 5), ("a", 5), ("a", 5), ("a", 6), ("a", 7)])]);
        assert_eq!(second, (vec![4, 6], vec![5, 5, 5, 5, 7]));
        assert_eq!(split(&mut some, &[(0, &[("a", 7)])]), (vec![], vec![7]));
        assert_eq!(split(&mut carry(&[], 7), &[(0, &[("a", 1)])]), (vec![], vec![1]));
    }

    /// Scenario: many tenants have traces that go on. Guarantee: those of so many as there may be files are carried, all of each.
    #[test]
    fn few_tenants_carry() {
        let names: Vec<String> = (10..30).map(|tenant| tenant.to_string()).collect();
        let spans: Vec<(&str, u8)> = names.iter().flat_map(|name| [(name.as_str(), 1), (name.as_str(), 3)]).collect();
        let (carried, whole) = split(&mut carry(&[1, 3], 100), &[(0, &spans)]);
        assert_eq!((carried.len(), whole.len()), (2 * MOST, spans.len() - 2 * MOST));
    }
}
