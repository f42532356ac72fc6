//! What a merge writes: files of whole traces, and files of those that it carries on.
//!
//! A window of more than one lake file is merged while it still grows, so a merge takes only a beginning of its fresh files. The traces
//! of which those that wait have spans too are written apart, into small files that the next merge of the window takes: so a trace
//! that lies on both sides of the cut is in one file after it.

use std::ops::Range;
use std::sync::Arc;

use object_store::ObjectStore;

use super::LakeError;
use super::filter::{TraceFilter, key};
use super::output::{Finished, Output, Target};
use super::plan::{CARRIED_FILES, Plan, REWRITES_MAX};
use crate::sorted::SortedRows;

/// Of so many spans of fresh files one is carried at most: that is what is written twice.
const SHARE: u64 = 8;

/// Which traces of a merge are carried.
pub(super) struct Carry {
    /// The traces of the fresh files that wait.
    ahead: Vec<Arc<TraceFilter>>,
    /// Rows that may be carried still.
    left: u64,
    /// The last tenant of which something is carried, and how many there were: each has files of its own.
    tenant: String,
    tenants: usize,
    /// The last trace of the slice before, and whether it is carried: it may go on in the next slice.
    last: Option<([u8; 16], bool)>,
}

impl Carry {
    /// Looks into the fresh files that wait, as far as it is not known here which traces they have.
    pub(super) async fn open(store: &Arc<dyn ObjectStore>, plan: &Plan) -> Result<Carry, LakeError> {
        let mut ahead = Vec::with_capacity(plan.ahead.len());
        for fresh in &plan.ahead {
            ahead.extend(match &fresh.file.traces {
                Some(filter) => Some(filter.clone()),
                None => TraceFilter::of_file(store, &fresh.file).await?.map(Arc::new),
            });
        }
        let rows: u64 = plan.fresh.iter().map(|fresh| fresh.file.rows).sum();
        Ok(Carry { ahead, left: rows / SHARE, tenant: String::new(), tenants: 0, last: None })
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
        for (range, goes_on) in traces.into_iter().zip(goes_on) {
            let trace = rows.trace(range.start);
            // It may be written twice more: with what it waits for, and once again with what comes late.
            let may_wait = || range.clone().all(|row| rewrites[rows.batch(row)] + 2 < REWRITES_MAX);
            let is_carried = match self.last {
                Some((last, carried)) if last == trace => carried,
                _ => goes_on && may_wait() && self.has_room(rows.tenant(range.start), range.len() as u64),
            };
            if is_carried {
                self.left = self.left.saturating_sub(range.len() as u64);
                carried[range].fill(true);
            }
            self.last = Some((trace, is_carried));
        }
        carried
    }

    fn has_room(&mut self, tenant: &str, rows: u64) -> bool {
        let is_next = self.tenants == 0 || self.tenant != tenant;
        if rows > self.left || (is_next && self.tenants == CARRIED_FILES) {
            return false;
        }
        if is_next {
            tenant.clone_into(&mut self.tenant);
            self.tenants += 1;
        }
        true
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
